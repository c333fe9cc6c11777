//! Directories go into a store and come out of it as they were.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use vrift_store::manifest::Manifest;
use vrift_store::{
    Blobs, CheckOptions, CollectOptions, Error, Home, HomeOptions, How, IngestOptions, Ingested,
    LinkOptions, Progress, Project, Projection, Put, RootRequest, Sources, ingest, link, phantom,
    restore,
};
use vx_proto::Digest;

struct Site {
    dir: TempDir,
    home: Home,
}

impl Site {
    fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let options = HomeOptions {
            lease: Duration::ZERO,
            ..HomeOptions::own()
        };
        let home = Home::open(&dir.path().join("home"), options).unwrap();
        Site { dir, home }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ingest(&self, name: &str) -> Ingested {
        let project = Project::open(&self.path(name)).unwrap();
        ingest(&project, &self.home, &IngestOptions::default(), &()).unwrap()
    }

    fn manifest(&self, name: &str) -> Manifest {
        let project = Project::open(&self.path(name)).unwrap();
        project.manifest().unwrap().unwrap()
    }

    fn collect(&self, dry_run: bool) -> vrift_store::CollectReport {
        let options = CollectOptions {
            only: None,
            max_bytes: None,
            older_than: Duration::ZERO,
            dry_run,
            stale_of: Some(rustix::process::geteuid().as_raw()),
            without: None,
        };
        self.home.collect(&options).unwrap()
    }

    fn blob(&self, content: &[u8]) -> PathBuf {
        self.home
            .blob_path(&Digest::of(content), false)
            .unwrap()
            .unwrap()
    }
}

/// The store of an ordinary user, whoever runs the tests.
struct Ordinary<'a>(&'a Home);

impl Blobs for Ordinary<'_> {
    fn id(&self) -> [u8; 16] {
        self.0.id()
    }
    fn name(&self) -> String {
        self.0.name()
    }
    fn put(&self, files: &dyn Sources) -> Result<Vec<io::Result<Put>>, Error> {
        self.0.put(files)
    }
    fn put_bytes(&self, bytes: &[u8]) -> Result<Put, Error> {
        self.0.put_bytes(bytes)
    }
    fn register(&self, request: &RootRequest) -> Result<(), Error> {
        self.0.register(request)
    }
    fn has_root(&self, path: &Path, manifest: &Digest) -> Result<bool, Error> {
        self.0.has_root(path, manifest)
    }
    fn root_manifest(&self, path: &Path) -> Result<Option<Digest>, Error> {
        self.0.root_manifest(path)
    }
    fn open(&self, digests: &[Digest]) -> Result<Vec<Option<File>>, Error> {
        self.0.open(digests)
    }
    fn projection(&self) -> Projection {
        Projection::Allowed
    }
    fn blob_path(&self, digest: &Digest, executable: bool) -> Result<Option<PathBuf>, Error> {
        self.0.blob_path(digest, executable)
    }
    fn digest_of(&self, target: &Path) -> Option<(Digest, bool)> {
        self.0.digest_of(target)
    }
}

/// A file whose times are old enough to be told from later ones.
fn write(path: &Path, content: &[u8], mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789);
    let file = File::open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(then)).unwrap();
}

fn tree(root: &Path) {
    write(&root.join("readme"), b"read me\n", 0o644);
    write(&root.join("bin/tool"), b"#!/bin/sh\necho ran\n", 0o755);
    write(
        &root.join("bin/copy of tool"),
        b"#!/bin/sh\necho ran\n",
        0o700,
    );
    write(&root.join("deep/er/private"), b"secret", 0o600);
    write(&root.join("empty"), b"", 0o640);
    write(&root.join("large"), &vec![7; 3 << 20], 0o444);
    fs::create_dir(root.join("no files")).unwrap();
    symlink("bin/tool", root.join("link")).unwrap();
    symlink("/nowhere", root.join("deep/dangling")).unwrap();
}

type State = BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)>;

/// Everything that can be seen of a tree but its own `.vrift`: mode, times, content or target.
fn state(root: &Path) -> State {
    fn walk(root: &Path, at: &Path, state: &mut State) {
        let metadata = fs::symlink_metadata(at).unwrap();
        let content = if metadata.is_symlink() {
            fs::read_link(at)
                .unwrap()
                .into_os_string()
                .into_encoded_bytes()
        } else if metadata.is_file() {
            fs::read(at).unwrap()
        } else {
            Vec::new()
        };
        let relative = at.strip_prefix(root).unwrap().to_owned();
        let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
        state.insert(relative, (metadata.mode(), seconds, nanoseconds, content));
        if metadata.is_dir() {
            for entry in fs::read_dir(at).unwrap() {
                let entry = entry.unwrap();
                if entry.file_name() != ".vrift" {
                    walk(root, &entry.path(), state);
                }
            }
        }
    }
    let mut state = State::new();
    walk(root, root, &mut state);
    state
}

