//! Every environment variable of vx, and the settings that follow from them.
//!
//! Nobody else in the project reads a `VX_*` variable. The table
//! [`VARIABLES`] is also the source of the table for users.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use daemon_contract::{Endpoint, EndpointError};

/// Where vx keeps its store, token, logs and locks.
pub const VX_HOME: &str = "VX_HOME";
/// Where vx-daemon listens.
pub const VX_DAEMON: &str = "VX_DAEMON";
/// Where vx-casd listens, or another store that speaks the Remote Execution API.
pub const VX_CAS: &str = "VX_CAS";
/// Where vx-execd listens, or another executor that speaks the Remote Execution API.
pub const VX_EXEC: &str = "VX_EXEC";
/// The host triple of the machine behind [`VX_EXEC`].
pub const VX_EXEC_HOST_TRIPLE: &str = "VX_EXEC_HOST_TRIPLE";
/// How many actions vx-execd runs at a time.
pub const VX_EXEC_SLOTS: &str = "VX_EXEC_SLOTS";
/// Directories of this machine, joined like `PATH`, that vx-execd may show to actions in place of equal trees from the store.
pub const VX_EXEC_TREES: &str = "VX_EXEC_TREES";
/// The download cache that several `VX_HOME`s may share.
pub const VX_DOWNLOAD_CACHE_DIR: &str = "VX_DOWNLOAD_CACHE_DIR";
/// The server that releases of Rust are fetched from.
pub const VX_DIST_SERVER: &str = "VX_DIST_SERVER";

/// A file with the keys one of which has to have signed what comes from there.
pub const VX_DIST_KEY: &str = "VX_DIST_KEY";

/// One row of the table of variables.
#[derive(Copy, Clone, Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What is used when it is not set, in words.
    pub default: &'static str,
    /// What it does, in one sentence.
    pub meaning: &'static str,
}

/// All variables, for documentation.
pub const VARIABLES: &[Variable] = &[
    Variable {
        name: VX_HOME,
        default: "`vx` in the platform's data directory",
        meaning: "Holds the store, the token, logs and locks; each one has its own services.",
    },
    Variable {
        name: VX_DAEMON,
        default: "127.0.0.1:9001",
        meaning: "Where vx-daemon listens: `host:port`, `tcp://host:port` or `unix:///path`.",
    },
    Variable {
        name: VX_CAS,
        default: "127.0.0.1:9002",
        meaning: "Where vx-casd listens, or another store that speaks the Remote Execution API.",
    },
    Variable {
        name: VX_EXEC,
        default: "127.0.0.1:9003",
        meaning: "Where vx-execd listens, or another executor that speaks the Remote Execution API.",
    },
    Variable {
        name: VX_EXEC_HOST_TRIPLE,
        default: "asked from vx-execd",
        meaning: "The host triple of the machine behind `VX_EXEC`, needed when it is another machine.",
    },
    Variable {
        name: VX_EXEC_SLOTS,
        default: "the number of processors",
        meaning: "How many actions vx-execd runs at a time.",
    },
    Variable {
        name: VX_EXEC_TREES,
        default: "the toolchains that builds use",
        meaning: "Directories, joined like `PATH`, that vx-execd shows to actions where they are equal to a tree in the store.",
    },
    Variable {
        name: VX_DOWNLOAD_CACHE_DIR,
        default: "`download` in `VX_HOME`",
        meaning: "The download cache with the toolchains and crates that were fetched, which several `VX_HOME`s may share.",
    },
    Variable {
        name: VX_DIST_SERVER,
        default: "`RUSTUP_DIST_SERVER`, else static.rust-lang.org",
        meaning: "The server that toolchains are fetched from, as an `https`, `http` or `file` URL.",
    },
    Variable {
        name: VX_DIST_KEY,
        default: "the key of the Rust project",
        meaning: "A file with OpenPGP keys, as `gpg --armor --export` writes it: channel manifests must be signed by one of them.",
    },
];

