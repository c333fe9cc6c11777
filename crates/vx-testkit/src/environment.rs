//! The environment that commands get: nothing of the caller's but what is
//! declared here. The table of it is with [`Command`](crate::Command).

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::dirs::Dirs;

const SYSTEM_PATH: [&str; 5] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"];

pub(crate) fn base(dirs: &Dirs) -> BTreeMap<OsString, OsString> {
    let mut vars = BTreeMap::new();
    let mut set = |name: &str, value: &OsStr| {
        vars.insert(OsString::from(name), value.to_owned());
    };
    set("HOME", dirs.home().as_os_str());
    set("TMPDIR", dirs.temp().as_os_str());
    set("XDG_RUNTIME_DIR", dirs.runtime().as_os_str());
    set("PATH", &search_path());
    for (name, value) in [
        ("LC_ALL", "C"),
        ("TZ", "UTC"),
        ("COLUMNS", "80"),
        ("NO_COLOR", "1"),
        ("TERM", "dumb"),
    ] {
        set(name, OsStr::new(value));
    }
    if let Some(home) = tool_home("CARGO_HOME", ".cargo") {
        set("CARGO_HOME", home.as_os_str());
    }
    if let Some(home) = tool_home("RUSTUP_HOME", ".rustup") {
        set("RUSTUP_HOME", home.as_os_str());
    }
    for name in ["RUSTUP_TOOLCHAIN", "LLVM_PROFILE_FILE"] {
        if let Some(value) = env::var_os(name) {
            set(name, &value);
        }
    }
    vars
}

/// Where the caller's cargo or rustup keeps its things, if it is there.
pub(crate) fn tool_home(variable: &str, default: &str) -> Option<PathBuf> {
    let home = env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(default)))?;
    home.is_dir().then_some(home)
}

/// The toolchain's own directory comes first: cargo tells tests where it is
/// (`CARGO`), and past rustup's proxies no override file of a directory above
/// can change the compiler.
fn search_path() -> OsString {
    let mut dirs: Vec<PathBuf> = Vec::new();
    let cargo = env::var_os("CARGO").map(PathBuf::from);
    dirs.extend(cargo.as_deref().and_then(Path::parent).map(Path::to_owned));
    let inherited = env::var_os("PATH").unwrap_or_default();
    for tool in ["cargo", "rustc"] {
        dirs.extend(env::split_paths(&inherited).find(|dir| dir.join(tool).is_file()));
    }
    dirs.extend(SYSTEM_PATH.map(PathBuf::from));
    let mut seen = std::collections::HashSet::new();
    dirs.retain(|dir| dir.is_absolute() && seen.insert(dir.clone()));
    env::join_paths(dirs).unwrap_or_else(|_| SYSTEM_PATH.join(":").into())
}