/// Waits until what was written is older than the clock is coarse.
fn settle(site: &Site) {
    let probe = site.path("probe");
    fs::write(&probe, "").unwrap();
    let start = fs::metadata(&probe).unwrap().modified().unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        fs::write(&probe, "").unwrap();
        let now = fs::metadata(&probe).unwrap().modified().unwrap();
        if now.duration_since(start).unwrap_or_default() > Duration::from_millis(100) {
            return;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "the clock stands still"
        );
        std::thread::yield_now();
    }
}

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
fn phantom_and_restore_give_the_tree_back_exactly() {
    let site = Site::new();
    let blobs = Ordinary(&site.home);
    tree(&site.path("p"));
    fs::hard_link(site.path("p/readme"), site.path("p/second name")).unwrap();
    settle(&site);
    let before = state(&site.path("p"));
    let project = Project::open(&site.path("p")).unwrap();
    let report = phantom(&project, &blobs, &IngestOptions::default(), &()).unwrap();
    assert_eq!(report.replaced, 4, "{report:?}");
    let kept: Vec<_> = report.kept.iter().map(|kept| kept.why.as_str()).collect();
    assert_eq!(kept, ["it has several hard links"; 2]);
    let tool = site.path("p/bin/tool");
    assert!(fs::symlink_metadata(&tool).unwrap().is_symlink());
    assert_eq!(fs::read(&tool).unwrap(), b"#!/bin/sh\necho ran\n");
    let ran = std::process::Command::new(&tool).output().unwrap();
    assert_eq!(ran.stdout, b"ran\n");
    // What is listed again is the same tree, and nothing is lost by it.
    let manifest = site.manifest("p");
    let again = ingest(&project, &blobs, &IngestOptions::default(), &()).unwrap();
    assert_eq!(again.files, 7);
    assert_eq!(site.manifest("p"), manifest);
    assert_eq!(site.collect(false).blobs, 0);
    let restored = restore(&project, &blobs, &()).unwrap();
    assert_eq!((restored.files, restored.missing.len()), (4, 0));
    assert_eq!(state(&site.path("p")), before);
    assert!(!project.is_phantom());
    let leftovers = fs::read_dir(site.path("p/.vrift/tmp")).unwrap().count();
    assert_eq!(leftovers, 0);
    assert!(matches!(
        restore(&project, &blobs, &()),
        Err(Error::Refused(_))
    ));
}

#[test]
fn what_the_user_does_to_projections_is_respected() {
    let site = Site::new();
    let blobs = Ordinary(&site.home);
    tree(&site.path("p"));
    let project = Project::open(&site.path("p")).unwrap();
    phantom(&project, &blobs, &IngestOptions::default(), &()).unwrap();
    fs::rename(site.path("p/bin/tool"), site.path("p/moved")).unwrap();
    fs::remove_file(site.path("p/deep/er/private")).unwrap();
    fs::remove_file(site.path("p/readme")).unwrap();
    fs::write(site.path("p/readme"), "mine").unwrap();
    restore(&project, &blobs, &()).unwrap();
    assert_eq!(
        fs::read(site.path("p/moved")).unwrap(),
        b"#!/bin/sh\necho ran\n"
    );
    let moved = fs::symlink_metadata(site.path("p/moved")).unwrap();
    assert_eq!((moved.is_file(), moved.mode() & 0o777), (true, 0o755));
    assert!(!site.path("p/deep/er/private").exists());
    assert_eq!(fs::read(site.path("p/readme")).unwrap(), b"mine");
}

#[test]
fn a_file_that_somebody_writes_to_is_not_replaced() {
    let site = Site::new();
    let blobs = Ordinary(&site.home);
    tree(&site.path("p"));
    let mut log = fs::OpenOptions::new()
        .append(true)
        .open(site.path("p/readme"))
        .unwrap();
    let project = Project::open(&site.path("p")).unwrap();
    let report = phantom(&project, &blobs, &IngestOptions::default(), &()).unwrap();
    let kept: Vec<_> = report.kept.iter().map(|kept| kept.path.as_path()).collect();
    assert_eq!(kept, [Path::new("readme")]);
    io::Write::write_all(&mut log, b"more\n").unwrap();
    assert_eq!(fs::read(site.path("p/readme")).unwrap(), b"read me\nmore\n");
}

