//! Storing many files: some threads stage, one makes what is staged durable and visible.
//!
//! While a sync waits for the disk, staging goes on, and the next sync covers both what came meanwhile and the names that were given since the last one.
//! So it takes one sync more than there are groups, and a slow disk gets few large groups.
//! What has the content of something that is staged already is not written again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use vx_digest::Digest;

use crate::error::PutError;
use crate::stage::{Pending, Stored};
use crate::store::Store;

/// What is worth a sync while more is being staged.
const ENOUGH_BLOBS: usize = 2048;
/// The same, in bytes.
const ENOUGH_BYTES: u64 = 64 << 20;
/// Blobs that wait for a sync; staging stops there until one is through.
const MOST_BLOBS: usize = 16_384;
/// The same, in bytes.
const MOST_BYTES: u64 = 256 << 20;
/// The longest buffer that a thread keeps from one file to the next.
const KEPT: usize = 64 << 10;

/// A regular file that is open for reading.
#[derive(Debug)]
pub struct Source<'a> {
    /// The file; it is read from its start, wherever it is positioned.
    pub file: File,
    /// Its size when it was opened.
    pub size: u64,
    /// Its name in errors, and nothing else.
    pub name: &'a Path,
}

/// Files to be stored, opened one after another by several threads.
pub trait Sources: Sync {
    /// How many there are.
    fn count(&self) -> usize;

    /// Opens the file of this number, below [`Sources::count`]; each is opened once.
    ///
    /// # Errors
    /// Why it cannot be read; it is left out, and the others are stored.
    fn open(&self, index: usize) -> io::Result<Source<'_>>;
}

impl Store {
    /// Stores the content of files on so many threads and answers for each, in their order.
    ///
    /// In a durable store everything is on disk when this returns.
    /// A file that cannot be read is an inner error.
    ///
    /// # Errors
    /// The first failure to store something; what was stored by then stays.
    pub fn put_files(
        &self,
        sources: &dyn Sources,
        threads: usize,
    ) -> Result<Vec<io::Result<Stored>>, PutError> {
        let count = sources.count();
        if count == 0 {
            return Ok(Vec::new());
        }
        let threads = threads.clamp(1, count);
        let intake = Intake {
            store: self,
            sources,
            next: AtomicUsize::new(0),
            state: Mutex::new(State {
                at_work: threads,
                ..State::default()
            }),
            moved: Condvar::new(),
        };
        let answers = std::thread::scope(|scope| {
            let stagers: Vec<_> = (0..threads)
                .map(|_| scope.spawn(|| intake.stage_all()))
                .collect();
            if let Err(error) = intake.commit_all() {
                intake.fail(error);
            }
            let mut answers = Vec::with_capacity(count);
            for stager in stagers {
                match stager.join() {
                    Ok(more) => answers.extend(more),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            answers
        });
        intake.answer(answers)
    }
}

/// What a file has turned out to be: a content, and whether it was the first with it.
type Answer = (usize, io::Result<(usize, bool)>);

/// Files on their way into the store.
struct Intake<'a> {
    store: &'a Store,
    sources: &'a dyn Sources,
    next: AtomicUsize,
    state: Mutex<State>,
    /// Something was staged or synced, a stager has left, or something has failed.
    moved: Condvar,
}

#[derive(Default)]
struct State {
    /// The number of each content that was met.
    numbers: HashMap<Digest, usize>,
    /// By number: the content, and whether the store had it not.
    contents: Vec<Stored>,
    /// Written, and not yet covered by a sync.
    staged: Vec<(usize, Pending)>,
    staged_bytes: u64,
    /// What the sync that is under way covers.
    syncing: (usize, u64),
    /// Stagers that may still bring something.
    at_work: usize,
    failure: Option<PutError>,
}

impl State {
    fn is_full(&self) -> bool {
        self.staged.len() + self.syncing.0 >= MOST_BLOBS
            || self.staged_bytes + self.syncing.1 >= MOST_BYTES
    }

    fn has_enough(&self) -> bool {
        self.staged.len() >= ENOUGH_BLOBS || self.staged_bytes >= ENOUGH_BYTES
    }

