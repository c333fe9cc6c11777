//! Channel manifests, version 2, and the archives that a choice of components needs.
//!
//! The format is that of <https://forge.rust-lang.org/infra/channel-layout.html>; names that changed are in its `renames`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use vx_download::Digest;

use super::DEFAULT_SERVER;
use super::error::DistError;

/// What every toolchain has to have.
const ESSENTIAL: [&str; 3] = ["rustc", "rust-std", "cargo"];

/// What is never an input of a build, large as it is.
const LEFT_OUT: [&str; 3] = ["rust-docs", "rust-docs-json-preview", "rust-mingw"];

/// A release: its packages, and where they are.
#[derive(Clone, Debug, Deserialize)]
pub struct Manifest {
    #[serde(rename = "manifest-version")]
    version: String,
    /// The day on which it was published.
    pub date: String,
    pkg: BTreeMap<String, Package>,
    #[serde(default)]
    renames: BTreeMap<String, Rename>,
    #[serde(default)]
    profiles: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Package {
    version: String,
    #[serde(default)]
    target: BTreeMap<String, Place>,
}

#[derive(Clone, Debug, Deserialize)]
struct Place {
    available: bool,
    url: Option<String>,
    hash: Option<String>,
    xz_url: Option<String>,
    xz_hash: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Rename {
    to: String,
}

/// One archive of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The package, e.g. `rust-std`.
    pub package: String,
    /// Its platform; `*` for sources.
    pub target: String,
    /// Where it is.
    pub url: String,
    /// What it is.
    pub digest: Digest,
    /// The same with another packing, and what that is; for servers that keep one of them only.
    pub other: Option<(String, Digest)>,
}

impl Archive {
    /// The archive with the other packing, if there is one.
    pub fn repacked(&self) -> Option<Archive> {
        let (url, digest) = self.other.clone()?;
        Some(Archive {
            url,
            digest,
            other: None,
            ..self.clone()
        })
    }

    /// The last part of its address, for people.
    pub fn file_name(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or(&self.url)
    }
}

impl Manifest {
    /// Reads the manifest that came from `url`.
    ///
    /// # Errors
    ///
    /// Text that is no manifest of version 2.
    pub fn parse(url: &str, text: &str) -> Result<Manifest, DistError> {
        let wrong = |source| DistError::Manifest {
            url: url.to_owned(),
            source,
        };
        let manifest: Manifest = toml::from_str(text).map_err(|error| wrong(error.into()))?;
        match manifest.version.as_str() {
            "2" => Ok(manifest),
            other => Err(wrong(
                format!("its version is {other:?} instead of \"2\"").into(),
            )),
        }
    }

    /// The version of a package, e.g. `1.90.0 (1159e78c4 2025-09-14)`.
    pub fn package_version(&self, package: &str) -> Option<&str> {
        self.pkg
            .get(package)
            .map(|package| package.version.as_str())
    }

    /// The version of the release.
    pub fn release(&self) -> &str {
        self.package_version("rust")
            .or_else(|| self.package_version("rustc"))
            .unwrap_or("of unknown version")
    }

    /// The archives of a toolchain for `host` that can compile for `targets` as well, essential ones first.
    ///
    /// `profile` is `minimal` unless it is given; documentation is left out of every profile.
    /// Addresses below the official server are moved to `server`, as mirrors expect it.
    ///
    /// # Errors
    ///
    /// Components, targets or profiles that the release does not have.
    pub fn archives(
        &self,
        server: &str,
        host: &str,
        profile: Option<&str>,
        components: &BTreeSet<String>,
        targets: &BTreeSet<String>,
    ) -> Result<Vec<Archive>, DistError> {
        let mut wanted: Vec<(String, String)> = Vec::new();
        let mut want = |package: &str, target: &str| {
            let pair = (package.to_owned(), target.to_owned());
            if !wanted.contains(&pair) {
                wanted.push(pair);
            }
        };
        for package in ESSENTIAL {
            want(package, host);
        }
        for target in targets {
            want("rust-std", target);
        }
        for package in self.profile(profile)? {
            // A profile is the same for all hosts, and says what to take where it exists.
            if self.place(package, host).is_some() {
                want(package, host);
            }
        }
        for component in components {
            let (package, target) = self.component(component, host)?;
            if !LEFT_OUT.contains(&package.as_str()) {
                want(&package, &target);
            }
        }
        wanted
            .into_iter()
            .map(|(package, target)| self.archive(server, package, target))
            .collect()
    }

    fn profile(&self, name: Option<&str>) -> Result<Vec<&str>, DistError> {
        match (name, name.and_then(|name| self.profiles.get(name))) {
            (None | Some("minimal"), None) => Ok(Vec::new()),
            (Some(name), None) => Err(DistError::NoComponent {
                release: self.release().to_owned(),
                component: format!("profile {name}"),
            }),
            (_, Some(packages)) => Ok(packages
                .iter()
                .map(String::as_str)
                .filter(|package| !LEFT_OUT.contains(package))
                .collect()),
        }
    }

    /// The package and platform of a component as users write it: with or without `-preview`, with or without the platform.
    fn component(&self, text: &str, host: &str) -> Result<(String, String), DistError> {
        let known = |name: &str| match self.renames.get(name) {
            Some(rename) => self.pkg.contains_key(&rename.to).then(|| rename.to.clone()),
            None => self.pkg.contains_key(name).then(|| name.to_owned()),
        };
        if let Some(package) = known(text) {
            return Ok((package, host.to_owned()));
        }
        let split = text.match_indices('-').find_map(|(at, _)| {
            let (name, target) = (&text[..at], &text[at + 1..]);
            let package = known(name)?;
            self.place(&package, target)?;
            Some((package, target.to_owned()))
        });
        split.ok_or_else(|| DistError::NoComponent {
            release: self.release().to_owned(),
            component: text.to_owned(),
        })
    }

