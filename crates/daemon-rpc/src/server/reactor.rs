//! What connections wait for: sockets that are ready, and times.
//!
//! It knows nothing of tasks or threads: it wakes whoever waits. One thread at a time
//! waits for all.
//!
//! A socket is first tried and only watched when there is a reason to wait, since a
//! short command is over before that. That it can be written to is only watched once
//! it could not be: the kernel tells that again with everything that a client reads.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

use crate::spin::Spin;

/// Events that are taken from the kernel at a time.
const EVENTS: usize = 64;
/// The key of the descriptor that ends a wait; sources count from 1.
const ALARM: u64 = 0;

/// What to do with a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Read = 0,
    Write = 1,
}

/// Waits for sockets and times.
pub(super) struct Reactor {
    epoll: OwnedFd,
    alarm: OwnedFd,
    /// Whether a thread waits, or is about to.
    is_waiting: AtomicBool,
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

    /// Wakes all, whatever they wait for.
    pub(super) fn wake_all(&self) {
        let sources: Vec<_> = lock(&self.sources).values().cloned().collect();
        sources.iter().for_each(|source| source.wake(|_| true));
        let timers = std::mem::take(&mut *lock(&self.timers));
        timers.into_values().for_each(Waker::wake);
    }

    fn key(&self) -> u64 {
        self.last_key.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Waits for this long.
    pub(super) fn sleep(&self, patience: Duration) -> Sleep<'_> {
        Sleep {
            reactor: self,
            // A time that cannot be told never comes.
            until: Instant::now().checked_add(patience),
            key: None,
        }
    }

    /// What the future returns; `None` if that takes longer than `patience`.
    pub(super) fn timeout<F: Future>(&self, patience: Duration, future: F) -> Timeout<'_, F> {
        let sleep = self.sleep(patience);
        Timeout { future, sleep }
    }
}

/// See [`Reactor::sleep`].
pub(super) struct Sleep<'a> {
    reactor: &'a Reactor,
    until: Option<Instant>,
    /// Set while a timer runs.
    key: Option<u64>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.until else {
            return Poll::Pending;
        };
        if until <= Instant::now() {
            return Poll::Ready(());
        }
        let reactor = self.reactor;
        let key = *self.key.get_or_insert_with(|| reactor.key());
        let mut timers = lock(&reactor.timers);
        let earlier = timers.insert((until, key), context.waker().clone());
        let is_first = timers.first_key_value().is_some_and(|(k, _)| k.1 == key);
        drop(timers);
        if earlier.is_none() && is_first {
            // Who waits already waits for a later one.
            reactor.interrupt();
        }
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let (Some(until), Some(key)) = (self.until, self.key) {
            let _waker = lock(&self.reactor.timers).remove(&(until, key));
        }
    }
}

pin_project! {
    /// See [`Reactor::timeout`].
    pub(super) struct Timeout<'a, F> {
        #[pin]
        future: F,
        sleep: Sleep<'a>,
    }
}

impl<F: Future> Future for Timeout<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // A future that is ready needs no timer.
        if let Poll::Ready(value) = this.future.poll(context) {
            return Poll::Ready(Some(value));
        }
        Pin::new(this.sleep).poll(context).map(|()| None)
    }
}

/// A socket, or a listener, and whether it is ready.
pub(super) struct Watched<T: AsFd> {
    io: T,
    is_shared: bool,
    reactor: Arc<Reactor>,
    source: Arc<Source>,
}

struct Source {
    key: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the kernel tells of.
    interest: epoll::EventFlags,
    /// Counts what it told.
    events: u64,
    sides: [Side; 2],
}

struct Side {
    is_ready: bool,
    /// Ready for ever, if only for an error or the end.
    is_over: bool,
    waiting: Option<Waker>,
}

impl Default for Side {
    /// Nothing is known of it, so it is worth a try.
    fn default() -> Side {
        Side {
            is_ready: true,
            is_over: false,
            waiting: None,
        }
    }
}

