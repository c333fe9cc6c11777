//! What is written down about channels and installed toolchains.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use vx_download::Digest;

use super::manifest::Archive;
use crate::find::Toolchain;
use crate::name::Channel;
use crate::trees::ToolchainTree;

/// What a channel means on this machine, until it is updated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The channel, without a host.
    pub channel: Channel,
    /// The distribution server.
    pub server: String,
    /// The triple of the machine that it runs on.
    pub host: String,
    /// The version of the release, e.g. `1.90.0 (1159e78c4 2025-09-14)`.
    pub release: String,
    /// The day of the release.
    pub date: String,
    /// SHA-256 of its manifest.
    pub manifest: String,
    /// The fingerprint of the key that signed the manifest, if anybody did.
    #[serde(default)]
    pub signed_by: Option<String>,
    /// Why nobody did, in words; absent in records of older versions.
    #[serde(default)]
    pub unsigned: Option<String>,
    /// When the server was asked last, in seconds since 1970.
    pub resolved: u64,
    /// `minimal`, `default` or `complete`.
    pub profile: Option<String>,
    /// Components that were asked for besides.
    pub components: BTreeSet<String>,
    /// Targets that were asked for besides the host.
    pub targets: BTreeSet<String>,
    /// The toolchain, by the hashes of its archives.
    pub id: String,
}

impl Record {
    /// Whether both are about the same channel of the same server, whatever it means.
    pub(crate) fn is_same_channel(&self, other: &Record) -> bool {
        (&self.channel, &self.server, &self.host) == (&other.channel, &other.server, &other.host)
    }

    /// The hash of its manifest.
    pub(crate) fn manifest_digest(&self) -> Option<Digest> {
        format!("sha256:{}", self.manifest).parse().ok()
    }
}

/// The larger one of two profiles.
pub(crate) fn larger_profile(a: Option<&str>, b: Option<&str>) -> Option<String> {
    let rank = |profile: Option<&str>| match profile {
        None => 0,
        Some("minimal") => 1,
        Some("default") => 2,
        Some(_) => 3,
    };
    if rank(a) >= rank(b) { a } else { b }.map(str::to_owned)
}

/// What was found out when a toolchain was installed; it is there only when all of it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The text of `rustc -vV`.
    pub version: String,
    /// What `cargo -V` prints.
    pub cargo: String,
    /// The triple of the machine that it runs on.
    pub host: String,
    /// Its archives: package, platform, digest.
    pub archives: Vec<(String, String, String)>,
    /// Its directories with the digests of their trees.
    pub trees: Vec<(String, String)>,
    /// What was unpacked, in bytes.
    pub bytes: u64,
}

impl Receipt {
    /// The toolchain at its place.
    pub(crate) fn toolchain(&self, sysroot: &Path) -> Toolchain {
        Toolchain {
            sysroot: sysroot.to_owned(),
            cargo: sysroot.join("bin/cargo"),
            rustc: sysroot.join("bin/rustc"),
            version: self.version.clone(),
            host: self.host.clone(),
        }
    }

    /// Whether these are the trees that were installed.
    pub fn has_trees(&self, trees: &[ToolchainTree]) -> bool {
        self.trees == names_and_digests(trees)
    }
}

pub(crate) fn names_and_digests(trees: &[ToolchainTree]) -> Vec<(String, String)> {
    let pair = |tree: &ToolchainTree| (tree.name.clone(), tree.tree.digest.to_string());
    trees.iter().map(pair).collect()
}

/// The name of a toolchain that consists of these archives: the same ones make the same name, wherever they came from.
pub(crate) fn id(archives: &[Archive]) -> String {
    let mut lines: Vec<String> = archives
        .iter()
        .map(|archive| {
            format!(
                "{} {} {}\n",
                archive.package, archive.target, archive.digest
            )
        })
        .collect();
    lines.sort();
    let mut hasher = blake3::Hasher::new_derive_key("vx installed toolchain, format 1");
    for line in lines {
        hasher.update(line.as_bytes());
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_only_grow() {
        let larger = |a, b| larger_profile(a, b);
        assert_eq!(larger(None, None), None);
        assert_eq!(larger(Some("default"), None).as_deref(), Some("default"));
        assert_eq!(
            larger(Some("minimal"), Some("complete")).as_deref(),
            Some("complete")
        );
    }

    #[test]
    fn an_id_depends_on_the_archives_and_not_on_their_order_or_address() {
        let archive = |package: &str, url: &str| Archive {
            package: package.to_owned(),
            target: "t".to_owned(),
            url: url.to_owned(),
            digest: Digest::sha256(package.as_bytes()),
            other: None,
        };
        let first = id(&[archive("a", "x"), archive("b", "x")]);
        assert_eq!(first, id(&[archive("b", "y"), archive("a", "y")]));
        assert_ne!(first, id(&[archive("a", "x")]));
        assert_eq!(first.len(), 32);
    }
}
