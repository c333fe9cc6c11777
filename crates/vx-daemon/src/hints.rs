//! What a user can do about a unit that could not be built.

use vx_plan::{Unit, UnitKind};
use vx_toolchain::FindError;
use vx_toolchain::dist::{DistError, SignatureError};

use crate::deliver::DeliverError;
use crate::ended::{Failure, RunError};
use crate::toolchains::ToolchainError;

/// Marks in the words of a failed action, and what they mean inside of a sandbox.
///
/// The words come from libc, git, curl and the standard library in English, since actions run without a locale.
const SIGNS: &[(&[&str], &str)] = &[
    (
        &[
            "Network is unreachable",
            "Could not resolve host",
            "failed to lookup address information",
            "Temporary failure in name resolution",
            "Name or service not known",
        ],
        "actions have no network: what a build needs must be in its package or be a dependency",
    ),
    (
        &[
            "Read-only file system",
            "ReadOnlyFilesystem",
            "Permission denied",
            "PermissionDenied",
        ],
        "an action may write below OUT_DIR and the temporary directory only; sources, dependencies and the toolchain are read-only",
    ),
    (
        &[
            "No such file or directory",
            "NotFound",
            "couldn't read",
            "file not found",
        ],
        "an action sees its own workspace or package, its dependencies, the toolchain and /usr, and no other file; move the file into the workspace",
    ),
    (
        &["target may not be installed"],
        "vx fetches a toolchain with the targets that rust-toolchain.toml lists beside a `channel`: targets = [\"…\"]; `rustup target add` adds one to a toolchain of rustup",
    ),
    (
        &["No space left on device"],
        "the disk of the executor is full: free some space and build again",
    ),
];

/// Hints for an action that ended with an error.
pub(crate) fn of_failure(unit: &Unit, failure: &Failure) -> Vec<String> {
    let diagnostics = failure.diagnostics.messages.iter();
    let mut words: String = diagnostics
        .map(|message| message.rendered.as_str())
        .collect();
    words.push_str(failure.message.as_deref().unwrap_or_default());
    let mut hints: Vec<String> = SIGNS
        .iter()
        .filter(|(signs, _)| signs.iter().any(|sign| words.contains(sign)))
        .map(|(_, hint)| (*hint).to_owned())
        .collect();
    for name in &failure.diagnostics.missing_variables {
        hints.push(format!(
            "set `{name}` in the environment of vx or in `[env]` of .cargo/config.toml"
        ));
    }
    if unit.kind == UnitKind::BuildScriptRun && hints.is_empty() {
        hints.push("the build script ran in a sandbox: see what it printed above".to_owned());
    }
    hints
}

/// Hints for an action that could not be run.
pub(crate) fn of_run(error: &RunError) -> Vec<String> {
    match error {
        error if error.is_changed_source() => {
            vec!["a file was edited while it was built: build again".to_owned()]
        }
        RunError::TimedOut(_) => vec![
            "the action was ended; raise the limit with --action-timeout if it only needs longer"
                .to_owned(),
        ],
        RunError::Store(_) | RunError::Execute(_) => {
            vec!["run `vx doctor`; the logs are in the `log` folder of VX_HOME".to_owned()]
        }
        RunError::Restless => vec!["declare the variables with `rerun-if-env-changed`".to_owned()],
        _ => Vec::new(),
    }
}

/// Hints for a toolchain that cannot be had.
pub(crate) fn of_toolchain(error: &ToolchainError) -> Vec<String> {
    let hint = match error {
        ToolchainError::NotInstalled { lacks, .. } if !lacks.is_empty() => {
            "`vx toolchain install` in this directory installs one that has it for vx; `rustup target add` and `rustup component add` add it to rustup's"
                .to_owned()
        }
        ToolchainError::NotInstalled { name, .. } => format!(
            "`vx toolchain install {name}` installs it for vx, `rustup toolchain install {name}` for cargo as well"
        ),
        ToolchainError::Find(FindError::Unknown(name)) => format!(
            "`rustup toolchain link {name} PATH` makes a toolchain of your own known; `vx toolchain list` shows those that are"
        ),
        ToolchainError::NotOurs(_) => "`vx toolchain list` shows what is installed".to_owned(),
        ToolchainError::Damaged(_) | ToolchainError::Gone(_) => {
            "build again: it is installed anew, from the download cache where that has it"
                .to_owned()
        }
        ToolchainError::Dist(error) => match error {
            DistError::Offline { name, .. } => {
                format!("run `vx toolchain install {name}` while the network can be used")
            }
            DistError::NoRelease { .. } => {
                "VX_DIST_SERVER and RUSTUP_DIST_SERVER choose another server".to_owned()
            }
            DistError::Signature {
                source: SignatureError::UnknownKey(_),
                ..
            } => "VX_DIST_KEY names a file with the keys of a server of your own; nothing was installed"
                .to_owned(),
            DistError::Signature {
                source: SignatureError::Weak(_),
                ..
            } => "without VX_DIST_KEY, a release with such a signature counts as one without; nothing was installed"
                .to_owned(),
            DistError::Signature {
                source: SignatureError::Expired(_) | SignatureError::Revoked(_),
                ..
            } => "ask those who run the server for the key that they sign with now, and put it into the file that VX_DIST_KEY names; nothing was installed"
                .to_owned(),
            DistError::Signature { .. } => {
                "the manifest or its signature was changed on the way, or on the server; nothing was installed"
                    .to_owned()
            }
            DistError::Unsigned { .. } => {
                "with VX_DIST_KEY only signed releases are installed; without it, a server need not sign them"
                    .to_owned()
            }
            error if vx_proto::causes(error).contains("no space is left") => {
                "free some space, or set VX_DOWNLOAD_CACHE_DIR to a directory on another disk"
                    .to_owned()
            }
            DistError::Download { .. } => {
                "nothing was installed; the next try goes on where this one stopped".to_owned()
            }
            DistError::InUse { .. } => "try again when the build is done".to_owned(),
            _ => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    vec![hint]
}

/// A hint for a package that was wrong and is gone.
pub(crate) fn of_discarded() -> String {
    "it was removed from the download cache: build again, and it is fetched anew".to_owned()
}

/// A hint for a service that is gone while a build needed it.
pub(crate) fn of_silence(service: &str) -> String {
    format!(
        "{service} does not answer any more: build again, and it is started anew; finished units are not built twice"
    )
}

/// Hints for a result that could not be put into the target directory.
pub(crate) fn of_delivery(error: &DeliverError) -> Vec<String> {
    match error {
        error if vx_proto::causes(error).contains("No space left on device") => {
            vec![
                "the disk of the target directory is full: free some space and build again"
                    .to_owned(),
            ]
        }
        DeliverError::Write { .. } => {
            vec!["check the permissions and the free space of the target directory".to_owned()]
        }
        DeliverError::Fetch { .. } => {
            vec!["build again; if that fails, run `vx doctor`".to_owned()]
        }
    }
}
