//! `rust-toolchain.toml`, and `rust-toolchain` as older projects have it.
//!
//! The format is that of <https://rust-lang.github.io/rustup/overrides.html#the-toolchain-file>.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The names under which a project may keep the file; the older one wins, as with rustup.
const NAMES: [&str; 2] = ["rust-toolchain", "rust-toolchain.toml"];

/// A file with a choice of a toolchain is a few lines long.
const LONGEST: u64 = 64 << 10;

/// What the file asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct ToolchainFile {
    /// A channel, or the name of a toolchain.
    pub(crate) channel: Option<String>,
    /// A sysroot, absolute or relative to the file.
    pub(crate) path: Option<PathBuf>,
    /// Components beyond those of the profile.
    pub(crate) components: Vec<String>,
    /// Targets besides the host.
    pub(crate) targets: Vec<String>,
    /// `minimal`, `default` or `complete`.
    pub(crate) profile: Option<String>,
}

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainFileError {
    /// It could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no TOML of the right form.
    #[error("cannot understand `{}`", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: toml::de::Error,
    },
    /// It makes no choice, or two.
    #[error("`{}` {what}", path.display())]
    Choice {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
}

/// The file of `directory` itself, when it has one.
pub(crate) fn in_directory(
    directory: &Path,
) -> Result<Option<(PathBuf, ToolchainFile)>, ToolchainFileError> {
    for name in NAMES {
        let path = directory.join(name);
        let failed = |source| ToolchainFileError::Read {
            path: path.clone(),
            source,
        };
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => continue,
            Err(error) => return Err(failed(error)),
            // A directory of this name means nothing, as with rustup.
            Ok(meta) if meta.is_dir() => continue,
            Ok(meta) if meta.len() > LONGEST || !meta.is_file() => {
                return Err(failed(io::Error::other("it is no small file")));
            }
            Ok(_) => {}
        }
        let text = fs::read_to_string(&path).map_err(failed)?;
        let parsed = parse(&path, &text)?;
        return Ok(Some((path, parsed)));
    }
    Ok(None)
}

fn parse(path: &Path, text: &str) -> Result<ToolchainFile, ToolchainFileError> {
    #[derive(Deserialize)]
    struct Whole {
        toolchain: ToolchainFile,
    }
    let wrong = |what| ToolchainFileError::Choice {
        path: path.to_owned(),
        what,
    };
    // The older file may be one line with the channel.
    let is_legacy_name = path.extension().is_none();
    if is_legacy_name && text.trim().lines().count() <= 1 && !text.trim().starts_with('[') {
        let channel = text.trim();
        if channel.is_empty() {
            return Err(wrong("is empty"));
        }
        return Ok(ToolchainFile {
            channel: Some(channel.to_owned()),
            ..ToolchainFile::default()
        });
    }
    let Whole { toolchain } = toml::from_str(text).map_err(|source| ToolchainFileError::Toml {
        path: path.to_owned(),
        source,
    })?;
    if toolchain.channel.is_some() && toolchain.path.is_some() {
        return Err(wrong("has both `channel` and `path`"));
    }
    if toolchain == ToolchainFile::default() {
        return Err(wrong("has nothing in `[toolchain]`"));
    }
    if toolchain.path.is_some()
        && (toolchain.profile.is_some()
            || !toolchain.components.is_empty()
            || !toolchain.targets.is_empty())
    {
        return Err(wrong(
            "has a `path`, to which no components, targets or profile can be added",
        ));
    }
    Ok(toolchain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_understood() {
        let dir = tempfile::tempdir().unwrap();
        let found = || in_directory(dir.path());
        assert!(found().unwrap().is_none());
        let new = dir.path().join("rust-toolchain.toml");
        fs::write(
            &new,
            "[toolchain]\nchannel = \"1.90\"\ntargets = [\"t\"]\ncomponents = [\"rust-src\"]\nprofile = \"minimal\"\n",
        )
        .unwrap();
        let (path, file) = found().unwrap().unwrap();
        assert_eq!(path, new);
        assert_eq!(file.channel.as_deref(), Some("1.90"));
        assert_eq!(file.targets, ["t"]);
        assert_eq!(file.components, ["rust-src"]);
        assert_eq!(file.profile.as_deref(), Some("minimal"));
        fs::write(dir.path().join("rust-toolchain"), "nightly\n").unwrap();
        let (_, file) = found().unwrap().unwrap();
        assert_eq!(file.channel.as_deref(), Some("nightly"));
    }

    #[test]
    fn errors_name_the_file() {
        let path = Path::new("/p/rust-toolchain.toml");
        for text in [
            "stable",
            "[toolchain]",
            "[toolchain]\nchannel = 1",
            "[toolchain]\nchannel = \"a\"\npath = \"b\"",
            "[toolchain]\npath = \"b\"\ntargets = [\"t\"]",
        ] {
            let error = parse(path, text).unwrap_err().to_string();
            assert!(error.contains("/p/rust-toolchain.toml"), "{error}");
        }
        assert!(parse(Path::new("/p/rust-toolchain"), "\n").is_err());
    }
}
