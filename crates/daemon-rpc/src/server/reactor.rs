//! What connections wait for: sockets that are ready, and times.
//!
//! It knows nothing of tasks or threads: it wakes whoever waits. One thread at a time
//! waits for all.

mod timer;
mod watched;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

use crate::spin::Spin;
use watched::Source;

pub(super) use watched::{Direction, Watched};

/// Events that are taken from the kernel at a time.
const EVENTS: usize = 64;
/// The key of the descriptor that ends a wait; sources count from 1.
const ALARM: u64 = 0;

/// Waits for sockets and times.
pub(super) struct Reactor {
    epoll: OwnedFd,
    alarm: OwnedFd,
    /// Whether a thread waits, or is about to.
    is_waiting: AtomicBool,
    /// Whether nobody waits any more, so that whoever wants to is woken at once.
    is_closed: AtomicBool,
    spin: Mutex<Spin>,
    last_key: AtomicU64,
    sources: Mutex<BTreeMap<u64, Arc<Source>>>,
    timers: Mutex<BTreeMap<(Instant, u64), Waker>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reactor {
    pub(super) fn new() -> io::Result<Reactor> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let alarm = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // It is never read: each write is an event.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &alarm, epoll::EventData::new_u64(ALARM), flags)?;
        Ok(Reactor {
            epoll,
            alarm,
            is_waiting: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            spin: Mutex::default(),
            last_key: AtomicU64::new(ALARM),
            sources: Mutex::default(),
            timers: Mutex::default(),
        })
    }

    /// Ends the wait of the thread that waits, if there is one.
    pub(super) fn interrupt(&self) {
        if self.is_waiting.swap(false, Ordering::SeqCst) {
            // Fails only when it was written to 2^64 times.
            let _full = rustix::io::write(&self.alarm, &1_u64.to_ne_bytes());
        }
    }

    /// Waits until there is something to do, and wakes whoever waits for it; only looks
    /// if not `may_sleep`, which is asked when [`Reactor::interrupt`] works already.
    pub(super) fn wait(&self, may_sleep: impl FnOnce() -> bool) {
        self.is_waiting.store(true, Ordering::SeqCst);
        let patience = if may_sleep() {
            self.next_timer()
                .map(|time| time.saturating_duration_since(Instant::now()))
        } else {
            Some(Duration::ZERO)
        };
        let mut events = Vec::with_capacity(EVENTS);
        if patience == Some(Duration::ZERO) {
            self.take_events(&mut events, patience);
        } else {
            let mut spin = lock(&self.spin);
            let found = spin.find(|| {
                self.take_events(&mut events, Some(Duration::ZERO));
                let is_interrupted = !self.is_waiting.load(Ordering::SeqCst);
                (is_interrupted || !events.is_empty()).then_some(())
            });
            if found.is_none() {
                spin.wait(|| self.take_events(&mut events, patience));
            }
        }
        self.is_waiting.store(false, Ordering::SeqCst);
        for event in &events {
            // A copy: the kernel's structure is packed.
            let (key, flags) = (event.data.u64(), event.flags);
            let source = lock(&self.sources).get(&key).cloned();
            if let Some(source) = source {
                source.happened(flags);
            }
        }
        if patience.is_some() {
            self.fire();
        }
    }

    fn take_events(&self, events: &mut Vec<epoll::Event>, patience: Option<Duration>) {
        let timeout = patience.map(|patience| {
            // In milliseconds, and not too early.
            let millis = i64::try_from(patience.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
            Timespec {
                tv_sec: millis / 1000,
                tv_nsec: millis % 1000 * 1_000_000,
            }
        });
        let buffer = rustix::buffer::spare_capacity(events);
        // Interrupted by a signal there is nothing to do, and no other reason to fail.
        let _count = epoll::wait(&self.epoll, buffer, timeout.as_ref());
    }

    fn next_timer(&self) -> Option<Instant> {
        let timers = lock(&self.timers);
        timers.first_key_value().map(|((time, _), _)| *time)
    }

    /// Wakes those whose time has come.
    fn fire(&self) {
        let now = Instant::now();
        loop {
            let mut timers = lock(&self.timers);
            let Some(first) = timers.first_entry().filter(|first| first.key().0 <= now) else {
                return;
            };
            let waker = first.remove();
            drop(timers);
            waker.wake();
        }
    }

    /// Wakes all, whatever they wait for, and from now on everybody who would wait.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        let sources: Vec<_> = lock(&self.sources).values().cloned().collect();
        sources.iter().for_each(|source| source.wake(|_| true));
        let timers = std::mem::take(&mut *lock(&self.timers));
        timers.into_values().for_each(Waker::wake);
    }

    /// To be called by whoever has just begun to wait: [`Reactor::close`] may have been before that.
    fn waits(&self, waker: &Waker) {
        if self.is_closed.load(Ordering::SeqCst) {
            waker.wake_by_ref();
        }
    }

    fn key(&self) -> u64 {
        self.last_key.fetch_add(1, Ordering::Relaxed) + 1
    }
}
