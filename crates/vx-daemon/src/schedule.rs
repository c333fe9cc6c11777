//! The order of a build: a unit starts when what it waits for is there, and the one with the longest way ahead of it goes first.
//!
//! A library's metadata is there before its code, and that is all that another library needs; so a chain of libraries is compiled in an overlapping way, with one compiler run for each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use vx_plan::{Needs, UnitId};

use crate::ended::{Early, Ended, Success};
use crate::runner::Runner;
use crate::unit::UnitOutputs;

/// What the schedule tells about each unit that ended.
pub(crate) trait Listener {
    /// A unit ended, one way or the other; returns whether it counts as a success.
    fn ended(&mut self, id: UnitId, ended: &Ended) -> impl Future<Output = bool> + Send;
}

/// All units of a build that succeeded.
pub(crate) type Successes = BTreeMap<UnitId, Success>;

struct Schedule {
    runner: Arc<Runner>,
    /// Units that were not started, with the number of things that each still waits for.
    waiting: BTreeMap<UnitId, usize>,
    /// Who waits for what: by unit and by what is needed of it.
    waiters: BTreeMap<(UnitId, Needs), Vec<UnitId>>,
    /// Outputs so far, complete or only the early ones.
    outputs: BTreeMap<UnitId, UnitOutputs>,
    /// Units whose metadata was announced before they ended.
    announced: BTreeSet<UnitId>,
    running: JoinSet<(UnitId, Ended)>,
    early: mpsc::UnboundedSender<Early>,
}

/// Builds all units of the plan; after a failure, only those that run already, or with `keep_going` those that do not depend on it.
///
/// Dropping the future ends everything that runs.
pub(crate) async fn run(
    runner: Arc<Runner>,
    keep_going: bool,
    listener: &mut impl Listener,
) -> Successes {
    let (early, mut announcements) = mpsc::unbounded_channel();
    let mut schedule = Schedule::new(runner, early);
    let mut successes = Successes::new();
    let mut stopped = false;
    schedule.start_ready();
    while !schedule.running.is_empty() {
        tokio::select! {
            // An announcement was sent before its unit ended, so it is taken first.
            biased;
            Some((id, files)) = announcements.recv() => {
                if !stopped {
                    schedule.announce(id, files);
                }
            }
            Some(joined) = schedule.running.join_next() => {
                let (id, ended) = match joined {
                    Ok(ended) => ended,
                    Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
                    Err(_) => continue,
                };
                let fine = listener.ended(id, &ended).await;
                match ended {
                    Ok(Ok(success)) if fine => {
                        if !stopped {
                            schedule.complete(id, success.outputs.clone());
                        }
                        successes.insert(id, success);
                    }
                    _ => stopped |= !keep_going,
                }
            }
        }
    }
    successes
}

impl Schedule {
    fn new(runner: Arc<Runner>, early: mpsc::UnboundedSender<Early>) -> Schedule {
        let mut waiting = BTreeMap::new();
        let mut waiters: BTreeMap<_, Vec<UnitId>> = BTreeMap::new();
        for unit in &runner.inputs.plan.units {
            waiting.insert(unit.id, unit.waits.len());
            for wait in &unit.waits {
                waiters
                    .entry((wait.unit, wait.needs))
                    .or_default()
                    .push(unit.id);
            }
        }
        Schedule {
            runner,
            waiting,
            waiters,
            outputs: BTreeMap::new(),
            announced: BTreeSet::new(),
            running: JoinSet::new(),
            early,
        }
    }

    fn start_ready(&mut self) {
        let ready: Vec<UnitId> = self
            .waiting
            .iter()
            .filter(|(_, left)| **left == 0)
            .map(|(id, _)| *id)
            .collect();
        for id in ready {
            self.start(id);
        }
    }

    fn start(&mut self, id: UnitId) {
        self.waiting.remove(&id);
        let Some(unit) = self.runner.inputs.plan.unit(id) else {
            return;
        };
        let known: BTreeMap<UnitId, UnitOutputs> = unit
            .waits
            .iter()
            .filter_map(|wait| Some((wait.unit, self.outputs.get(&wait.unit)?.clone())))
            .collect();
        let (runner, early) = (self.runner.clone(), self.early.clone());
        self.running.spawn(async move {
            let ended = runner.run(id, &known, &early).await;
            (id, ended)
        });
    }

    /// The metadata of a unit is there.
    fn announce(&mut self, id: UnitId, files: BTreeMap<String, (vx_proto::Digest, bool)>) {
        // The unit may have ended in the meantime, and its outputs be complete.
        if !self.announced.insert(id) {
            return;
        }
        self.outputs.entry(id).or_default().files.extend(files);
        self.satisfy(id, Needs::Metadata);
    }

    /// A unit ended well.
    fn complete(&mut self, id: UnitId, outputs: UnitOutputs) {
        self.outputs.insert(id, outputs);
        if self.announced.insert(id) {
            self.satisfy(id, Needs::Metadata);
        }
        self.satisfy(id, Needs::Full);
    }

    fn satisfy(&mut self, id: UnitId, needs: Needs) {
        for waiter in self.waiters.remove(&(id, needs)).unwrap_or_default() {
            if let Some(left) = self.waiting.get_mut(&waiter) {
                *left -= 1;
                if *left == 0 {
                    self.start(waiter);
                }
            }
        }
    }
}
