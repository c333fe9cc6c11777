//! Threads that are there when one is needed, for what computes or blocks.
//!
//! They are kept for a while, since starting one takes longer than most commands. How
//! many there are is bounded by who may hand in work.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a thread without work stays.
const KEPT: Duration = Duration::from_secs(10);

pub(super) type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    /// With their numbers.
    jobs: VecDeque<(u64, Job)>,
    last: u64,
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
    ///
    /// # Errors
    /// If there is no thread to be had; gives the job back.
    pub(super) fn run(&self, job: Job) -> Result<(), (Job, io::Error)> {
        let mut state = self.0.state();
        state.last += 1;
        let number = state.last;
        state.jobs.push_back((number, job));
        let has_thread = state.idle >= state.jobs.len();
        drop(state);
        if has_thread {
            self.0.work.notify_one();
            return Ok(());
        }
        let shared = Arc::clone(&self.0);
        let started = thread::Builder::new()
            .name("command".to_owned())
            .spawn(move || work(&shared));
        let Err(error) = started else {
            return Ok(());
        };
        // Unless a thread that became idle has taken it.
        let jobs = &mut self.0.state().jobs;
        let position = jobs.iter().position(|(n, _)| *n == number);
        match position.and_then(|position| jobs.remove(position)) {
            Some((_, job)) => Err((job, error)),
            None => Ok(()),
        }
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
        let Some((_, job)) = state.jobs.pop_front() else {
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
                .run(Box::new(move || {
                    names.send(thread::current().id()).unwrap();
                    let _released = wait.recv();
                }))
                .map_err(|(_, error)| error)
                .unwrap();
        }
        // All three run at the same time.
        let mut first: Vec<_> = (0..3).map(|_| seen.recv().unwrap()).collect();
        drop(release);
        while threads.0.state().idle < 3 {
            thread::yield_now();
        }
        threads
            .run(Box::new(move || {
                names.send(thread::current().id()).unwrap();
            }))
            .map_err(|(_, error)| error)
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
