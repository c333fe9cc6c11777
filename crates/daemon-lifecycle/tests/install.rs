//! Installing and taking away, with real programs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use daemon_contract::{InstallConfig, UninstallConfig};
use daemon_lifecycle::{InstallRecord, Uninstalled, install, uninstall};
use tempfile::TempDir;

struct Place {
    root: TempDir,
}

impl Place {
    fn new() -> Place {
        Place {
            root: tempfile::tempdir().unwrap(),
        }
    }

    fn program(&self, text: &str) -> PathBuf {
        let path = self.root.path().join("build/indexer");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        drop(fs::remove_file(&path));
        fs::write(&path, format!("#!/bin/sh\necho {text}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        path
    }

    fn target(&self) -> PathBuf {
        self.root.path().join("bin/indexer")
    }

    fn config(&self, text: &str) -> InstallConfig {
        let mut config = InstallConfig::new("indexer");
        config.binary_path = Some(self.program(text));
        config.target_path = Some(self.target());
        config
    }

    fn removal(&self) -> UninstallConfig {
        UninstallConfig::new("indexer", self.target())
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.target().parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn says(program: &Path) -> String {
    let started = Instant::now();
    loop {
        match Command::new(program).output() {
            Ok(output) => return String::from_utf8(output.stdout).unwrap(),
            // A program that another test starts at this moment has a copy of our
            // descriptors until it is executed.
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                assert!(started.elapsed() < Duration::from_secs(60), "{error}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn what_is_installed_runs_is_recorded_and_goes_away_again() {
    let place = Place::new();
    let result = install(&place.config("one")).unwrap();
    assert_eq!(result.binary_path, place.target());
    assert_eq!(says(&place.target()), "one\n");
    assert_eq!(fs::metadata(place.target()).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(place.names(), [".indexer.install.json", "indexer"]);
    let record = fs::read_to_string(place.root.path().join("bin/.indexer.install.json")).unwrap();
    let record: InstallRecord = serde_json::from_str(&record).unwrap();
    assert_eq!(record.install_time, result.install_time);
    assert_eq!(record.replaces, None);
    assert_eq!(uninstall(&place.removal()).unwrap(), Uninstalled::Removed);
    assert_eq!(place.names(), Vec::<String>::new());
    assert_eq!(
        uninstall(&place.removal()).unwrap(),
        Uninstalled::NotInstalled
    );
}

#[test]
fn an_update_replaces_the_file_at_once_and_whoever_runs_goes_on() {
    let place = Place::new();
    install(&place.config("one")).unwrap();
    let before = fs::metadata(place.target()).unwrap().ino();
    let open = fs::File::open(place.target()).unwrap();
    install(&place.config("two")).unwrap();
    assert_eq!(says(&place.target()), "two\n");
    assert_ne!(fs::metadata(place.target()).unwrap().ino(), before);
    assert_eq!(
        std::io::read_to_string(open).unwrap(),
        "#!/bin/sh\necho one\n"
    );
    assert_eq!(place.names(), [".indexer.install.json", "indexer"]);
}

#[test]
fn what_others_put_there_is_neither_replaced_nor_removed() {
    let place = Place::new();
    let config = place.config("ours");
    fs::create_dir(place.root.path().join("bin")).unwrap();
    fs::write(place.target(), "theirs").unwrap();
    let error = install(&config).unwrap_err().to_string();
    assert!(error.contains("was not installed by this"), "{error}");
    let error = uninstall(&place.removal()).unwrap_err().to_string();
    assert!(error.contains("was not installed by this"), "{error}");
    assert_eq!(fs::read_to_string(place.target()).unwrap(), "theirs");
    assert_eq!(place.names(), ["indexer"]);

    fs::remove_file(place.target()).unwrap();
    install(&config).unwrap();
    fs::write(place.target(), "changed by hand").unwrap();
    let error = install(&config).unwrap_err().to_string();
    assert!(error.contains("was changed since"), "{error}");
    let error = uninstall(&place.removal()).unwrap_err().to_string();
    assert!(error.contains("was changed since"), "{error}");

    fs::remove_file(place.target()).unwrap();
    symlink("/bin/true", place.target()).unwrap();
    assert!(install(&config).is_err());
    assert!(uninstall(&place.removal()).is_err());
    assert!(Path::new("/bin/true").exists());
    fs::remove_file(place.target()).unwrap();
    let mut other = place.removal();
    other.daemon_name = "other".into();
    let error = uninstall(&other).unwrap_err().to_string();
    assert!(error.contains("was installed as `indexer`"), "{error}");
    assert_eq!(uninstall(&place.removal()).unwrap(), Uninstalled::WasGone);
    assert_eq!(place.names(), Vec::<String>::new());
}

/// A crash between the record and the program, or between the program and the last
/// word about it.
#[test]
fn after_a_crash_both_contents_are_known() {
    for crashed_before in [true, false] {
        let place = Place::new();
        install(&place.config("one")).unwrap();
        let record = place.root.path().join("bin/.indexer.install.json");
        let one = fs::read_to_string(&record).unwrap();
        let one: InstallRecord = serde_json::from_str(&one).unwrap();
        let old = fs::read(place.target()).unwrap();
        install(&place.config("two")).unwrap();
        let two = fs::read_to_string(&record).unwrap();
        let mut two: InstallRecord = serde_json::from_str(&two).unwrap();
        two.replaces = Some(one.sha256);
        fs::write(&record, serde_json::to_string(&two).unwrap()).unwrap();
        if crashed_before {
            fs::write(place.target(), old).unwrap();
        }
        install(&place.config("three")).unwrap();
        assert_eq!(says(&place.target()), "three\n");
        assert_eq!(uninstall(&place.removal()).unwrap(), Uninstalled::Removed);
    }
}

#[test]
fn what_is_no_program_or_no_place_is_refused_with_the_reason() {
    let place = Place::new();
    for (name, expected) in [
        ("a/b", "is not the name"),
        ("..", "is not the name"),
        ("", "is not the name"),
    ] {
        let error = install(&InstallConfig::new(name)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let mut config = place.config("one");
    let program = config.binary_path.clone().unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o600)).unwrap();
    let error = install(&config).unwrap_err().to_string();
    assert!(error.contains("nobody may execute it"), "{error}");
    fs::write(&program, "").unwrap();
    let error = install(&config).unwrap_err().to_string();
    assert!(error.contains("it is empty"), "{error}");
    config.binary_path = Some(place.root.path().to_owned());
    let error = install(&config).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
    config.binary_path = Some(place.program("one"));
    let bin = place.root.path().join("bin");
    fs::create_dir(&bin).unwrap();
    fs::set_permissions(&bin, Permissions::from_mode(0o777)).unwrap();
    let error = install(&config).unwrap_err().to_string();
    assert!(error.contains("changed by everybody"), "{error}");
    assert_eq!(place.names(), Vec::<String>::new());
}

#[test]
fn many_installations_at_once_leave_one_complete_program() {
    let place = Place::new();
    let config = place.config("one");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| install(&config).unwrap());
        }
    });
    assert_eq!(says(&place.target()), "one\n");
    assert_eq!(place.names(), [".indexer.install.json", "indexer"]);
    assert_eq!(uninstall(&place.removal()).unwrap(), Uninstalled::Removed);
}
