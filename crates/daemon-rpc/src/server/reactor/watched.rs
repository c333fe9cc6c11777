//! Sockets that are tried, and watched where that failed.
//!
//! A socket is first tried and only watched when there is a reason to wait, since a
//! short command is over before that. That it can be written to is only watched once
//! it could not be: the kernel tells that again with everything that a client reads.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use rustix::event::epoll;

use super::{Reactor, lock};

/// What to do with a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read = 0,
    Write = 1,
}

/// A socket, or a listener, and whether it is ready.
pub(crate) struct Watched<T: AsFd> {
    io: T,
    is_shared: bool,
    reactor: Arc<Reactor>,
    source: Arc<Source>,
}

/// What the reactor knows of a socket.
pub(super) struct Source {
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

/// One direction of a socket.
pub(super) struct Side {
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
    pub(super) fn happened(&self, flags: epoll::EventFlags) {
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

    pub(super) fn wake(&self, which: impl Fn(&Side) -> bool) {
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
    pub(crate) fn new(io: T, is_shared: bool, reactor: &Arc<Reactor>) -> Watched<T> {
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

    pub(crate) fn get(&self) -> &T {
        &self.io
    }

    /// Does `attempt` until it says something else than that it would block. It says
    /// besides whether that was all there is for now, so that the next attempt is not
    /// worth while before the kernel tells. One task waits for each direction.
    pub(crate) fn poll<R>(
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
        drop(state);
        self.reactor.waits(context.waker());
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
