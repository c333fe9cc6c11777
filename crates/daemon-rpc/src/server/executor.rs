//! Runs connections and commands on one thread, as long as nothing blocks it.
//!
//! One thread at a time leads: it waits for events and gives each task its turn, so
//! that a short command is never handed from one thread to another. A second one
//! keeps watch while there is something to do. If a turn takes longer than one or two
//! milliseconds, since the task computes or blocks, the watch leads from then on; the
//! old leader stays with its task, and is no leader any more when that returns. A
//! foreign task that did that once gets threads of its own for its later turns. And if
//! first turns usually take much longer than waking a thread, new ones have their own
//! from the beginning: they run side by side then, and hold up nobody at all.
//!
//! Who leads is decided by one number: it is odd during a turn, and whoever makes it
//! even leads. That is the leader itself at the end of the turn, or the watch.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use async_task::Runnable;
use tokio::runtime::Handle;

use super::reactor::Reactor;
use super::threads::Pool;

/// How often the watch looks. A turn that it sees twice has lasted at least that long.
const LOOK: Duration = Duration::from_millis(1);
/// How often it looks in vain before it sleeps.
const QUIET: u32 = 10;
/// What a first turn may usually take to be worth a turn of the leader.
const SHORT: Duration = Duration::from_micros(100);
/// The longest turn that counts: one alone does not tell what is usual.
const LONG: Duration = Duration::from_micros(400);
/// Turns between two looks at the events.
const TURNS: u32 = 32;

/// Threads that run tasks; dropping it drops the tasks. What blocks then goes on until
/// it returns.
pub(super) struct Executor(Arc<Shared>);

/// Gives tasks to an [`Executor`].
#[derive(Clone)]
pub(super) struct Spawner(Weak<Shared>);

struct Shared {
    reactor: Arc<Reactor>,
    /// For the timers, sockets and tasks of handlers.
    runtime: Handle,
    queue: Mutex<Queue>,
    /// See above.
    turn: AtomicU64,
    /// Whether the watch is awake.
    is_watched: AtomicBool,
    /// Whether there is a watch at all: threads may be short.
    has_watch: AtomicBool,
    /// What the first turns of foreign tasks usually take, in nanoseconds.
    usual: AtomicU64,
    watch: Mutex<()>,
    look: Condvar,
    threads: Pool,
}

#[derive(Default)]
struct Queue {
    runnable: VecDeque<Runnable>,
    is_stopped: bool,
}

enum Next {
    Run(Runnable),
    Wait,
    Stop,
}

impl Executor {
    /// Starts two threads; tasks may use this runtime.
    pub(super) fn start(runtime: Handle) -> io::Result<Executor> {
        let shared = Arc::new(Shared {
            reactor: Arc::new(Reactor::new()?),
            runtime,
            queue: Mutex::default(),
            turn: AtomicU64::new(0),
            is_watched: AtomicBool::new(false),
            has_watch: AtomicBool::new(false),
            usual: AtomicU64::new(0),
            watch: Mutex::default(),
            look: Condvar::new(),
            threads: Pool::default(),
        });
        let executor = Executor(Arc::clone(&shared));
        let leader = Arc::clone(&shared);
        executor.0.on_a_thread(Box::new(move || leader.lead()))?;
        if !shared.post_watch() {
            return Err(io::Error::other("there is no second thread to be had"));
        }
        Ok(executor)
    }

    pub(super) fn reactor(&self) -> Arc<Reactor> {
        Arc::clone(&self.0.reactor)
    }

    pub(super) fn spawner(&self) -> Spawner {
        Spawner(Arc::downgrade(&self.0))
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.is_stopped = true;
        let never = std::mem::take(&mut queue.runnable);
        drop(queue);
        drop(never);
        // Whatever is woken from now on is dropped, and what that wakes as well; a task
        // that has its turn just now is woken when it would wait.
        self.0.reactor.close();
        self.0.reactor.interrupt();
        let _watch = self.0.watch();
        self.0.look.notify_all();
    }
}

