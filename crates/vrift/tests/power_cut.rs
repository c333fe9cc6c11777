//! Only what was synced survives: the file system is stopped without writing its journal, as a power cut does.
//!
//! It takes root and a loop device; without them nothing is shown and the test says so.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

mod mounts;

use std::fs;

use mounts::Mounts;

/// The user in whose name everything happens; root is refused links into the store.
const USER: &str = "61003";

/// Runs `script` in a directory of its own, with `mnt` being an ext4 that `cut` cuts off and mounts again.
fn with_power_cut(script: &str) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("mnt")).unwrap();
    let prelude = r#"set -e
        truncate -s 96m image
        mkfs.ext4 -q -I 256 image
        mount -o loop image mnt || exit 77
        trap 'umount mnt' EXIT
        mkdir mnt/p
        for n in $(seq 300); do echo "content of $n" >"mnt/p/$n"; done
        chmod 755 .
        chown -R $USER:$USER mnt
        vrift() { setpriv --reuid $USER --regid $USER --clear-groups env HOME=/ "$VRIFT" --store mnt/home "$@"; }
        cut() {
            python3 -c 'import fcntl, os, struct
fcntl.ioctl(os.open("mnt", os.O_RDONLY), 0x8004587D, struct.pack("I", 2))'
            umount mnt
            mount -o loop image mnt
        }
        check() { for n in $(seq 300); do test "$(cat "mnt/p/$n")" = "content of $n" || { echo "LOST $n"; exit 1; }; done; }
    "#;
    let script = format!("USER={USER}\n{prelude}\n{script}");
    mounts::run(Mounts::Images, dir.path(), &script)
}

#[test]
fn what_was_ingested_survives_a_power_cut() {
    let said = with_power_cut(
        "vrift -q ingest mnt/p
         cp -r mnt/p mnt/unsynced
         cut
         vrift -q verify
         check
         vrift -q link mnt/p mnt/linked
         diff -r --exclude .vrift mnt/p mnt/linked && echo whole",
    );
    if let Some(said) = said {
        assert!(said.ends_with("whole\n"), "{said}");
    }
}

#[test]
fn projections_and_restored_files_survive_a_power_cut() {
    let said = with_power_cut(
        "vrift -q ingest --mode phantom mnt/p
         cut
         check
         vrift -q verify
         vrift -q restore mnt/p
         cut
         check
         test -z \"$(find mnt/p -type l)\"
         test ! -e mnt/p/.vrift/phantom
         vrift -q verify
         echo whole",
    );
    if let Some(said) = said {
        assert!(said.ends_with("whole\n"), "{said}");
    }
}
