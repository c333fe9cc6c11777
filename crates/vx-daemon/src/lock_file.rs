//! The packages that a Cargo.lock names, as far as fetching them is concerned.

use std::fs;

use toml::{Table, Value};
use vx_proto::command::BuildRequest;

/// A package of a Cargo.lock that comes from a registry or a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Locked {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Where it comes from, e.g. `registry+https://…` or `git+https://…#<revision>`.
    pub(crate) source: String,
    /// The SHA-256 of its archive, in lower-case hexadecimal digits.
    pub(crate) checksum: Option<String>,
}

impl Locked {
    /// The revision of a package that comes from a repository, as cargo abbreviates it in the names of checkouts.
    pub(crate) fn revision(&self) -> Option<&str> {
        let (_, revision) = self.source.strip_prefix("git+")?.split_once('#')?;
        Some(revision.get(..7).unwrap_or(revision))
    }

    /// The name of its archive.
    pub(crate) fn archive(&self) -> String {
        format!("{}-{}.crate", self.name, self.version)
    }
}

/// The packages that the lock files of a project name, and of the directories above it: one of them is that of its workspace. Blocks.
pub(crate) fn of_request(request: &BuildRequest) -> Vec<Locked> {
    let manifest = request.selection.manifest_path.as_ref();
    let project = match manifest.and_then(|path| path.parent()) {
        Some(directory) => request.cwd.join(directory),
        None => request.cwd.clone(),
    };
    project
        .ancestors()
        .filter_map(|directory| fs::read_to_string(directory.join("Cargo.lock")).ok())
        .flat_map(|text| packages(&text))
        .collect()
}

/// The packages of `text` that are not on disk beside the project; none where it is no lock file, since cargo will say so.
pub(crate) fn packages(text: &str) -> Vec<Locked> {
    let table: Table = text.parse().unwrap_or_default();
    let packages = table.get("package").and_then(Value::as_array);
    let locked = |package: &Value| {
        let field = |name: &str| package.get(name)?.as_str().map(str::to_owned);
        Some(Locked {
            name: field("name")?,
            version: field("version")?,
            source: field("source")?,
            checksum: field("checksum"),
        })
    };
    packages.into_iter().flatten().filter_map(locked).collect()
}
