//! What services say, line by line and with the time, all in one order; and
//! faults that strike as soon as a line is said.
//!
//! Services write to their files themselves, so nothing they say is lost and
//! none of them ever waits for a reader. The helper is told by the kernel
//! (inotify) that a file has grown and reads on: the times are those at which a
//! line was seen, usually less than a millisecond after it was written.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::inotify;

/// Older lines than those that fit in here are dropped.
const KEPT_MAX: usize = 4 << 20;
/// Of a longer line, the rest counts as a line of its own.
const LINE_MAX: usize = 16 << 10;

/// A signal that a service gets once a line is said.
pub(super) struct Armed {
    /// Who gets it.
    pub(super) service: String,
    pub(super) signal: i32,
    /// Whose log.
    pub(super) log: String,
    pub(super) text: String,
    /// Where to tell that it struck.
    pub(super) told: File,
}

/// The logs of all services.
pub(super) struct Logs {
    dir: PathBuf,
    pub(super) events: OwnedFd,
    files: BTreeMap<String, Followed>,
    lines: VecDeque<String>,
    kept: usize,
    start: Instant,
    pub(super) armed: Vec<Armed>,
}

struct Followed {
    file: File,
    partial: Vec<u8>,
}

impl Logs {
    pub(super) fn follow(dir: &Path, start: Instant) -> io::Result<Logs> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let events = inotify::init(flags)?;
        inotify::add_watch(&events, dir, inotify::WatchFlags::MODIFY)?;
        Ok(Logs {
            dir: dir.to_owned(),
            events,
            files: BTreeMap::new(),
            lines: VecDeque::new(),
            kept: 0,
            start,
            armed: Vec::new(),
        })
    }

    /// Adds the log of a service; of one that is known, nothing changes.
    pub(super) fn add(&mut self, name: &str) -> io::Result<()> {
        if !self.files.contains_key(name) {
            let file = File::open(self.dir.join(format!("{name}.log")))?;
            let partial = Vec::new();
            self.files
                .insert(name.to_owned(), Followed { file, partial });
        }
        Ok(())
    }

    /// Notes something that the helper did or saw.
    pub(super) fn note(&mut self, name: &str, what: &str) {
        self.keep(name, '*', what);
    }

    /// Reads what was said since; returns the faults whose line was among it.
    pub(super) fn catch_up(&mut self) -> Vec<Armed> {
        let mut struck = Vec::new();
        for name in self.grown() {
            for line in self.new_lines(&name) {
                let line = String::from_utf8_lossy(&line);
                self.keep(&name, '|', &line);
                let (now, later): (Vec<Armed>, Vec<Armed>) = std::mem::take(&mut self.armed)
                    .into_iter()
                    .partition(|fault| fault.log == name && line.contains(&fault.text));
                struck.extend(now);
                self.armed = later;
            }
        }
        struck
    }

    /// All logs: first those that have grown, in that order, since several may have
    /// before this is asked; then the others, of which the kernel may have told less
    /// than there is.
    fn grown(&self) -> Vec<String> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.events, &mut buffer);
        let mut names: Vec<String> = Vec::new();
        let mut add = |name: &str| {
            if self.files.contains_key(name) && !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        };
        while let Ok(event) = events.next() {
            let file = event.file_name().and_then(|file| file.to_str().ok());
            if let Some(name) = file.and_then(|file| file.strip_suffix(".log")) {
                add(name);
            }
        }
        self.files.keys().for_each(|name| add(name));
        names
    }

    fn new_lines(&mut self, name: &str) -> Vec<Vec<u8>> {
        let Some(Followed { file, partial }) = self.files.get_mut(name) else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        // A log that cannot be read has said nothing.
        while let Ok(length @ 1..) = file.read(&mut buffer) {
            for piece in buffer[..length].split_inclusive(|&byte| byte == b'\n') {
                partial.extend_from_slice(piece);
                if partial.ends_with(b"\n") || partial.len() >= LINE_MAX {
                    lines.push(std::mem::take(partial));
                }
            }
            // A flood is taken in portions; its next write says that there is
            // more, and the end of the test asks once again.
            if lines.len() >= 100_000 {
                break;
            }
        }
        lines
    }

    fn keep(&mut self, name: &str, mark: char, text: &str) {
        let mut line = String::new();
        let time = self.start.elapsed();
        let _ = writeln!(
            line,
            "{:>4}.{:06} {name} {mark} {}",
            time.as_secs(),
            time.subsec_micros(),
            text.trim_end()
        );
        self.kept += line.len();
        self.lines.push_back(line);
        while self.kept > KEPT_MAX {
            match self.lines.pop_front() {
                Some(oldest) => self.kept -= oldest.len(),
                None => break,
            }
        }
    }

    /// Everything that was kept, one line each: seconds since the environment
    /// was made, the service, `|` and what it said or `*` and what befell it.
    pub(super) fn text(&self) -> String {
        self.lines.iter().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// The logs of two services in `dir`, `a` and `b`, and the files that these write to.
    fn followed(dir: &Path) -> (Logs, [File; 2]) {
        let names = ["a", "b"];
        let files = names.map(|name| File::create(dir.join(format!("{name}.log"))).unwrap());
        let mut logs = Logs::follow(dir, Instant::now()).unwrap();
        for name in names {
            logs.add(name).unwrap();
        }
        (logs, files)
    }

    #[test]
    fn lines_of_several_logs_stand_in_the_order_in_which_they_were_said() {
        let dir = tempfile::tempdir().unwrap();
        let (mut logs, [mut a, mut b]) = followed(dir.path());
        let mut say = |file: &mut File, text: &str| {
            file.write_all(text.as_bytes()).unwrap();
            logs.catch_up();
        };
        say(&mut b, "one\n");
        say(&mut a, "two\nhalf");
        say(&mut b, "three\n");
        say(&mut a, " and half\n");
        logs.note("a", "ended");
        let text = logs.text();
        let said: Vec<&str> = text.lines().map(|line| &line[12..]).collect();
        assert_eq!(
            said,
            [
                "b | one",
                "a | two",
                "b | three",
                "a | half and half",
                "a * ended"
            ]
        );
    }

    #[test]
    fn logs_that_grow_before_anybody_looks_keep_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let (mut logs, [mut a, mut b]) = followed(dir.path());
        b.write_all(b"one\n").unwrap();
        a.write_all(b"two\n").unwrap();
        logs.catch_up();
        let text = logs.text();
        let said: Vec<&str> = text.lines().map(|line| &line[12..]).collect();
        assert_eq!(said, ["b | one", "a | two"]);
    }

    #[test]
    fn the_kernel_tells_that_a_log_has_grown() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = File::create(dir.path().join("a.log")).unwrap();
        let mut logs = Logs::follow(dir.path(), Instant::now()).unwrap();
        let now = Some(Instant::now());
        assert!(!super::super::sweep::readable(&logs.events, now).unwrap());
        file.write_all(b"x\n").unwrap();
        assert!(super::super::sweep::readable(&logs.events, now).unwrap());
        logs.catch_up();
        assert!(!super::super::sweep::readable(&logs.events, now).unwrap());
    }
}
