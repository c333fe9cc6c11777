//! What a user sees, and what is left when the program is killed or the disk is full.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

mod site;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::json;
use site::{DEADLINE, Site, USER, state};

/// Files that are links into a store.
fn projections(root: &Path) -> usize {
    fs::read_dir(root)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("dir"))
        .flat_map(|dir| fs::read_dir(dir.path()).unwrap().flatten())
        .filter(|file| file.file_type().unwrap().is_symlink())
        .count()
}

/// Kills a process as soon as something is so, or lets it end.
fn kill_when(mut child: Child, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() && child.try_wait().unwrap().is_none() {
        assert!(
            start.elapsed() < DEADLINE,
            "it neither came so far nor ended"
        );
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_round_trip_says_what_it_did() {
    let site = Site::new();
    let tree = site.tree("p", 30);
    let before = state(&tree, false);
    let first = site.json(&["ingest", "p"]);
    assert_eq!((&first["files"], &first["new"]), (&json!(30), &json!(30)));
    assert_eq!(
        first["manifest_path"],
        json!(tree.join(".vrift/manifest.bin"))
    );
    let linked = site.json(&["link", "p", "q"]);
    assert!(linked["how"] == json!("copy") || linked["how"] == json!("reflink"));
    assert_eq!(state(&site.path("q"), false), before);
    let status = site.json(&["status"]);
    assert_eq!(status["store"], json!(site.path("home/.vrift/the_source")));
    let output = site.run(&["ingest", "p"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("note: direct mode, store "), "{said}");
    assert!(said.contains("    Ingested 30 files, "), "{said}");
    assert!(output.stdout.is_empty());
    let manifest = site.run(&["manifest", "p"]);
    assert_eq!(
        manifest.stdout.iter().filter(|b| **b == b'\n').count(),
        30 + 7 + 2
    );
    assert!(site.run(&["forget", "p"]).status.success());
}

#[test]
fn exit_codes_are_those_of_the_help() {
    let site = Site::new();
    site.tree("p", 3);
    let code = |args: &[&str]| site.run(args).status.code();
    assert_eq!(code(&["--help"]), Some(0));
    assert_eq!(code(&["no such command"]), Some(2));
    assert_eq!(code(&["gc", "--max-size", "many"]), Some(2));
    assert_eq!(code(&["ingest", "not there"]), Some(4));
    assert_eq!(code(&["link", "p", "q"]), Some(1), "it was not ingested");
    assert_eq!(code(&["restore", "p"]), Some(1));
    assert_eq!(code(&["fetch", "nonsense"]), Some(1));
    assert_eq!(code(&["forget", "p"]), Some(1));
    // Something that is there and no daemon is no reason to use another store.
    fs::write(site.path("daemon.sock"), "").unwrap();
    assert_eq!(code(&["status"]), Some(3));
    assert_eq!(code(&["status", "--direct"]), Some(0));
}

#[test]
fn results_that_nobody_takes_are_said_and_results_that_nobody_wants_are_not() {
    let site = Site::new();
    let tree = site.tree("p", 3);
    fs::write(tree.join("no line"), "no line").unwrap();
    let line = vx_digest::Digest::of(b"no line").to_string();
    let digest = &site.json(&["ingest", "p"])["manifest"];
    for args in [
        &["manifest", "p"][..],
        &["manifest", "p", "--message-format", "json"],
        &["status"],
        &["status", "--message-format", "json"],
        &["doctor"],
        &["fetch", digest.as_str().unwrap()],
        &["fetch", &line],
    ] {
        let full = fs::File::create("/dev/full").unwrap();
        let output = site.command(args).stdout(full).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{args:?}: {said}");
        assert!(said.contains("No space left on device"), "{args:?}: {said}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = site.command(args).stdout(writer).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
        assert!(!said.contains("error"), "{args:?}: {said}");
    }
}

#[test]
fn what_vrift_notes_about_a_directory_is_not_replaced_with_the_one_around_it() {
    let site = Site::new();
    let inner = site.tree("p/inner", 3);
    site.give(&site.path("p"));
    site.json(&["ingest", "p/inner"]);
    let before = state(&site.path("p"), false);
    site.json(&["ingest", "--mode", "phantom", "p"]);
    assert!(projections(&inner) > 0);
    for note in fs::read_dir(inner.join(".vrift")).unwrap() {
        let note = note.unwrap();
        assert!(!note.file_type().unwrap().is_symlink(), "{note:?}");
    }
    site.json(&["link", "p/inner", "q"]);
    site.json(&["restore", "p"]);
    assert_eq!(state(&site.path("p"), false), before);
    site.json(&["ingest", "p/inner"]);
}

#[test]
fn what_may_not_be_read_keeps_everything_out() {
    let site = Site::new();
    let tree = site.tree("p", 3);
    for (name, mode) in [("dir 0", 0o000), ("dir 1/1", 0o200)] {
        let path = tree.join(name);
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let output = site.run(&["ingest", "p"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(said.contains(&format!("`{name}`")), "{said}");
        assert!(said.contains("Permission denied"), "{said}");
        assert!(
            said.contains("hint: all of `p` is kept or nothing"),
            "{said}"
        );
        assert!(!tree.join(".vrift/manifest.bin").exists());
        fs::set_permissions(&path, before).unwrap();
    }
    site.json(&["ingest", "p"]);
}

#[test]
fn clones_that_cannot_be_made_are_refused_in_words() {
    let site = Site::new();
    site.tree("p", 3);
    site.json(&["ingest", "p"]);
    // Memory is another file system than any that a store is on, and has no clones itself.
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    site.give(memory.path());
    let dest = memory.path().join("q");
    let output = site.run(&["link", "p", dest.to_str().unwrap(), "--how", "reflink"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("has no clones of files in the store"),
        "{said}"
    );
    assert!(said.contains("hint: "), "{said}");
    assert!(!dest.exists());
}

#[test]
fn a_store_is_never_kept_in_itself() {
    let site = Site::new();
    let tree = site.tree("p", 3);
    site.json(&["ingest", "p"]);
    let store = state(&site.path("home/.vrift"), false);
    for mode in ["solid", "phantom"] {
        for path in ["home", ".", "home/.vrift", "home/.vrift/the_source"] {
            let output = site.run(&["ingest", "--mode", mode, path]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{mode} {path}: {said}");
            assert!(said.contains("store"), "{said}");
        }
    }
    for dest in ["home/.vrift/q", "home/.vrift/the_source/q"] {
        let output = site.run(&["link", "p", dest]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{dest}: {said}");
        assert!(said.contains("lies in the store"), "{said}");
        assert!(!site.path(dest).exists());
    }
    let mut now = state(&site.path("home/.vrift"), false);
    now.retain(|path, _| store.contains_key(path));
    assert_eq!(now.len(), store.len());
    site.json(&["verify"]);
    site.json(&["link", "p", "q"]);
    assert_eq!(state(&tree, true), state(&site.path("q"), true));
}

#[test]
fn every_command_explains_itself() {
    let site = Site::new();
    for command in [
        "ingest",
        "link",
        "restore",
        "status",
        "gc",
        "verify",
        "fetch",
        "manifest",
        "forget",
        "doctor",
        "completions",
    ] {
        let output = site.run(&["help", command]);
        assert!(output.status.success(), "{command}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("Usage: vrift "), "{said}");
    }
}

#[test]
fn writing_through_a_link_into_the_store_is_refused() {
    let site = Site::new();
    let tree = site.tree("p", 10);
    site.json(&["ingest", "p", "--mode", "phantom"]);
    let before = state(&tree, true);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "echo evil > 'p/dir 0/0' || echo evil >> 'p/dir 1/1'"])
        .current_dir(site.dir.path())
        .stderr(Stdio::null());
    if rustix::process::geteuid().is_root() {
        shell.uid(USER).gid(USER);
    }
    assert!(!shell.status().unwrap().success());
    assert_eq!(state(&tree, true), before);
    // A directory that cannot be written is left alone.
    let closed = site.tree("q", 10);
    let dir = closed.join("dir 0");
    fs::set_permissions(&dir, Permissions::from_mode(0o555)).unwrap();
    let report = site.json(&["ingest", "q", "--mode", "phantom"]);
    assert_eq!(report["replaced"], json!(8));
    fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_file_that_cannot_be_fetched_whole_is_not_there() {
    let site = Site::new();
    let tree = site.tree("p", 1);
    fs::write(tree.join("large"), vec![7; 100_000]).unwrap();
    site.json(&["ingest", "p"]);
    let digest = vx_digest::Digest::of(&vec![7; 100_000]).to_string();
    let program = site.command(&["fetch", &digest, "-o", "large"]);
    // Files may have 8 blocks, and the signal that says so is ignored.
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(program.get_current_dir().unwrap());
    if rustix::process::geteuid().is_root() {
        limited.uid(USER).gid(USER);
    }
    for (name, value) in program.get_envs() {
        limited.env(name, value.unwrap_or_default());
    }
    let output = limited.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("could not write `large`"), "{said}");
    assert!(!site.path("large").exists());
    site.run(&["fetch", &digest, "-o", "large"]);
    assert_eq!(fs::read(site.path("large")).unwrap(), vec![7; 100_000]);
}

#[test]
fn a_store_whose_name_is_cut_off_is_refused_with_what_to_do() {
    let site = Site::new();
    site.tree("p", 1);
    site.json(&["ingest", "p"]);
    fs::write(site.path("home/.vrift/id"), "short").unwrap();
    let output = site.run(&["status"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        said.contains("is cut off") && said.contains("backup"),
        "{said}"
    );
}

#[test]
fn phantom_killed_at_any_step_loses_nothing() {
    for step in 0..5 {
        let site = Site::new();
        let tree = site.tree("p", 150);
        let before = state(&tree, false);
        let contents = state(&tree, true);
        let child = site.spawn(&["ingest", "p", "--mode", "phantom"]);
        kill_when(child, || match step {
            0 => site.path("home/.vrift/the_source/tmp").exists(),
            1 => tree.join(".vrift/manifest.bin").exists(),
            2 => tree.join(".vrift/phantom").exists(),
            3 => projections(&tree) > 0,
            _ => projections(&tree) > 50,
        });
        assert_eq!(state(&tree, true), contents, "step {step}");
        // Going on and coming back.
        if step % 2 == 0 {
            site.json(&["ingest", "p", "--mode", "phantom"]);
            assert_eq!(projections(&tree), 150);
            assert_eq!(state(&tree, true), contents);
        }
        if tree.join(".vrift/phantom").exists() {
            site.json(&["restore", "p"]);
        }
        assert_eq!(state(&tree, false), before, "step {step}");
        let left = fs::read_dir(tree.join(".vrift/tmp")).map_or(0, Iterator::count);
        assert_eq!(left, 0);
    }
}

#[test]
fn restore_killed_at_any_step_goes_on() {
    for step in 0..4 {
        let site = Site::new();
        let tree = site.tree("p", 600);
        let before = state(&tree, false);
        let contents = state(&tree, true);
        site.json(&["ingest", "p", "--mode", "phantom"]);
        let scratch = tree.join(".vrift/tmp");
        let waiting = || fs::read_dir(&scratch).map_or(0, Iterator::count);
        let child = site.spawn(&["restore", "p"]);
        kill_when(child, || match step {
            0 => waiting() > 0,
            1 => waiting() > 100,
            2 => projections(&tree) < 600,
            _ => projections(&tree) < 300,
        });
        assert_eq!(state(&tree, true), contents, "step {step}");
        // A collection in between takes nothing that links need.
        site.json(&["gc", "--older-than", "0"]);
        if tree.join(".vrift/phantom").exists() {
            site.json(&["restore", "p"]);
        }
        assert_eq!(state(&tree, false), before, "step {step}");
        assert_eq!(waiting(), 0);
    }
}

#[test]
fn link_killed_at_any_step_is_never_taken_for_the_whole() {
    let site = Site::new();
    let tree = site.tree("p", 600);
    let whole = state(&tree, false);
    site.json(&["ingest", "p"]);
    for (step, how) in (0..4).flat_map(|step| [(step, "copy"), (step, "symlink")]) {
        let name = format!("{step} {how}");
        let dest = site.path(&name);
        let made = || {
            let dirs = fs::read_dir(&dest).into_iter().flatten().flatten();
            let files = dirs.filter_map(|dir| fs::read_dir(dir.path()).ok());
            files.map(Iterator::count).sum::<usize>()
        };
        let child = site.spawn(&["link", "p", &name, "--how", how]);
        kill_when(child, || match step {
            0 => dest.exists(),
            1 => made() > 0,
            2 => made() > 100,
            _ => made() > 500,
        });
        assert_eq!(state(&tree, false), whole, "{name}");
        if dest.join(".vrift/unfinished").exists() {
            let refused = site.run(&["link", "p", &name]);
            let said = String::from_utf8_lossy(&refused.stderr);
            assert!(said.contains("is unfinished"), "{name}: {said}");
            fs::remove_dir_all(&dest).unwrap();
        } else if made() > 0 {
            let follow = how == "symlink";
            assert_eq!(state(&dest, follow), state(&tree, follow), "{name}");
            continue;
        }
        site.json(&["link", "p", &name, "--how", how]);
        assert!(!dest.join(".vrift/unfinished").exists(), "{name}");
        assert_eq!(state(&dest, true), state(&tree, true), "{name}");
    }
    assert_eq!(site.json(&["verify"])["missing"], json!(0));
}

#[test]
fn ingest_and_gc_killed_at_any_step_leave_a_whole_store() {
    let site = Site::new();
    let store = site.path("home/.vrift/the_source");
    for round in 0..6 {
        let name = format!("p{round}");
        let tree = site.tree(&name, 400);
        let contents = state(&tree, false);
        let child = site.spawn(&["ingest", &name]);
        kill_when(child, || match round % 3 {
            0 => fs::read_dir(store.join("tmp")).map_or(0, Iterator::count) > 50,
            1 => tree.join(".vrift/lock").exists(),
            _ => tree.join(".vrift/manifest.bin").exists(),
        });
        assert_eq!(state(&tree, false), contents);
        let child = site.spawn(&["gc", "--older-than", "0"]);
        kill_when(child, || {
            fs::read_dir(store.join("blake3")).map_or(0, Iterator::count) > 250
        });
        assert_eq!(site.json(&["verify"])["missing"], json!(0));
        site.json(&["ingest", &name]);
        fs::remove_dir_all(&tree).unwrap();
    }
    site.json(&["gc", "--older-than", "0"]);
    let status = site.json(&["status"]);
    assert_eq!(status["blobs"], json!(0), "all that is dead goes");
    let temporary = fs::read_dir(store.join("tmp")).unwrap().count();
    assert_eq!(temporary, 0);
}

#[test]
fn a_full_disk_is_said_and_leaves_no_trace() {
    let site = Site::new();
    let tree = site.path("p");
    fs::create_dir(&tree).unwrap();
    for n in 0..40u8 {
        let mut content = vec![n; 200_000];
        content[0] = 255 - n;
        fs::write(tree.join(n.to_string()), content).unwrap();
    }
    fs::create_dir(site.path("small")).unwrap();
    let before = state(&tree, false);
    let script = "mount -t tmpfs -o size=3m tmpfs small || exit 77
        $0 --store small/home ingest p; echo code $?
        $0 --store small/home gc --older-than 0; echo code $?
        ls small/home/the_source/tmp | wc -l
        rm p/1? p/2? p/3?
        $0 --store small/home ingest p; echo code $?
        $0 --store small/home verify; echo code $?
        mv p kept
        dd if=/dev/zero of=small/fill bs=4k 2>/dev/null
        $0 --store small/home gc --older-than 0; echo code $?
        find small/home/the_source/blake3 -type f | wc -l";
    let flags: &[&str] = if rustix::process::geteuid().is_root() {
        &["-m"]
    } else {
        &["-rm"]
    };
    let output = Command::new("unshare")
        .args(flags)
        .args(["sh", "-c", script, env!("CARGO_BIN_EXE_vrift")])
        .current_dir(site.dir.path())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_ne!(
        output.status.code(),
        Some(77),
        "no file system can be mounted: {err}"
    );
    assert_eq!(
        out.lines().collect::<Vec<_>>(),
        ["code 4", "code 0", "0", "code 0", "code 0", "code 0", "0"],
        "{err}"
    );
    assert!(err.contains("no space left"), "{err}");
    assert!(err.contains("`vrift gc` removes"), "{err}");
    let after = state(&site.path("kept"), false);
    for (path, seen) in after
        .iter()
        .filter(|(path, _)| !path.as_os_str().is_empty())
    {
        assert_eq!(before.get(path), Some(seen), "{}", path.display());
    }
}

#[test]
fn a_private_tree_stays_private_in_ones_own_store() {
    let site = Site::new();
    site.tree("p", 3);
    site.json(&["ingest", "p"]);
    for path in ["home/.vrift", "home/.vrift/the_source", "p/.vrift"] {
        let mode = fs::metadata(site.path(path)).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o700, "{path}");
    }
    let doctor = site.run(&["doctor"]);
    assert!(
        doctor.status.success(),
        "{}",
        String::from_utf8_lossy(&doctor.stdout)
    );
}

#[test]
fn ctrl_c_ends_it_with_130_and_leaves_everything_whole() {
    let site = Site::new();
    let tree = site.tree("p", 3000);
    let before = state(&tree, false);
    let mut child = site.spawn(&["ingest", "p"]);
    let start = Instant::now();
    while !tree.join(".vrift/lock").exists() {
        assert!(start.elapsed() < DEADLINE);
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = child.wait().unwrap();
    // It may have been done already.
    assert!(matches!(status.code(), Some(130 | 0)), "{status}");
    assert_eq!(state(&tree, false), before);
    site.json(&["ingest", "p"]);
}