#[test]
fn links_into_the_store_are_refused_to_root() {
    let site = Site::new();
    tree(&site.path("p"));
    site.ingest("p");
    if !rustix::process::geteuid().is_root() {
        assert_eq!(site.home.projection(), Projection::Allowed);
        return;
    }
    let before = state(&site.path("p"));
    let project = Project::open(&site.path("p")).unwrap();
    let refused = phantom(&project, &site.home, &IngestOptions::default(), &());
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    let options = LinkOptions {
        how: Some(How::Symlink),
    };
    let dest = site.path("out");
    let refused = link(&site.manifest("p"), &site.home, &dest, &options, &());
    assert!(matches!(refused, Err(Error::Refused(_))));
    assert!(!dest.exists());
    assert_eq!(state(&site.path("p")), before);
}

#[test]
fn symbolic_links_are_made_on_demand_and_can_be_restored() {
    let site = Site::new();
    let blobs = Ordinary(&site.home);
    tree(&site.path("p"));
    let before = state(&site.path("p"));
    site.ingest("p");
    let options = LinkOptions {
        how: Some(How::Symlink),
    };
    let dest = site.path("out");
    link(&site.manifest("p"), &blobs, &dest, &options, &()).unwrap();
    assert!(
        fs::symlink_metadata(dest.join("large"))
            .unwrap()
            .is_symlink()
    );
    let ran = std::process::Command::new(dest.join("bin/tool")).output();
    assert_eq!(ran.unwrap().stdout, b"ran\n");
    // The links are roots of their own.
    fs::remove_dir_all(site.path("p")).unwrap();
    let report = site.collect(false);
    assert_eq!((report.blobs, report.stale.len()), (0, 1));
    restore(&Project::open(&dest).unwrap(), &blobs, &()).unwrap();
    assert_eq!(state(&dest), before);
}

#[test]
fn link_touches_nothing_outside_and_nothing_that_is_there() {
    let site = Site::new();
    tree(&site.path("p"));
    site.ingest("p");
    let manifest = site.manifest("p");
    let options = LinkOptions::default();
    write(&site.path("full/mine"), b"mine", 0o600);
    let full = state(&site.path("full"));
    for dest in ["full", "full/mine", "p"] {
        let refused = link(&manifest, &site.home, &site.path(dest), &options, &());
        assert!(matches!(refused, Err(Error::Refused(_))), "{dest}");
    }
    fs::create_dir(site.path("elsewhere")).unwrap();
    symlink(site.path("elsewhere"), site.path("way out")).unwrap();
    assert!(link(&manifest, &site.home, &site.path("way out"), &options, &()).is_err());
    assert_eq!(state(&site.path("full")), full);
    assert_eq!(fs::read_dir(site.path("elsewhere")).unwrap().count(), 0);
    // A blob that is not there: the destination is gone again.
    let blob = site.blob(b"secret");
    fs::remove_file(blob).unwrap();
    let error = link(&manifest, &site.home, &site.path("out"), &options, &()).unwrap_err();
    assert!(error.to_string().contains("deep/er/private"), "{error}");
    assert!(!site.path("out").exists());
}

#[test]
fn collection_removes_all_that_is_dead_and_nothing_that_is_kept() {
    let site = Site::new();
    tree(&site.path("p"));
    write(&site.path("q/readme"), b"read me\n", 0o644);
    write(&site.path("q/only here"), b"only here", 0o644);
    site.ingest("p");
    site.ingest("q");
    assert_eq!(site.collect(false).blobs, 0);
    fs::remove_dir_all(site.path("q")).unwrap();
    let plan = site.collect(true);
    assert!(site.blob(b"only here").exists());
    let run = site.collect(false);
    assert_eq!(plan, run);
    // The content and the manifest.
    assert_eq!(
        (run.blobs, run.stale.as_slice()),
        (2, &[site.path("q")][..])
    );
    assert_eq!(
        site.home
            .blob_path(&Digest::of(b"only here"), false)
            .unwrap(),
        None
    );
    assert!(site.blob(b"read me\n").exists());
    assert_eq!(site.collect(false).blobs, 0);
    // An earlier version of a directory that is still there.
    fs::write(site.path("p/readme"), "another").unwrap();
    site.ingest("p");
    let run = site.collect(false);
    assert_eq!((run.blobs, run.stale.len()), (2, 0));
}

