//! Packages of the graph: where they come from, and where actions see them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use toml::{Table, Value};

use crate::assemble::source_kind;
use crate::error::PlanError;
use crate::hash;
use crate::input::PlanInput;
use crate::manifest;
use crate::metadata::{Metadata, RawPackage};
use crate::paths;
use crate::plan::{Package, PackageLocation, SourceKind};

/// The packages that the graph needs, in cargo's order: by name, version, source.
pub(crate) fn collect(
    metadata: Metadata,
    wanted: &BTreeSet<&str>,
    input: &PlanInput<'_>,
    root_manifest: Option<&Table>,
) -> Result<Vec<Package>, PlanError> {
    let members: BTreeSet<String> = metadata.workspace_members.into_iter().collect();
    let checksums = checksums(input.lock)?;
    let mut found: Vec<RawPackage> = metadata
        .packages
        .into_iter()
        .filter(|package| wanted.contains(package.id.as_str()))
        .collect();
    found.sort_by(|a, b| {
        (&a.name, version_key(&a.version), &a.id).cmp(&(&b.name, version_key(&b.version), &b.id))
    });
    found
        .into_iter()
        .map(|raw| {
            let is_member = members.contains(&raw.id);
            package_of(
                raw,
                is_member,
                &metadata.workspace_root,
                &checksums,
                input,
                root_manifest,
            )
        })
        .collect()
}

fn package_of(
    raw: RawPackage,
    is_member: bool,
    root: &Path,
    checksums: &BTreeMap<(String, String, String), String>,
    input: &PlanInput<'_>,
    root_manifest: Option<&Table>,
) -> Result<Package, PlanError> {
    let source = source_kind(raw.source.as_deref());
    let mut facts = raw.facts;
    if facts
        .dependencies
        .iter()
        .any(|dependency| dependency.artifact.is_some())
    {
        return Err(PlanError::Unsupported {
            package: raw.name,
            feature: "artifact dependencies".to_owned(),
        });
    }
    match input.manifests.get(&raw.manifest_path) {
        Some(text) => {
            let table = manifest::parse(&raw.manifest_path, text)?;
            let workspace = root_manifest.filter(|_| is_member);
            facts.lint_flags = manifest::lint_flags(&table, workspace);
            facts.without_harness = manifest::without_harness(&table, &raw.name);
        }
        None if source == SourceKind::Path => {
            return Err(PlanError::MissingManifest(
                raw.manifest_path.display().to_string(),
            ));
        }
        None => {}
    }
    let directory = raw.manifest_path.parent().unwrap_or(root).to_path_buf();
    let place = place(
        &raw.name,
        &raw.version,
        raw.source.as_deref(),
        source,
        &directory,
        root,
    );
    let checksum = raw.source.and_then(|source| {
        checksums
            .get(&(raw.name.clone(), raw.version.clone(), source))
            .cloned()
    });
    Ok(Package {
        name: raw.name,
        version: raw.version,
        id: raw.id,
        is_vendored: source != SourceKind::Path
            && directory.starts_with(root)
            && !is_in_cargo_home(&directory),
        manifest_path: raw.manifest_path,
        is_member,
        source,
        checksum,
        location: place.location,
        virtual_dir: join(
            &place.virtual_root,
            &hash::relative(&directory, &place.source_root),
        ),
        source_root: place.source_root,
        virtual_root: place.virtual_root,
        facts,
    })
}

struct Place {
    location: PackageLocation,
    source_root: PathBuf,
    virtual_root: String,
}

fn place(
    name: &str,
    version: &str,
    id: Option<&str>,
    source: SourceKind,
    directory: &Path,
    root: &Path,
) -> Place {
    let own = |source_root: PathBuf, virtual_root: String| Place {
        location: PackageLocation::Own,
        source_root,
        virtual_root,
    };
    match source {
        SourceKind::Path if directory.starts_with(root) => Place {
            location: PackageLocation::Workspace,
            source_root: root.to_path_buf(),
            virtual_root: paths::WORKSPACE.to_owned(),
        },
        SourceKind::Path => {
            let identity = hash::short(&hash::relative(directory, root));
            own(
                directory.to_path_buf(),
                format!("{}/{name}-{identity}", paths::PATH_PACKAGES),
            )
        }
        SourceKind::Registry | SourceKind::Git => {
            let mut virtual_root = format!("{}/{name}-{version}", paths::PACKAGES);
            let id = id.unwrap_or_default();
            if !is_crates_io(id) {
                virtual_root.push('-');
                virtual_root.push_str(&hash::short(id));
            }
            let tree = if source == SourceKind::Git {
                checkout_of(directory)
            } else {
                directory.to_path_buf()
            };
            own(tree, virtual_root)
        }
    }
}

