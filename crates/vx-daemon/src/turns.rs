//! One build of a request at a time: the others wait, and then find that there is little to do.
//!
//! It does not know what a build is. Builds that differ in anything go on beside each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use crate::memory::RequestKey;
use crate::report::Reporter;

/// Who builds what.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    turns: Mutex<HashMap<RequestKey, Weak<Turn<()>>>>,
}

impl Turns {
    /// Waits until nobody else builds the same, and says so when it has to. The turn ends when the guard is dropped.
    pub(crate) async fn take(&self, key: RequestKey, reporter: &Reporter) -> OwnedMutexGuard<()> {
        let turn = self.of(key);
        match turn.clone().try_lock_owned() {
            Ok(guard) => guard,
            Err(_) => {
                reporter
                    .event(vx_proto::command::BuildEvent::Note {
                        verb: "Blocking".to_owned(),
                        text: "waiting for another build of the same".to_owned(),
                    })
                    .await;
                turn.lock_owned().await
            }
        }
    }

    fn of(&self, key: RequestKey) -> Arc<Turn<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(&key).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        turns.insert(key, Arc::downgrade(&turn));
        turn
    }
}
