//! A small Rust distribution server: a channel manifest, version 2, and
//! components in the layout of rust-installer, as rustup takes them.
//!
//! <https://forge.rust-lang.org/infra/channel-layout.html> has the layout of the
//! server; the tarballs are those of rust-installer, version 3.

mod component;

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use sha2::Digest as _;

use crate::http::HttpFixture;
use component::Component;

/// A distribution server on loopback, to be used as `RUSTUP_DIST_SERVER`.
///
/// ```
/// use vx_testkit::RustDist;
///
/// let dist = RustDist::builder("stable", "1.2.3", "x86_64-unknown-linux-gnu")
///     .component("rustc", [("bin/rustc", "#!/bin/sh\necho rustc 1.2.3\n")])
///     .component("rust-std", [("lib/rustlib/std.rlib", "library")])
///     .library_for("wasm32-unknown-unknown", [("lib/rustlib/wasm.rlib", "library")])
///     .start();
/// let manifest = dist.url("/dist/channel-rust-stable.toml");
/// assert!(dist.manifest().contains("[pkg.rustc.target.x86_64-unknown-linux-gnu]"));
/// assert!(dist.tarball("rust-std-wasm32-unknown-unknown").ends_with(".tar.gz"));
/// # assert!(manifest.starts_with("http://127.0.0.1:"));
/// ```
#[derive(Debug)]
pub struct RustDist {
    server: HttpFixture,
    manifest: String,
    tarballs: Vec<(String, String)>,
}

/// What a distribution has; made by [`RustDist::builder`].
#[derive(Debug)]
#[must_use = "nothing is served before `start`"]
pub struct RustDistBuilder {
    channel: String,
    version: String,
    target: String,
    date: String,
    components: Vec<Component>,
    /// Standard libraries for other targets, by these.
    libraries: Vec<(String, Component)>,
}

impl RustDist {
    /// A distribution of one channel (`stable`, `nightly` or a version number)
    /// with one version for one target.
    pub fn builder(
        channel: impl Into<String>,
        version: impl Into<String>,
        target: impl Into<String>,
    ) -> RustDistBuilder {
        RustDistBuilder {
            channel: channel.into(),
            version: version.into(),
            target: target.into(),
            date: "2020-01-02".to_owned(),
            components: Vec::new(),
            libraries: Vec::new(),
        }
    }

    /// The URL of the server, as `RUSTUP_DIST_SERVER` takes it.
    #[must_use]
    pub fn root(&self) -> String {
        self.server.url("")
    }

    /// The URL of a path that begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        self.server.url(path)
    }

    /// The channel manifest.
    #[must_use]
    pub fn manifest(&self) -> &str {
        &self.manifest
    }

    /// The path of a component's tarball on the server; `rust-std-<target>` is the
    /// standard library for another target.
    ///
    /// # Panics
    /// If there is no such component.
    #[must_use]
    #[track_caller]
    pub fn tarball(&self, component: &str) -> &str {
        let mut tarballs = self.tarballs.iter();
        match tarballs.find(|(name, _)| name == component) {
            Some((_, path)) => path,
            None => panic!("the distribution has no component `{component}`"),
        }
    }

    /// The server, for faults and for the requests that came.
    #[must_use]
    pub fn server(&self) -> &HttpFixture {
        &self.server
    }
}

impl RustDistBuilder {
    /// The date of the release (2020-01-02).
    pub fn date(mut self, date: impl Into<String>) -> Self {
        self.date = date.into();
        self
    }

    /// A made-up component of these files, paths relative to a sysroot. What is
    /// in `bin` becomes executable.
    pub fn component<P: Into<String>, C: AsRef<[u8]>>(
        mut self,
        name: impl Into<String>,
        files: impl IntoIterator<Item = (P, C)>,
    ) -> Self {
        let files = files
            .into_iter()
            .map(|(path, content)| (path.into(), content.as_ref().to_vec()));
        self.components.push(Component {
            name: name.into(),
            files: files.collect(),
        });
        self
    }

    /// A component of files of a real toolchain, paths relative to its sysroot.
    ///
    /// # Panics
    /// If a file cannot be read.
    #[track_caller]
    pub fn component_from<P: AsRef<str>>(
        self,
        name: impl Into<String>,
        sysroot: impl AsRef<Path>,
        paths: impl IntoIterator<Item = P>,
    ) -> Self {
        let read = |path: P| {
            let path = path.as_ref();
            let file = sysroot.as_ref().join(path);
            match std::fs::read(&file) {
                Ok(content) => (path.to_owned(), content),
                Err(error) => panic!("failed to read `{}`: {error}", file.display()),
            }
        };
        let files: Vec<_> = paths.into_iter().map(read).collect();
        self.component(name, files)
    }

