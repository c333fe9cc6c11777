//! A distribution server with made-up releases, some of whose archives break a rule.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]
#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod signer;

use std::collections::BTreeSet;
use std::io::{Read as _, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use vx_download::{Cache, Digest, Options};
use vx_testkit::HttpFixture;
use vx_toolchain::dist::{Dist, DistError, Event, Installed, Mode, Store, Tell, Wanted};
use vx_toolchain::{ToolchainName, host_triple};

/// Entries of an archive: path in the sysroot, mode, content.
pub(crate) type Files<'a> = &'a [(&'a str, u32, &'a str)];

/// One entry with a path or a link that the library would not write.
pub(crate) enum Evil {
    /// A file at this path, which is not below the component.
    Path(&'static str),
    /// A link in the sysroot to this target.
    Link(&'static str),
}

/// A component as an archive.
pub(crate) fn component(name: &str, files: Files<'_>, evil: Option<Evil>) -> Vec<u8> {
    let packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(packed);
    let mut add = |path: &str, kind, mode, link: &str, content: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
    };
    let file = tar::EntryType::Regular;
    add("a/rust-installer-version", file, 0o644, "", "3\n");
    add("a/components", file, 0o644, "", &format!("{name}\n"));
    let mut list = String::new();
    for (path, mode, content) in files {
        list += &format!("file:{path}\n");
        add(&format!("a/{name}/{path}"), file, *mode, "", content);
    }
    match evil {
        Some(Evil::Path(path)) => add(path, file, 0o644, "", "evil"),
        Some(Evil::Link(target)) => {
            list += "file:lib/link\n";
            let path = format!("a/{name}/lib/link");
            add(&path, tar::EntryType::Symlink, 0o777, target, "");
        }
        None => {}
    }
    add(&format!("a/{name}/manifest.in"), file, 0o644, "", &list);
    let mut packed = tar.into_inner().unwrap();
    packed.flush().unwrap();
    packed.finish().unwrap()
}

/// A rustc and a cargo that know their version and nothing else.
pub(crate) fn programs(version: &str) -> [(String, Vec<u8>); 3] {
    let host = host_triple();
    let rustc = format!(
        "#!/bin/sh\necho 'rustc {version} (abc 2020-01-01)'\necho 'host: {host}'\necho 'release: {version}'\n"
    );
    let cargo = format!("#!/bin/sh\necho 'cargo {version} (def 2020-01-01)'\n");
    let std = format!("lib/rustlib/{host}/lib/libstd.rlib");
    [
        (
            "rustc".to_owned(),
            component(
                "rustc",
                &[
                    ("bin/rustc", 0o755, &rustc),
                    ("lib/librustc.so", 0o644, version),
                ],
                None,
            ),
        ),
        (
            "cargo".to_owned(),
            component("cargo", &[("bin/cargo", 0o755, &cargo)], None),
        ),
        (
            "rust-std".to_owned(),
            component("rust-std", &[(&std, 0o644, "std")], None),
        ),
    ]
}

/// A server, and a cache in a directory of its own.
pub(crate) struct Scene {
    pub(crate) server: HttpFixture,
    pub(crate) dir: TempDir,
    pub(crate) options: Options,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
    /// The manifest that was published last.
    manifest: Mutex<String>,
    /// Its day.
    date: Mutex<String>,
}

impl Scene {
    /// A server whose `stable` is 1.99.0.
    pub(crate) fn new() -> Scene {
        let mut options = Options::default();
        options.retries.first_pause = Duration::ZERO;
        let scene = Scene {
            server: HttpFixture::start(),
            dir: tempfile::tempdir().unwrap(),
            options,
            events: Arc::default(),
            manifest: Mutex::default(),
            date: Mutex::default(),
        };
        scene.release("1.99.0", "2020-01-02", programs("1.99.0").to_vec());
        scene
    }

    /// Makes `stable` mean this release of these packages.
    pub(crate) fn release(&self, version: &str, date: &str, packages: Vec<(String, Vec<u8>)>) {
        let host = host_triple();
        let mut manifest = format!(
            "manifest-version = \"2\"\ndate = \"{date}\"\n[pkg.rust]\nversion = \"{version} (abc 2020-01-01)\"\n[renames]\n[profiles]\nminimal = [\"rustc\"]\n"
        );
        let mut last = String::new();
        for (name, archive) in packages {
            // A name may carry its target; all targets of a package stand together.
            let (package, target) = name.split_once('@').unwrap_or((&name, &host));
            let path = Scene::archive(&name, date);
            let number = match package {
                "cargo" => format!("0.{version} (def 2020-01-01)"),
                _ => format!("{version} (abc 2020-01-01)"),
            };
            if package != last {
                manifest += &format!("[pkg.{package}]\nversion = \"{number}\"\n");
            }
            manifest += &format!(
                "[pkg.{package}.target.{target}]\navailable = true\nurl = \"{}\"\nhash = \"{}\"\n",
                self.server.url(&path),
                Digest::sha256(&archive).hex()
            );
            last = package.to_owned();
            self.server.file(&path, archive);
        }
        self.publish(date, &manifest);
    }

    /// Serves text as the manifest of `stable`, with its hash.
    pub(crate) fn publish(&self, date: &str, manifest: &str) {
        let sum = format!("{}  x\n", Digest::sha256(manifest.as_bytes()).hex());
        manifest.clone_into(&mut self.manifest.lock().unwrap());
        date.clone_into(&mut self.date.lock().unwrap());
        for dir in ["/dist".to_owned(), format!("/dist/{date}")] {
            self.server
                .file(&format!("{dir}/channel-rust-stable.toml"), manifest)
                .file(&format!("{dir}/channel-rust-stable.toml.sha256"), &sum);
        }
    }

    /// Lets the manifest say that `rustc` is there packed with xz as well, and serves it so. Returns the path of that.
    pub(crate) fn repack(&self, date: &str) -> String {
        let (mut tar, mut xz) = (Vec::new(), Vec::new());
        let (_, gz) = programs("1.99.0")[0].clone();
        let mut unpacked = flate2::read::GzDecoder::new(&gz[..]);
        unpacked.read_to_end(&mut tar).unwrap();
        let mut packed = liblzma::read::XzEncoder::new(&tar[..], 1);
        packed.read_to_end(&mut xz).unwrap();
        let path = Scene::archive("rustc", date).replace(".gz", ".xz");
        let table = format!("[pkg.rustc.target.{}]\navailable = true\n", host_triple());
        let more = format!(
            "{table}xz_url = \"{}\"\nxz_hash = \"{}\"\n",
            self.server.url(&path),
            Digest::sha256(&xz).hex()
        );
        let manifest = String::from_utf8(self.manifest()).unwrap();
        self.server.file(&path, xz);
        self.publish(date, &manifest.replace(&table, &more));
        path
    }

    /// The manifest that was published last.
    pub(crate) fn manifest(&self) -> Vec<u8> {
        self.manifest.lock().unwrap().clone().into_bytes()
    }

    /// Serves a signature of the manifest that was published last.
    pub(crate) fn sign(&self, signer: &signer::Signer) {
        let signature = signer.sign(&self.manifest());
        let date = self.date.lock().unwrap();
        for dir in ["/dist".to_owned(), format!("/dist/{date}")] {
            let path = format!("{dir}/channel-rust-stable.toml.asc");
            self.server.file(&path, &signature);
        }
    }

    /// The path of an archive on the server.
    pub(crate) fn archive(package: &str, date: &str) -> String {
        format!("/dist/{date}/{}.tar.gz", package.replace('@', "-"))
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(self.dir.path())
    }

    /// As another process would see it.
    pub(crate) fn dist(&self) -> Dist {
        Dist {
            cache: Cache::open(self.dir.path(), self.options.clone()).unwrap(),
            store: self.store(),
            server: self.server.url(""),
            host: host_triple(),
            keys: None,
        }
    }

    pub(crate) fn tell(&self) -> Tell {
        let events = self.events.clone();
        Arc::new(move |event| events.lock().unwrap().push(event))
    }

    pub(crate) async fn obtain(
        &self,
        targets: &[&str],
        mode: Mode,
    ) -> Result<Installed, DistError> {
        self.dist()
            .obtain(&wanted(targets), mode, &self.tell())
            .await
    }

    /// What is in the two directories that must never have something half done.
    pub(crate) fn left(&self) -> Vec<PathBuf> {
        let root = self.dir.path().join("toolchains/v1");
        ["installed", "tmp", "channels"]
            .iter()
            .filter_map(|name| std::fs::read_dir(root.join(name)).ok())
            .flat_map(|entries| entries.map(|entry| entry.unwrap().path()))
            .collect()
    }

    /// How many requests came for everything together.
    pub(crate) fn requests(&self) -> usize {
        self.server.requests().len()
    }
}

/// `stable` with these targets.
pub(crate) fn wanted(targets: &[&str]) -> Wanted {
    let Ok(ToolchainName::Channel(channel)) = "stable".parse() else {
        panic!("no channel");
    };
    Wanted {
        channel,
        profile: None,
        components: BTreeSet::new(),
        targets: targets.iter().map(|target| (*target).to_owned()).collect(),
    }
}

/// An error and its causes in one line.
pub(crate) fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
