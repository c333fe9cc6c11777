//! A folder with an instance, its clients and daemons, and an innocent process whose
//! number stands in every file that could be believed.

use std::env;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use daemon_contract::{Endpoint, ProcessIdentity};
use daemon_lifecycle::{IdentifiedProcess, Instance, Listener, ServiceSpec, Stopped, stop};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::TempDir;

pub(crate) const ROLE: &str = "INSTANCE_TEST_ROLE";
pub(crate) const FOLDER: &str = "INSTANCE_TEST_FOLDER";
pub(crate) const CLIENT_FAULT: &str = "INSTANCE_TEST_CLIENT_FAULT";
pub(crate) const DAEMON_FAULT: &str = "INSTANCE_TEST_DAEMON_FAULT";
pub(crate) const DEADLINE: &str = "INSTANCE_TEST_DEADLINE_MS";
/// Where to listen, if not at a socket in the folder.
pub(crate) const ENDPOINT: &str = "INSTANCE_TEST_ENDPOINT";
/// Far more than anything here takes; only a failure gets there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// For what is expected to be waited for in vain.
pub(crate) const IN_VAIN: Duration = Duration::from_millis(700);

/// What happens to a process at a step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Kill,
    Stop,
}

pub(crate) struct Site {
    root: TempDir,
    bystander: Child,
}

impl Site {
    /// With a stale socket and stale records, all of which name the bystander.
    pub(crate) fn stale() -> Site {
        let site = Site::fresh();
        let instance = site.instance();
        drop(Listener::bind(instance.endpoint()).unwrap());
        let identity = IdentifiedProcess::identity_of(site.bystander.id()).unwrap();
        let record = serde_json::json!({
            "daemon_name": instance.name(),
            "endpoint": instance.endpoint(),
            "process": identity,
            "health_status": "healthy",
        });
        fs::write(instance.life_lock(), record.to_string()).unwrap();
        let identity = serde_json::to_string(&identity).unwrap();
        fs::write(instance.start_lock(), identity).unwrap();
        let pid = site.bystander.id().to_string();
        fs::write(instance.folder().join("pid"), pid).unwrap();
        site
    }

    pub(crate) fn fresh() -> Site {
        let root = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .unwrap();
        for name in ["served", "answers", "errors"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let bystander = Command::new("sleep").arg("3600").spawn().unwrap();
        Site { root, bystander }
    }

    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn instance(&self) -> Instance {
        instance(self.path())
    }

    pub(crate) fn run(&self, role: &str) -> Command {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(role_args())
            .env(ROLE, role)
            .env(FOLDER, self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    pub(crate) fn client(&self) -> Command {
        self.run("client")
    }

    /// A whole command: connect or start, ask, get the complete answer.
    pub(crate) fn command_succeeds(&self) {
        let status = self.client().status().unwrap();
        assert!(status.success(), "{status}: {}", self.errors());
    }

    /// A command that has no chance, and what it says.
    pub(crate) fn command_fails(&self) -> String {
        self.command_fails_within(IN_VAIN)
    }

    /// The same with another deadline.
    pub(crate) fn command_fails_within(&self, deadline: Duration) -> String {
        for old in files(&self.path().join("errors")) {
            fs::remove_file(self.path().join("errors").join(old)).unwrap();
        }
        let status = self
            .client()
            .env(DEADLINE, deadline.as_millis().to_string())
            .status()
            .unwrap();
        assert!(!status.success());
        self.errors()
    }

    pub(crate) fn errors(&self) -> String {
        let folder = self.path().join("errors");
        files(&folder)
            .iter()
            .map(|name| fs::read_to_string(folder.join(name)).unwrap())
            .collect()
    }

    /// Daemons that ever served and are alive.
    pub(crate) fn daemons(&self) -> Vec<ProcessIdentity> {
        let folder = self.path().join("served");
        files(&folder)
            .iter()
            .map(|name| fs::read_to_string(folder.join(name)).unwrap())
            .map(|text| serde_json::from_str(&text).unwrap())
            .filter(|identity| IdentifiedProcess::find(identity).unwrap().is_some())
            .collect()
    }

    /// The check that all scenarios share, and that naive algorithms must fail.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        let daemons = self.daemons();
        if daemons.len() != 1 {
            return Err(format!("{} daemons serve", daemons.len()));
        }
        self.check_bystander()
    }

    pub(crate) fn check_bystander(&mut self) -> Result<(), String> {
        match self.bystander.try_wait().unwrap() {
            None => Ok(()),
            Some(status) => Err(format!("the bystander was hit: {status}")),
        }
    }

    /// Ends the instance and looks that nothing of it is left.
    pub(crate) fn close(mut self) {
        self.check().unwrap();
        let stopped = stop(&self.instance(), PATIENCE, "the test is over").unwrap();
        assert!(matches!(stopped, Stopped::Ended { .. }), "{stopped:?}");
        assert_eq!(self.daemons(), []);
        eventually("no process is left", || self.processes().is_empty());
        self.check_bystander().unwrap();
    }

    /// All processes that were started for this site, by their environment.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mark = format!("{FOLDER}={}", self.path().display());
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid: &u32| {
                fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
                    environment
                        .split(|byte| *byte == 0)
                        .any(|variable| variable == mark.as_bytes())
                })
            })
            .collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Also after a failure nothing stays behind.
        for pid in self.processes() {
            let _gone = kill_process(pid_of(pid), Signal::KILL);
        }
        let _gone = self.bystander.kill();
        let _gone = self.bystander.wait();
    }
}