    /// A component of a toolchain that rustup has installed, with the files that
    /// rustup's own list names (`lib/rustlib/manifest-*`).
    ///
    /// # Panics
    /// If there is no such component, or it cannot be read.
    #[track_caller]
    pub fn installed(self, name: &str, sysroot: impl AsRef<Path>) -> Self {
        let sysroot = sysroot.as_ref();
        match component::installed_files(sysroot, name, &self.target) {
            Ok(paths) => self.component_from(name, sysroot, paths),
            Err(error) => panic!(
                "failed to list component `{name}` of `{}`: {error}",
                sysroot.display()
            ),
        }
    }

    /// A made-up standard library for another target, of files like those of a
    /// [`component`](Self::component).
    pub fn library_for<P: Into<String>, C: AsRef<[u8]>>(
        mut self,
        target: impl Into<String>,
        files: impl IntoIterator<Item = (P, C)>,
    ) -> Self {
        let files = files
            .into_iter()
            .map(|(path, content)| (path.into(), content.as_ref().to_vec()));
        let library = Component {
            name: "rust-std".to_owned(),
            files: files.collect(),
        };
        self.libraries.push((target.into(), library));
        self
    }

    /// Packs everything and serves it.
    ///
    /// # Panics
    /// If it cannot be packed or served, see [`try_start`](Self::try_start).
    #[must_use = "the server ends when it is dropped"]
    #[track_caller]
    pub fn start(self) -> RustDist {
        match self.try_start() {
            Ok(dist) => dist,
            Err(error) => panic!("failed to start the Rust distribution server: {error}"),
        }
    }

    /// Packs everything and serves it.
    ///
    /// # Errors
    /// If a path does not fit into a tarball, or there is no port.
    pub fn try_start(self) -> io::Result<RustDist> {
        self.serve(HttpFixture::try_start()?)
    }

    /// Packs everything and adds it to the files of a server, for example of one
    /// that speaks TLS.
    ///
    /// # Errors
    /// If a path does not fit into a tarball.
    pub fn serve(self, server: HttpFixture) -> io::Result<RustDist> {
        let mut manifest = format!(
            "manifest-version = \"2\"\ndate = \"{}\"\n\n\
             [pkg.rust]\nversion = \"{}\"\n\n\
             [pkg.rust.target.{}]\navailable = true\n",
            self.date, self.version, self.target
        );
        // The toolchain itself is a package of its components.
        let meta = Component {
            name: "rust".to_owned(),
            files: Vec::new(),
        };
        let mut packages = String::new();
        let mut tarballs = Vec::new();
        for component in std::iter::once(&meta).chain(&self.components) {
            let name = format!("{}-{}-{}", component.name, self.version, self.target);
            let path = format!("/dist/{}/{name}.tar.gz", self.date);
            let packed = component.pack(&name, &self.target)?;
            let place = format!(
                "url = \"{}\"\nhash = \"{}\"\n",
                server.url(&path),
                hex(&packed)
            );
            if component.name == "rust" {
                manifest += &place;
            } else {
                let (name, target) = (&component.name, &self.target);
                // Writing to a string cannot fail.
                let _ = write!(
                    manifest,
                    "\n[[pkg.rust.target.{target}.components]]\npkg = \"{name}\"\ntarget = \"{target}\"\n"
                );
                let _ = write!(
                    packages,
                    "\n[pkg.{name}]\nversion = \"{}\"\n\n[pkg.{name}.target.{target}]\n\
                     available = true\n{place}",
                    self.version
                );
                tarballs.push((name.clone(), path.clone()));
            }
            server.file(&path, packed);
        }
        for (target, library) in &self.libraries {
            let name = format!("rust-std-{}-{target}", self.version);
            let path = format!("/dist/{}/{name}.tar.gz", self.date);
            let packed = library.pack(&name, target)?;
            let _ = write!(
                packages,
                "\n[pkg.rust-std.target.{target}]\navailable = true\nurl = \"{}\"\nhash = \"{}\"\n",
                server.url(&path),
                hex(&packed)
            );
            tarballs.push((format!("rust-std-{target}"), path.clone()));
            server.file(&path, packed);
        }
        manifest += &packages;
        let names: Vec<String> = self
            .components
            .iter()
            .map(|c| format!("{:?}", c.name))
            .collect();
        let _ = write!(
            manifest,
            "\n[renames]\n\n[profiles]\nminimal = [{0}]\ndefault = [{0}]\ncomplete = [{0}]\n",
            names.join(", ")
        );
        let file = format!("channel-rust-{}.toml", self.channel);
        let sum = format!("{}  {file}\n", hex(manifest.as_bytes()));
        for dir in ["/dist".to_owned(), format!("/dist/{}", self.date)] {
            server.file(&format!("{dir}/{file}"), &manifest);
            server.file(&format!("{dir}/{file}.sha256"), &sum);
        }
        Ok(RustDist {
            server,
            manifest,
            tarballs,
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
