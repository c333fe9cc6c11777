//! The identity of a unit: stable over machines, checkouts and selections of targets.
//!
//! It goes into `-C metadata` (symbol names) and file names, so it must never contain a real path.
//! It is not a cache key: two units of equal hash may still have different sources.

use std::path::Path;

use crate::plan::{Mode, Package, SourceKind, Unit};
use crate::toolchain::Settings;

/// Collects fields with their lengths, so that no two different lists give the same bytes.
struct Fields(blake3::Hasher);

impl Fields {
    fn add(&mut self, field: &str) -> &mut Self {
        self.0.update(&(field.len() as u64).to_le_bytes());
        self.0.update(field.as_bytes());
        self
    }

    fn add_list<'a>(&mut self, items: impl ExactSizeIterator<Item = &'a str>) -> &mut Self {
        self.0.update(&(items.len() as u64).to_le_bytes());
        for item in items {
            self.add(item);
        }
        self
    }
}

/// The hash of one unit; those of its dependencies must be set already.
pub(crate) fn of_unit(
    unit: &Unit,
    units: &[Unit],
    package: &Package,
    root: &Path,
    settings: &Settings,
) -> String {
    let mut fields = Fields(blake3::Hasher::new());
    fields
        .add("vx-unit-1")
        .add(&package.name)
        .add(&package.version)
        .add(&source_identity(package, root))
        .add_list(unit.features.iter().map(String::as_str))
        .add_list(unit.target.kinds.iter().map(String::as_str))
        .add_list(unit.target.crate_types.iter().map(String::as_str))
        .add(&unit.target.name)
        .add(mode_name(unit.mode))
        .add(unit.platform.as_deref().unwrap_or(""))
        .add(&settings.rustc_version)
        .add_list(
            settings
                .rustflags(unit.platform.as_deref())
                .iter()
                .map(String::as_str),
        )
        .add(&format!("{:?}", unit.lto));
    let profile = &unit.profile;
    let codegen_units = profile
        .codegen_units
        .map(|count| count.to_string())
        .unwrap_or_default();
    fields
        .add(&profile.opt_level)
        .add(&profile.lto)
        .add(&codegen_units)
        .add(profile.debuginfo.as_str())
        .add(profile.split_debuginfo.as_deref().unwrap_or(""))
        .add(&format!(
            "{}{}{}",
            profile.debug_assertions, profile.overflow_checks, profile.rpath
        ))
        .add(&profile.panic)
        .add(profile.strip.as_deref().unwrap_or(""))
        .add_list(profile.rustflags.iter().map(String::as_str));
    // Renaming a dependency changes what the crate is, as in cargo.
    for dependency in &unit.dependencies {
        fields
            .add(&dependency.extern_name)
            .add(&units[dependency.unit.0 as usize].hash);
    }
    fields.0.finalize().to_hex()[..16].to_owned()
}

/// Where a package comes from, without the checkout's own place.
fn source_identity(package: &Package, root: &Path) -> String {
    match package.source {
        SourceKind::Path => format!(
            "path+{}",
            relative(package.manifest_path.parent().unwrap_or(root), root)
        ),
        SourceKind::Registry | SourceKind::Git => package.id.clone(),
    }
}

/// `to` as seen from `from`, with `..` where needed.
pub(crate) fn relative(to: &Path, from: &Path) -> String {
    let to: Vec<_> = to.components().collect();
    let from: Vec<_> = from.components().collect();
    let common = to.iter().zip(&from).take_while(|(a, b)| a == b).count();
    let up = from[common..].iter().map(|_| "..".to_owned());
    let down = to[common..]
        .iter()
        .map(|part| part.as_os_str().to_string_lossy().into_owned());
    up.chain(down).collect::<Vec<_>>().join("/")
}

/// Eight hexadecimal digits of any text, for directory names.
pub(crate) fn short(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..8].to_owned()
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Build => "build",
        Mode::Check => "check",
        Mode::CheckTest => "check-test",
        Mode::Test => "test",
        Mode::RunBuildScript => "run",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_the_root() {
        assert_eq!(relative(Path::new("/a/b/c"), Path::new("/a/b")), "c");
        assert_eq!(relative(Path::new("/a/x/y"), Path::new("/a/b")), "../x/y");
        assert_eq!(relative(Path::new("/a/b"), Path::new("/a/b")), "");
    }
}