    fn place(&self, package: &str, target: &str) -> Option<&Place> {
        let targets = &self.pkg.get(package)?.target;
        targets.get(target).or_else(|| targets.get("*"))
    }

    fn archive(&self, server: &str, package: String, target: String) -> Result<Archive, DistError> {
        let place = self.place(&package, &target);
        let place = place.filter(|place| place.available);
        // Two thirds larger than xz, and unpacked in a tenth of the memory and a third of the time.
        let gz = place.and_then(|place| Some((place.url.as_ref()?, place.hash.as_ref()?)));
        let xz = place.and_then(|place| Some((place.xz_url.as_ref()?, place.xz_hash.as_ref()?)));
        let Some(first) = gz.or(xz) else {
            return Err(DistError::NotAvailable {
                release: self.release().to_owned(),
                component: package,
                target,
            });
        };
        let packed = |(url, hash): (&String, &String)| -> Result<(String, Digest), DistError> {
            let digest = format!("sha256:{hash}").parse();
            let digest = digest.map_err(|error| DistError::Manifest {
                url: url.clone(),
                source: Box::new(error),
            })?;
            let url = match url.strip_prefix(DEFAULT_SERVER) {
                Some(rest) => format!("{server}{rest}"),
                None => url.clone(),
            };
            Ok((url, digest))
        };
        let (url, digest) = packed(first)?;
        Ok(Archive {
            package,
            target,
            url,
            digest,
            other: xz.filter(|_| gz.is_some()).map(packed).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "x86_64-unknown-linux-gnu";

    fn manifest() -> Manifest {
        let mut text = "manifest-version = \"2\"\ndate = \"2020-01-02\"\n[pkg.rust]\nversion = \"1.2.3 (abc 2020-01-01)\"\n".to_owned();
        for (package, target) in [
            ("rustc", HOST),
            ("cargo", HOST),
            ("rust-std", HOST),
            ("clippy-preview", HOST),
            ("rust-docs", HOST),
            ("rust-src", "*"),
        ] {
            text += &format!(
                "[pkg.{package}]\nversion = \"1\"\n[pkg.{package}.target.\"{target}\"]\navailable = true\nurl = \"{DEFAULT_SERVER}/dist/{package}.tar.gz\"\nhash = \"{0}\"\nxz_url = \"{DEFAULT_SERVER}/dist/{package}.tar.xz\"\nxz_hash = \"{0}\"\n",
                "0".repeat(64)
            );
        }
        text += "[pkg.rust-std.target.old]\navailable = false\n[renames.clippy]\nto = \"clippy-preview\"\n[profiles]\nminimal = [\"rustc\", \"rust-mingw\"]\ndefault = [\"rustc\", \"rust-docs\", \"clippy-preview\", \"rust-mingw\"]\n";
        Manifest::parse("m", &text).unwrap()
    }

    fn packages(profile: Option<&str>, components: &[&str]) -> Vec<String> {
        let components = components.iter().map(|c| (*c).to_owned()).collect();
        let archives =
            manifest().archives("http://m", HOST, profile, &components, &BTreeSet::new());
        archives.unwrap().into_iter().map(|a| a.package).collect()
    }

    #[test]
    fn a_profile_and_components_make_the_list() {
        assert_eq!(packages(None, &[]), ["rustc", "rust-std", "cargo"]);
        assert_eq!(
            packages(Some("default"), &[]),
            ["rustc", "rust-std", "cargo", "clippy-preview"]
        );
        let host = format!("clippy-{HOST}");
        for clippy in ["clippy", "clippy-preview", &host] {
            let found = packages(None, &[clippy, "rust-src", "rust-docs"]);
            assert_eq!(found[3..], ["clippy-preview", "rust-src"], "{clippy}");
        }
    }

    #[test]
    fn archives_come_from_the_chosen_server() {
        let archives = manifest().archives("http://m", HOST, None, &[].into(), &[].into());
        let first = &archives.unwrap()[0];
        assert_eq!(first.url, "http://m/dist/rustc.tar.gz");
        assert_eq!(first.file_name(), "rustc.tar.gz");
        let other = first.repacked().unwrap();
        assert_eq!(other.url, "http://m/dist/rustc.tar.xz");
        assert_eq!(other.repacked(), None);
    }

    #[test]
    fn what_the_release_does_not_have_is_named() {
        let ask = |host: &str, profile, component: &[&str], target: &[&str]| {
            let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
            let asked = manifest().archives("s", host, profile, &set(component), &set(target));
            asked.unwrap_err().to_string()
        };
        let release = "Rust 1.2.3 (abc 2020-01-01)";
        assert_eq!(
            ask(HOST, None, &["miri"], &[]),
            format!("{release} has no component `miri`")
        );
        assert_eq!(
            ask(HOST, Some("huge"), &[], &[]),
            format!("{release} has no component `profile huge`")
        );
        for target in ["old", "unheard-of"] {
            assert_eq!(
                ask(HOST, None, &[], &[target]),
                format!("`rust-std` of {release} is not available for `{target}`")
            );
        }
        assert_eq!(
            ask("other", None, &[], &[]),
            format!("`rustc` of {release} is not available for `other`")
        );
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        for text in [
            "",
            "manifest-version = \"1\"\ndate = \"\"\n[pkg]",
            "manifest-version = \"2\"\ndate = \"\"\n[pkg.rustc]\nversion = 1",
        ] {
            let error = Manifest::parse("http://s/m.toml", text).unwrap_err();
            assert!(error.to_string().contains("`http://s/m.toml`"), "{error}");
        }
    }
}