pub(crate) fn instance(folder: &Path) -> Instance {
    let run = folder.join("run");
    let endpoint = match env::var(ENDPOINT) {
        Ok(endpoint) => endpoint.parse().unwrap(),
        Err(_) => Endpoint::Unix(run.join("sock")),
    };
    Instance::new("echo", endpoint, run).unwrap()
}

pub(crate) fn role_args() -> [&'static str; 3] {
    ["roles::role", "--exact", "--nocapture"]
}

pub(crate) fn spec(folder: &Path) -> ServiceSpec {
    let mut env: Vec<(OsString, OsString)> = vec![
        (ROLE.into(), "daemon".into()),
        (FOLDER.into(), folder.into()),
    ];
    if let Some(fault) = env::var_os(DAEMON_FAULT) {
        env.push((DAEMON_FAULT.into(), fault));
    }
    ServiceSpec {
        program: env::current_exe().unwrap(),
        args: role_args().map(OsString::from).to_vec(),
        env,
        log: folder.join("daemon.log"),
        lifeline: false,
    }
}

pub(crate) fn files(folder: &Path) -> Vec<String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect()
}

/// A whole file or none, for those who look meanwhile.
pub(crate) fn publish(path: PathBuf, text: &str) {
    let name = path.file_name().unwrap().to_str().unwrap();
    let hidden = path.with_file_name(format!(".{name}"));
    fs::write(&hidden, text).unwrap();
    fs::rename(hidden, path).unwrap();
}

pub(crate) fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(pid.cast_signed()).unwrap()
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::yield_now();
    }
}

/// Waits until a child of ours is stopped by its fault.
pub(crate) fn await_stop(child: &Child) {
    let (_, status) = waitpid(Some(pid_of(child.id())), WaitOptions::UNTRACED)
        .unwrap()
        .unwrap();
    assert!(status.stopped(), "it went on: {status:?}");
}

/// Waits until a process that is not our child is stopped.
pub(crate) fn await_stopped(pid: u32) {
    eventually("the process is stopped", || {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| stat.rsplit_once(") ").unwrap().1.starts_with('T'))
    });
}

pub(crate) fn go_on(child: &mut Child) -> io::Result<ExitStatus> {
    kill_process(pid_of(child.id()), Signal::CONT)?;
    child.wait()
}
