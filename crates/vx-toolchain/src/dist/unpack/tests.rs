//! Archives that break a rule are refused by name, and write nothing outside.

use std::io::{Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;

use super::*;

/// An archive in the making.
struct Made(tar::Builder<Vec<u8>>);

impl Made {
    /// With a component `c` that lists `files`.
    fn listing(files: &[&str]) -> Made {
        let mut made = Made(tar::Builder::new(Vec::new()));
        made.file("a/rust-installer-version", 0o644, "3\n");
        made.file("a/components", 0o644, "c\n");
        let list: String = files.iter().map(|file| format!("file:{file}\n")).collect();
        made.file("a/c/manifest.in", 0o644, &list);
        made
    }

    fn file(&mut self, path: &str, mode: u32, content: &str) {
        let mut header = self.header(path, EntryType::Regular);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content.as_bytes()).unwrap();
    }

    /// A header whose path is written as it is; the library would refuse most of those below.
    fn header(&self, path: &str, kind: EntryType) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(0);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        header
    }

    fn special(&mut self, path: &str, kind: EntryType, link: &str) {
        let mut header = self.header(path, kind);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, io::empty()).unwrap();
    }

    fn gz(self) -> Vec<u8> {
        let tar = self.0.into_inner().unwrap();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&tar).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(self) -> Vec<u8> {
        let tar = self.0.into_inner().unwrap();
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
        encoder.write_all(&tar).unwrap();
        encoder.finish().unwrap()
    }
}

fn unpacked(bytes: &[u8], name: &str, into: &Path) -> Result<u64, UnpackError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    unpack(&file, name, into, &AtomicBool::new(false))
}

/// The error of an archive, after checking that nothing was written beside the tree.
fn refused(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("into");
    fs::create_dir(&into).unwrap();
    let error = unpacked(bytes, "a.tar.gz", &into).unwrap_err();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    error.to_string()
}

