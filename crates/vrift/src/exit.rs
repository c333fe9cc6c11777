//! What a failure means: its exit code, its words and the hints under them.

use std::error::Error as _;
use std::fmt::Write as _;

use vrift_store::Error;

/// What kind of failure it is; each kind has its exit code.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request cannot be carried out as it is, or something was found wrong.
    Request,
    /// The daemon cannot be reached or refuses.
    Service,
    /// The system or the store did not do what it should.
    Internal,
    /// Whoever read the results wants no more of them, which is no failure.
    Unread,
    /// The user ended the command.
    Interrupted,
}

/// All exit codes with their meaning, for `--help`.
const CODES: &[(u8, &str)] = &[
    (0, "all went well"),
    (
        1,
        "the request cannot be carried out, or something was found wrong: a changed file, a damaged blob",
    ),
    (2, "usage: wrong arguments"),
    (3, "the daemon cannot be reached or refuses"),
    (4, "the system or the store failed, e.g. the disk is full"),
    (
        130,
        "interrupted by Ctrl+C; what was under way is whole, and the same command goes on",
    ),
];

impl Kind {
    /// The exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Kind::Unread => 0,
            Kind::Request => 1,
            Kind::Service => 3,
            Kind::Internal => 4,
            Kind::Interrupted => 130,
        }
    }
}

/// The exit codes as a table.
pub(crate) fn table() -> String {
    let mut table = "Exit codes:".to_owned();
    for (code, meaning) in CODES {
        // Writing to a string cannot fail.
        let _ok = write!(table, "\n  {code:>3}  {meaning}");
    }
    table
}

/// The end of a command that did not work.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    /// What went wrong.
    pub(crate) message: String,
    /// Why, from the nearest cause to the farthest.
    pub(crate) causes: Vec<String>,
    /// What to do about it.
    pub(crate) hints: Vec<String>,
}

impl Failure {
    /// A failure in words.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Failure {
        Failure {
            kind,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// What went wrong and why.
    pub(crate) fn in_one_line(&self) -> String {
        let mut text = self.message.clone();
        for cause in &self.causes {
            text.push_str(": ");
            text.push_str(cause);
        }
        text
    }

    /// Adds a hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hints.push(hint.into());
        self
    }

    /// Adds a cause.
    pub(crate) fn because(mut self, cause: impl Into<String>) -> Failure {
        self.causes.push(cause.into());
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let kind = match &error {
            Error::Cancelled => Kind::Interrupted,
            Error::Refused(_)
            | Error::Absent { .. }
            | Error::Missing(_)
            | Error::Busy { .. }
            | Error::NoClones(_)
            | Error::Quota(_)
            | Error::Manifest { .. } => Kind::Request,
            Error::Remote { .. } => Kind::Service,
            _ => Kind::Internal,
        };
        let mut failure = Failure::new(kind, error.to_string());
        let mut cause = error.source();
        while let Some(error) = cause {
            failure.causes.push(error.to_string());
            cause = error.source();
        }
        match error {
            Error::Absent { .. } => failure.hint(
                "`vrift verify --repair` stores again what files still have; the manifest may also be of another store",
            ),
            Error::NoClones(_) => failure.hint(
                "without `--how`, files are cloned where that works and copied elsewhere",
            ),
            Error::Busy { .. } => failure.hint("wait until the other vrift has ended"),
            Error::Put(vrift_store::PutError::NoSpace { .. }) => failure.hint(
                "`vrift gc` removes what nobody keeps; it works on a full disk",
            ),
            _ => failure,
        }
    }
}
