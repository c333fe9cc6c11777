//! What an action gets, and what becomes of what it leaves.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod site;

use site::{ActionBuilder, Site, shell};
use tonic::Code;
use vx_proto::Digest;
use vx_proto::exec::{find_messages, missing_in};
use vx_proto::ext::ObservedInputs;
use vx_proto::reapi::{self, ExecuteResponse};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn status(response: &ExecuteResponse) -> (Code, String) {
    let status = response.status.clone().unwrap_or_default();
    (Code::from(status.code), status.message)
}

fn compile(source: &str) -> ActionBuilder {
    shell("cc -Iinclude -o /vx/out/program main.c && /vx/out/program")
        .file("vx/src/main.c", source.to_owned())
        .file("vx/src/include/answer.h", "#define ANSWER 42\n")
        .cwd("vx/src")
        .output("/vx/out/program")
        .output("../out/absent")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_c_program_is_compiled_from_its_declared_inputs_and_cached() {
    let site = Site::start().await;
    let action = compile(
        "#include <stdio.h>\n#include \"answer.h\"\nint main(void) { printf(\"%d\\n\", ANSWER); return 0; }\n",
    );
    let first = site.run(&action).await;
    let result = first.result.unwrap();
    assert_eq!(
        (result.exit_code, text(&result.stdout_raw)),
        (0, "42\n".into()),
        "{}",
        text(&result.stderr_raw)
    );
    assert!(!first.cached_result);
    let [program] = &result.output_files[..] else {
        panic!("{:?}", result.output_files)
    };
    assert!(program.is_executable && program.path == "/vx/out/program");
    assert!(
        site.content(&result, "/vx/out/program")
            .await
            .starts_with(b"\x7fELF")
    );
    let times = result.execution_metadata.clone().unwrap();
    assert!(times.worker_completed_timestamp.is_some() && !times.worker.is_empty());

    let second = site.run(&action).await;
    assert!(second.cached_result);
    assert_eq!(second.result.unwrap(), result);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_command_is_a_result_that_is_not_cached() {
    let site = Site::start().await;
    let action = compile("int main(void) { return nothing; }\n");
    for _ in 0..2 {
        let response = site.run(&action).await;
        assert!(!response.cached_result);
        let result = response.result.unwrap();
        assert_eq!(result.exit_code, 1);
        assert!(
            text(&result.stderr_raw).contains("nothing"),
            "{}",
            text(&result.stderr_raw)
        );
    }
    let killed = site.run(&shell("kill -9 $$")).await;
    assert_eq!(killed.result.unwrap().exit_code, 137);
    assert_eq!(killed.message, "the command was ended by signal 9");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_undeclared_is_visible() {
    let site = Site::start().await;
    let home = site.home.path().display();
    let action = shell(&format!(
        "ls {home} 2>/dev/null; ls -A /vx /vx/a; grep -c : /proc/net/dev; env | grep -v -e ^PWD= -e ^_= -e ^PATH=; (echo x > /vx/a/f) 2>/dev/null || echo read-only"
    ))
    .file("vx/a/f", "x")
    .cwd("vx");
    let result = site.result(&action).await;
    assert_eq!(
        text(&result.stdout_raw),
        "/vx:\na\nout\n\n/vx/a:\nf\n1\nread-only\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_of_an_observed_directory_is_reported() {
    let site = Site::start().await;
    let action = shell("cat ws/a/x ws/b/y > /dev/null; ls ws/b > /dev/null; test -e ws/z")
        .file("vx/ws/a/x", "x")
        .file("vx/ws/b/y", "y")
        .file("vx/ws/z", "z")
        .property("vx-observe", "vx/ws")
        .cwd("vx");
    let result = site.result(&action).await;
    let metadata = result.execution_metadata.unwrap();
    let observed: Vec<ObservedInputs> = find_messages(&metadata.auxiliary_metadata)
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(observed[0].read_files, ["vx/ws/a/x", "vx/ws/b/y"]);
    assert_eq!(observed[0].listed_directories, ["vx/ws/b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_inputs_are_told_by_name() {
    let site = Site::start().await;
    let nowhere = Digest::of(b"nowhere");
    let response = site.run(&shell(":").directory("vx/in", nowhere)).await;
    let status = response.status.unwrap();
    assert_eq!(Code::from(status.code), Code::FailedPrecondition);
    assert_eq!(missing_in(&status), [nowhere]);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_clients_may_write_everywhere_below_their_root() {
    let site = Site::start().await;
    let mut action = shell(
        "cat in/f > in/g && echo more >> in/f && mkdir -p tree/deep tree/empty && cp in/f tree/deep && ln -s deep/f tree/link && ln -s tree top",
    )
    .file("work/in/f", "text\n")
    .cwd("work")
    .output("in/g")
    .output("tree")
    .output("top")
    .output("made/for/us");
    action.properties.clear();
    let result = site.result(&action).await;
    assert_eq!(
        (result.exit_code, text(&result.stderr_raw)),
        (0, String::new())
    );
    assert_eq!(site.content(&result, "in/g").await, "text\n");
    let [link] = &result.output_symlinks[..] else {
        panic!("{result:?}")
    };
    assert_eq!((link.path.as_str(), link.target.as_str()), ("top", "tree"));
    let [directory] = &result.output_directories[..] else {
        panic!("{result:?}")
    };
    let digest = vx_proto::digest::required(directory.tree_digest.as_ref()).unwrap();
    let tree: reapi::Tree = site.cas.read_message(&digest, 1 << 20).await.unwrap();
    let root = tree.root.unwrap();
    assert_eq!(root.symlinks[0].target, "deep/f");
    let names: Vec<_> = root
        .directories
        .iter()
        .map(|child| child.name.as_str())
        .collect();
    assert_eq!(names, ["deep", "empty"]);
    let root_digest = vx_proto::digest::required(directory.root_directory_digest.as_ref()).unwrap();
    assert_eq!(root_digest, vx_proto::digest::of_message(&root));
    assert_eq!(site.cas.read_tree(&root_digest, 10).await.unwrap().len(), 3);
    // What one action did to its copy, no other one sees.
    action.command.arguments[2] = "cat in/f".into();
    assert_eq!(text(&site.result(&action).await.stdout_raw), "text\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_does_not_make_files_of_the_machine_an_output() {
    let site = Site::start().await;
    let action = shell("ln -s /etc /vx/out/way").output("/vx/out/way/passwd");
    assert_eq!(site.result(&action).await.output_files, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_outputs_and_long_output_are_blobs() {
    let site = Site::start().await;
    let action =
        shell("head -c 20000000 /dev/zero > /vx/out/large; head -c 100000 /dev/zero; echo ok >&2")
            .output("/vx/out/large");
    let result = site.result(&action).await;
    assert_eq!(
        site.content(&result, "/vx/out/large").await.len(),
        20_000_000
    );
    assert!(result.stdout_raw.is_empty());
    let stdout = vx_proto::digest::required(result.stdout_digest.as_ref()).unwrap();
    assert_eq!(
        site.cas.read(&stdout, 1 << 20).await.unwrap().len(),
        100_000
    );
    assert_eq!(text(&result.stderr_raw), "ok\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_for_another_machine_is_refused() {
    let site = Site::start().await;
    let ours = &site.version.properties["host-tools"];
    assert_eq!(ours.len(), 64);
    assert_eq!(
        site.result(&shell(":").property("vx-host-tools", ours))
            .await
            .exit_code,
        0
    );
    let response = site
        .run(&shell(":").property("vx-host-tools", "other"))
        .await;
    let (code, message) = status(&response);
    assert_eq!(code, Code::FailedPrecondition);
    assert!(
        message.contains("`other`") && message.contains(ours),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_is_named() {
    let site = Site::start().await;
    let mut action = shell(":");
    action.command.arguments = vec!["no-such-program".into()];
    let (code, message) = status(&site.run(&action).await);
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("`no-such-program`"), "{message}");
    let (code, message) = status(&site.run(&shell(":").output("../../x")).await);
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("`../../x`"), "{message}");
    let (code, message) = status(&site.run(&shell(":").file("usr/share/mine/x", "x")).await);
    assert_eq!(code, Code::Internal);
    assert!(message.contains("/usr/share/mine"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_takes_part_in_the_jobserver() {
    let site = Site::start().await;
    let action = shell("echo $MAKEFLAGS; echo $NUM_JOBS; token=$(head -c1 <&8); printf $token | wc -c; printf $token >&9")
        .property("vx-jobserver", "MAKEFLAGS")
        .property("vx-jobs", "NUM_JOBS");
    for salt in [b"1", b"2", b"3"] {
        let mut action = action.clone();
        action.action.salt = salt.to_vec().into();
        let result = site.result(&action).await;
        assert_eq!(text(&result.stderr_raw), "");
        assert_eq!(
            text(&result.stdout_raw),
            "-j --jobserver-fds=8,9 --jobserver-auth=8,9\n2\n1\n"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provided_directory_is_used_without_being_sent() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("lib")).unwrap();
    std::fs::write(folder.path().join("lib/file"), "of this machine\n").unwrap();
    let site = Site::with_trees(vec![folder.path().to_owned()]).await;
    let provided: Digest = site.version.properties["provided-trees"].parse().unwrap();
    let action = shell("cat /vx/toolchain/lib/file").directory("vx/toolchain", provided);
    assert_eq!(
        text(&site.result(&action).await.stdout_raw),
        "of this machine\n"
    );
    assert_eq!(
        site.cas.find_missing(&[provided]).await.unwrap(),
        [provided]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_of_one_action_are_inputs_of_the_next() {
    let site = Site::start().await;
    let action = shell("mkdir -p /vx/out/d/e; echo one > /vx/out/d/e/f").output("/vx/out/d");
    let result = site.result(&action).await;
    let digest = result.output_directories[0].root_directory_digest.as_ref();
    let next =
        shell("cat /vx/in/e/f").directory("vx/in", vx_proto::digest::required(digest).unwrap());
    assert_eq!(text(&site.result(&next).await.stdout_raw), "one\n");
}
