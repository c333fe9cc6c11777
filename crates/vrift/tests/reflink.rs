//! On a file system with clones, content is shared until it is written to, and then is whoever's wrote.

mod mounts;

use mounts::Mounts;

/// Runs `script` in a directory of its own, with `mnt` being a file system that has clones.
#[expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]
fn with_clones(script: &str) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let prelude = r#"set -e
        PATH=$PATH:/usr/sbin:/sbin
        truncate -s 400m image
        if command -v mkfs.btrfs >/dev/null; then mkfs.btrfs -q image
        elif command -v mkfs.xfs >/dev/null; then mkfs.xfs -q -m reflink=1 image
        else echo "neither mkfs.btrfs nor mkfs.xfs is installed" >&2; exit 77; fi
        mkdir mnt
        mount -o loop image mnt || exit 77
        trap 'umount mnt' EXIT
        export HOME="$PWD" VRIFT_SOCKET=none
        vrift() { "$VRIFT" --store mnt/home "$@"; }
        used() { sync -f mnt; df --output=used -k mnt | tail -1; }
        # At most a quarter of the content is new.
        shared() { test $(($(used) - $1)) -lt 16384 || { echo "$2 COPIED THE CONTENT"; exit 1; }; }
        mkdir mnt/p
        head -c 64M /dev/urandom >mnt/p/large
        echo small >mnt/p/small
        : >mnt/p/empty
        before=$(used)
    "#;
    mounts::run(Mounts::Images, dir.path(), &format!("{prelude}\n{script}"))
}

#[test]
fn content_is_shared_until_it_is_written_to() {
    let said = with_clones(
        r#"vrift -q ingest mnt/p
           shared "$before" ingest
           vrift link mnt/p mnt/q 2>&1 | grep -q "as clones"
           vrift -q link --how reflink mnt/p mnt/r
           shared "$before" link
           diff -r --exclude .vrift mnt/p mnt/q
           echo edited | dd of=mnt/q/large conv=notrunc status=none
           echo edited | dd of=mnt/p/large conv=notrunc status=none
           vrift -q verify
           cmp mnt/p/large mnt/q/large
           vrift -q link mnt/p mnt/s
           cmp mnt/r/large mnt/s/large
           if cmp -s mnt/p/large mnt/s/large; then echo "THE BLOB WAS EDITED"; exit 1; fi
           echo whole"#,
    );
    if let Some(said) = said {
        assert!(said.ends_with("whole\n"), "{said}");
    }
}
