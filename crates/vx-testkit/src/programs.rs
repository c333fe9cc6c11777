//! Finds the programs that a test runs, and says how to build one that is missing.
//!
//! It never builds anything: a build inside a test would wait for the lock of
//! the build that runs the test.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Why there is no program to run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// Neither a binary of the workspace nor a program on the search path.
    #[error(
        "program `{name}` is neither a binary of this workspace (looked for `{}`) nor on the \
         search path; build it first: `cargo build --bin {name}`",
        looked.display()
    )]
    NotFound {
        /// The name that was asked for.
        name: String,
        /// Where a binary of the workspace would be.
        looked: PathBuf,
    },
    /// A source is newer than the binary: the test would test yesterday's code.
    #[error(
        "binary `{}` is older than its source `{}`; build it again: `cargo build --bin {name}` \
         (or set VX_TESTKIT_STALE=allow)",
        binary.display(), source_file.display()
    )]
    Stale {
        /// The name that was asked for.
        name: String,
        /// The binary.
        binary: PathBuf,
        /// The newest source of it.
        source_file: PathBuf,
    },
}

/// The path of a program: as given if it has a slash, else a binary of this
/// workspace, else one on `search_path`.
pub(crate) fn find(name: &str, search_path: &str) -> Result<PathBuf, ProgramError> {
    if name.contains('/') {
        return Ok(std::path::absolute(name).unwrap_or_else(|_| name.into()));
    }
    for variable in [
        format!("NEXTEST_BIN_EXE_{name}"),
        format!("NEXTEST_BIN_EXE_{}", name.replace('-', "_")),
        format!("CARGO_BIN_EXE_{name}"),
    ] {
        if let Some(path) = env::var_os(variable).map(PathBuf::from)
            && is_program(&path)
        {
            return Ok(path);
        }
    }
    let built = profile_dir().map(|dir| dir.join(name));
    if let Some(binary) = &built
        && is_program(binary)
    {
        refuse_stale(name, binary)?;
        return Ok(binary.clone());
    }
    env::split_paths(search_path)
        .map(|dir| dir.join(name))
        .find(|path| is_program(path))
        .ok_or_else(|| ProgramError::NotFound {
            name: name.to_owned(),
            looked: built.unwrap_or_else(|| name.into()),
        })
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// `target/<profile>`, from where the running test executable is.
pub(crate) fn profile_dir() -> Option<PathBuf> {
    let executable = env::current_exe().ok()?;
    let dir = executable.parent()?;
    let is_deps = dir.file_name().is_some_and(|name| name == "deps");
    Some(if is_deps { dir.parent()? } else { dir }.to_owned())
}

/// cargo leaves `<binary>.d` beside each binary, which names all its sources.
fn refuse_stale(name: &str, binary: &Path) -> Result<(), ProgramError> {
    if env::var_os("VX_TESTKIT_STALE").is_some_and(|value| value == "allow") {
        return Ok(());
    }
    let Some(built) = modified(binary) else {
        return Ok(());
    };
    let rules = fs::read_to_string(binary.with_extension("d")).unwrap_or_default();
    match sources(&rules)
        .into_iter()
        .find(|source| modified(source).is_some_and(|time| time > built))
    {
        Some(source_file) => Err(ProgramError::Stale {
            name: name.to_owned(),
            binary: binary.to_owned(),
            source_file,
        }),
        None => Ok(()),
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// The prerequisites of the first rule; a space in a name is written `\ `.
fn sources(rules: &str) -> Vec<PathBuf> {
    let Some((_, list)) = rules.lines().next().and_then(|line| line.split_once(": ")) else {
        return Vec::new();
    };
    let mut names = vec![String::new()];
    let mut characters = list.chars().peekable();
    while let Some(character) = characters.next() {
        let last = names.len() - 1;
        match character {
            '\\' if characters.peek() == Some(&' ') => {
                characters.next();
                names[last].push(' ');
            }
            ' ' => names.push(String::new()),
            other => names[last].push(other),
        }
    }
    names.retain(|name| !name.is_empty());
    names.into_iter().map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_with_spaces_are_read_whole() {
        let found = sources("/t/vx: /s/a\\ b.rs /s/c.rs\n/s/c.rs:\n");
        assert_eq!(found, [PathBuf::from("/s/a b.rs"), "/s/c.rs".into()]);
    }

    #[test]
    fn a_source_newer_than_its_binary_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (binary, source) = (dir.path().join("tool"), dir.path().join("main.rs"));
        fs::write(&binary, "").unwrap();
        fs::write(&source, "").unwrap();
        let rules = format!("{}: {}\n", binary.display(), source.display());
        fs::write(dir.path().join("tool.d"), rules).unwrap();
        let built = modified(&binary).unwrap();
        let file = fs::File::options().write(true).open(&source).unwrap();
        file.set_modified(built - std::time::Duration::from_secs(9))
            .unwrap();
        assert!(refuse_stale("tool", &binary).is_ok());
        file.set_modified(built + std::time::Duration::from_secs(9))
            .unwrap();
        let error = refuse_stale("tool", &binary).unwrap_err();
        assert!(error.to_string().contains("cargo build --bin tool"));
    }

    #[test]
    fn a_missing_program_is_named_with_the_way_to_build_it() {
        let error = find("no-such-program", "/nonexistent").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("`cargo build --bin no-such-program`")
        );
    }
}