impl Source {
    fn happened(&self, flags: epoll::EventFlags) {
        use epoll::EventFlags as Flags;
        let over = [
            flags.intersects(Flags::RDHUP | Flags::HUP | Flags::ERR),
            flags.intersects(Flags::HUP | Flags::ERR),
        ];
        let ready = [flags.contains(Flags::IN), flags.contains(Flags::OUT)];
        let mut state = lock(&self.state);
        state.events += 1;
        for (side, (is_ready, is_over)) in state.sides.iter_mut().zip(ready.into_iter().zip(over)) {
            side.is_over |= is_over;
            side.is_ready |= is_ready || is_over;
        }
        drop(state);
        self.wake(|side| side.is_ready);
    }

    fn wake(&self, which: impl Fn(&Side) -> bool) {
        let mut state = lock(&self.state);
        let wakers = state.sides.each_mut().map(|side| {
            if which(side) {
                side.waiting.take()
            } else {
                None
            }
        });
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl<T: AsFd> Watched<T> {
    /// `io` must not block. `is_shared`: other processes may have it as well.
    pub(super) fn new(io: T, is_shared: bool, reactor: &Arc<Reactor>) -> Watched<T> {
        Watched {
            io,
            is_shared,
            reactor: Arc::clone(reactor),
            source: Arc::new(Source {
                key: reactor.key(),
                state: Mutex::default(),
            }),
        }
    }

    pub(super) fn get(&self) -> &T {
        &self.io
    }

    /// Does `attempt` until it says something else than that it would block. It says
    /// besides whether that was all there is for now, so that the next attempt is not
    /// worth while before the kernel tells. One task waits for each direction.
    pub(super) fn poll<R>(
        &self,
        context: &mut Context<'_>,
        direction: Direction,
        mut attempt: impl FnMut(&T) -> io::Result<(R, bool)>,
    ) -> Poll<io::Result<R>> {
        loop {
            let Some(event) = self.ready(context, direction) else {
                return Poll::Pending;
            };
            match attempt(&self.io) {
                Ok((result, is_drained)) => {
                    if is_drained {
                        self.drained(direction, event);
                    }
                    return Poll::Ready(Ok(result));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked(direction, event)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Which event it is that made it ready; `None`: it is not, and wakes.
    fn ready(&self, context: &mut Context<'_>, direction: Direction) -> Option<u64> {
        let mut state = lock(&self.source.state);
        let events = state.events;
        let side = &mut state.sides[direction as usize];
        if side.is_ready {
            return Some(events);
        }
        match &mut side.waiting {
            Some(waker) => waker.clone_from(context.waker()),
            waiting => *waiting = Some(context.waker().clone()),
        }
        None
    }

    /// There is no more for now, unless something has happened since that event.
    fn drained(&self, direction: Direction, event: u64) {
        let mut state = lock(&self.source.state);
        // What is not watched is never told.
        let is_watched = state.interest.contains(flag(direction));
        let is_same = state.events == event;
        let side = &mut state.sides[direction as usize];
        if is_watched && is_same && !side.is_over {
            side.is_ready = false;
        }
    }

    /// The same, and the kernel is to tell when that changes.
    fn blocked(&self, direction: Direction, event: u64) -> io::Result<()> {
        let mut state = lock(&self.source.state);
        if state.events == event {
            state.sides[direction as usize].is_ready = false;
        }
        let before = state.interest;
        if before.contains(flag(direction)) {
            return Ok(());
        }
        let always = epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        let interest = before | flag(direction) | always;
        state.interest = interest;
        drop(state);
        let data = epoll::EventData::new_u64(self.source.key);
        // Both tell at once if it is ready already.
        if before.is_empty() {
            lock(&self.reactor.sources).insert(self.source.key, Arc::clone(&self.source));
            epoll::add(&self.reactor.epoll, &self.io, data, interest)?;
        } else {
            epoll::modify(&self.reactor.epoll, &self.io, data, interest)?;
        }
        Ok(())
    }
}

fn flag(direction: Direction) -> epoll::EventFlags {
    match direction {
        Direction::Read => epoll::EventFlags::IN,
        Direction::Write => epoll::EventFlags::OUT,
    }
}

impl<T: AsFd> Drop for Watched<T> {
    fn drop(&mut self) {
        if !lock(&self.source.state).interest.is_empty() {
            let _source = lock(&self.reactor.sources).remove(&self.source.key);
            if self.is_shared {
                // The kernel would go on telling as long as another process has it.
                let _removed = epoll::delete(&self.reactor.epoll, &self.io);
            }
        }
    }
}
