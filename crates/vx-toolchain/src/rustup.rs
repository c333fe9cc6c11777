//! What rustup knows on this machine: installed toolchains, the default, overrides of directories.
//!
//! It is read and never written. The files are those of rustup 1.2x: `settings.toml` and `toolchains/`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::name::ToolchainName;

/// The home of rustup, as one user's environment shows it.
#[derive(Clone, Debug, Default)]
pub struct Rustup {
    home: PathBuf,
    settings: Settings,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Settings {
    default_toolchain: Option<String>,
    overrides: BTreeMap<String, String>,
    auto_install: Option<String>,
}

/// Why the settings of rustup could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RustupError {
    /// They could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// They are no TOML of the right form.
    #[error("cannot understand `{}`", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: toml::de::Error,
    },
}

impl Rustup {
    /// rustup's home at `RUSTUP_HOME` or below `HOME`; one that knows nothing where there is none.
    ///
    /// # Errors
    ///
    /// Settings that are there and cannot be understood.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Rustup, RustupError> {
        let filled = |name: &str| variable(name).filter(|value| !value.is_empty());
        let home = match (filled("RUSTUP_HOME"), filled("HOME")) {
            (Some(home), _) => PathBuf::from(home),
            (None, Some(home)) => Path::new(&home).join(".rustup"),
            (None, None) => return Ok(Rustup::default()),
        };
        let path = home.join("settings.toml");
        let settings = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Settings::default(),
            Err(source) => return Err(RustupError::Read { path, source }),
            Ok(text) => match toml::from_str(&text) {
                Ok(settings) => settings,
                Err(source) => return Err(RustupError::Toml { path, source }),
            },
        };
        Ok(Rustup { home, settings })
    }

    /// The toolchain that is used where nothing else was chosen.
    pub fn default_toolchain(&self) -> Option<&str> {
        self.settings
            .default_toolchain
            .as_deref()
            .filter(|name| *name != "none")
    }

    /// The toolchain that `rustup override set` gave to this very directory.
    pub fn override_of(&self, directory: &Path) -> Option<&str> {
        self.settings
            .overrides
            .get(directory.to_str()?)
            .map(String::as_str)
    }

    /// Whether the user told rustup to install nothing by itself.
    pub fn forbids_installing(&self) -> bool {
        self.settings.auto_install.as_deref() == Some("disable")
    }

    /// The sysroot of an installed toolchain of this name.
    pub fn installed(&self, name: &ToolchainName, host: &str) -> Option<PathBuf> {
        let folder = match name {
            ToolchainName::Channel(channel) if channel.host.is_some() => channel.to_string(),
            ToolchainName::Channel(channel) => format!("{channel}-{host}"),
            ToolchainName::Custom(name) => name.clone(),
            ToolchainName::Path(_) => return None,
        };
        let sysroot = self.toolchains()?.join(folder);
        sysroot.join("bin/rustc").is_file().then_some(sysroot)
    }

    /// All installed toolchains: their names and sysroots, sorted.
    pub fn list(&self) -> Vec<(String, PathBuf)> {
        let entries = self.toolchains().and_then(|dir| fs::read_dir(dir).ok());
        let mut found: Vec<_> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().join("bin/rustc").is_file())
            .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
            .collect();
        found.sort();
        found
    }

    fn toolchains(&self) -> Option<PathBuf> {
        (!self.home.as_os_str().is_empty()).then(|| self.home.join("toolchains"))
    }
}

/// Whether `rustc` is one of rustup's proxies, which look like the compiler and only choose it.
///
/// They are links to `rustup` itself, symbolic ones or hard ones.
pub(crate) fn is_proxy(rustc: &Path) -> bool {
    let Ok(resolved) = fs::canonicalize(rustc) else {
        return false;
    };
    if resolved.file_name().is_some_and(|name| name == "rustup") {
        return true;
    }
    let same = |a: &Path, b: &Path| match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    };
    [rustc, &resolved]
        .into_iter()
        .filter_map(Path::parent)
        .any(|dir| same(rustc, &dir.join("rustup")))
}

/// Components of a toolchain that rustup has installed, named with or without their target; `None` where no list is kept.
pub(crate) fn components(sysroot: &Path) -> Option<Vec<String>> {
    let list = fs::read_to_string(sysroot.join("lib/rustlib/components")).ok()?;
    Some(list.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_toolchains_the_default_and_overrides_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap().to_owned();
        let rustup = || Rustup::of(|name| (name == "RUSTUP_HOME").then(|| home.clone()));
        assert_eq!(rustup().unwrap().default_toolchain(), None);
        fs::write(
            dir.path().join("settings.toml"),
            "version = \"12\"\ndefault_toolchain = \"stable\"\nauto_install = \"disable\"\n[overrides]\n\"/a\" = \"beta\"\n",
        )
        .unwrap();
        let bin = dir.path().join("toolchains/stable-h-o-s/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::write(bin.join("rustc"), "").unwrap();
        let rustup = rustup().unwrap();
        assert_eq!(rustup.default_toolchain(), Some("stable"));
        assert!(rustup.forbids_installing());
        assert_eq!(rustup.override_of(Path::new("/a")), Some("beta"));
        assert_eq!(rustup.override_of(Path::new("/a/b")), None);
        let found = |name: &str| rustup.installed(&name.parse().unwrap(), "h-o-s");
        assert_eq!(found("stable").as_deref(), bin.parent());
        assert_eq!(found("stable-h-o-s").as_deref(), bin.parent());
        assert_eq!(found("beta"), None);
        assert_eq!(rustup.list().len(), 1);
    }

    #[test]
    fn proxies_are_told_from_compilers() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("rustup"), "").unwrap();
        fs::write(at("real"), "").unwrap();
        fs::hard_link(at("rustup"), at("hard")).unwrap();
        std::os::unix::fs::symlink("rustup", at("soft")).unwrap();
        std::os::unix::fs::symlink("real", at("link")).unwrap();
        for (name, proxy) in [
            ("hard", true),
            ("soft", true),
            ("real", false),
            ("link", false),
        ] {
            assert_eq!(is_proxy(&at(name)), proxy, "{name}");
        }
    }
}
