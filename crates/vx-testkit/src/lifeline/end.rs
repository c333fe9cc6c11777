//! How the helper ends what it started: teardown commands first, then services,
//! then whatever is left; evidence and directories last.
//!
//! It reports and asserts nothing. Killing comes before anything that may fail.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, pidfd_send_signal};

use super::logs::Logs;
use super::spawn;
use super::supervisor::{Child, End, Helper};
use super::sweep::{self, Scope};
use super::wire::Launch;
use crate::bundle;
use crate::leaks::Report;

impl Helper {
    /// The orderly end: teardown, services, leak check, evidence.
    pub(super) fn finish(&mut self, failed: bool, faults: Vec<String>) -> Report {
        let mut report = self.empty_report();
        report.faults = faults;
        let evidence = failed.then(|| bundle::processes(&self.scope.alive()));
        report.teardown = self.run_teardown();
        self.stop_services();
        report.processes = self.leaks();
        if report.processes.is_empty() {
            self.close_namespaces();
            self.held.clear();
        } else {
            self.kill_all();
        }
        let why = if failed { "panicked" } else { "ended" };
        let evidence = evidence.unwrap_or_default();
        self.put_away(failed, &mut report, why, &evidence);
        report
    }

    /// The end without anybody to report to. Returns the exit code.
    pub(super) fn end_without_test(&mut self, end: &End) -> i32 {
        if self.context.is_none() {
            // Nothing was started yet.
            return 0;
        }
        if matches!(end, End::RunnerGone | End::Signalled)
            && let Some(test) = &self.test
        {
            // It may be gone already.
            let _ = pidfd_send_signal(test, Signal::KILL);
        }
        let mut report = self.empty_report();
        let evidence = bundle::processes(&self.scope.alive());
        report.teardown = self.run_teardown();
        self.kill_all();
        let why = match end {
            End::Finished => return 0,
            End::TestGone => "ended without its environment being finished",
            End::RunnerGone => "was killed because the test runner is gone",
            End::Signalled => "was killed because its helper was told to end",
        };
        self.put_away(true, &mut report, why, &evidence);
        let mut text = format!("vx-testkit: test `{}` {why}", report.test);
        if let Some(bundle) = &report.bundle {
            let file = bundle.join("report.txt");
            text += &format!("; evidence: {}\n", bundle.display());
            text += &format!("[[ATTACHMENT|{}]]", file.display());
        }
        text.push('\n');
        // The reader may be gone; everything is done already.
        io::stderr().write_all(text.as_bytes()).ok();
        99
    }

    fn empty_report(&self) -> Report {
        Report {
            tier: self
                .context
                .as_ref()
                .map(|context| context.tier)
                .unwrap_or_default(),
            test: self
                .context
                .as_ref()
                .map(|context| context.test.clone())
                .unwrap_or_default(),
            ..Report::default()
        }
    }

    fn run_teardown(&mut self) -> Vec<String> {
        let mut complaints = Vec::new();
        for (launch, limit) in std::mem::take(&mut self.teardown) {
            if let Err(complaint) = self.run_one_teardown(&launch, limit) {
                complaints.push(complaint);
            }
        }
        complaints
    }

