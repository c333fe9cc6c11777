//! Where a fault strikes: a place with clients and a daemon, and what has to hold there
//! afterwards.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{self, Child, Stdio};

use daemon_rpc::Stopped;

use crate::place::{PATIENCE, Place};
use crate::roles::{DAEMON_FAULT, FAULT, PLACE, daemon, input};

/// A place with a bystander that must survive.
pub(crate) struct Stage {
    pub(crate) place: Place,
    pub(crate) root: PathBuf,
    bystander: Child,
    clients: u32,
}

/// A client and its output.
pub(crate) struct Client {
    pub(crate) child: Child,
    output: PathBuf,
}

impl Client {
    /// Its exit code (-1: a signal). Success is only ever complete.
    pub(crate) fn end(mut self) -> i32 {
        let status = self.child.wait().unwrap();
        let output = fs::read(&self.output).unwrap_or_default();
        if status.success() {
            assert!(output == input(), "a success with {} bytes", output.len());
        }
        assert!(input().starts_with(&output), "output that was never input");
        status.code().unwrap_or(-1)
    }
}

impl Stage {
    pub(crate) fn new() -> Stage {
        let place = Place::new("echo");
        let root = place.root();
        let bystander = process::Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Stage {
            place,
            root,
            bystander,
            clients: 0,
        }
    }

    pub(crate) fn fault(&self, step: &str, what: &str) -> String {
        format!("{step}:{what}:{}", self.fired().display())
    }

    pub(crate) fn fired(&self) -> PathBuf {
        self.root.join("fired")
    }

    pub(crate) fn client(&mut self, own_fault: Option<&str>, daemon_fault: Option<&str>) -> Client {
        self.clients += 1;
        let output = self.root.join(format!("output-{}", self.clients));
        let mut command = process::Command::new(env::current_exe().unwrap());
        command
            .args(["roles::role_client", "--exact"])
            .env_clear()
            .env(PLACE, &self.root)
            .env("RPC_FAULT_OUTPUT", &output)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        for (name, fault) in [(FAULT, own_fault), (DAEMON_FAULT, daemon_fault)] {
            if let Some(fault) = fault {
                command.env(name, fault);
            }
        }
        Client {
            child: command.spawn().unwrap(),
            output,
        }
    }

    pub(crate) fn wait_until_fired(&self) {
        self.place.wait_until(|| self.fired().exists());
    }

    /// Waits until the process has stopped.
    pub(crate) fn wait_until_stopped(&self, pid: u32) {
        self.place.wait_until(|| state(pid) == Some('T'));
    }

    pub(crate) fn the_daemon(&self) -> u32 {
        let daemons = self.place.daemons();
        assert_eq!(daemons.len(), 1, "{daemons:?}");
        daemons[0].0
    }

    /// What holds after everything.
    pub(crate) fn check(mut self, case: &str) {
        let next = self.client(None, None).end();
        assert_eq!(next, 0, "{case}: the next command");
        assert!(self.fired().exists(), "{case}: nothing happened");
        // One that is about to be gone was told so before the next one began.
        self.place.wait_until(|| self.place.daemons().len() == 1);
        let asking = daemon(&self.root, None);
        // Nothing is left of the broken conversation: no command, no connection.
        self.place.wait_until(|| {
            let status = asking.status().unwrap().unwrap();
            status.running == 0 && status.connections == 1
        });
        assert!(self.bystander.try_wait().unwrap().is_none(), "{case}");
        assert!(matches!(asking.stop(PATIENCE), Ok(Stopped::Ended(_))));
        self.place.wait_until_gone();
        self.bystander.kill().unwrap();
        self.bystander.wait().unwrap();
    }
}

/// The state of a process as the kernel tells it; `None`: it is gone.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}
