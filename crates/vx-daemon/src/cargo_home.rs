//! The CARGO_HOME of one build: the user's, or one whose downloads lie in a download cache that is shared.
//!
//! To cargo it is one directory that has both what was fetched and what its user has configured.
//! Where they are to be apart, cargo is given a directory of links: downloads lead to the cache, configuration and credentials to the user's CARGO_HOME, so that each has the rank among cargo's settings that it always had, and no secret is copied.
//! `DEPENDENCIES.md` has the layout and the reasons.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use vx_proto::Digest;
use vx_proto::command::BuildRequest;
use vx_proto::env::Settings;

use crate::cargo_config;
use crate::lock_file;
use crate::seed;

/// What all who fetch have in common: downloads, and what cargo needs to share them between processes.
const SHARED_DIRECTORIES: [&str; 2] = ["registry", "git"];
const SHARED_FILES: [&str; 3] = [".package-cache", ".package-cache-mutate", ".global-cache"];
/// What belongs to the user. The names without an extension are older ones that cargo still reads.
const CREDENTIALS: [&str; 2] = ["credentials.toml", "credentials"];
const CONFIGURATION: [&str; 2] = ["config.toml", "config"];

/// Why there is no CARGO_HOME.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`, which cargo is to fetch dependencies with", path.display())]
pub(crate) struct CargoHomeError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CargoHomeError {
    let path = path.to_owned();
    move |source| CargoHomeError {
        action,
        path,
        source,
    }
}

/// Where dependencies are fetched to.
#[derive(Clone, Debug)]
pub(crate) struct CargoHomes {
    /// The downloads that are shared; none where each user's CARGO_HOME is what is shared.
    shared: Option<PathBuf>,
    /// Directories of links, one for each user's CARGO_HOME.
    views: PathBuf,
}

/// The CARGO_HOME of one build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CargoHome {
    /// What the user has set, or would have by default.
    users: PathBuf,
    view: Option<View>,
}

/// A directory of links, and what its downloads lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    path: PathBuf,
    shared: PathBuf,
}

/// The CARGO_HOME that `environment` means for a process in `directory`.
pub(crate) fn of_user(environment: &[(String, String)], directory: &Path) -> PathBuf {
    let variable = |name: &str| {
        let found = environment.iter().find(|(n, _)| n == name);
        found
            .map(|(_, value)| PathBuf::from(value))
            .filter(|path| !path.as_os_str().is_empty())
    };
    match variable("CARGO_HOME") {
        Some(home) => directory.join(home),
        None => variable("HOME").unwrap_or_default().join(".cargo"),
    }
}

impl CargoHomes {
    /// Nothing is made yet.
    pub(crate) fn new(settings: &Settings) -> CargoHomes {
        CargoHomes {
            shared: settings
                .download_cache
                .as_ref()
                .map(|cache| cache.join("cargo/v1")),
            views: settings.home.join("daemon/cargo"),
        }
    }

    /// Where packages lie that vx may remove: nobody but cargo and vx writes there.
    pub(crate) fn shared(&self) -> Option<&Path> {
        self.shared.as_deref()
    }

    /// The CARGO_HOME for `request`, with what of its Cargo.lock the user has already. Blocks.
    ///
    /// # Errors
    ///
    /// A directory that cannot be written.
    pub(crate) fn prepare(&self, request: &BuildRequest) -> Result<CargoHome, CargoHomeError> {
        let users = of_user(&request.env, &request.cwd);
        let Some(shared) = &self.shared else {
            return Ok(CargoHome { users, view: None });
        };
        for name in SHARED_DIRECTORIES {
            let path = shared.join(name);
            fs::create_dir_all(&path).map_err(failed("create", &path))?;
        }
        let view = self.view(shared, &users, &request.cwd)?;
        seed::copy(&users, shared, &lock_file::of_request(request));
        Ok(CargoHome {
            users,
            view: Some(view),
        })
    }

    /// A directory of links for those who use the CARGO_HOME `users` in `directory`.
    fn view(&self, shared: &Path, users: &Path, directory: &Path) -> Result<View, CargoHomeError> {
        // cargo finds the configuration of a home above its working directory by itself, and would have all lists in it twice.
        let is_found = is_above(users, directory);
        let identity = format!("{}\0{is_found}\0{}", users.display(), shared.display());
        let path = self
            .views
            .join(&Digest::of(identity.as_bytes()).hex()[..16]);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(failed("create", &path))?;
        let link = |target: PathBuf, name: &str| {
            let link = path.join(name);
            ensure_link(&target, &link).map_err(failed("write", &link))
        };
        for name in SHARED_DIRECTORIES.into_iter().chain(SHARED_FILES) {
            link(shared.join(name), name)?;
        }
        for name in CREDENTIALS {
            link(users.join(name), name)?;
        }
        for name in CONFIGURATION.into_iter().filter(|_| !is_found) {
            let users_file = users.join(name);
            let text = fs::read_to_string(&users_file).unwrap_or_default();
            match cargo_config::with_absolute_paths(&text, users) {
                Some(text) => {
                    let file = path.join(name);
                    ensure_file(&text, &file).map_err(failed("write", &file))?;
                }
                None => link(users_file, name)?,
            }
        }
        Ok(View {
            path,
            shared: shared.to_owned(),
        })
    }
}

impl CargoHome {
    /// What cargo is to be told, if it is not what it knows already.
    pub(crate) fn variable(&self) -> Option<&Path> {
        self.view.as_ref().map(|view| view.path.as_path())
    }

    /// Whether the downloads are none of the user's own.
    pub(crate) fn is_shared(&self) -> bool {
        self.view.is_some()
    }

    /// Where the downloads are.
    pub(crate) fn downloads(&self) -> &Path {
        match &self.view {
            Some(view) => &view.shared,
            None => &self.users,
        }
    }