#[test]
fn files_links_and_modes_come_out_of_both_packings() {
    let made = || {
        let mut made = Made::listing(&["bin/x", "lib/deep/y", "lib/link"]);
        made.file("a/c/bin/x", 0o4777, "program");
        made.file("a/c/lib/deep/y", 0o600, "data");
        made.special("a/c/lib/link", EntryType::Symlink, "../lib/deep/y");
        made.file("a/install.sh", 0o755, "not used");
        made
    };
    for (bytes, name) in [(made().gz(), "a.tar.gz"), (made().xz(), "a.tar.xz")] {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(unpacked(&bytes, name, dir.path()).unwrap(), 11);
        let mode = |path: &str| {
            let meta = fs::metadata(dir.path().join(path)).unwrap();
            meta.permissions().mode() & 0o7777 & !0o022
        };
        assert_eq!(mode("bin/x"), 0o755);
        assert_eq!(mode("lib/deep/y"), 0o644);
        let link = fs::read_to_string(dir.path().join("lib/link")).unwrap();
        assert_eq!(link, "data");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}

#[test]
fn paths_that_leave_the_tree_are_refused() {
    for (path, why) in [
        ("/etc/x", "has an absolute path"),
        ("a/c/../../../x", "has `..` in its path"),
        ("../x", "has `..` in its path"),
        (
            "a/c/lib/a\nb",
            "has a path with control characters or backslashes",
        ),
    ] {
        let mut made = Made::listing(&[]);
        made.file(path, 0o644, "content");
        assert_eq!(refused(&made.gz()), format!("the entry `{path}` {why}"));
    }
    let mut made = Made::listing(&[]);
    let long = format!("a/c/{}/../../../../x", "d/".repeat(80));
    let mut header = made.header("././@LongLink", EntryType::GNULongName);
    header.set_size(long.len() as u64);
    header.set_cksum();
    made.0.append(&header, long.as_bytes()).unwrap();
    made.file("a/c/x", 0o644, "content");
    assert!(refused(&made.gz()).ends_with("has `..` in its path"));
}

#[test]
fn links_that_leave_the_tree_are_refused() {
    for link in ["/etc", "../../x", "..", "../lib/../../x"] {
        let mut made = Made::listing(&["l"]);
        made.special("a/c/l", EntryType::Symlink, link);
        let error = refused(&made.gz());
        assert_eq!(
            error, "the entry `a/c/l` is a link that leaves the toolchain",
            "{link}"
        );
    }
    // Each link stays inside word for word; together they do not.
    let mut made = Made::listing(&["d/e/up", "out"]);
    made.special("a/c/d/e/up", EntryType::Symlink, "../..");
    made.special("a/c/out", EntryType::Symlink, "d/e/up/..");
    let error = refused(&made.gz());
    assert!(error.contains("`out` is a link that leaves"), "{error}");
    let mut made = Made::listing(&["l"]);
    made.special("a/c/l", EntryType::Symlink, "nowhere");
    assert!(refused(&made.gz()).contains("leads nowhere"));
}

#[test]
fn nothing_is_written_through_a_link() {
    for path in ["a/c/lib/x", "a/c/lib"] {
        let mut made = Made::listing(&[]);
        made.special("a/c/lib", EntryType::Symlink, "bin");
        made.file(path, 0o644, "content");
        let error = refused(&made.gz());
        assert!(error.ends_with("stands at or below a link"), "{error}");
    }
}

#[test]
fn devices_hard_links_and_second_copies_are_refused() {
    for (kind, why) in [
        (EntryType::Link, "is a hard link"),
        (EntryType::Char, "is a device"),
        (EntryType::Block, "is a device"),
        (
            EntryType::Fifo,
            "is neither a file nor a directory nor a link",
        ),
    ] {
        let mut made = Made::listing(&["x"]);
        made.special("a/c/x", kind, "y");
        assert_eq!(refused(&made.gz()), format!("the entry `a/c/x` {why}"));
    }
    let mut made = Made::listing(&["x"]);
    made.file("a/c/x", 0o644, "1");
    made.file("a/c/x", 0o644, "2");
    assert_eq!(refused(&made.gz()), "the entry `a/c/x` is there twice");
}

#[test]
fn what_is_listed_and_what_is_there_must_be_the_same() {
    let made = Made::listing(&["x"]);
    assert!(refused(&made.gz()).contains("`x` is listed and not there"));
    let mut made = Made::listing(&[]);
    made.file("a/c/x", 0o644, "1");
    assert!(refused(&made.gz()).contains("`x` is there and not listed"));
    let mut made = Made(tar::Builder::new(Vec::new()));
    made.file("a/x", 0o644, "1");
    assert!(refused(&made.gz()).contains("no `rust-installer-version`"));
}

#[test]
fn every_cut_and_names_without_end_are_errors() {
    let mut made = Made::listing(&["x"]);
    made.file("a/c/x", 0o644, &"content ".repeat(100));
    let bytes = made.gz();
    for length in 0..bytes.len() {
        let dir = tempfile::tempdir().unwrap();
        let error = unpacked(&bytes[..length], "a.tar.gz", dir.path());
        assert!(error.is_err(), "{length} of {} bytes", bytes.len());
    }
    let mut made = Made::listing(&[]);
    let mut header = made.header("././@LongLink", EntryType::GNULongName);
    let name = vec![b'x'; 1 << 20];
    header.set_size(name.len() as u64);
    header.set_cksum();
    made.0.append(&header, &name[..]).unwrap();
    assert!(refused(&made.gz()).contains("bytes in a path"));
}

#[test]
fn a_window_beyond_the_limit_is_refused() {
    let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
    options.dict_size(256 << 20);
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    let stream =
        liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32);
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream.unwrap());
    encoder.write_all(b"anything").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let error = unpacked(&encoder.finish().unwrap(), "a.tar.xz", dir.path()).unwrap_err();
    assert!(matches!(error, UnpackError::Damaged(_)), "{error}");
}

#[test]
fn a_cancelled_one_ends() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&Made::listing(&[]).gz()).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ended = unpack(&file, "a.tar.gz", dir.path(), &AtomicBool::new(true));
    assert!(matches!(ended, Err(UnpackError::Cancelled)));
}
