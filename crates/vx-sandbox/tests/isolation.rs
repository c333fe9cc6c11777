//! A command sees what was declared, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;

use support::{mount, run, shell, tree};
use vx_sandbox::{Ending, Launcher, MountKind, SpawnError, Tier, UserNamespace};

#[test]
fn the_probe_agrees_with_reality() {
    let probe = vx_sandbox::probe(&Launcher::new().unwrap());
    assert!(probe.tier.is_some(), "{probe:?}");
    assert_eq!(probe.problem, None);
}

#[test]
fn a_command_runs_and_its_end_is_told() {
    let outcome = run(&shell("echo out; echo err >&2; exit 7"));
    let report = outcome.result.unwrap();
    assert_eq!(report.ending, Ending::Exited(7));
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("out\n", "err\n")
    );
    assert!(report.usage.max_rss > 0);
    assert_eq!(
        run(&shell("kill -9 $$")).result.unwrap().ending,
        Ending::Signaled(9)
    );
}

#[test]
fn undeclared_files_do_not_exist() {
    let secret = tempfile::tempdir().unwrap();
    fs::write(secret.path().join("secret"), "x").unwrap();
    let script = format!(
        "cat {}/secret; ls -A /tmp /home /root /var /run; ls /",
        secret.path().display()
    );
    let outcome = run(&shell(&script));
    assert!(
        outcome.stderr.contains("secret: No such file"),
        "{}",
        outcome.stderr
    );
    let visible: Vec<_> = outcome
        .stdout
        .lines()
        .filter(|line| !line.contains(':'))
        .collect();
    for name in ["home", "root", "var", "run", "work", "sys"] {
        assert!(!visible.contains(&name), "{visible:?}");
    }
    assert!(visible.contains(&"usr"));
}

#[test]
fn the_environment_is_the_declared_one() {
    // The test process has many variables; none comes through.
    let mut spec = shell("exec env");
    spec.env.push(("ONLY".into(), "this one".into()));
    let outcome = run(&spec);
    let mut lines: Vec<_> = outcome.stdout.lines().collect();
    lines.sort_unstable();
    lines.retain(|line| !line.starts_with("PWD=") && !line.starts_with("_="));
    assert_eq!(lines, ["ONLY=this one", "PATH=/usr/bin:/bin"]);
}

#[test]
fn there_is_no_network_but_loopback() {
    let outcome = run(&shell("cat /proc/net/dev; cat /proc/net/route"));
    let devices: Vec<_> = outcome
        .stdout
        .lines()
        .filter(|line| line.contains(':'))
        .collect();
    assert_eq!(devices.len(), 1, "{devices:?}");
    assert!(devices[0].trim().starts_with("lo:"));
    assert_eq!(
        outcome
            .stdout
            .lines()
            .last()
            .unwrap()
            .split_whitespace()
            .next(),
        Some("Iface")
    );
}

