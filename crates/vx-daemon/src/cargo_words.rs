//! What cargo prints while it works: lines, and progress bars that overwrite each other; and what both say of downloads.
//!
//! cargo ends a bar with a carriage return.
//! Its words are those of `src/cargo/core/package.rs`; what is not understood is just not about downloads.

use std::io;

use anstream::adapter::strip_str;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Lines have less; of a longer one the parts are lines.
const LONGEST: usize = 1 << 20;

/// A piece of what is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A line with its end.
    Line(String),
    /// What the next piece overwrites.
    Bar(String),
}

/// Takes the pieces off a stream.
#[derive(Debug)]
pub(crate) struct Pieces<R> {
    from: BufReader<R>,
    /// The beginning of the next one: nothing is lost when nobody waits for the rest.
    begun: Vec<u8>,
    bar: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Pieces<R> {
    /// The pieces of `from`.
    pub(crate) fn new(from: R) -> Pieces<R> {
        Pieces {
            from: BufReader::new(from),
            begun: Vec::new(),
            bar: Vec::new(),
        }
    }

    /// The next piece; `None` at the end. May be cancelled.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Piece>> {
        loop {
            let available = self.from.fill_buf().await?;
            if available.is_empty() {
                let last = std::mem::take(&mut self.begun);
                return Ok((!last.is_empty()).then(|| Piece::Line(text(&last))));
            }
            let end = available.iter().position(|byte| b"\r\n".contains(byte));
            let used = end.map_or(available.len(), |at| at + 1);
            self.begun.extend_from_slice(&available[..used]);
            self.from.consume(used);
            if end.is_none() && self.begun.len() < LONGEST {
                continue;
            }
            let mut piece = std::mem::take(&mut self.begun);
            if piece.last() == Some(&b'\r') {
                piece.pop();
                self.bar = piece;
                return Ok(Some(Piece::Bar(text(&self.bar))));
            }
            let bar = std::mem::take(&mut self.bar);
            // It was a line, with the longer one of two ends.
            if piece == b"\n" && !bar.is_empty() {
                piece.splice(..0, bar);
            }
            return Ok(Some(Piece::Line(text(&piece))));
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Crates that have not come whole.
    pub(crate) crates: u32,
    /// Bytes of those whose size is known.
    pub(crate) bytes: Option<u64>,
}

/// What a bar says of downloads, e.g. `Downloading 10 crates, remaining bytes: 1.1MiB`.
pub(crate) fn pending(bar: &str) -> Option<Pending> {
    let plain = strip_str(bar).to_string();
    let rest = plain.trim().strip_prefix("Downloading ")?;
    let (crates, rest) = rest.split_once(' ')?;
    let rest = rest.strip_prefix("crate")?;
    let bytes = rest.split_once("remaining bytes: ");
    Some(Pending {
        crates: crates.parse().ok()?,
        bytes: bytes.and_then(|(_, size)| size_of(size)),
    })
}

/// A size as people read it, in bytes.
fn size_of(size: &str) -> Option<u64> {
    let size = size.trim();
    let unit = size.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = size.split_at(unit);
    let shift = match unit.trim_start().chars().next()?.to_ascii_uppercase() {
        'B' => 0,
        'K' => 10,
        'M' => 20,
        'G' => 30,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    Some((number * f64::from(1_u32 << shift)) as u64)
}

/// What a line says of downloads that are done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Downloaded {
    /// A crate has come; it is checked and written down next.
    Crate {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
    },
    /// All have come.
    All,
}

/// What a line says of downloads, e.g. `Downloaded serde v1.0.0` or `Downloaded 2 crates (1.1MiB) in 1.01s`.
pub(crate) fn downloaded(line: &str) -> Option<Downloaded> {
    let plain = strip_str(line).to_string();
    let rest = plain.trim().strip_prefix("Downloaded ")?;
    let (first, rest) = rest.split_once(' ')?;
    if first.parse::<u32>().is_ok() && rest.starts_with("crate") {
        return Some(Downloaded::All);
    }
    let version = rest.split(' ').next()?.strip_prefix('v')?;
    Some(Downloaded::Crate {
        name: first.to_owned(),
        version: version.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pieces(text: &str) -> Vec<Piece> {
        let mut from = Pieces::new(text.as_bytes());
        let mut all = Vec::new();
        while let Some(piece) = from.next().await.unwrap() {
            all.push(piece);
        }
        all
    }

    #[tokio::test]
    async fn bars_are_told_from_lines_whatever_those_end_with() {
        let line = |text: &str| Piece::Line(text.to_owned());
        let bar = |text: &str| Piece::Bar(text.to_owned());
        assert_eq!(
            pieces("a\n b \r c\rd\n\ne").await,
            [
                line("a\n"),
                bar(" b "),
                bar(" c"),
                line("d\n"),
                line("\n"),
                line("e")
            ]
        );
        // The line of a program of another system is one all the same.
        assert_eq!(pieces("a\r\nb").await, [bar("a"), line("a\n"), line("b")]);
        let long = "x".repeat(3 << 20);
        assert_eq!(pieces(&long).await.concat_lines(), long);
    }

    trait Concat {
        fn concat_lines(self) -> String;
    }

    impl Concat for Vec<Piece> {
        fn concat_lines(self) -> String {
            let lines = self.into_iter().map(|piece| match piece {
                Piece::Line(line) | Piece::Bar(line) => line,
            });
            lines.collect()
        }
    }

    #[tokio::test]
    async fn a_piece_that_nobody_waited_for_is_not_lost() {
        let (from, mut to) = tokio::io::duplex(64);
        let mut pieces = Pieces::new(from);
        tokio::io::AsyncWriteExt::write_all(&mut to, b"ha")
            .await
            .unwrap();
        let moment = std::time::Duration::from_millis(1);
        assert!(tokio::time::timeout(moment, pieces.next()).await.is_err());
        tokio::io::AsyncWriteExt::write_all(&mut to, b"lf\n")
            .await
            .unwrap();
        assert_eq!(
            pieces.next().await.unwrap(),
            Some(Piece::Line("half\n".to_owned()))
        );
    }

    #[test]
    fn bars_of_downloads_are_understood_and_no_others() {
        for (bar, crates, bytes) in [
            (" Downloading 1 crate          ", 1, None),
            (" Downloading 12 crates", 12, None),
            (" Downloading 9 crates, extracting regex ...  ", 9, None),
            (
                " Downloading 3 crates, remaining bytes: 1.5MiB ",
                3,
                Some(3 << 19),
            ),
            (
                "Downloading 2 crates, remaining bytes: 64.0 KB",
                2,
                Some(64 << 10),
            ),
            ("Downloading 2 crates, remaining bytes: 7B", 2, Some(7)),
            ("\u{1b}[1m\u{1b}[36m Downloading\u{1b}[0m 0 crates", 0, None),
        ] {
            assert_eq!(pending(bar), Some(Pending { crates, bytes }), "{bar}");
        }
        for bar in ["", "       Fetch [==>  ] 3%", " Downloading crates ..."] {
            assert_eq!(pending(bar), None, "{bar}");
        }
    }

    #[test]
    fn lines_of_downloads_are_understood_and_no_others() {
        let of = |name: &str, version: &str| Downloaded::Crate {
            name: name.to_owned(),
            version: version.to_owned(),
        };
        for (line, said) in [
            ("  Downloaded rand_core v0.6.4\n", of("rand_core", "0.6.4")),
            (
                "  Downloaded seven v1.0.0-rc.1+x (registry `fixture`)\n",
                of("seven", "1.0.0-rc.1+x"),
            ),
            (
                "\u{1b}[1m\u{1b}[92m  Downloaded\u{1b}[0m a v1.0.0\n",
                of("a", "1.0.0"),
            ),
            ("  Downloaded 1 crate (21.5KiB) in 0.31s\n", Downloaded::All),
            (
                "  Downloaded 15 crates (2.8MiB) in 1.01s (largest was `libc` at 1.1MiB)\n",
                Downloaded::All,
            ),
        ] {
            assert_eq!(downloaded(line), Some(said), "{line}");
        }
        for line in [
            "",
            "  Downloaded\n",
            " Downloading crates ...\n",
            "warning: x\n",
        ] {
            assert_eq!(downloaded(line), None, "{line}");
        }
    }
}
