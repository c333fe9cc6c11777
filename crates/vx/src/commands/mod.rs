//! One file for each command.

mod build;
mod clean;
mod completions;
mod doctor;
mod explain;
mod help;
mod kill;
mod run;
mod status;
mod toolchain;
mod version;

use std::io;

use vx_proto::command::BuildKind;

use crate::cli::Command;
use crate::context::Context;
use crate::exit::{Failure, Kind};

/// Carries out a command that needs no settings; `None` for the others.
pub(crate) fn without_settings(command: &Command) -> Option<Result<u8, Failure>> {
    match command {
        Command::Completions { shell } => Some(completions::run(*shell)),
        Command::Help { topic } => Some(help::run(topic.as_deref())),
        _ => None,
    }
}

/// Carries out a command; the exit code of one that worked.
pub(crate) fn dispatch(context: &Context, command: &Command) -> Result<u8, Failure> {
    match command {
        Command::Build(args) => build::run(context, args, BuildKind::Build),
        Command::Check(args) => build::run(context, args, BuildKind::Check),
        Command::Run(args) => run::run(context, args),
        Command::Explain(args) => explain::run(context, args),
        Command::Clean(args) => clean::run(context, args),
        Command::Toolchain(args) => toolchain::run(context, args),
        Command::Status => status::run(context),
        Command::Kill => kill::run(context),
        Command::Version => version::run(context),
        Command::Doctor => doctor::run(context),
        Command::Completions { shell } => completions::run(*shell),
        Command::Help { topic } => help::run(topic.as_deref()),
    }
}

/// The failure of writing to standard output. A reader that left is not told
/// anything: it did so on purpose.
fn output(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::told(Kind::Request),
        _ => Failure::new(Kind::Internal, "cannot write to standard output")
            .because(error.to_string()),
    }
}
