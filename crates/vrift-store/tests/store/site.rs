//! A store in a directory of its own, trees to put into it, and their state to compare.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use vrift_store::manifest::Manifest;
use vrift_store::{
    Blobs, CollectOptions, Error, Home, HomeOptions, IngestOptions, Ingested, Project, Projection,
    Put, RootRequest, Sources, ingest,
};
use vx_digest::Digest;

pub(crate) struct Site {
    pub(crate) dir: TempDir,
    pub(crate) home: Home,
}

impl Site {
    pub(crate) fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let options = HomeOptions {
            lease: Duration::ZERO,
            ..HomeOptions::own()
        };
        let home = Home::open(&dir.path().join("home"), options).unwrap();
        Site { dir, home }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn ingest(&self, name: &str) -> Ingested {
        let project = Project::open(&self.path(name)).unwrap();
        ingest(&project, &self.home, &IngestOptions::default(), &()).unwrap()
    }

    pub(crate) fn manifest(&self, name: &str) -> Manifest {
        let project = Project::open(&self.path(name)).unwrap();
        project.manifest().unwrap().unwrap()
    }

    pub(crate) fn collect(&self, dry_run: bool) -> vrift_store::CollectReport {
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

    pub(crate) fn blob(&self, content: &[u8]) -> PathBuf {
        self.home
            .blob_path(&Digest::of(content), false)
            .unwrap()
            .unwrap()
    }
}

/// The store of an ordinary user, whoever runs the tests.
pub(crate) struct Ordinary<'a>(pub(crate) &'a Home);

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
pub(crate) fn write(path: &Path, content: &[u8], mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789);
    let file = File::open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(then)).unwrap();
}

pub(crate) fn tree(root: &Path) {
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

pub(crate) type State = BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)>;

/// Everything that can be seen of a tree but its own `.vrift`: mode, times, content or target.
pub(crate) fn state(root: &Path) -> State {
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
pub(crate) fn settle(site: &Site) {
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
