//! The commands that run, the connections that are open, and whether more may begin.
//!
//! Both are decided under one lock: once the end of the service has begun, no
//! command that the end did not see can begin any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use crate::message::{CommandStatus, Refusal, clip_to};

/// Commands that are named in a status.
const NAMED: usize = 16;
/// Bytes of a command's name in a status: that many names fit into one frame.
const NAME: usize = 64;

/// Commands that may be stuck, each with its thread, before nothing begins any more;
/// more where more may run.
const STUCK: usize = 16;

/// What whoever waits for a change looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Activity {
    /// Commands that run, without those that are stuck.
    pub(super) running: usize,
    /// Connections that are open.
    pub(super) connections: usize,
    /// Grows whenever a command or a connection begins or ends.
    pub(super) changes: u64,
}

#[derive(Debug)]
struct Entry {
    name: String,
    since: Instant,
    client_pid: Option<u32>,
    is_stuck: bool,
}

#[derive(Debug, Default)]
struct State {
    is_draining: bool,
    last_id: u64,
    connections: usize,
    commands: BTreeMap<u64, Entry>,
}

impl State {
    fn stuck(&self) -> usize {
        self.commands.values().filter(|c| c.is_stuck).count()
    }
}

/// All commands of a server.
#[derive(Debug)]
pub(super) struct Registry {
    state: Mutex<State>,
    activity: watch::Sender<Activity>,
    max_concurrent: usize,
    max_stuck: usize,
}

/// The place of one command; dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Slot {
    registry: Arc<Registry>,
    pub(super) id: u64,
}

/// An open connection, counted until it is dropped.
#[derive(Debug)]
pub(super) struct Connected(Arc<Registry>);

impl Registry {
    pub(super) fn new(max_concurrent: usize) -> Registry {
        Registry {
            state: Mutex::default(),
            activity: watch::Sender::default(),
            max_concurrent,
            max_stuck: max_concurrent.max(STUCK),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, state: &State) {
        let running = state.commands.len() - state.stuck();
        self.activity.send_modify(|activity| {
            activity.running = running;
            activity.connections = state.connections;
            activity.changes += 1;
        });
    }

    /// A place for a command. What is stuck takes no place of others, until there
    /// is too much of it.
    pub(super) fn admit(
        self: &Arc<Self>,
        name: &str,
        client_pid: Option<u32>,
    ) -> Result<Slot, Refusal> {
        let mut state = self.state();
        if state.is_draining {
            return Err(Refusal::Draining);
        }
        let stuck = state.stuck();
        if state.commands.len() - stuck >= self.max_concurrent || stuck >= self.max_stuck {
            return Err(Refusal::Busy);
        }
        state.last_id += 1;
        let id = state.last_id;
        let entry = Entry {
            name: clip_to(name, NAME),
            since: Instant::now(),
            client_pid,
            is_stuck: false,
        };
        state.commands.insert(id, entry);
        self.changed(&state);
        Ok(Slot {
            registry: Arc::clone(self),
            id,
        })
    }

    /// Counts a connection.
    pub(super) fn connected(self: &Arc<Self>) -> Connected {
        let mut state = self.state();
        state.connections += 1;
        self.changed(&state);
        Connected(Arc::clone(self))
    }

    /// From now on nothing begins.
    pub(super) fn drain(&self) {
        self.state().is_draining = true;
    }

    /// Whether that is so.
    pub(super) fn is_draining(&self) -> bool {
        self.state().is_draining
    }

    /// Nothing begins any more, unless something runs or somebody is about to say what to run.
    pub(super) fn drain_if_idle(&self) -> bool {
        let mut state = self.state();
        let is_idle = state.connections == 0 && state.commands.len() == state.stuck();
        state.is_draining |= is_idle;
        is_idle
    }

    /// Counts the command as stuck, if it still runs; says what it is.
    pub(super) fn set_stuck(&self, id: u64) -> Option<CommandStatus> {
        let mut state = self.state();
        let entry = state.commands.get_mut(&id)?;
        if entry.is_stuck {
            return None;
        }
        entry.is_stuck = true;
        let status = status(id, entry);
        self.changed(&state);
        Some(status)
    }

    /// The commands that run, without those that are stuck.
    pub(super) fn running(&self) -> Vec<u64> {
        let state = self.state();
        let running = state.commands.iter().filter(|(_, c)| !c.is_stuck);
        running.map(|(id, _)| *id).collect()
    }

    /// Whether the end has begun, how many connections are open and commands run,
    /// and the oldest of these.
    pub(super) fn status(&self) -> (bool, usize, usize, Vec<CommandStatus>) {
        let state = self.state();
        let oldest = state.commands.iter().take(NAMED);
        (
            state.is_draining,
            state.connections,
            state.commands.len(),
            oldest.map(|(id, entry)| status(*id, entry)).collect(),
        )
    }

    /// To wait for changes.
    pub(super) fn activity(&self) -> watch::Receiver<Activity> {
        self.activity.subscribe()
    }

    /// Waits until nothing runs but what is stuck.
    pub(super) async fn quiet(&self) {
        let mut activity = self.activity();
        // The sender lives as long as this waits.
        let _quiet = activity.wait_for(|now| now.running == 0).await;
    }
}

fn status(id: u64, entry: &Entry) -> CommandStatus {
    CommandStatus {
        id,
        name: entry.name.clone(),
        secs: entry.since.elapsed().as_secs(),
        client_pid: entry.client_pid,
        is_stuck: entry.is_stuck,
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.connections -= 1;
        self.0.changed(&state);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.registry.state();
        state.commands.remove(&self.id);
        self.registry.changed(&state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stuck_takes_no_place_until_there_is_too_much_of_it() {
        let registry = Arc::new(Registry {
            max_stuck: 2,
            ..Registry::new(2)
        });
        let admit = || registry.admit("c", None);
        let (one, two) = (admit().unwrap(), admit().unwrap());
        assert_eq!(admit().unwrap_err(), Refusal::Busy);
        assert!(registry.set_stuck(one.id).unwrap().is_stuck);
        assert!(registry.set_stuck(one.id).is_none(), "reported twice");
        let three = admit().unwrap();
        assert_eq!(registry.running(), [two.id, three.id]);
        registry.set_stuck(two.id).unwrap();
        assert_eq!(admit().unwrap_err(), Refusal::Busy);
        drop(one);
        let four = admit().unwrap();
        assert!(registry.set_stuck(99).is_none());
        assert_eq!(registry.status().2, 3);
        drop((three, four));
        // Only what is stuck is left.
        assert!(registry.drain_if_idle());
        assert_eq!(admit().unwrap_err(), Refusal::Draining);
    }

    #[test]
    fn idle_and_a_new_client_exclude_each_other() {
        let registry = Arc::new(Registry::new(2));
        let slot = registry.admit("c", None).unwrap();
        assert!(!registry.drain_if_idle());
        drop(slot);
        let connected = registry.connected();
        assert!(!registry.drain_if_idle());
        drop(connected);
        assert!(registry.drain_if_idle());
        assert!(registry.admit("c", None).is_err());
    }
}