    fn run_one_teardown(&mut self, launch: &Launch, limit: Duration) -> Result<(), String> {
        let line = launch.line();
        let failed = |error: io::Error| format!("failed to run `{line}`: {error}");
        let log = self.context.as_ref().map_or_else(
            || "/dev/null".into(),
            |context| context.root.join("logs/teardown.log"),
        );
        let open_log = || File::options().append(true).create(true).open(&log);
        let stdio = [
            File::open("/dev/null").map_err(failed)?.into(),
            open_log().map_err(failed)?.into(),
            open_log().map_err(failed)?.into(),
        ];
        let spawned = spawn::spawn(launch, stdio, Vec::new(), self.mounts()).map_err(failed)?;
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|errno| failed(errno.into()))?;
        self.children.push(Child {
            pid: spawned.pid,
            pidfd: rustix::io::dup(&spawned.pidfd).map_err(|errno| failed(errno.into()))?,
            exit: writer.into(),
            service: None,
            kill_told: Vec::new(),
            line: line.clone(),
        });
        let handle = [(spawned.pid, spawned.pidfd)].into();
        if !sweep::wait_until_gone(&handle, Instant::now() + limit) {
            // What it left is killed with everything else.
            return Err(format!(
                "`{line}` did not end within {:.1} s",
                limit.as_secs_f32()
            ));
        }
        self.collect();
        let mut status = [0; 4];
        match rustix::io::read(&reader, &mut status) {
            Ok(4) if i32::from_le_bytes(status) == 0 => Ok(()),
            Ok(4) => {
                let status = ExitStatus::from_raw(i32::from_le_bytes(status));
                let tail = crate::tail::of_file(&log, 5);
                Err(format!("`{line}` ended with {status}: {}", tail.trim_end()))
            }
            _ => Err(format!("the exit status of `{line}` is not known")),
        }
    }

    /// SIGTERM, the grace period, SIGKILL to the whole process group.
    fn stop_services(&mut self) {
        let grace = self
            .context
            .as_ref()
            .map_or(Duration::ZERO, |context| context.grace);
        let services: Vec<u32> = self
            .children
            .iter()
            .filter(|child| child.service.is_some())
            .map(|child| child.pid)
            .collect();
        let services_last_first = || {
            let children = self.children.iter().rev();
            children.filter(|child| child.service.is_some())
        };
        for child in services_last_first() {
            let _ = pidfd_send_signal(&child.pidfd, Signal::TERM);
            // A stopped one could not act on it.
            let _ = pidfd_send_signal(&child.pidfd, Signal::CONT);
        }
        let handles = sweep::handles(services);
        if !sweep::wait_until_gone(&handles, Instant::now() + grace) {
            for &pid in handles.keys() {
                self.kill_group(pid);
            }
            sweep::wait_until_gone(&handles, Instant::now() + Duration::from_secs(5));
        }
        self.collect();
    }

    /// A child that is not collected keeps its number, and that of its group.
    pub(super) fn kill_group(&self, pid: u32) {
        if self.children.iter().any(|child| child.pid == pid)
            && let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw)
        {
            // Whoever is left in no group of ours is killed in the end.
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }

    /// What still runs after it had the time to end by itself.
    fn leaks(&mut self) -> Vec<crate::leaks::LeakedProcess> {
        let settle = self
            .context
            .as_ref()
            .map_or(Duration::ZERO, |context| context.settle);
        let deadline = Instant::now() + settle;
        loop {
            self.collect();
            let alive = self.scope.alive();
            if alive.is_empty() {
                return Vec::new();
            }
            let handles = sweep::handles(alive.iter().copied());
            if !sweep::wait_until_gone(&handles, deadline) || Instant::now() >= deadline {
                let left = self.scope.alive();
                return sweep::describe(&left);
            }
        }
    }

    fn kill_all(&mut self) {
        let scope = Scope {
            tag: self.scope.tag.clone(),
            ..self.scope
        };
        scope.kill_all(|| self.collect());
        self.close_namespaces();
        // Leased ports are free again only now.
        self.held.clear();
    }

    /// Waits for the end of the namespace, so that nothing in it outlives this.
    fn close_namespaces(&mut self) {
        let Some(namespaces) = &self.namespaces else {
            return;
        };
        namespaces.close();
        let init = sweep::handles([namespaces.init]);
        sweep::wait_until_gone(&init, Instant::now() + Duration::from_secs(10));
        self.collect();
    }

    /// Keeps the evidence if the test failed, and removes the directories.
    fn put_away(&mut self, failed: bool, report: &mut Report, why: &str, processes: &str) {
        self.follow_logs();
        let Some(context) = &self.context else {
            return;
        };
        let timeline = self.logs.as_ref().map(Logs::text).unwrap_or_default();
        if failed || !report.is_clean() {
            report.bundle = bundle::write(
                context,
                report,
                &bundle::Evidence {
                    why,
                    processes,
                    exits: &self.exits,
                    timeline: &timeline,
                },
            )
            .ok();
        } else {
            // What an earlier run of this test left would mislead now.
            crate::dirs::remove(&context.bundle).ok();
        }
        if let Some(namespaces) = &self.namespaces {
            namespaces.unmount();
        }
        // A directory that cannot be removed is below the system's temporary
        // directory, and nothing of it runs any more.
        crate::dirs::remove(&context.root).ok();
    }
}
