//! Kills a process at a moment that shows on disk, without a pause between the two.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

use crate::processes::Process;

/// How long the moment may take to come on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody who watches a directory.
#[derive(Debug)]
pub struct Ambush {
    watch: OwnedFd,
}

impl Ambush {
    /// Watches for what appears in `directory`, which has to exist, from now on.
    ///
    /// # Panics
    ///
    /// If it cannot be watched.
    pub fn at(directory: &Path) -> Ambush {
        let watching = inotify::init(inotify::CreateFlags::CLOEXEC).and_then(|watch| {
            let flags = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
            inotify::add_watch(&watch, directory, flags)?;
            Ok(watch)
        });
        match watching {
            Ok(watch) => Ambush { watch },
            Err(error) => panic!("cannot watch `{}`: {error}", directory.display()),
        }
    }

    /// Kills `victim` as soon as something appears whose name `is_it`.
    ///
    /// # Panics
    ///
    /// If it does not appear in time, or the process is gone by itself.
    pub fn kill(self, victim: &Process, is_it: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.watch, &mut buffer);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).ok();
            let mut watch = [PollFd::new(&self.watch, PollFlags::IN)];
            let ready = match events.is_buffer_empty() {
                true => poll(&mut watch, left.as_ref()).unwrap_or_default(),
                false => 1,
            };
            assert!(ready > 0, "nothing appeared within {PATIENCE:?}");
            let event = events.next();
            let name = event.as_ref().ok().and_then(|event| event.file_name());
            if name.is_some_and(|name| name.to_str().is_ok_and(&is_it)) {
                return victim.kill();
            }
        }
    }
}