#[test]
fn other_processes_are_out_of_sight_and_ids_are_fixed() {
    let outcome = run(&shell(
        "echo /proc/[0-9]*; id -u; id -g; hostname; umask; cat /proc/1/environ | wc -c",
    ));
    let lines: Vec<_> = outcome.stdout.lines().collect();
    assert!(lines[0].split(' ').count() <= 3, "{}", lines[0]);
    assert_eq!(&lines[1..5], ["1000", "1000", "vx", "0022"]);
    assert!(
        outcome.stderr.contains("/proc/1/environ"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn nothing_but_writable_places_can_be_changed() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("input"), "before").unwrap();
    let mut spec = shell(
        "for f in /in/input /in/new /usr/new /new /etc/passwd /proc/sys/kernel/core_pattern /dev/new; do
           (echo x > $f) 2>/dev/null && echo wrote $f; done; chmod 777 /in/input 2>/dev/null && echo chmod; mount -t tmpfs x /tmp 2>/dev/null && echo mount; exit 0",
    );
    spec.mounts.push(tree("/in", dir.path()));
    let outcome = run(&spec);
    assert_eq!(outcome.result.unwrap().ending, Ending::Exited(0));
    assert_eq!(outcome.stdout, "");
    assert_eq!(
        fs::read_to_string(dir.path().join("input")).unwrap(),
        "before"
    );
}

#[test]
fn no_capability_is_left() {
    let outcome = run(&shell("grep -E 'Cap|NoNewPrivs' /proc/self/status"));
    for line in outcome.stdout.lines() {
        let value = line.split_whitespace().nth(1).unwrap();
        let expected = if line.starts_with("NoNewPrivs") {
            "1"
        } else {
            "0000000000000000"
        };
        assert_eq!(value, expected, "{line}");
    }
    assert_eq!(outcome.stdout.lines().count(), 6);
}

#[test]
fn outputs_are_found_on_the_host_and_mounts_nest() {
    let input = tempfile::tempdir().unwrap();
    fs::write(input.path().join("a"), "content").unwrap();
    let output = tempfile::tempdir().unwrap();
    let inner = tempfile::tempdir().unwrap();
    let mut spec = shell(
        "cp /v/in/a /v/out/b; cp /v/out/sub/file/f /v/out/c; readlink /v/link; ls /v; touch /v/x",
    );
    spec.mounts = vec![
        mount("/v/out/sub/file", MountKind::EmptyDir),
        mount(
            "/v/out",
            MountKind::WritableDir {
                host_dir: output.path().into(),
            },
        ),
        tree("/v/in", input.path()),
        mount(
            "/v/out/sub/file/f",
            MountKind::ReadOnlyFile {
                host_file: input.path().join("a"),
            },
        ),
        mount(
            "/v/link",
            MountKind::Symlink {
                target: "in/a".into(),
            },
        ),
        mount(
            "/v/empty/deep",
            MountKind::WritableDir {
                host_dir: inner.path().into(),
            },
        ),
    ];
    let outcome = run(&spec);
    assert_eq!(outcome.stdout, "in/a\nempty\nin\nlink\nout\n");
    assert!(
        outcome.stderr.contains("Read-only file system"),
        "{}",
        outcome.stderr
    );
    assert_eq!(
        fs::read_to_string(output.path().join("b")).unwrap(),
        "content"
    );
    assert_eq!(
        fs::read_to_string(output.path().join("c")).unwrap(),
        "content"
    );
    outcome.result.unwrap();
}

#[test]
fn a_mount_inside_a_read_only_one_is_refused_naming_both() {
    let dir = tempfile::tempdir().unwrap();
    let mut spec = shell(":");
    spec.mounts = vec![tree("/in", dir.path()), tree("/in/x", dir.path())];
    let (io, _, _) = support::io();
    let error = Launcher::new().unwrap().spawn(&spec, io).unwrap_err();
    assert!(matches!(error, SpawnError::InsideReadOnly { .. }));
    assert_eq!(
        error.to_string(),
        "mount `/in/x` lies inside the read-only mount `/in`"
    );
    spec.mounts[1].at = "/in/../x".into();
    let (io, _, _) = support::io();
    assert!(matches!(
        Launcher::new().unwrap().spawn(&spec, io),
        Err(SpawnError::BadPath(_))
    ));
}

#[test]
fn a_link_in_a_writable_place_cannot_redirect_a_mount_point() {
    let outside = tempfile::tempdir().unwrap();
    let output = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), output.path().join("way")).unwrap();
    let mut spec = shell(":");
    spec.mounts = vec![
        mount(
            "/out",
            MountKind::WritableDir {
                host_dir: output.path().into(),
            },
        ),
        mount("/out/way/made", MountKind::EmptyDir),
    ];
    let error = run(&spec).result.unwrap_err();
    assert!(error.to_string().contains("`/out/way/made`"), "{error}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_missing_program_and_a_missing_source_are_named() {
    let mut spec = shell(":");
    spec.argv = vec!["no-such-program".into()];
    let error = run(&spec).result.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot execute `no-such-program`: No such file or directory (os error 2)"
    );
    let mut spec = shell(":");
    spec.mounts
        .push(tree("/in", std::path::Path::new("/no/such/place")));
    let error = run(&spec).result.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot bind `/no/such/place`: No such file or directory (os error 2)"
    );
}

#[test]
fn inherited_descriptors_arrive_at_their_numbers_and_no_others() {
    // Whatever numbers the sandbox itself uses while it is built, they do not get in the way.
    for (first, second) in [(9, 3), (4, 5), (6, 7), (8, 9), (10, 11), (12, 13), (5, 14)] {
        let (mut io, out, err) = support::io();
        let (read, write) = std::io::pipe().unwrap();
        io.inherited = vec![
            (read.into(), first),
            (write.try_clone().unwrap().into(), second),
        ];
        let spec = shell(&format!(
            "echo through > /proc/self/fd/{second}; head -n1 /proc/self/fd/{first}; for n in $(seq 0 40); do [ -e /proc/$$/fd/$n ] && echo $n; done"
        ));
        Launcher::new()
            .unwrap()
            .spawn(&spec, io)
            .unwrap()
            .wait()
            .unwrap();
        let mut numbers = vec![0, 1, 2, first, second];
        numbers.sort_unstable();
        let mut found: Vec<i32> = Vec::new();
        let said = support::text(out);
        let (line, fds) = said.split_once('\n').unwrap();
        found.extend(fds.split_whitespace().map(|fd| fd.parse::<i32>().unwrap()));
        found.sort_unstable();
        assert_eq!((line, &found), ("through", &numbers));
        assert_eq!(support::text(err), "");
    }
}

#[test]
fn times_show_no_clock() {
    let mut spec = shell("stat -c %Y / /v /v/w /etc/passwd /etc");
    spec.mounts.push(mount("/v/w", MountKind::EmptyDir));
    let outcome = run(&spec);
    let normal = format!("{}\n", vx_sandbox::NORMAL_MTIME).repeat(5);
    assert_eq!(outcome.stdout, normal);
}

#[test]
fn without_a_user_namespace_root_still_isolates() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let output = tempfile::tempdir().unwrap();
    fs::create_dir(output.path().join("made")).unwrap();
    let mut spec = shell(
        "id -u; touch /out/made/x /out/y; (echo x > /proc/sys/kernel/core_pattern) 2>/dev/null && echo bad; set -- /proc/[0-9]*; echo $#",
    );
    spec.user_namespace = UserNamespace::Never;
    spec.mounts.push(mount(
        "/out",
        MountKind::WritableDir {
            host_dir: output.path().into(),
        },
    ));
    let outcome = run(&spec);
    assert_eq!(outcome.result.unwrap().tier, Tier::RootOnly);
    assert_eq!(outcome.stdout, "65534\n2\n", "{}", outcome.stderr);
    assert!(output.path().join("made/x").exists() && output.path().join("y").exists());
}