/// Why the environment gives no settings.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    /// A variable that must be text is not.
    #[error("`{name}` is not valid UTF-8")]
    NotUtf8 {
        /// The variable.
        name: &'static str,
    },
    /// A variable that names an endpoint does not.
    #[error("`{name}` is set to something else than an endpoint")]
    Endpoint {
        /// The variable.
        name: &'static str,
        /// What is wrong with it.
        source: EndpointError,
    },
    /// A file or directory must be given by its absolute path.
    #[error("`{name}` is `{}`, which is not an absolute path", path.display())]
    NotAbsolute {
        /// The variable.
        name: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// A number is expected.
    #[error("`{name}` is `{value}`, expected a number from 1 to 1024")]
    NotACount {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// Neither `VX_HOME` nor a home directory is known.
    #[error("`VX_HOME` is not set, and there is no `HOME` to derive it from")]
    NoHome,
}

/// What the environment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Store, token, logs and locks; an absolute path.
    pub home: PathBuf,
    /// vx-daemon.
    pub daemon: Endpoint,
    /// vx-casd.
    pub cas: Endpoint,
    /// vx-execd.
    pub exec: Endpoint,
    /// Host triple behind `exec`, when it was given.
    pub exec_host_triple: Option<String>,
    /// Actions that run at a time, when it was given.
    pub exec_slots: Option<usize>,
    /// Directories that may stand in for trees of the store; none when not given.
    pub exec_trees: Vec<PathBuf>,
    /// The download cache, when it was given.
    pub download_cache: Option<PathBuf>,
    /// The distribution server, when it was given; that of the client counts, not that of the daemon.
    pub dist_server: Option<String>,
    /// The keys of that server, when they were given; those of the client count as well.
    pub dist_key: Option<PathBuf>,
}

impl Settings {
    /// The settings of this process' environment.
    pub fn from_env() -> Result<Settings, EnvError> {
        Settings::from_lookup(|name| std::env::var_os(name))
    }

    /// The settings of any environment. A variable that is set to the empty text
    /// counts as not set.
    pub fn from_lookup(get: impl Fn(&str) -> Option<OsString>) -> Result<Settings, EnvError> {
        let get = |name: &'static str| get(name).filter(|value| !value.is_empty());
        let text = |name: &'static str| {
            get(name)
                .map(|value| value.into_string().map_err(|_| EnvError::NotUtf8 { name }))
                .transpose()
        };
        let endpoint = |name: &'static str, port: u16| match text(name)? {
            Some(value) => value
                .parse()
                .map_err(|source| EnvError::Endpoint { name, source }),
            None => Ok(Endpoint::Tcp {
                host: "127.0.0.1".to_owned(),
                port,
            }),
        };
        let path = |name: &'static str| match get(name).map(PathBuf::from) {
            Some(path) if path.is_absolute() => Ok(Some(path)),
            Some(path) => Err(EnvError::NotAbsolute { name, path }),
            None => Ok(None),
        };
        let home = match path(VX_HOME)? {
            Some(home) => home,
            None => default_home(
                get("XDG_DATA_HOME").map(PathBuf::from),
                get("HOME").map(PathBuf::from),
            )
            .ok_or(EnvError::NoHome)?,
        };
        Ok(Settings {
            home,
            daemon: endpoint(VX_DAEMON, 9001)?,
            cas: endpoint(VX_CAS, 9002)?,
            exec: endpoint(VX_EXEC, 9003)?,
            exec_host_triple: text(VX_EXEC_HOST_TRIPLE)?,
            exec_slots: text(VX_EXEC_SLOTS)?
                .map(|value| match value.parse() {
                    Ok(slots @ 1..=1024) => Ok(slots),
                    _ => Err(EnvError::NotACount {
                        name: VX_EXEC_SLOTS,
                        value,
                    }),
                })
                .transpose()?,
            exec_trees: get(VX_EXEC_TREES)
                .map(|paths| std::env::split_paths(&paths).collect())
                .unwrap_or_default(),
            download_cache: path(VX_DOWNLOAD_CACHE_DIR)?,
            dist_server: text(VX_DIST_SERVER)?,
            dist_key: path(VX_DIST_KEY)?,
        })
    }

    /// The same settings as variables, for a child process.
    pub fn to_env(&self) -> Vec<(OsString, OsString)> {
        let mut variables: Vec<(OsString, OsString)> = vec![
            (VX_HOME.into(), self.home.clone().into()),
            (VX_DAEMON.into(), self.daemon.to_string().into()),
            (VX_CAS.into(), self.cas.to_string().into()),
            (VX_EXEC.into(), self.exec.to_string().into()),
        ];
        if let Some(triple) = &self.exec_host_triple {
            variables.push((VX_EXEC_HOST_TRIPLE.into(), triple.into()));
        }
        if let Some(slots) = self.exec_slots {
            variables.push((VX_EXEC_SLOTS.into(), slots.to_string().into()));
        }
        if !self.exec_trees.is_empty()
            && let Ok(trees) = std::env::join_paths(&self.exec_trees)
        {
            variables.push((VX_EXEC_TREES.into(), trees));
        }
        if let Some(cache) = &self.download_cache {
            variables.push((VX_DOWNLOAD_CACHE_DIR.into(), cache.clone().into()));
        }
        if let Some(server) = &self.dist_server {
            variables.push((VX_DIST_SERVER.into(), server.into()));
        }
        if let Some(key) = &self.dist_key {
            variables.push((VX_DIST_KEY.into(), key.clone().into()));
        }
        variables
    }

    /// Where downloads are kept.
    pub fn download_cache_dir(&self) -> PathBuf {
        self.download_cache
            .clone()
            .unwrap_or_else(|| self.home.join("download"))
    }
}