#[test]
fn what_is_collected_during_an_ingest_is_stored_again() {
    let site = Site::new();
    tree(&site.path("p"));
    settle(&site);
    site.ingest("p");
    // The stat cache says that all is known, but nobody keeps it any more.
    site.home
        .forget(rustix::process::geteuid().as_raw(), &site.path("p"))
        .unwrap();
    // The empty blob is always there.
    assert_eq!(site.collect(false).blobs, 5);
    let report = site.ingest("p");
    assert_eq!((report.new, report.files), (4, 6));
    let check = site.home.check(&CheckOptions::default()).unwrap();
    assert_eq!((check.blobs, check.missing_count), (6, 0));
}

#[test]
fn a_disk_that_is_not_mounted_is_no_reason_to_forget() {
    let site = Site::new();
    tree(&site.path("p"));
    site.ingest("p");
    let uid = rustix::process::geteuid().as_raw();
    let mut root = site.home.root_of(uid, &site.path("p")).unwrap().unwrap();
    fs::remove_dir_all(site.path("p")).unwrap();
    assert!(root.is_stale());
    root.request.device += 1;
    assert!(!root.is_stale(), "another device is there now");
    root.request.device -= 1;
    root.request.phantom = true;
    assert!(!root.is_stale(), "the blobs are the only copy");
}

#[test]
fn verify_finds_every_damage_and_repairs_it_from_the_files() {
    let site = Site::new();
    tree(&site.path("p"));
    tree(&site.path("q"));
    site.ingest("p");
    let flip = site.blob(b"read me\n");
    let cut = site.blob(b"secret");
    let gone = site.blob(b"#!/bin/sh\necho ran\n");
    fs::set_permissions(&flip, fs::Permissions::from_mode(0o644)).unwrap();
    let times = fs::metadata(&flip).unwrap().modified().unwrap();
    fs::write(&flip, b"read mE\n").unwrap();
    File::open(&flip).unwrap().set_modified(times).unwrap();
    fs::set_permissions(&cut, fs::Permissions::from_mode(0o644)).unwrap();
    File::options()
        .write(true)
        .open(&cut)
        .unwrap()
        .set_len(2)
        .unwrap();
    fs::remove_file(&gone).unwrap();
    fs::write(flip.with_file_name("foreign"), "x").unwrap();
    let found = site.home.check(&CheckOptions::default()).unwrap();
    assert_eq!((found.quarantined, found.missing_count), (3, 3));
    // One source is edited, so its content comes from elsewhere.
    fs::write(site.path("p/readme"), "edited").unwrap();
    let repaired = site
        .home
        .check(&CheckOptions {
            repair_from: Some(rustix::process::geteuid().as_raw()),
            sources: vec![site.path("q")],
        })
        .unwrap();
    assert_eq!((repaired.repaired, repaired.missing_count), (3, 0));
    assert_eq!(fs::read(&flip).unwrap(), b"read me\n");
}

#[test]
fn damage_that_was_found_is_healed_by_the_next_ingest() {
    let site = Site::new();
    tree(&site.path("p"));
    settle(&site);
    site.ingest("p");
    let blob = site.blob(b"secret");
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&blob, "SECRET").unwrap();
    settle(&site);
    assert_eq!(
        site.home
            .check(&CheckOptions::default())
            .unwrap()
            .missing_count,
        1
    );
    assert_eq!(site.ingest("p").new, 1);
    assert_eq!(
        site.home
            .check(&CheckOptions::default())
            .unwrap()
            .missing_count,
        0
    );
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

#[test]
fn collections_and_ingests_at_once_lose_nothing() {
    let site = Site::new();
    for n in 0..4 {
        tree(&site.path(&format!("p{n}")));
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                site.collect(false);
            }
        });
        let workers: Vec<_> = (0..4)
            .map(|n| {
                let site = &site;
                scope.spawn(move || {
                    for round in 0..10 {
                        let name = format!("p{n}");
                        write(
                            &site.path(&name).join("mine"),
                            format!("{n} {round}").as_bytes(),
                            0o644,
                        );
                        site.ingest(&name);
                    }
                })
            })
            .collect();
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        stop.store(true, Ordering::SeqCst);
        assert!(ended.iter().all(Result::is_ok));
    });
    let check = site.home.check(&CheckOptions::default()).unwrap();
    assert_eq!((check.missing_count, check.quarantined), (0, 0));
}
