//! A thread for each command that runs, so that one that computes or blocks holds
//! up nobody: neither other commands nor the connections.
//!
//! Threads are kept for a while, since starting one takes longer than most
//! commands. How many there are is bounded by who may hand in work.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a thread without work stays.
const KEPT: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Threads that wait.
    idle: usize,
    is_closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Threads that take one job after the other. Dropping it lets those that wait end;
/// nobody waits for the others.
#[derive(Default)]
pub(super) struct Pool(Arc<Shared>);

impl Pool {
    /// Runs `job` on a thread that does nothing else meanwhile.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut state = self.0.state();
        if state.idle > state.jobs.len() {
            state.jobs.push_back(Box::new(job));
            drop(state);
            self.0.work.notify_one();
            return Ok(());
        }
        drop(state);
        let shared = Arc::clone(&self.0);
        thread::Builder::new()
            .name("command".to_owned())
            .spawn(move || {
                job();
                work(&shared);
            })?;
        Ok(())
    }
}

fn work(shared: &Shared) {
    loop {
        let mut state = shared.state();
        if state.jobs.is_empty() && !state.is_closed {
            state.idle += 1;
            let waited = shared
                .work
                .wait_timeout_while(state, KEPT, |state| {
                    state.jobs.is_empty() && !state.is_closed
                })
                .unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            state.idle -= 1;
        }
        let Some(job) = state.jobs.pop_front() else {
            return;
        };
        drop(state);
        job();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.work.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn every_job_gets_a_thread_at_once_and_threads_are_used_again() {
        let threads = Pool::default();
        let (names, seen) = channel();
        let mut release = Vec::new();
        for _ in 0..3 {
            let (names, (go, wait)) = (names.clone(), channel::<()>());
            release.push(go);
            threads
                .run(move || {
                    names.send(thread::current().id()).unwrap();
                    let _released = wait.recv();
                })
                .unwrap();
        }
        // All three run at the same time.
        let mut first: Vec<_> = (0..3).map(|_| seen.recv().unwrap()).collect();
        drop(release);
        while threads.0.state().idle < 3 {
            thread::yield_now();
        }
        threads
            .run(move || names.send(thread::current().id()).unwrap())
            .unwrap();
        let again = seen.recv().unwrap();
        first.retain(|id| *id == again);
        assert_eq!(first.len(), 1);
        // With the last handle the threads end.
        let shared = Arc::downgrade(&threads.0);
        drop(threads);
        while shared.strong_count() > 0 {
            thread::yield_now();
        }
    }
}
