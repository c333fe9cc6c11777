//! Whether sandboxes work on this machine; if not, why, and what to do about it.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{RunError, SetupFailure};
use crate::launch::{Io, Launcher};
use crate::spec::{Spec, UserNamespace};

/// How strong the walls around a command are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// All namespaces, a user namespace among them.
    UserNamespace,
    /// All but the user namespace: built by root, the command runs as an unprivileged user.
    RootOnly,
}

/// What [`probe`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The tier in which commands run, if they can at all.
    pub tier: Option<Tier>,
    /// What failed, when something did.
    pub problem: Option<String>,
    /// What to do about it, one step a line.
    pub remedies: Vec<String>,
}

/// Run a trivial command and tell how it went. Blocks for some milliseconds.
pub fn probe(launcher: &Launcher) -> Probe {
    match try_one(launcher) {
        Ok(tier) => Probe {
            tier: Some(tier),
            problem: None,
            remedies: Vec::new(),
        },
        Err(problem) => Probe {
            tier: None,
            remedies: remedies(Path::new("/")),
            problem: Some(problem),
        },
    }
}

fn try_one(launcher: &Launcher) -> Result<Tier, String> {
    let spec = Spec {
        argv: vec!["/bin/sh".to_owned(), "-c".to_owned(), ":".to_owned()],
        env: Vec::new(),
        cwd: "/".into(),
        mounts: Vec::new(),
        user_namespace: UserNamespace::Preferred,
    };
    let sink = || -> Result<OwnedFd, String> {
        let file = fs::File::options().write(true).open("/dev/null");
        file.map(OwnedFd::from)
            .map_err(|error| format!("cannot open `/dev/null`: {error}"))
    };
    let io = Io {
        stdout: sink()?,
        stderr: sink()?,
        inherited: Vec::new(),
    };
    let running = launcher.spawn(&spec, io).map_err(|error| chain(&error))?;
    match running.wait() {
        Ok(report) => Ok(report.tier),
        Err(RunError::Setup(failure)) => Err(explain(&failure)),
        Err(error) => Err(chain(&error)),
    }
}

fn explain(failure: &SetupFailure) -> String {
    if failure.is_of_the_program() {
        format!("the sandbox stands, but {failure}")
    } else {
        failure.to_string()
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// What the settings below `root` (the real root, but in tests) say against sandboxes.
fn remedies(root: &Path) -> Vec<String> {
    let setting = |name: &str| {
        fs::read_to_string(root.join("proc/sys").join(name))
            .map(|text| text.trim().to_owned())
            .ok()
    };
    let mut found = Vec::new();
    if setting("kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        found.push(
            "AppArmor forbids user namespaces to ordinary users; allow them with `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or give this program an AppArmor profile with the rule `userns,`"
                .to_owned(),
        );
    }
    if setting("kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        found.push(
            "the kernel forbids user namespaces to ordinary users; allow them with `sudo sysctl -w kernel.unprivileged_userns_clone=1`"
                .to_owned(),
        );
    }
    if setting("user/max_user_namespaces").as_deref() == Some("0") {
        found.push(
            "user namespaces are switched off; switch them on with `sudo sysctl -w user.max_user_namespaces=15000`"
                .to_owned(),
        );
    }
    if let Some(release) = setting("kernel/osrelease")
        && is_older_than_5_12(&release)
    {
        found.push(format!("the kernel is {release}; 5.12 or newer is needed"));
    }
    if ["/.dockerenv", "/run/.containerenv"]
        .iter()
        .any(|name| root.join(&name[1..]).exists())
    {
        found.push(
            "this is a container; start it with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined`, or with `--privileged`"
                .to_owned(),
        );
    }
    found
}

fn is_older_than_5_12(release: &str) -> bool {
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) < (5, 12),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(settings: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, value) in settings {
            let path = root.path().join("proc/sys").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{value}\n")).unwrap();
        }
        root
    }

    #[test]
    fn each_setting_that_forbids_sandboxes_has_its_remedy() {
        for (name, value, word) in [
            (
                "kernel/apparmor_restrict_unprivileged_userns",
                "1",
                "AppArmor",
            ),
            (
                "kernel/unprivileged_userns_clone",
                "0",
                "unprivileged_userns_clone=1",
            ),
            ("user/max_user_namespaces", "0", "max_user_namespaces=15000"),
            ("kernel/osrelease", "5.4.0-99-generic", "5.12 or newer"),
        ] {
            let root = machine(&[(name, value)]);
            let found = remedies(root.path());
            assert_eq!(found.len(), 1, "{name}: {found:?}");
            assert!(found[0].contains(word), "{name}: {found:?}");
        }
    }

    #[test]
    fn a_machine_with_nothing_against_it_gets_no_advice() {
        let root = machine(&[
            ("kernel/apparmor_restrict_unprivileged_userns", "0"),
            ("user/max_user_namespaces", "96365"),
            ("kernel/osrelease", "6.18.44-fc"),
        ]);
        assert!(remedies(root.path()).is_empty());
    }
}
