//! What a failure means: its exit code, its words and the hints under them.
//!
//! Every error that ends `vx` becomes a [`Failure`] here, and nowhere else is
//! decided which code or hint belongs to it.

use std::error::Error;
use std::fmt::Write as _;

use daemon_contract::Endpoint;
use daemon_rpc::{ConnectError, Foreign};

/// What kind of failure it is; each kind has its exit code.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request cannot be carried out as it is, e.g. there is nothing to run.
    Request,
    /// The command line or an environment variable makes no sense.
    Usage,
    /// A service is not there, is not ours, or is of another version.
    Service,
    /// vx or a service did not do what it should.
    Internal,
    /// The user ended the command.
    Interrupted,
}

/// All exit codes with their meaning, for `--help`. That of a failed build comes
/// from the daemon as it is.
const CODES: &[(u8, &str)] = &[
    (0, "all went well"),
    (
        1,
        "the request cannot be carried out, e.g. there is nothing to run",
    ),
    (2, "usage: wrong arguments or environment variables"),
    (
        3,
        "a service cannot be reached, is not ours, or is of another version",
    ),
    (4, "internal error, or a service ended in the middle"),
    (
        101,
        "the build failed, or cargo refused the project, as with cargo",
    ),
    (130, "interrupted by Ctrl+C"),
];

impl Kind {
    /// The exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Kind::Request => 1,
            Kind::Usage => 2,
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
    table.push_str("\n       `vx run` ends with the code of the program that it runs");
    table
}

/// The end of a command that did not work.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Decides on the exit code.
    pub(crate) kind: Kind,
    /// What went wrong; empty when it has been said already.
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

    /// A failure that the user has been told about already.
    pub(crate) fn told(kind: Kind) -> Failure {
        Failure::new(kind, "")
    }

    /// A failure from an error and its causes.
    pub(crate) fn from_error(kind: Kind, error: &dyn Error) -> Failure {
        let mut failure = Failure::new(kind, error.to_string());
        failure.causes = causes(error);
        failure
    }

    /// Adds a cause.
    pub(crate) fn because(mut self, cause: impl Into<String>) -> Failure {
        self.causes.push(cause.into());
        self
    }

    /// Adds a hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hints.push(hint.into());
        self
    }
}

/// The causes of an error, without the error itself.
pub(crate) fn causes(error: &dyn Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes
}

/// An error and its causes in one line.
pub(crate) fn one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    for cause in causes(error) {
        line.push_str(": ");
        line.push_str(&cause);
    }
    line
}

impl From<vx_proto::env::EnvError> for Failure {
    fn from(error: vx_proto::env::EnvError) -> Failure {
        Failure::from_error(Kind::Usage, &error)
            .hint("`vx help environment` lists the variables and their forms")
    }
}

impl From<vx_proto::token::TokenError> for Failure {
    fn from(error: vx_proto::token::TokenError) -> Failure {
        use vx_proto::token::TokenError;
        let hint = match &error {
            TokenError::Home { .. } | TokenError::NotOurs { .. } => {
                "set VX_HOME to a directory of your own".to_owned()
            }
            TokenError::HomeIsOpen { path } => {
                format!("run `chmod go-w {}`", path.display())
            }
            TokenError::FileIsOpen { path } | TokenError::Malformed { path } => format!(
                "run `vx kill` and remove `{}`; the next build makes a new one",
                path.display()
            ),
            TokenError::File { .. } | TokenError::Random(_) => {
                "`vx doctor` looks at all that vx needs".to_owned()
            }
        };
        Failure::from_error(Kind::Service, &error).hint(hint)
    }
}

/// There is no connection to the daemon.
pub(crate) fn not_connected(endpoint: &Endpoint, error: &ConnectError) -> Failure {
    let failure = Failure::from_error(Kind::Service, error);
    match error {
        ConnectError::NotRunning { .. }
        | ConnectError::Io { .. }
        | ConnectError::Foreign {
            why: Foreign::Silent { .. },
            ..
        } if !endpoint.is_local() => remote_is_silent(endpoint, error),
        ConnectError::NotRunning { .. } => failure
            .because("it ended as soon as it was started")
            .hint("its log is in the directory `log` of VX_HOME"),
        ConnectError::Foreign { .. } => {
            failure.hint("end that program, or set VX_DAEMON to another port or to `unix:///path`")
        }
        ConnectError::VersionMismatch { .. } => {
            failure.hint("run `vx kill`; the next build starts the daemon of this version")
        }
        ConnectError::WireMismatch { theirs, .. } => failure.hint(format!(
            "run the `vx kill` of version {}, or end process {}",
            theirs.crate_version, theirs.pid
        )),
        ConnectError::Denied { .. } => failure
            .hint("it belongs to another VX_HOME: set VX_HOME, or VX_DAEMON to another endpoint"),
        ConnectError::Draining { .. } | ConnectError::Busy { .. } => {
            failure.hint("run the command again in a moment")
        }
        ConnectError::CommandTooLong { .. } | ConnectError::Io { .. } => failure,
    }
}

/// Nobody answers at an endpoint of another machine.
fn remote_is_silent(endpoint: &Endpoint, cause: &dyn Error) -> Failure {
    let mut failure = Failure::new(
        Kind::Service,
        format!("vx-daemon does not answer at {endpoint}"),
    );
    failure.causes = match causes(cause) {
        causes if causes.is_empty() => vec![cause.to_string()],
        causes => causes,
    };
    failure = failure.hint("vx starts services on its own machine only");
    if let Endpoint::Tcp { port, .. } = endpoint {
        failure = failure.hint(format!(
            "start it there with `VX_DAEMON=127.0.0.1:{port} vx-daemon` and forward the port"
        ));
    }
    failure.hint("or unset VX_DAEMON to build on this machine")
}

/// The daemon ended in the middle.
pub(crate) fn broke_off(reason: impl Into<String>) -> Failure {
    Failure::new(
        Kind::Internal,
        "vx-daemon ended before the command was done; its outcome is not known",
    )
    .because(reason)
    .hint("run the command again; finished units are not built twice")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_code() {
        for kind in [
            Kind::Request,
            Kind::Usage,
            Kind::Service,
            Kind::Internal,
            Kind::Interrupted,
        ] {
            assert!(
                CODES.iter().any(|(code, _)| *code == kind.code()),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn a_remote_endpoint_is_told_how_to_start_the_service_there() {
        let endpoint: Endpoint = "builder:9001".parse().unwrap();
        let error = ConnectError::NotRunning {
            endpoint: endpoint.clone(),
            source: std::io::ErrorKind::ConnectionRefused.into(),
        };
        let failure = not_connected(&endpoint, &error);
        assert_eq!(failure.kind.code(), 3);
        assert_eq!(failure.message, "vx-daemon does not answer at builder:9001");
        assert!(
            failure
                .hints
                .iter()
                .any(|hint| hint.contains("VX_DAEMON=127.0.0.1:9001"))
        );
    }
}