    /// The number of a content, and whether it is met for the first time.
    fn number(&mut self, digest: Digest) -> (usize, bool) {
        let next = self.contents.len();
        match self.numbers.entry(digest) {
            Entry::Occupied(known) => (*known.get(), false),
            Entry::Vacant(free) => {
                free.insert(next);
                self.contents.push(Stored { digest, new: false });
                (next, true)
            }
        }
    }
}

/// Counts a stager out, however it ends.
struct Leaving<'a>(&'a Intake<'a>);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.state().at_work -= 1;
        self.0.moved.notify_all();
    }
}

impl Intake<'_> {
    /// The state is whole between any two statements.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&'s self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.moved
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, error: PutError) {
        self.state().failure.get_or_insert(error);
        self.moved.notify_all();
    }

    /// Waits until there is room for more; `false` when nothing more is wanted.
    fn has_room(&self) -> bool {
        let mut state = self.state();
        while state.is_full() && state.failure.is_none() {
            state = self.wait(state);
        }
        state.failure.is_none()
    }

    /// Stages files until there are no more.
    fn stage_all(&self) -> Vec<Answer> {
        let _leaving = Leaving(self);
        let mut buffer = Vec::new();
        let mut answers = Vec::new();
        while self.has_room() {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.sources.count() {
                break;
            }
            match self.stage_one(index, &mut buffer) {
                Ok(content) => answers.push((index, Ok(content))),
                Err(PutError::Source { source, .. }) => answers.push((index, Err(source))),
                Err(error) => {
                    self.fail(error);
                    break;
                }
            }
            if buffer.len() > KEPT {
                buffer = Vec::new();
            }
        }
        answers
    }

    fn stage_one(&self, index: usize, buffer: &mut Vec<u8>) -> Result<(usize, bool), PutError> {
        let mut source = self
            .sources
            .open(index)
            .map_err(|error| PutError::source_file(Path::new(""), error))?;
        let mut number = 0;
        let is_first = |digest| {
            let first;
            (number, first) = self.state().number(digest);
            first
        };
        let (_, pending) = self.store.stage_first(&mut source, buffer, is_first)?;
        let first = pending.is_some();
        if let Some(pending) = pending {
            self.add(number, pending);
        }
        Ok((number, first))
    }

    fn add(&self, number: usize, pending: Pending) {
        let mut state = self.state();
        let had_enough = state.has_enough();
        if pending.temp.is_some() {
            state.staged_bytes += pending.digest.size;
        }
        state.staged.push((number, pending));
        if !had_enough && state.has_enough() {
            self.moved.notify_all();
        }
    }

    /// Commits group after group until all stagers have left.
    fn commit_all(&self) -> Result<(), PutError> {
        let inner = &self.store.inner;
        loop {
            let (group, bytes) = {
                let mut state = self.state();
                while state.at_work > 0 && !state.has_enough() && state.failure.is_none() {
                    state = self.wait(state);
                }
                if state.failure.is_some() {
                    return Ok(());
                }
                let group = std::mem::take(&mut state.staged);
                let bytes = std::mem::take(&mut state.staged_bytes);
                state.syncing = (group.len(), bytes);
                (group, bytes)
            };
            let failed =
                |source| PutError::storing(format!("{} files", group.len()), bytes, source);
            if group.is_empty() {
                // The names of the last group, and what others stored and may not have synced.
                return inner.sync().map_err(failed);
            }
            inner.sync().map_err(failed)?;
            self.state().syncing = (0, 0);
            self.moved.notify_all();
            for (number, published) in inner.publish_all(group) {
                let mut state = self.state();
                let content = &mut state.contents[number];
                let digest = content.digest;
                content.new = published
                    .map_err(|source| {
                        PutError::storing(format!("blob `{digest}`"), digest.size, source)
                    })?
                    .new;
            }
        }
    }

    /// Puts the answers in order; what has the content of another file is not new.
    fn answer(self, answers: Vec<Answer>) -> Result<Vec<io::Result<Stored>>, PutError> {
        let state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = state.failure {
            return Err(error);
        }
        let mut answers = answers;
        answers.sort_unstable_by_key(|(index, _)| *index);
        Ok(answers
            .into_iter()
            .map(|(_, answer)| {
                answer.map(|(number, first)| {
                    let Stored { digest, new } = state.contents[number];
                    Stored {
                        digest,
                        new: new && first,
                    }
                })
            })
            .collect())
    }
}
