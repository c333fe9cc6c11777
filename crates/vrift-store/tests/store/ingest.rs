//! What is ingested is there, once, and what it was ingested from stays as it was.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use vrift_store::{
    Blobs, CheckOptions, Error, How, IngestOptions, LinkOptions, Progress, Project, Projection,
    Put, RootRequest, Sources, ingest, link,
};
use vx_digest::Digest;

use crate::site::{Site, settle, state, tree, write};

#[test]
fn ingest_leaves_the_files_alone_and_link_makes_them_again() {
    let site = Site::new();
    tree(&site.path("p"));
    let before = state(&site.path("p"));
    let inodes: Vec<u64> = ["readme", "large"]
        .map(|name| fs::metadata(site.path("p").join(name)).unwrap().ino())
        .into();
    let report = site.ingest("p");
    assert_eq!(state(&site.path("p")), before);
    assert_eq!(
        (report.files, report.unique, report.new, report.read),
        (6, 5, 5, 6)
    );
    assert!(report.changed.is_empty() && report.skipped.is_empty());
    for (name, inode) in ["readme", "large"].iter().zip(inodes) {
        let metadata = fs::metadata(site.path("p").join(name)).unwrap();
        assert_eq!((metadata.ino(), metadata.nlink()), (inode, 1));
    }
    for how in [None, Some(How::Copy)] {
        let dest = site.path(&format!("out-{how:?}"));
        let options = LinkOptions { how };
        let linked = link(&site.manifest("p"), &site.home, &dest, &options, &()).unwrap();
        assert_ne!(linked.how, How::Symlink);
        assert_eq!(state(&dest), before);
    }
    let blob = fs::metadata(site.blob(b"secret")).unwrap();
    assert_eq!(blob.mode() & 0o7777, 0o444);
    assert_eq!(blob.nlink(), 1);
    let hex = Digest::of(b"secret").hex();
    let promised = format!(
        "home/the_source/blake3/{}/{}/{hex}_6.bin",
        &hex[..2],
        &hex[2..4]
    );
    assert_eq!(site.blob(b"secret"), site.path(&promised));
}

#[test]
fn what_is_edited_after_it_was_ingested_or_linked_changes_no_blob() {
    let site = Site::new();
    tree(&site.path("p"));
    // A descriptor that was open before must not reach the blob either.
    let early = fs::OpenOptions::new()
        .write(true)
        .open(site.path("p/readme"))
        .unwrap();
    site.ingest("p");
    link(
        &site.manifest("p"),
        &site.home,
        &site.path("out"),
        &LinkOptions::default(),
        &(),
    )
    .unwrap();
    std::os::unix::fs::FileExt::write_all_at(&early, b"EVIL", 0).unwrap();
    fs::write(site.path("out/readme"), "EVIL").unwrap();
    fs::write(site.path("p/bin/tool"), "EVIL").unwrap();
    assert_eq!(fs::read(site.blob(b"read me\n")).unwrap(), b"read me\n");
    let check = site.home.check(&CheckOptions::default()).unwrap();
    assert_eq!((check.quarantined, check.missing_count), (0, 0));
}

#[test]
fn an_unchanged_tree_is_not_read_again() {
    let site = Site::new();
    tree(&site.path("p"));
    settle(&site);
    assert_eq!(site.ingest("p").read, 6);
    let again = site.ingest("p");
    assert_eq!((again.files, again.read, again.new), (6, 0, 0));
    // Same size, same modification time: the change time tells.
    write(&site.path("p/readme"), b"READ ME\n", 0o644);
    settle(&site);
    let changed = site.ingest("p");
    assert_eq!((changed.read, changed.new), (1, 1));
    assert_eq!(site.ingest("p").read, 0);
}

#[test]
fn a_second_copy_stores_nothing() {
    let site = Site::new();
    tree(&site.path("p"));
    tree(&site.path("q"));
    assert_eq!(site.ingest("p").new, 5);
    let second = site.ingest("q");
    assert_eq!((second.files, second.unique, second.new), (6, 5, 0));
    let usage = site.home.usage().unwrap();
    assert_eq!(usage.users[0].roots, 2);
    assert!(usage.ratio().unwrap() > 1.9, "{usage:?}");
}

