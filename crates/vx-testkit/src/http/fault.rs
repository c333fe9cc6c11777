//! What a server can do wrong.

use std::time::Duration;

/// What goes wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpFault {
    /// This status and no file, for example 404 or 503.
    Status(u16),
    /// 503 with the wish to be left alone for some seconds.
    Unavailable {
        /// The value of `Retry-After`.
        retry_after: u32,
    },
    /// A pause after each piece.
    Slow {
        /// The bytes of a piece.
        piece: usize,
        /// The pause.
        pause: Duration,
    },
    /// The connection is closed after some bytes of those that were announced.
    Truncated {
        /// The bytes that are sent.
        after: usize,
    },
    /// As `Truncated`, but no length was announced, so the answer seems whole.
    TruncatedUnnoticed {
        /// The bytes that are sent.
        after: usize,
    },
    /// Nothing comes after some bytes until [`HttpFixture::release`]; then the
    /// rest does.
    ///
    /// [`HttpFixture::release`]: crate::HttpFixture::release
    Stall {
        /// The bytes that are sent.
        after: usize,
    },
    /// Other content of the same length.
    WrongBytes,
    /// The announced length is not that of the content, which is sent whole.
    WrongLength {
        /// The length that is announced.
        announced: u64,
    },
    /// Ranges are ignored: always the whole file.
    NoRanges,
    /// Another range than the one asked for is sent, and labelled so.
    WrongRange,
    /// A redirect to the same path.
    RedirectLoop,
    /// A redirect to another place.
    Redirect(String),
    /// The connection is closed without an answer.
    HangUp,
    /// An answer that is not HTTP.
    Garbage,
}
