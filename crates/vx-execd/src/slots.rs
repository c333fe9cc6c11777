//! How many commands run at a time: the tokens of one jobserver, shared with the commands themselves.
//!
//! The pipe of GNU make's protocol holds one byte per free token.
//! An action starts with one token, which is the implicit one of the command; compilers and build scripts take more from the pipe while there are any, and give them back.
//! A command that is killed takes its extra tokens with it, so they are put back when nothing runs.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::oneshot;

/// The numbers under which a command finds the pipe.
pub(crate) const READ_END: i32 = 8;
pub(crate) const WRITE_END: i32 = 9;

/// Any byte will do; make writes this one.
const TOKEN: &[u8] = b"+";

/// All slots. Clones share them.
#[derive(Clone)]
pub(crate) struct Slots {
    shared: Arc<Shared>,
}

struct Shared {
    count: usize,
    /// For the commands, which expect it to block.
    read: File,
    /// The same end for us: a command may take a token between our look and our reading.
    read_at_once: File,
    write: File,
    state: Mutex<State>,
    wanted: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<oneshot::Sender<Slot>>,
    /// Tokens that actions hold as their own.
    held: usize,
}

/// The right to run one command; goes back when dropped.
pub(crate) struct Slot {
    shared: Option<Arc<Shared>>,
}

impl Slots {
    /// `count` slots.
    pub(crate) fn new(count: usize) -> io::Result<Slots> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // Opening it again makes a description of its own, whose flags are not shared with the commands.
        let again = format!("/proc/self/fd/{}", read.as_raw_fd());
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let read_at_once = File::options().read(true).custom_flags(flags).open(again)?;
        let shared = Arc::new(Shared {
            count,
            read: File::from(read),
            read_at_once,
            write: File::from(write),
            state: Mutex::default(),
            wanted: Condvar::new(),
        });
        shared.refill()?;
        let reader = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("slots".to_owned())
            .spawn(move || reader.serve())?;
        Ok(Slots { shared })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.shared.count
    }

    /// Waits for one; first come, first served.
    pub(crate) async fn take(&self) -> io::Result<Slot> {
        let (sender, receiver) = oneshot::channel();
        self.shared.lock().waiting.push_back(sender);
        self.shared.wanted.notify_one();
        receiver
            .await
            .map_err(|_| io::Error::other("the jobserver has ended"))
    }

    /// Both ends of the pipe, for a command.
    pub(crate) fn pipe(&self) -> io::Result<Vec<(OwnedFd, i32)>> {
        let read = self.shared.read.as_fd().try_clone_to_owned()?;
        let write = self.shared.write.as_fd().try_clone_to_owned()?;
        Ok(vec![(read, READ_END), (write, WRITE_END)])
    }

    /// How a command is told about them, in the words of every version of make.
    pub(crate) fn arguments() -> String {
        format!("-j --jobserver-fds={READ_END},{WRITE_END} --jobserver-auth={READ_END},{WRITE_END}")
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(shared) = self.shared.take() else {
            return;
        };
        let mut state = shared.lock();
        state.held -= 1;
        let is_idle = state.held == 0;
        // With the lock held, so that nobody takes a token while they are counted.
        let given = if is_idle {
            shared.refill()
        } else {
            (&shared.write).write_all(TOKEN)
        };
        drop(state);
        if let Err(error) = given {
            crate::log(&format!("cannot give a slot back: {error}"));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As many tokens in the pipe as there are slots; only while none is held.
    fn refill(&self) -> io::Result<()> {
        let there = usize::try_from(rustix::io::ioctl_fionread(&self.read)?).unwrap_or(0);
        for _ in there..self.count {
            (&self.write).write_all(TOKEN)?;
        }
        let mut excess = vec![0; there.saturating_sub(self.count)];
        (&self.read_at_once).read_exact(&mut excess)
    }

    /// Hands tokens to those who wait, for ever.
    fn serve(self: Arc<Self>) {
        loop {
            let mut state = self.lock();
            while state.waiting.is_empty() {
                state = self
                    .wanted
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            drop(state);
            if let Err(error) = self.wait_for_token() {
                crate::log(&format!("the jobserver failed: {error}"));
                self.lock().waiting.clear();
                continue;
            }
            self.hand_out();
        }
    }

    fn wait_for_token(&self) -> io::Result<()> {
        match poll(&mut [PollFd::new(&self.read, PollFlags::IN)], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a token, if it is still there, for the first who still waits.
    fn hand_out(self: &Arc<Self>) {
        let mut state = self.lock();
        state.waiting.retain(|waiter| !waiter.is_closed());
        if state.waiting.is_empty() {
            return;
        }
        if (&self.read_at_once).read_exact(&mut [0]).is_err() {
            return;
        }
        state.held += 1;
        let mut slot = Slot {
            shared: Some(Arc::clone(self)),
        };
        while let Some(waiter) = state.waiting.pop_front() {
            match waiter.send(slot) {
                Ok(()) => return,
                Err(back) => slot = back,
            }
        }
        drop(state);
        // Nobody is left: the token goes back.
        drop(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_than_the_count_are_out_and_the_next_waits() {
        let slots = Slots::new(2).unwrap();
        let first = slots.take().await.unwrap();
        let _second = slots.take().await.unwrap();
        let third = slots.take();
        tokio::pin!(third);
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(first);
        third.await.unwrap();
    }

    #[tokio::test]
    async fn a_waiter_that_gives_up_costs_no_slot() {
        let slots = Slots::new(1).unwrap();
        let first = slots.take().await.unwrap();
        {
            let second = slots.take();
            tokio::pin!(second);
            assert!(futures_util::poll!(&mut second).is_pending());
        }
        drop(first);
        slots.take().await.unwrap();
    }

    #[tokio::test]
    async fn lost_tokens_come_back_when_nothing_runs() {
        let slots = Slots::new(3).unwrap();
        let slot = slots.take().await.unwrap();
        // A command takes two more and dies with them.
        (&slots.shared.read).read_exact(&mut [0; 2]).unwrap();
        drop(slot);
        let all = [slots.take().await, slots.take().await, slots.take().await];
        assert!(all.iter().all(Result::is_ok));
    }
}