#[test]
fn what_changes_while_it_is_read_is_read_again_or_reported() {
    /// Appends to a file as often as it is told, each time when it is about to be read.
    struct Meddler<'a> {
        path: PathBuf,
        site: &'a Site,
        for_ever: bool,
        done: AtomicBool,
    }
    impl Progress for Meddler<'_> {
        fn expect(&self, _files: u64, _bytes: u64) {}
        fn advance(&self, _files: u64, _bytes: u64) {}
    }
    impl Meddler<'_> {
        fn meddle(&self) {
            if self.for_ever || !self.done.swap(true, Ordering::SeqCst) {
                let mut content = fs::read(&self.path).unwrap();
                content.push(b'!');
                fs::write(&self.path, content).unwrap();
            }
        }
    }
    /// Meddles between reading and the look afterwards.
    struct Meddled<'a>(Meddler<'a>);
    impl Blobs for Meddled<'_> {
        fn id(&self) -> [u8; 16] {
            self.0.site.home.id()
        }
        fn name(&self) -> String {
            self.0.site.home.name()
        }
        fn put(&self, files: &dyn Sources) -> Result<Vec<io::Result<Put>>, Error> {
            let answers = self.0.site.home.put(files);
            self.0.meddle();
            answers
        }
        fn put_bytes(&self, bytes: &[u8]) -> Result<Put, Error> {
            self.0.site.home.put_bytes(bytes)
        }
        fn register(&self, request: &RootRequest) -> Result<(), Error> {
            self.0.site.home.register(request)
        }
        fn has_root(&self, path: &Path, manifest: &Digest) -> Result<bool, Error> {
            self.0.site.home.has_root(path, manifest)
        }
        fn root_manifest(&self, path: &Path) -> Result<Option<Digest>, Error> {
            self.0.site.home.root_manifest(path)
        }
        fn open(&self, digests: &[Digest]) -> Result<Vec<Option<File>>, Error> {
            self.0.site.home.open(digests)
        }
        fn projection(&self) -> Projection {
            Projection::Allowed
        }
        fn blob_path(&self, digest: &Digest, executable: bool) -> Result<Option<PathBuf>, Error> {
            self.0.site.home.blob_path(digest, executable)
        }
        fn digest_of(&self, target: &Path) -> Option<(Digest, bool)> {
            self.0.site.home.digest_of(target)
        }
    }
    for for_ever in [false, true] {
        let site = Site::new();
        write(&site.path("p/log"), b"line", 0o644);
        let blobs = Meddled(Meddler {
            path: site.path("p/log"),
            site: &site,
            for_ever,
            done: AtomicBool::new(false),
        });
        let project = Project::open(&site.path("p")).unwrap();
        let options = IngestOptions::default();
        let report = ingest(&project, &blobs, &options, &()).unwrap();
        let content = fs::read(site.path("p/log")).unwrap();
        let manifest = site.manifest("p");
        let (_, digest) = manifest.files().next().unwrap();
        if for_ever {
            assert_eq!(report.changed, [PathBuf::from("log")]);
        } else {
            assert!(report.changed.is_empty());
            assert_eq!(*digest, Digest::of(&content));
        }
        assert!(site.home.store().has_file(digest).unwrap());
    }
}

#[test]
fn special_files_are_left_out_and_named() {
    let site = Site::new();
    tree(&site.path("p"));
    let pipe = site.path("p/pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    let report = site.ingest("p");
    assert_eq!(report.skipped[0].path, Path::new("pipe"));
    assert_eq!(report.files, 6);
}

#[test]
fn two_at_once_on_one_project_are_told() {
    let site = Site::new();
    tree(&site.path("p"));
    site.ingest("p");
    let lock = File::open(site.path("p/.vrift/lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let project = Project::open(&site.path("p")).unwrap();
    let busy = ingest(&project, &site.home, &IngestOptions::default(), &());
    assert!(matches!(busy, Err(Error::Busy { .. })), "{busy:?}");
}
