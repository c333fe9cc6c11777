//! Looking again for a moment before sleeping, as long as that pays.
//!
//! To wake a thread that sleeps on another processor takes several times as long as to
//! answer a short question. So whoever got its last answers within that time looks for
//! the next one a little longer. Where that finds nothing, e.g. since both sides share a
//! processor, it is tried less and less often: in the end for one wait in a thousand.

use std::time::{Duration, Instant};

/// How long to look: about what it takes to fall asleep and be woken.
const MOMENT: Duration = Duration::from_micros(30);
/// A wait that is over so soon may have been worth looking for its end.
const QUICK: Duration = Duration::from_micros(100);
/// Waits without looking after one that found nothing, doubled each time up to the
/// last.
const SKIPPED: u32 = 8;
const MOST_SKIPPED: u32 = 1024;

/// Decides whether to look before a wait. What it begins with is not to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spin {
    was_quick: bool,
    /// Quick waits until the next try.
    skip: u32,
    /// How many to skip when that fails.
    next_skip: u32,
}

impl Spin {
    /// What [`Spin::default`] is, for a `static`.
    pub(crate) const fn new() -> Spin {
        Spin {
            was_quick: false,
            skip: 0,
            next_skip: 0,
        }
    }

    /// What `look` finds within a moment, if it is worth to try.
    pub(crate) fn find<T>(&mut self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        if !self.was_quick {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        let began = Instant::now();
        loop {
            if let Some(found) = look() {
                self.next_skip = SKIPPED;
                return Some(found);
            }
            if began.elapsed() >= MOMENT {
                break;
            }
        }
        self.skip = self.next_skip.max(SKIPPED);
        self.next_skip = (self.skip * 2).min(MOST_SKIPPED);
        None
    }

    /// Waits, and remembers whether that was quick.
    pub(crate) fn wait<T>(&mut self, wait: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = wait();
        self.was_quick = began.elapsed() < QUICK;
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_in_vain_becomes_rare() {
        let mut spin = Spin::default();
        let (mut looked, mut tries) = (0, 0);
        // Nothing is known yet.
        assert_eq!(spin.find(|| Some(())), None);
        spin.was_quick = true;
        for _ in 0..10_000 {
            let before = looked;
            spin.find(|| -> Option<()> {
                looked += 1;
                None
            });
            tries += u32::from(looked > before);
        }
        // After 8, 16 ... 1024 waits, and then after every 1024.
        assert_eq!(tries, 1 + 8 + (10_000 - 2_040 - 8) / 1_025);
        // Once it pays it is done each time.
        spin.skip = 0;
        for _ in 0..100 {
            assert_eq!(spin.find(|| Some(7)), Some(7));
        }
        // But not after a long wait.
        spin.wait(|| std::thread::park_timeout(QUICK * 2));
        while spin.was_quick {
            spin.wait(|| std::thread::park_timeout(QUICK * 2));
        }
        assert_eq!(spin.find(|| Some(7)), None);
    }
}