impl Spawner {
    /// Runs a task of this crate.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.begin(future, Arc::default());
    }

    /// Runs a task that may block.
    pub(super) fn spawn_foreign(&self, future: impl Future<Output = ()> + Send + 'static) {
        let usually_slow = self.0.upgrade().is_some_and(|s| s.is_usually_slow());
        let is_slow = Arc::new(AtomicBool::new(usually_slow));
        let (shared, slow) = (self.0.clone(), Arc::clone(&is_slow));
        let observed = async move {
            let mut future = pin!(future);
            let mut is_first = true;
            std::future::poll_fn(|context| {
                let turn = || shared.upgrade().map(|s| s.turn.load(Ordering::SeqCst));
                let (began, before) = (is_first.then(Instant::now), turn());
                let polled = future.as_mut().poll(context);
                is_first = false;
                if let (Some(began), Some(shared)) = (began, shared.upgrade()) {
                    shared.first_turn_took(began.elapsed());
                }
                // Before it can be woken for another turn.
                if polled.is_pending() && before != turn() {
                    slow.store(true, Ordering::SeqCst);
                }
                polled
            })
            .await;
        };
        self.begin(observed, is_slow);
    }

    fn begin(&self, future: impl Future<Output = ()> + Send + 'static, is_slow: Arc<AtomicBool>) {
        let shared = self.0.clone();
        let schedule = move |runnable| match shared.upgrade() {
            Some(shared) => shared.schedule(runnable, is_slow.load(Ordering::SeqCst)),
            // Dropping it drops the task.
            None => drop(runnable),
        };
        let (runnable, task) = async_task::spawn(future, schedule);
        task.detach();
        runnable.schedule();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) -> MutexGuard<'_, ()> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An average in which each one counts for an eighth. Two threads at once may lose
    /// one of them.
    fn first_turn_took(&self, time: Duration) {
        let time = u64::try_from(time.min(LONG).as_nanos()).unwrap_or(u64::MAX);
        let usual = self.usual.load(Ordering::Relaxed);
        self.usual
            .store(usual - usual / 8 + time / 8, Ordering::Relaxed);
    }

    fn is_usually_slow(&self) -> bool {
        u128::from(self.usual.load(Ordering::Relaxed)) > SHORT.as_nanos()
    }

    fn on_a_thread(&self, job: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        self.threads.run(job).map_err(|(_job, error)| error)
    }

    fn schedule(self: &Arc<Self>, runnable: Runnable, is_slow: bool) {
        let mut queue = self.queue();
        if queue.is_stopped {
            drop(queue);
            drop(runnable);
            return;
        }
        if !is_slow {
            queue.runnable.push_back(runnable);
            drop(queue);
            self.reactor.interrupt();
            return;
        }
        drop(queue);
        let shared = Arc::clone(self);
        let job = Box::new(move || {
            let _runtime = shared.runtime.enter();
            run(runnable);
        });
        if let Err((job, _no_thread)) = self.threads.run(job) {
            // The leader has to do it; the watch sees if it takes long.
            let (runnable, task) = async_task::spawn(async move { job() }, |_| {});
            task.detach();
            self.queue().runnable.push_back(runnable);
            self.reactor.interrupt();
        }
    }

    fn next(&self) -> Next {
        let mut queue = self.queue();
        match queue.runnable.pop_front() {
            Some(runnable) => Next::Run(runnable),
            None if queue.is_stopped => Next::Stop,
            None => Next::Wait,
        }
    }

    fn is_idle(&self) -> bool {
        let queue = self.queue();
        queue.runnable.is_empty() && !queue.is_stopped
    }

    /// Leads until another thread does, or there is an end of it.
    fn lead(self: Arc<Self>) {
        let _runtime = self.runtime.enter();
        let mut turns = 0;
        loop {
            match self.next() {
                Next::Stop => return,
                Next::Wait => self.reactor.wait(|| self.is_idle()),
                Next::Run(runnable) => {
                    let turn = self.begin_turn();
                    run(runnable);
                    if !self.end_turn(turn) {
                        return;
                    }
                    turns += 1;
                    if turns % TURNS == 0 {
                        self.reactor.wait(|| false);
                    }
                }
            }
        }
    }

    fn begin_turn(self: &Arc<Self>) -> u64 {
        let turn = self.turn.fetch_add(1, Ordering::SeqCst) + 1;
        if !self.has_watch.load(Ordering::SeqCst) {
            // If that fails, the next turn tries again.
            self.post_watch();
        }
        if !self.is_watched.swap(true, Ordering::SeqCst) {
            let _watch = self.watch();
            self.look.notify_one();
        }
        turn
    }

    /// Whether this thread still leads.
    fn end_turn(&self, turn: u64) -> bool {
        let next = turn.wrapping_add(1);
        self.turn
            .compare_exchange(turn, next, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Has a thread keep watch; says whether there was one to be had.
    fn post_watch(self: &Arc<Self>) -> bool {
        self.has_watch.store(true, Ordering::SeqCst);
        let shared = Arc::clone(self);
        let posted = self.on_a_thread(Box::new(move || shared.keep_watch()));
        if posted.is_err() {
            self.has_watch.store(false, Ordering::SeqCst);
        }
        posted.is_ok()
    }

    /// Looks whether the leader gets on, and leads if it does not.
    fn keep_watch(self: Arc<Self>) {
        let (mut last, mut quiet) = (self.turn.load(Ordering::SeqCst), 0);
        let mut watch = self.watch();
        loop {
            if self.queue().is_stopped {
                return;
            }
            if quiet < QUIET {
                watch = self
                    .look
                    .wait_timeout(watch, LOOK)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            } else {
                self.is_watched.store(false, Ordering::SeqCst);
                // A turn that began just before does not wake.
                if self.turn.load(Ordering::SeqCst) == last {
                    watch = self
                        .look
                        .wait_while(watch, |()| {
                            !self.is_watched.load(Ordering::SeqCst) && !self.queue().is_stopped
                        })
                        .unwrap_or_else(PoisonError::into_inner);
                }
                self.is_watched.store(true, Ordering::SeqCst);
                quiet = 0;
            }
            let turn = self.turn.load(Ordering::SeqCst);
            let is_same = turn == last;
            if is_same && turn % 2 == 1 && self.end_turn(turn) {
                break;
            }
            quiet = if is_same { quiet + 1 } else { 0 };
            last = turn;
        }
        drop(watch);
        self.first_turn_took(LONG);
        self.has_watch.store(false, Ordering::SeqCst);
        self.post_watch();
        self.lead();
    }
}

/// A panic ends the task only; who waits for it sees that it is gone.
fn run(runnable: Runnable) {
    let _panicked = catch_unwind(AssertUnwindSafe(|| runnable.run()));
}

/// Lets other tasks have their turns.
pub(super) async fn yield_now() {
    let mut has_yielded = false;
    std::future::poll_fn(|context| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests;
