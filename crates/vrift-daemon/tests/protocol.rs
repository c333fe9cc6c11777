//! The protocol is what its document says, and what is not of it harms nobody.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

mod site;

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use site::{DEADLINE, Site};
use vrift_daemon::{CallError, Client, MAX_LINE};

const DOCUMENT: &str = include_str!("../PROTOCOL.md");

fn tree(site: &Site) -> std::path::PathBuf {
    let tree = site.path("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::write(tree.join("one"), "hello").unwrap();
    fs::write(tree.join("sub/two"), "world!").unwrap();
    tree
}

/// Whether an answer is as described; `…` stands for anything.
fn fits(expected: &Value, actual: &Value) -> bool {
    match (expected, actual) {
        (Value::String(text), _) if text == "…" => true,
        (Value::Object(expected), Value::Object(actual)) => {
            expected.len() == actual.len()
                && expected
                    .iter()
                    .all(|(key, value)| actual.get(key).is_some_and(|actual| fits(value, actual)))
        }
        (Value::Array(expected), Value::Array(actual)) => {
            expected.len() == actual.len() && expected.iter().zip(actual).all(|(e, a)| fits(e, a))
        }
        (expected, actual) => expected == actual,
    }
}

#[test]
fn the_examples_of_the_document_are_true() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    let site = Site::start(&[]);
    let tree = tree(&site);
    let hello = File::open(tree.join("one")).unwrap();
    let stream = std::os::unix::net::UnixStream::connect(site.socket()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
    let mut replayed = 0;
    for line in DOCUMENT.lines() {
        let line = line.replace("TREE", tree.to_str().unwrap());
        if let Some(request) = line.strip_prefix("→ ") {
            let bytes = format!("{request}\n");
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let fds = [hello.as_fd()];
            if request.contains("\"fds\"") {
                assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
            }
            let slices = [std::io::IoSlice::new(bytes.as_bytes())];
            rustix::net::sendmsg(&stream, &slices, &mut control, SendFlags::empty()).unwrap();
        } else if let Some(expected) = line.strip_prefix("← ") {
            let expected: Value = serde_json::from_str(expected).unwrap();
            let mut answer = String::new();
            std::io::BufRead::read_line(&mut reader, &mut answer).unwrap();
            let answer: Value = serde_json::from_str(&answer).unwrap();
            assert!(
                fits(&expected, &answer),
                "expected {expected}\ngot      {answer}"
            );
            replayed += 1;
        }
    }
    assert!(replayed >= 14, "{replayed}");
}

#[test]
fn the_client_in_python_works() {
    let site = Site::start(&[]);
    let tree = tree(&site);
    let script = DOCUMENT
        .split("```python\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    assert!(script.lines().count() <= 32, "it is no longer short");
    let path = site.path("client.py");
    fs::write(&path, script).unwrap();
    let digest = vx_digest::Digest::of(b"hello").to_string();
    let output = Command::new("/usr/bin/env")
        .args(["python3", path.to_str().unwrap()])
        .args([&site.socket(), &tree])
        .arg(digest)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "2 files, 2 unique, 2 new\nhello", "{stderr}");
}

fn code(error: &CallError) -> i64 {
    match error {
        CallError::Refused { code, .. } => *code,
        other => panic!("{other}"),
    }
}

#[test]
fn many_malformed_requests_get_an_answer_and_harm_nobody() {
    let site = Site::start(&[]);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let good = [
        r#"{"jsonrpc":"2.0","id":1,"method":"register","params":{"path":"/p","manifest":"00/1","device":3}}"#,
        r#"{"jsonrpc":"2.0","id":2,"method":"fetch","params":{"digests":["00/1"],"fds":3}}"#,
        r#"[{"jsonrpc":"2.0","id":3,"method":"gc","params":{"dry_run":true,"max_size":-1}}]"#,
        r#"{"jsonrpc":"2.0","id":4,"method":"ingest","params":{"path":"../..","tier":"tier9"}}"#,
        r#"{"jsonrpc":"2.0","id":5,"method":"put","params":{"fds":64}}"#,
    ];
    let mut raw = site.raw();
    for round in 0..10_000 {
        let mut line = good[round % good.len()].as_bytes().to_vec();
        for _ in 0..1 + random() % 6 {
            let at = random() % line.len();
            match random() % 3 {
                0 => line[at] = random() as u8,
                1 => drop(line.remove(at)),
                _ => line.insert(at, b"{}[]\",:\\0"[random() % 9]),
            }
        }
        line.retain(|byte| *byte != b'\n');
        line.push(b'\n');
        raw.send(&line);
        // Something that is answered in any case follows, so that notifications need no answer.
        raw.send(b"{\"jsonrpc\":\"2.0\",\"id\":\"end\",\"method\":\"version\"}\n");
        loop {
            let answer = raw.line().expect("the connection stays");
            if answer["id"] == json!("end") {
                break;
            }
        }
    }
    assert!(site.client().call("version", json!({}), &[]).is_ok());
    assert_eq!(
        fs::read_dir(site.home().join("the_source/tmp"))
            .unwrap()
            .count(),
        1
    );
}

#[test]
fn what_is_too_large_is_refused_and_the_connection_closed() {
    let site = Site::start(&[]);
    let mut raw = site.raw();
    raw.send(&vec![b' '; MAX_LINE]);
    let answer = raw.line().unwrap();
    assert_eq!(answer["error"]["code"], json!(-32600));
    assert!(raw.line().is_none());
    let deep = format!("{}\n", "[".repeat(500_000));
    let mut raw = site.raw();
    raw.send(deep.as_bytes());
    assert_eq!(raw.line().unwrap()["error"]["code"], json!(-32700));
}

#[test]
fn only_regular_files_that_are_open_for_reading_are_taken() {
    let site = Site::start(&[]);
    let tree = tree(&site);
    let mut client = site.client();
    let write_only = File::options().write(true).open(tree.join("one")).unwrap();
    let path_only = rustix::fs::open(
        tree.join("one"),
        rustix::fs::OFlags::PATH,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    let dir = File::open(&tree).unwrap();
    let (pipe, _writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let good = File::open(tree.join("one")).unwrap();
    let fds = [
        write_only.as_fd(),
        path_only.as_fd(),
        dir.as_fd(),
        pipe.as_fd(),
        good.as_fd(),
    ];
    let (result, _) = client.call("put", json!({}), &fds).unwrap();
    let blobs = result["blobs"].as_array().unwrap();
    assert!(blobs[..4].iter().all(|blob| blob["error"].is_string()));
    assert_eq!(blobs[4]["new"], json!(true));
    // More announced than sent.
    let error = client.call("put", json!({ "fds": 2 }), &[]).unwrap_err();
    assert_eq!(code(&error), -32602);
}

#[test]
fn a_directory_is_read_beneath_only() {
    let site = Site::start(&[]);
    let tree = tree(&site);
    fs::write(site.path("outside"), "outside").unwrap();
    std::os::unix::fs::symlink("../outside", tree.join("way out")).unwrap();
    std::os::unix::fs::symlink("/etc", tree.join("etc")).unwrap();
    let mut client = site.client();
    let dir = File::open(&tree).unwrap();
    let params = json!({ "path": tree, "progress": true });
    let (result, _) = client.call("ingest", params, &[dir.as_fd()]).unwrap();
    assert_eq!(result["files"], json!(2));
    let outside = vx_digest::Digest::of(b"outside").to_string();
    let (found, _) = client
        .call("fetch", json!({ "digests": [outside] }), &[])
        .unwrap();
    assert_eq!(found["found"], json!([false]));
}

#[test]
fn a_hundred_clients_at_once_are_all_served() {
    let site = Site::start(&[]);
    let tree = tree(&site);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..100)
            .map(|n| {
                let (site, tree) = (&site, &tree);
                scope.spawn(move || {
                    let mut client = site.client();
                    let mut own = tempfile::tempfile().unwrap();
                    own.write_all(format!("content of {n}").as_bytes()).unwrap();
                    own.rewind().unwrap();
                    client.call("put", json!({}), &[own.as_fd()]).unwrap();
                    let params = json!({ "path": format!("/root/{n}") });
                    let dir = File::open(tree).unwrap();
                    client.call("ingest", params, &[dir.as_fd()]).unwrap();
                    let (_, fds) = client
                        .call("link", json!({ "path": format!("/root/{n}") }), &[])
                        .unwrap();
                    let mut bytes = Vec::new();
                    File::from(fds.into_iter().next().unwrap())
                        .read_to_end(&mut bytes)
                        .unwrap();
                    vrift_store::manifest::Manifest::parse(&bytes).unwrap();
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
    });
    let (status, _) = site.client().call("status", json!({}), &[]).unwrap();
    assert_eq!(status["users"][0]["roots"], json!(100));
    assert_eq!(status["kept_bytes"], json!(11));
}

#[test]
fn more_connections_than_allowed_are_told_to_come_back() {
    let site = Site::start(&["--max-connections-per-user", "3"]);
    let mut open: Vec<Client> = (0..3).map(|_| site.client()).collect();
    // Those of the helper that waited for the daemon may still count.
    let start = Instant::now();
    while !open
        .iter_mut()
        .all(|client| client.call("version", json!({}), &[]).is_ok())
    {
        assert!(start.elapsed() < DEADLINE);
        open = (0..3).map(|_| site.client()).collect();
    }
    assert_eq!(site.raw().line().unwrap()["error"]["code"], json!(-32005));
    open.pop();
    let start = Instant::now();
    while site.client().call("version", json!({}), &[]).is_err() {
        assert!(start.elapsed() < DEADLINE);
    }
}

#[test]
fn a_quota_is_kept_and_leaves_nothing_behind() {
    let site = Site::start(&["--quota", "10K"]);
    let mut client = site.client();
    let mut large = tempfile::tempfile().unwrap();
    large.write_all(&[1; 20 << 10]).unwrap();
    let error = client.call("put", json!({}), &[large.as_fd()]).unwrap_err();
    assert_eq!(code(&error), -32004);
    drop(client);
    let (status, _) = site.client().call("status", json!({}), &[]).unwrap();
    assert_eq!(status["blobs"], json!(0));
}

#[test]
fn killed_in_the_middle_the_daemon_has_what_it_answered() {
    let mut site = Site::start(&[]);
    let tree = tree(&site);
    let dir = File::open(&tree).unwrap();
    for round in 0..5 {
        let mut client = site.client();
        let params = json!({ "path": format!("/project/{round}") });
        fs::write(tree.join("one"), format!("round {round}")).unwrap();
        client.call("ingest", params, &[dir.as_fd()]).unwrap();
        // Half a request, and something staged that was never registered.
        client
            .call(
                "put",
                json!({}),
                &[File::open("/proc/self/exe").unwrap().as_fd()],
            )
            .unwrap();
        site.kill();
        site.restart();
    }
    let mut client = site.client();
    let (checked, _) = client.call("verify", json!({}), &[]).unwrap();
    assert_eq!(checked["missing"], json!(0));
    assert_eq!(checked["quarantined"], json!(0));
    let (roots, _) = client.call("roots", json!({}), &[]).unwrap();
    assert_eq!(roots["roots"].as_array().unwrap().len(), 5);
    let temporary = fs::read_dir(site.home().join("the_source/tmp")).unwrap();
    assert_eq!(temporary.count(), 1, "what was staged is gone");
}

#[test]
fn who_hangs_up_cancels_what_is_under_way() {
    let site = Site::start(&[]);
    let large = site.path("large");
    fs::create_dir(&large).unwrap();
    for n in 0..3000 {
        fs::write(large.join(n.to_string()), format!("{n}")).unwrap();
    }
    let mut raw = site.raw();
    let request = json!({
        "jsonrpc": "2.0", "id": 1, "method": "ingest",
        "params": { "path": large, "progress": true },
    });
    raw.send(format!("{request}\n").as_bytes());
    drop(raw);
    let start = Instant::now();
    let line = loop {
        if let Some(line) = site.log().lines().find(|line| line.contains("\"ingest\"")) {
            break line.to_owned();
        }
        assert!(start.elapsed() < DEADLINE, "{}", site.log());
        std::thread::yield_now();
    };
    assert!(line.contains("\"error\":-32006"), "{line}");
    let (roots, _) = site.client().call("roots", json!({}), &[]).unwrap();
    assert_eq!(roots["roots"], json!([]));
}

#[test]
fn progress_is_told_to_who_asks_for_it() {
    let site = Site::start(&[]);
    let large = site.path("large");
    fs::create_dir(&large).unwrap();
    for n in 0..8 {
        fs::write(large.join(n.to_string()), [n; 100]).unwrap();
    }
    let mut raw = site.raw();
    let request = json!({
        "jsonrpc": "2.0", "id": 1, "method": "ingest",
        "params": { "path": large, "progress": true },
    });
    raw.send(format!("{request}\n").as_bytes());
    let mut told = 0;
    let answer = loop {
        let line = raw.line().unwrap();
        if line["method"] != json!("progress") {
            break line;
        }
        assert_eq!(line["params"]["id"], json!(1));
        told += 1;
    };
    assert_eq!(answer["result"]["files"], json!(8));
    assert!(told > 0);
}

#[test]
fn metrics_are_there_when_they_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.sock");
    let site = Site::start(&["--metrics", path.to_str().unwrap()]);
    let mut client = site.client();
    let file = File::open(tree(&site).join("one")).unwrap();
    client.call("put", json!({}), &[file.as_fd()]).unwrap();
    let _refused = client.call("nonsense", json!({}), &[]);
    let mut scraper = std::os::unix::net::UnixStream::connect(&path).unwrap();
    scraper.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    scraper.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.0 200 OK\r\n"), "{text}");
    for line in [
        "vrift_requests_total 2",
        "vrift_request_errors_total 1",
        "vrift_file_bytes_total 5",
    ] {
        assert!(text.lines().any(|is| is == line), "{text}");
    }
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[test]
fn a_second_daemon_for_the_same_store_is_refused() {
    let site = Site::start(&[]);
    let output = Command::new(env!("CARGO_BIN_EXE_vrift-daemon"))
        .arg("--home")
        .arg(site.home())
        .arg("--socket")
        .arg(site.path("run/second.sock"))
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("another daemon serves"), "{said}");
}

#[test]
fn it_ends_on_sigterm_and_removes_its_socket() {
    let mut site = Site::start(&[]);
    let pid = rustix::process::Pid::from_child(&site.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(site.child.wait().unwrap().success());
    assert!(!site.socket().exists());
}
