//! A store where nothing can be written: what is in it can be had, and the rest is refused plainly.

mod mounts;

use std::fs;

use mounts::Mounts;

#[test]
fn what_is_in_a_store_that_cannot_be_written_can_be_had() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"set -e
        vrift() { env HOME="$PWD" VRIFT_SOCKET=none "$VRIFT" --store store "$@"; }
        fails() { rc=0; vrift "$@" 2>err || rc=$?; test $rc = 4 || { echo "$* ended with $rc"; cat err; exit 1; }
                  grep -q "Read-only file system" err || { cat err; exit 1; }; }
        mkdir p q
        echo content >p/file
        echo other >q/file
        vrift -q ingest p
        mount --bind store store || exit 77
        mount -o remount,bind,ro store
        find store | sort >before
        vrift -q status
        vrift -q verify
        vrift -q link p linked
        cmp p/file linked/file
        digest=$(vrift manifest p | awk '$1 == "f" { print $NF }')
        test "$(vrift -q fetch "$digest")" = content
        vrift -q gc --dry-run
        vrift -q ingest p
        fails ingest q
        fails forget p
        find store | sort | cmp - before
        echo whole
    "#;
    let Some(out) = mounts::run(Mounts::Directories, dir.path(), script) else {
        return;
    };
    assert!(out.ends_with("whole\n"), "{out}");
    assert_eq!(fs::read(dir.path().join("q/file")).unwrap(), b"other\n");
}
