//! The file system with the folder of the instance is full: the client does without, or
//! says so, leaves nothing behind, and the next one succeeds when there is room again.

use std::process::{Command, Stdio};
use std::time::Duration;

use daemon_lifecycle::IdentifiedProcess;

use crate::kit::{Site, eventually};

/// Runs in a mount namespace of its own: mounts a small file system in the place of the
/// folder `$1`, fills it as `$2` says, and runs the client twice.
const SCRIPT: &str = r#"
folder=$1 kind=$2
shift 2
mkdir -p -m 700 "$folder"
case $kind in
inodes)
    mount -t tmpfs -o size=1m,nr_inodes=16,mode=0700 tmpfs "$folder"
    n=0
    while touch "$folder/full-$n" 2>/dev/null; do n=$((n + 1)); done ;;
bytes)
    mount -t tmpfs -o size=16k,mode=0700 tmpfs "$folder"
    ! head -c 1M /dev/zero 2>/dev/null > "$folder/full-0" ;;
esac
"$@"
echo "full: $?"
rm "$folder"/full-*
"$@"
echo "free: $?"
"#;

const UNSHARE: [&str; 4] = ["--user", "--map-root-user", "--mount", "--"];

/// Whether this machine allows it.
fn can_mount() -> bool {
    let tried = Command::new("unshare")
        .args(UNSHARE)
        .args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

/// What became of the client on the full disk and of the one after it.
fn run(site: &Site, kind: &str) -> Vec<String> {
    let client = site.client();
    let output = Command::new("unshare")
        .args(UNSHARE)
        .args(["sh", "-c", SCRIPT, "sh"])
        .arg(site.instance().folder())
        .arg(kind)
        .arg(client.get_program())
        .args(client.get_args())
        .envs(
            client
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines()
        .filter(|line| line.starts_with("full: ") || line.starts_with("free: "))
        .map(str::to_owned)
        .collect()
}

/// Ends the daemon, which is out of reach: only its own namespace has its folder.
fn end(site: &Site, expected: usize) {
    let daemons = site.daemons();
    assert_eq!(daemons.len(), expected);
    for daemon in daemons {
        let daemon = IdentifiedProcess::find(&daemon).unwrap().unwrap();
        daemon.stop(Duration::ZERO).unwrap();
    }
    eventually("no process is left", || site.processes().is_empty());
}

#[test]
fn a_full_disk_is_named_and_forgotten_when_there_is_room() {
    if !can_mount() {
        eprintln!("SKIPPED: this machine allows no mount in a user namespace");
        return;
    }
    // Without a file there is no lock, and without a lock no start.
    let site = Site::fresh();
    assert_eq!(run(&site, "inodes"), ["full: 1", "free: 0"]);
    let lock = site.instance().start_lock();
    let expected = format!(
        "could not start `echo`: could not lock `{}`: No space left on device (os error 28)",
        lock.display()
    );
    assert_eq!(site.errors(), expected);
    end(&site, 1);

    // What the files say is for people only.
    let site = Site::fresh();
    assert_eq!(run(&site, "bytes"), ["full: 0", "free: 0"]);
    assert_eq!(site.errors(), "");
    end(&site, 1);
}
