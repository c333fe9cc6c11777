//! Which test this is, how it is run again, and where its evidence goes.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::programs;

/// What is known of the running test.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The test's name, with its module path.
    pub(crate) test: String,
    /// The command that runs it again.
    pub(crate) reproduce: String,
    /// Where evidence of its failure is kept.
    pub(crate) bundle: PathBuf,
}

impl Identity {
    /// nextest names the test in the environment; the standard harness names
    /// the thread after it.
    pub(crate) fn of_this_test() -> Identity {
        let thread = std::thread::current();
        let named = env::var("NEXTEST_TEST_NAME").ok();
        let known = named.or_else(|| {
            thread
                .name()
                .filter(|&name| name != "main")
                .map(str::to_owned)
        });
        let binary = binary();
        let test = known.clone().unwrap_or_else(|| binary.clone());
        let package = env::var("CARGO_PKG_NAME").ok();
        let reproduce = reproduce(package.as_deref(), &binary, known.as_deref());
        let folder = [package.as_deref().unwrap_or("test"), &binary, &test].join("-");
        Identity {
            bundle: bundles().join(numbered(file_name(&folder))),
            test,
            reproduce,
        }
    }
}

fn reproduce(package: Option<&str>, binary: &str, test: Option<&str>) -> String {
    if let (Ok(id), Some(test)) = (env::var("NEXTEST_BINARY_ID"), test) {
        return format!("cargo nextest run -E 'binary_id(={id}) & test(={test})'");
    }
    let mut line = String::from("cargo test");
    if let Some(package) = package {
        line += &format!(" -p {package}");
        // The unit tests of a library have the name of the package.
        line += &if package.replace('-', "_") == binary {
            " --lib --bins".to_owned()
        } else {
            format!(" --test {binary}")
        };
    }
    if let Some(test) = test {
        line += &format!(" -- --exact {test}");
    }
    line
}

/// The name of the test binary without cargo's hash.
fn binary() -> String {
    let executable = env::current_exe().unwrap_or_default();
    let stem = executable
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    match stem.rsplit_once('-') {
        Some((name, hash)) if hash.len() == 16 => name.to_owned(),
        _ => stem,
    }
}

/// `target/vx-testkit`, unless `VX_TESTKIT_BUNDLE_DIR` says otherwise.
fn bundles() -> PathBuf {
    if let Some(dir) = env::var_os("VX_TESTKIT_BUNDLE_DIR") {
        return dir.into();
    }
    programs::profile_dir()
        .and_then(|profile| Some(profile.parent()?.to_owned()))
        // A documentation test is built in a temporary directory that is
        // removed with it.
        .filter(|target| target.join("CACHEDIR.TAG").exists())
        .unwrap_or_else(env::temp_dir)
        .join("vx-testkit")
}

/// The second environment of a test has evidence of its own.
fn numbered(folder: String) -> String {
    static MADE: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let count = made.entry(folder.clone()).or_default();
    *count += 1;
    match *count {
        1 => folder,
        number => format!("{folder}-{number}"),
    }
}

fn file_name(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.') {
                character
            } else {
                '-'
            }
        })
        .take(120)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_knows_its_name() {
        let identity = Identity::of_this_test();
        // With one test thread the standard harness runs tests on its own.
        let name = "identity::tests::the_test_knows_its_name";
        assert!(identity.test == name || identity.test == "vx_testkit");
        assert!(identity.reproduce.starts_with("cargo "));
        assert_eq!(file_name("a::b c/d"), "a--b-c-d");
        assert_ne!(Identity::of_this_test().bundle, identity.bundle);
    }
}
