//! A registry of crates with a sparse index, on the kit's file server.
//!
//! The format is that of <https://doc.rust-lang.org/cargo/reference/registry-index.html>.

use std::io::Write as _;
use std::sync::Mutex;

use serde_json::json;
use sha2::Digest as _;
use vx_testkit::HttpFixture;

/// What cargo calls crates.io in lock files, whoever stands in for it.
pub const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// A registry on loopback; it ends when it is dropped.
#[derive(Debug)]
pub struct Registry {
    server: HttpFixture,
    published: Mutex<Vec<Published>>,
}

#[derive(Clone, Debug)]
struct Published {
    name: String,
    version: String,
    checksum: String,
    dependencies: Vec<String>,
}

impl Registry {
    /// A registry that everybody may read.
    pub fn start() -> Registry {
        Registry::serve(json!({}))
    }

    /// A registry that wants a token with every request; that it got one is for the test to assert.
    pub fn for_members() -> Registry {
        Registry::serve(json!({ "auth-required": true }))
    }

    fn serve(mut settings: serde_json::Value) -> Registry {
        let server = HttpFixture::start();
        settings["dl"] = server.url("/crates/{crate}-{version}.crate").into();
        server.file("/index/config.json", settings.to_string());
        Registry {
            server,
            published: Mutex::default(),
        }
    }

    /// Publishes the library `seven`, whose function of that name adds to a constant of the library `one`, which is published as well.
    ///
    /// # Panics
    ///
    /// If they cannot be packed.
    pub fn publish_seven(&self) {
        self.publish("one", "1.0.0", "pub const ONE: u32 = 1;\n", &[]);
        let seven = "pub fn seven() -> u32 { 6 + one::ONE }\n";
        self.publish("seven", "1.0.0", seven, &["one"]);
    }

    /// Publishes a library that consists of `lib`, and depends on packages published before. Returns the checksum of its archive.
    ///
    /// # Panics
    ///
    /// If it cannot be packed.
    pub fn publish(&self, name: &str, version: &str, lib: &str, dependencies: &[&str]) -> String {
        let archive = archive(name, version, lib, dependencies);
        let checksum = hex(&archive);
        self.server.file(&self.archive(name, version), archive);
        let dependencies: Vec<String> = dependencies.iter().map(|d| (*d).to_owned()).collect();
        let entry = json!({
            "name": name,
            "vers": version,
            "deps": dependencies.iter().map(|name| json!({
                "name": name, "req": "*", "features": [], "optional": false,
                "default_features": true, "target": null, "kind": "normal",
            })).collect::<Vec<_>>(),
            "cksum": checksum,
            "features": {},
            "yanked": false,
        });
        self.server.file(&entry_of(name), format!("{entry}\n"));
        let published = Published {
            name: name.to_owned(),
            version: version.to_owned(),
            checksum: checksum.clone(),
            dependencies,
        };
        self.lock().push(published);
        checksum
    }

    /// The path of an archive on the server.
    pub fn archive(&self, name: &str, version: &str) -> String {
        format!("/crates/{name}-{version}.crate")
    }

    /// The address of its index, as cargo's configuration takes it.
    pub fn index(&self) -> String {
        format!("sparse+{}", self.server.url("/index/"))
    }

    /// Configuration that makes it stand in for crates.io.
    pub fn in_place_of_crates_io(&self) -> String {
        format!(
            "[source.crates-io]\nreplace-with = \"fixture\"\n[source.fixture]\nregistry = \"{}\"\n",
            self.index()
        )
    }

    /// The Cargo.lock of a package `name` that depends on all that was published, as crates from `source`.
    pub fn lock_of(&self, name: &str, source: &str) -> String {
        let list = |names: &[String]| {
            let lines: String = names.iter().map(|name| format!(" \"{name}\",\n")).collect();
            match names {
                [] => String::new(),
                _ => format!("dependencies = [\n{lines}]\n"),
            }
        };
        let mut published = self.lock().clone();
        published.sort_by(|a, b| a.name.cmp(&b.name));
        let names: Vec<String> = published.iter().map(|p| p.name.clone()).collect();
        let mut packages: Vec<(String, String)> = published
            .iter()
            .map(|p| {
                let text = format!(
                    "name = \"{}\"\nversion = \"{}\"\nsource = \"{source}\"\nchecksum = \"{}\"\n{}",
                    p.name,
                    p.version,
                    p.checksum,
                    list(&p.dependencies)
                );
                (p.name.clone(), text)
            })
            .collect();
        let own = format!("name = \"{name}\"\nversion = \"0.1.0\"\n{}", list(&names));
        packages.push((name.to_owned(), own));
        packages.sort();
        let packages: Vec<String> = packages
            .into_iter()
            .map(|(_, text)| format!("[[package]]\n{text}"))
            .collect();
        format!("version = 4\n\n{}", packages.join("\n"))
    }

    /// The server, for faults and for the requests that came.
    pub fn server(&self) -> &HttpFixture {
        &self.server
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Published>> {
        let lock = self.published.lock();
        lock.unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Where the index has a package, on the server.
fn entry_of(name: &str) -> String {
    let directory = match name.len() {
        0..=2 => name.len().to_string(),
        3 => format!("3/{}", &name[..1]),
        _ => format!("{}/{}", &name[..2], &name[2..4]),
    };
    format!("/index/{directory}/{name}")
}

/// A package as cargo packs it.
///
/// # Panics
///
/// If it cannot be packed.
pub fn archive(name: &str, version: &str, lib: &str, dependencies: &[&str]) -> Vec<u8> {
    let needs: String = dependencies
        .iter()
        .map(|name| format!("{name} = \"*\"\n"))
        .collect();
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2021\"\n[dependencies]\n{needs}"
    );
    match pack(
        &format!("{name}-{version}"),
        &[("Cargo.toml", &manifest), ("src/lib.rs", lib)],
    ) {
        Ok(archive) => archive,
        Err(error) => panic!("cannot pack `{name}`: {error}"),
    }
}

fn pack(directory: &str, files: &[(&str, &str)]) -> std::io::Result<Vec<u8>> {
    let packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(packed);
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(
            &mut header,
            format!("{directory}/{path}"),
            content.as_bytes(),
        )?;
    }
    let mut packed = tar.into_inner()?;
    packed.flush()?;
    packed.finish()
}

/// The SHA-256 of `bytes` in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
