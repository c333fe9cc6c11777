//! The processes of a test, as the system shows them: which services run, what runs below them, whether they are gone.
//!
//! It asks `/proc` rather than `vx status`, so that what vx does not know of is found too.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use vx_testkit::{TestEnv, wait_until};

/// How long a process may take to appear or to go on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process, told from a later one with the same number.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The number of its parent.
    pub parent: u32,
    /// The name of its program, cut at 15 bytes.
    pub name: String,
    /// When it was started, in ticks since the machine was.
    start: u64,
}

/// A process stays the same when its parent ends.
impl PartialEq for Process {
    fn eq(&self, other: &Process) -> bool {
        (self.pid, self.start) == (other.pid, other.start)
    }
}

impl Process {
    /// A process that runs; `None` if there is none, or it has ended and nobody has asked how.
    pub fn of(pid: u32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may have any character in it.
        let (open, close) = (stat.find('(')?, stat.rfind(')')?);
        let fields: Vec<&str> = stat.get(close + 2..)?.split(' ').collect();
        if ["Z", "X"].contains(fields.first()?) {
            return None;
        }
        Some(Process {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            name: stat.get(open + 1..close)?.to_owned(),
            start: fields.get(19)?.parse().ok()?,
        })
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        Process::of(self.pid).is_some_and(|now| now.start == self.start)
    }

    /// Its arguments, separated by spaces.
    pub fn command_line(&self) -> String {
        let line = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ")
    }

    /// Ends it with SIGKILL, and waits until it is gone.
    ///
    /// # Panics
    ///
    /// If it is gone already: whatever was to happen to it did not.
    pub fn kill(&self) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let killed =
            pid.is_some_and(|pid| rustix::process::kill_process(pid, Signal::KILL).is_ok());
        assert!(killed, "{self:?} was gone before it was killed");
        wait_for_end_of(std::slice::from_ref(self));
    }
}

fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Process::of(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

/// The services of the `VX_HOME` of a test, sorted by name.
pub fn services(env: &TestEnv) -> Vec<Process> {
    services_of(&env.dir("vx-home"))
}

/// The services of a `VX_HOME`, sorted by name.
pub fn services_of(home: &Path) -> Vec<Process> {
    let home = format!("VX_HOME={}", home.display());
    let all = all();
    let mut services: Vec<Process> = all
        .iter()
        .filter(|process| ["vx-daemon", "vx-casd", "vx-execd"].contains(&process.name.as_str()))
        .filter(|process| {
            let variables = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
            variables
                .split(|byte| *byte == 0)
                .any(|variable| variable == home.as_bytes())
        })
        .cloned()
        .collect();
    // A service may be in the middle of starting a program, and is two of the same name then.
    let pids: Vec<(u32, String)> = services
        .iter()
        .map(|process| (process.pid, process.name.clone()))
        .collect();
    services.retain(|process| !pids.contains(&(process.parent, process.name.clone())));
    services.sort_by(|a, b| a.name.cmp(&b.name));
    services
}

/// The service called `name`.
///
/// # Panics
///
/// If there is not exactly one.
pub fn service(env: &TestEnv, name: &str) -> Process {
    let found: Vec<Process> = services(env)
        .into_iter()
        .filter(|process| process.name == name)
        .collect();
    match found.as_slice() {
        [one] => one.clone(),
        _ => panic!("expected one {name}, found {found:?}"),
    }
}

/// The names of services.
pub fn names(services: &[Process]) -> Vec<&str> {
    services
        .iter()
        .map(|process| process.name.as_str())
        .collect()
}

/// All that was started by a process, by what that started, and so on.
pub fn descendants(ancestor: &Process) -> Vec<Process> {
    let all = all();
    let mut found = vec![ancestor.clone()];
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|process| process.pid) {
        found.extend(
            all.iter()
                .filter(|process| process.parent == parent)
                .cloned(),
        );
        next += 1;
    }
    found.remove(0);
    found
}

/// Waits until the executor of a test runs a program whose command line contains `text`, and returns it.
///
/// # Panics
///
/// If it does not within the patience of a test.
pub fn wait_for_action(env: &TestEnv, text: &str) -> Process {
    wait_until(&format!("an action with `{text}`"), PATIENCE, || {
        let services = services(env);
        let execd = services.iter().find(|process| process.name == "vx-execd");
        let below = execd.map(descendants).unwrap_or_default();
        let found = below.iter().find(|process| {
            !process.command_line().contains("/proc/self/exe")
                && process.command_line().contains(text)
        });
        found.cloned().ok_or_else(|| {
            let lines: Vec<String> = below.iter().map(Process::command_line).collect();
            format!("{services:?} run {lines:?}")
        })
    })
}

/// Waits until all of them are gone.
///
/// # Panics
///
/// If one is not within the patience of a test.
pub fn wait_for_end_of(processes: &[Process]) {
    wait_until("the end of processes", PATIENCE, || {
        match processes.iter().find(|process| process.is_alive()) {
            Some(process) => Err(format!("{process:?} runs `{}`", process.command_line())),
            None => Ok(()),
        }
    });
}
