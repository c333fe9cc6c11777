//! The last lines of a log, for messages.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Read from the end of a log; more does not help anyone.
const WINDOW: u64 = 16 << 10;

/// The last `lines` lines of the file, empty if there is none.
pub(crate) fn of_file(path: &Path, lines: usize) -> String {
    let Ok(mut file) = File::open(path) else {
        return String::new();
    };
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::new();
    if file
        .seek(SeekFrom::Start(length.saturating_sub(WINDOW)))
        .is_err()
        || file.take(WINDOW).read_to_end(&mut bytes).is_err()
    {
        return String::new();
    }
    of_text(&String::from_utf8_lossy(&bytes), lines)
}

fn of_text(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_last_lines_are_kept() {
        assert_eq!(super::of_text("a\nb\nc\n", 2), "b\nc");
        assert_eq!(super::of_text("", 2), "");
        assert_eq!(super::of_file("/nonexistent/log".as_ref(), 2), "");
    }
}