/// `vx` in the platform's data directory. A relative `XDG_DATA_HOME` is ignored,
/// as its specification demands.
fn default_home(xdg_data_home: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let below_home = if cfg!(target_os = "macos") {
        Path::new("Library/Application Support")
    } else {
        Path::new(".local/share")
    };
    let data = if cfg!(target_os = "macos") {
        None
    } else {
        xdg_data_home.filter(|path| path.is_absolute())
    };
    data.or_else(|| {
        home.filter(|home| home.is_absolute())
            .map(|home| home.join(below_home))
    })
    .map(|data| data.join("vx"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, EnvError> {
        let map: BTreeMap<String, OsString> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), OsString::from(value)))
            .collect();
        Settings::from_lookup(|name| map.get(name).cloned())
    }

    #[test]
    fn defaults_are_loopback_and_the_data_directory() {
        let settings = settings(&[("HOME", "/home/ann"), ("VX_CAS", "")]).unwrap();
        assert_eq!(settings.daemon.to_string(), "127.0.0.1:9001");
        assert_eq!(settings.cas.to_string(), "127.0.0.1:9002");
        assert_eq!(settings.exec.to_string(), "127.0.0.1:9003");
        assert!(settings.home.starts_with("/home/ann"));
        assert!(settings.home.ends_with("vx"));
        assert_eq!(
            settings.download_cache_dir(),
            settings.home.join("download")
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_data_directory_may_be_moved() {
        let home = |xdg| {
            settings(&[("HOME", "/home/ann"), ("XDG_DATA_HOME", xdg)])
                .unwrap()
                .home
        };
        assert_eq!(home("/data"), Path::new("/data/vx"));
        assert_eq!(home("data"), Path::new("/home/ann/.local/share/vx"));
    }

    #[test]
    fn variables_survive_the_way_to_a_child() {
        let ours = settings(&[
            (VX_HOME, "/h"),
            (VX_DAEMON, "unix:///h/d.sock"),
            (VX_CAS, "tcp://[::1]:1"),
            (VX_EXEC, "builder:2"),
            (VX_EXEC_HOST_TRIPLE, "aarch64-unknown-linux-gnu"),
            (VX_EXEC_SLOTS, "3"),
            (VX_EXEC_TREES, "/t/lib:/t/bin"),
            (VX_DOWNLOAD_CACHE_DIR, "/dl"),
            (VX_DIST_SERVER, "https://mirror"),
            (VX_DIST_KEY, "/keys.asc"),
        ])
        .unwrap();
        let env: BTreeMap<OsString, OsString> = ours.to_env().into_iter().collect();
        assert_eq!(env.len(), VARIABLES.len());
        let theirs = Settings::from_lookup(|name| env.get(&OsString::from(name)).cloned());
        assert_eq!(theirs.unwrap(), ours);
    }

    #[test]
    fn errors_name_the_variable() {
        let error = |variables: &[(&str, &str)]| settings(variables).unwrap_err().to_string();
        assert_eq!(
            error(&[(VX_HOME, "/h"), (VX_EXEC, "nowhere")]),
            "`VX_EXEC` is set to something else than an endpoint"
        );
        assert_eq!(
            error(&[(VX_HOME, "h")]),
            "`VX_HOME` is `h`, which is not an absolute path"
        );
        assert_eq!(
            error(&[(VX_HOME, "/h"), (VX_EXEC_SLOTS, "0")]),
            "`VX_EXEC_SLOTS` is `0`, expected a number from 1 to 1024"
        );
        assert!(matches!(settings(&[]), Err(EnvError::NoHome)));
    }
}