/// Cargo gives packages of crates.io this id, whichever protocol they came by.
fn is_crates_io(source: &str) -> bool {
    source == "registry+https://github.com/rust-lang/crates.io-index"
}

/// Whether cargo has unpacked or checked out a package there: its home may lie in the workspace, and is no part of its sources.
fn is_in_cargo_home(directory: &Path) -> bool {
    let parts: Vec<Component<'_>> = directory.components().collect();
    parts.windows(2).any(|pair| {
        [("registry", "src"), ("git", "checkouts")]
            .iter()
            .any(|(first, second)| pair[0].as_os_str() == *first && pair[1].as_os_str() == *second)
    })
}

/// cargo checks out at `git/checkouts/<repository>/<revision>`; a package may lie deeper, and may use
/// files beside itself.
fn checkout_of(directory: &Path) -> PathBuf {
    let parts: Vec<Component<'_>> = directory.components().collect();
    let is = |part: &Component<'_>, name: &str| part.as_os_str() == name;
    let start = parts
        .windows(2)
        .rposition(|pair| is(&pair[0], "git") && is(&pair[1], "checkouts"));
    match start {
        Some(index) if parts.len() >= index + 4 => parts[..index + 4].iter().collect(),
        _ => directory.to_path_buf(),
    }
}

/// Joins virtual paths; an empty second part changes nothing.
pub(crate) fn join(root: &str, relative: &str) -> String {
    if relative.is_empty() {
        root.to_owned()
    } else {
        format!("{root}/{relative}")
    }
}

/// A sort key with semver's order: a pre-release comes before its release.
fn version_key(version: &str) -> (Vec<u64>, bool, String) {
    let without_build = version.split('+').next().unwrap_or(version);
    let (numbers, pre) = without_build.split_once('-').unwrap_or((without_build, ""));
    let numbers = numbers
        .split('.')
        .map(|part| part.parse().unwrap_or(0))
        .collect();
    (numbers, pre.is_empty(), pre.to_owned())
}

/// Checksums of `Cargo.lock` by name, version and source.
fn checksums(lock: Option<&str>) -> Result<BTreeMap<(String, String, String), String>, PlanError> {
    let Some(text) = lock else {
        return Ok(BTreeMap::new());
    };
    let table = manifest::parse(Path::new("Cargo.lock"), text)?;
    let packages = table
        .get("package")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    Ok(packages
        .filter_map(|package| {
            let field = |name: &str| package.get(name).and_then(Value::as_str).map(str::to_owned);
            Some((
                (field("name")?, field("version")?, field("source")?),
                field("checksum")?,
            ))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_as_semver() {
        let mut versions = ["1.10.0", "1.9.0", "1.10.0-rc.1", "0.3.0+meta"];
        versions.sort_by_key(|version| version_key(version));
        assert_eq!(versions, ["0.3.0+meta", "1.9.0", "1.10.0-rc.1", "1.10.0"]);
    }

    #[test]
    fn a_git_package_shows_its_whole_checkout() {
        let directory = Path::new("/c/git/checkouts/repo-1234/abcdef0/crates/a");
        assert_eq!(
            checkout_of(directory),
            Path::new("/c/git/checkouts/repo-1234/abcdef0")
        );
        assert_eq!(checkout_of(Path::new("/vendor/a")), Path::new("/vendor/a"));
    }

    #[test]
    fn a_home_of_cargo_in_the_workspace_has_no_vendored_packages() {
        for (path, is) in [
            ("/ws/.cargo/registry/src/index-1/a-1.0.0", true),
            ("/ws/.cargo/git/checkouts/a-1/0123456/sub", true),
            ("/ws/vendor/registry/a-1.0.0", false),
        ] {
            assert_eq!(is_in_cargo_home(Path::new(path)), is, "{path}");
        }
    }

    #[test]
    fn only_other_registries_are_marked() {
        let place = |source: &str| {
            place(
                "a",
                "1.0.0",
                Some(source),
                SourceKind::Registry,
                Path::new("/r/a-1.0.0"),
                Path::new("/ws"),
            )
            .virtual_root
        };
        assert_eq!(
            place("registry+https://github.com/rust-lang/crates.io-index"),
            "/vx/pkg/a-1.0.0"
        );
        assert_eq!(
            place("registry+https://example.invalid/index").len(),
            "/vx/pkg/a-1.0.0-12345678".len()
        );
    }

    #[test]
    fn checksums_are_found_by_source() {
        let lock = "version = 4\n[[package]]\nname='a'\nversion='1.0.0'\nsource='s'\nchecksum='c'\n[[package]]\nname='b'\nversion='1.0.0'\n";
        let found = checksums(Some(lock)).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[&("a".to_owned(), "1.0.0".to_owned(), "s".to_owned())],
            "c"
        );
    }
}
