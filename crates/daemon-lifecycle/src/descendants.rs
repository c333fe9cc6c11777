//! The processes below a child of ours: those of its session, and those that its
//! descendants started, wherever they put themselves.
//!
//! A session's number is not reused while a process is in it or its leader is not
//! reaped, so whoever is in the session of our unreaped child belongs to it, also
//! after its parent ended. A descendant that made a session of its own is found by
//! its parents, as long as those live. What did both, left the session and lost its
//! parent, is out of reach here.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::holders::pids;
use crate::pidfd;

/// As often are new descendants looked for that were started meanwhile.
const ROUNDS: usize = 64;

/// What the kernel tells about a process (proc(5), `stat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    session: u32,
    start_ticks: u64,
}

/// A descendant, by number and start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Descendant {
    pid: u32,
    start_ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `None` also for a zombie, which is nobody any more.
fn parse(stat: &str) -> Option<Stat> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

/// All that live below the session leader `leader`, without itself.
pub(crate) fn of(leader: u32) -> io::Result<Vec<Descendant>> {
    let all: HashMap<u32, Stat> = pids()?.filter_map(|pid| Some((pid, stat(pid)?))).collect();
    let is_below = |pid: u32| {
        let mut at = pid;
        // Processes that end while we look could make a circle of old numbers.
        for _ in 0..all.len() {
            if at == leader {
                return true;
            }
            match all.get(&at) {
                Some(stat) if stat.session == leader => return true,
                Some(stat) => at = stat.parent,
                None => return false,
            }
        }
        false
    };
    Ok(all
        .iter()
        .filter(|(pid, _)| **pid != leader && is_below(**pid))
        .map(|(pid, stat)| Descendant {
            pid: *pid,
            start_ticks: stat.start_ticks,
        })
        .collect())
}

/// Kills `known` and all that live below them and below `leader`, which is ended and
/// not reaped, until none is left.
pub(crate) fn kill(leader: u32, known: Vec<Descendant>) {
    let mut next = known;
    for _ in 0..ROUNDS {
        // What they started stays findable by its parents: those are killed last.
        let mut below = Vec::new();
        for descendant in &next {
            let found = of(descendant.pid).unwrap_or_default();
            // Alive afterwards, it had its number all the time.
            if is_alive(*descendant) {
                below.extend(found);
            }
        }
        next.extend(below);
        next.extend(of(leader).unwrap_or_default());
        next.retain(|descendant| is_alive(*descendant));
        if next.is_empty() {
            return;
        }
        for descendant in next.drain(..) {
            kill_one(descendant);
        }
    }
}

fn is_alive(descendant: Descendant) -> bool {
    stat(descendant.pid).is_some_and(|stat| stat.start_ticks == descendant.start_ticks)
}

/// The handle first, then the comparison: the number cannot change its meaning.
fn kill_one(descendant: Descendant) {
    let Some(pid) = i32::try_from(descendant.pid).ok().and_then(Pid::from_raw) else {
        return;
    };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    if is_alive(descendant) && pidfd_send_signal(&handle, Signal::KILL).is_ok() {
        // A process that hangs in the kernel must not hang us.
        let _ended = pidfd::wait(&handle, Some(Duration::from_secs(5)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_any_name() {
        let tail = (7..=22)
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join(" ");
        let parsed = parse(&format!("9 (a) b) S 4 5 6 {tail}")).unwrap();
        assert_eq!(
            (parsed.parent, parsed.session, parsed.start_ticks),
            (4, 6, 22)
        );
        assert_eq!(parse(&format!("9 (a) Z 4 5 6 {tail}")), None);
        assert_eq!(parse("9 (a"), None);
    }
}