    /// What cargo printed, with the paths of what its links lead to.
    pub(crate) fn translate(&self, text: String) -> String {
        let Some(view) = &self.view else {
            return text;
        };
        let from = view.path.display().to_string();
        if !text.contains(&from) {
            return text;
        }
        // Paths in JSON are escaped.
        let escaped = |path: &Path| {
            let quoted = serde_json::Value::from(path.display().to_string()).to_string();
            quoted.trim_matches('"').to_owned()
        };
        let mut text = text;
        for name in SHARED_DIRECTORIES {
            text = text.replace(
                &format!("{from}/{name}"),
                &format!("{}/{name}", escaped(&view.shared)),
            );
        }
        text.replace(&from, &escaped(&self.users))
    }
}

/// Whether `home` is the `.cargo` of `directory` or of a directory above it.
fn is_above(home: &Path, directory: &Path) -> bool {
    let Ok(home) = home.canonicalize() else {
        return false;
    };
    directory.ancestors().any(|directory| {
        let found = directory.join(".cargo").canonicalize();
        found.is_ok_and(|found| found == home)
    })
}

/// Makes `link` lead to `target`, which need not exist.
fn ensure_link(target: &Path, link: &Path) -> io::Result<()> {
    if fs::read_link(link).is_ok_and(|found| found == target) {
        return Ok(());
    }
    let unfinished = unfinished(link);
    symlink(target, &unfinished)?;
    fs::rename(unfinished, link)
}

/// Makes `file` have the content `text`, for its owner only.
fn ensure_file(text: &str, file: &Path) -> io::Result<()> {
    let is_link = fs::symlink_metadata(file).is_ok_and(|meta| meta.is_symlink());
    if !is_link && fs::read_to_string(file).is_ok_and(|found| found == text) {
        return Ok(());
    }
    let unfinished = unfinished(file);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(&unfinished)?.write_all(text.as_bytes())?;
    fs::rename(unfinished, file)
}

/// A name beside `path` that nobody else uses: builds prepare the same directory at the same time.
fn unfinished(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}-{number}", std::process::id()));
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn homes(dir: &Path) -> CargoHomes {
        CargoHomes {
            shared: Some(dir.join("shared")),
            views: dir.join("views"),
        }
    }

    fn view(dir: &Path, directory: &Path) -> PathBuf {
        let users = dir.join("home/.cargo");
        fs::create_dir_all(&users).unwrap();
        let view = homes(dir).view(&dir.join("shared"), &users, directory);
        view.unwrap().path
    }

    #[test]
    fn configuration_and_credentials_are_the_users_and_downloads_are_shared() {
        let dir = tempfile::tempdir().unwrap();
        let users = dir.path().join("home/.cargo");
        let path = view(dir.path(), Path::new("/elsewhere"));
        for name in ["config.toml", "credentials.toml"] {
            assert_eq!(fs::read_link(path.join(name)).unwrap(), users.join(name));
        }
        for name in ["registry", "git", ".package-cache"] {
            let target = dir.path().join("shared").join(name);
            assert_eq!(fs::read_link(path.join(name)).unwrap(), target);
        }
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn configuration_that_cargo_finds_by_itself_is_not_given_twice() {
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path().join("home/project");
        fs::create_dir_all(&project).unwrap();
        let path = view(dir.path(), &project);
        assert!(fs::symlink_metadata(path.join("config.toml")).is_err());
        assert!(fs::symlink_metadata(path.join("credentials.toml")).is_ok());
        assert_ne!(path, view(dir.path(), Path::new("/elsewhere")));
    }

    #[test]
    fn relative_paths_in_the_configuration_stay_those_beside_the_users_home() {
        let dir = tempfile::tempdir().unwrap();
        let users = dir.path().join("home/.cargo");
        fs::create_dir_all(&users).unwrap();
        let config = users.join("config.toml");
        fs::write(&config, "[source.mine]\ndirectory = \"vendored\"\n").unwrap();
        let file = view(dir.path(), Path::new("/elsewhere")).join("config.toml");
        let text = fs::read_to_string(&file).unwrap();
        let vendored = dir.path().join("home/vendored");
        assert!(text.contains(vendored.to_str().unwrap()), "{text}");
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // And back.
        fs::write(&config, "").unwrap();
        view(dir.path(), Path::new("/elsewhere"));
        assert_eq!(fs::read_link(&file).unwrap(), config);
    }

    #[test]
    fn what_cargo_prints_names_what_its_links_lead_to() {
        let home = CargoHome {
            users: "/home/ann/.cargo".into(),
            view: Some(View {
                path: "/vx/view".into(),
                shared: "/cache/cargo".into(),
            }),
        };
        let text = "{\"a\":\"/vx/view/registry/src/x\"} /vx/view/config.toml /vx/view/git/db";
        assert_eq!(
            home.translate(text.to_owned()),
            "{\"a\":\"/cache/cargo/registry/src/x\"} /home/ann/.cargo/config.toml /cache/cargo/git/db"
        );
    }

    #[test]
    fn the_users_home_is_found_as_cargo_finds_it() {
        let environment = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            let pairs = pairs.iter();
            pairs.map(|(n, v)| ((*n).into(), (*v).into())).collect()
        };
        let of = |pairs: &[(&str, &str)]| of_user(&environment(pairs), Path::new("/w"));
        assert_eq!(of(&[("HOME", "/h")]), Path::new("/h/.cargo"));
        assert_eq!(
            of(&[("HOME", "/h"), ("CARGO_HOME", "c")]),
            Path::new("/w/c")
        );
        assert_eq!(
            of(&[("HOME", "/h"), ("CARGO_HOME", "")]),
            Path::new("/h/.cargo")
        );
    }
}
