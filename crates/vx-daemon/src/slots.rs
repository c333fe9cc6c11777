//! Who may run next when not everybody can: the unit with the most work behind it.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// A number of places that waiting units take in the order of their priority.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    state: Arc<Mutex<State>>,
}

/// A place that was taken; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Absent once the place was passed on.
    state: Option<Arc<Mutex<State>>>,
}

#[derive(Debug)]
struct State {
    free: usize,
    arrivals: u64,
    waiting: BinaryHeap<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    priority: u64,
    arrival: u64,
    turn: oneshot::Sender<Slot>,
}

impl Slots {
    /// `count` places, at least one.
    pub(crate) fn new(count: usize) -> Slots {
        Slots {
            state: Arc::new(Mutex::new(State {
                free: count.max(1),
                arrivals: 0,
                waiting: BinaryHeap::new(),
            })),
        }
    }

    /// Waits for a place; among those who wait, the highest priority is served first.
    pub(crate) async fn take(&self, priority: u64) -> Slot {
        let waiting = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.free > 0 {
                state.free -= 1;
                return Slot {
                    state: Some(self.state.clone()),
                };
            }
            let (turn, waiting) = oneshot::channel();
            state.arrivals += 1;
            let arrival = state.arrivals;
            state.waiting.push(Waiting {
                priority,
                arrival,
                turn,
            });
            waiting
        };
        match waiting.await {
            Ok(slot) => slot,
            // The sender lives in the queue that `self` keeps, so it is never dropped unsent.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(shared) = self.state.take() else {
            return;
        };
        loop {
            let next = {
                let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
                match state.waiting.pop() {
                    Some(next) => next,
                    None => {
                        state.free += 1;
                        return;
                    }
                }
            };
            let slot = Slot {
                state: Some(shared.clone()),
            };
            match next.turn.send(slot) {
                Ok(()) => return,
                // Whoever waited has gone; the place goes to the next one.
                Err(mut returned) => returned.state = None,
            }
        }
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Waiting) -> Ordering {
        (self.priority, other.arrival).cmp(&(other.priority, self.arrival))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Waiting) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Waiting) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Waiting {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_highest_priority_goes_first_and_equals_in_order_of_arrival() {
        let slots = Slots::new(1);
        let held = slots.take(0).await;
        let (told, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut tasks = Vec::new();
        for (name, priority) in [("low", 1), ("first", 5), ("second", 5)] {
            let (slots, told) = (slots.clone(), told.clone());
            tasks.push(tokio::spawn(async move {
                let _slot = slots.take(priority).await;
                told.send(name).unwrap();
            }));
            tokio::task::yield_now().await;
        }
        drop(held);
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(order.recv().await.unwrap());
        }
        assert_eq!(seen, ["first", "second", "low"]);
    }

    #[tokio::test]
    async fn a_place_goes_past_one_who_stopped_waiting() {
        let slots = Slots::new(1);
        let held = slots.take(0).await;
        let gone = tokio::spawn({
            let slots = slots.clone();
            async move { slots.take(9).await }
        });
        tokio::task::yield_now().await;
        gone.abort();
        let _cancelled = gone.await;
        drop(held);
        let _again = slots.take(0).await;
    }
}
