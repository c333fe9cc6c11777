//! What a command tells its client while it works.

use tokio::sync::mpsc;
use vx_proto::command::{BuildEvent, How, UnitName};

/// What can be told.
#[derive(Debug)]
pub(crate) enum Report {
    /// A typed event.
    Event(Box<BuildEvent>),
    /// Words of another program, as it printed them.
    Stderr(Vec<u8>),
}

/// Tells the client of one command what happens.
///
/// Cloned into every task of the command. A client that reads slowly holds the tasks up, after a bounded number of reports; one that is gone is told nothing, and the command is cancelled elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    reports: mpsc::Sender<Report>,
}

/// Reports that wait for a slow client before its command is held up.
const WAITING: usize = 256;

impl Reporter {
    /// A reporter and the end from which its reports are taken.
    pub(crate) fn new() -> (Reporter, mpsc::Receiver<Report>) {
        let (reports, taken) = mpsc::channel(WAITING);
        (Reporter { reports }, taken)
    }

    /// Tells one event.
    pub(crate) async fn event(&self, event: BuildEvent) {
        // A client that is gone wants to know nothing more.
        let _gone = self.reports.send(Report::Event(Box::new(event))).await;
    }

    /// Tells one event from a thread that must not wait; it is lost when the client reads too slowly.
    pub(crate) fn now(&self, event: BuildEvent) {
        let _lost = self.reports.try_send(Report::Event(Box::new(event)));
    }

    /// Passes on a line that cargo printed.
    pub(crate) async fn cargo_says(&self, line: &[u8]) {
        let _gone = self.reports.send(Report::Stderr(line.to_owned())).await;
    }

    /// Tells a status line, e.g. verb `Starting`.
    pub(crate) async fn note(&self, verb: &str, text: impl Into<String>) {
        self.event(BuildEvent::Note {
            verb: verb.to_owned(),
            text: text.into(),
        })
        .await;
    }

    /// Tells something that the user should know.
    pub(crate) async fn warning(&self, text: impl Into<String>) {
        self.event(BuildEvent::Warning(text.into())).await;
    }

    /// Tells that a unit is being built.
    pub(crate) async fn started(&self, unit: usize, name: &UnitName) {
        self.event(BuildEvent::Started {
            unit: index(unit),
            name: name.clone(),
        })
        .await;
    }

    /// Tells the command of a unit.
    pub(crate) async fn command(&self, name: &UnitName, arguments: &[String]) {
        let quoted: Vec<String> = arguments.iter().map(|argument| quoted(argument)).collect();
        self.event(BuildEvent::Command {
            name: name.clone(),
            line: quoted.join(" "),
        })
        .await;
    }

    /// Tells that a unit is there.
    pub(crate) async fn finished(&self, unit: usize, how: How, millis: u64) {
        self.event(BuildEvent::Finished {
            unit: index(unit),
            how,
            millis,
        })
        .await;
    }
}

/// A unit's number as it travels; no plan comes near the limit.
pub(crate) fn index(unit: usize) -> u32 {
    u32::try_from(unit).unwrap_or(u32::MAX)
}

/// An argument as one would type it into a shell.
pub(crate) fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:+@%^".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}
