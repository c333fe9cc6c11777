//! One file per command; each returns the exit code.

mod doctor;
mod fetch;
mod forget;
mod gc;
mod ingest;
mod link;
mod manifest;
mod restore;
mod status;
mod verify;

use std::io;
use std::path::Path;

use clap::CommandFactory;
use vrift_store::Project;
use vrift_store::manifest::Manifest;

use crate::cli::{Cli, Command};
use crate::exit::{Failure, Kind};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::target::Target;

/// Runs a command.
pub(crate) fn run(cli: &Cli, output: &Output) -> Result<u8, Failure> {
    match &cli.command {
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "vrift", &mut io::stdout());
            return Ok(0);
        }
        Command::Manifest { path } => return manifest::run(path, output),
        Command::Doctor => return doctor::run(&cli.store, output),
        _ => {}
    }
    let interrupt = Interrupt::install().map_err(|error| {
        Failure::new(Kind::Internal, "could not listen for signals").because(error.to_string())
    })?;
    let target = Target::find(&cli.store, output)?;
    match &cli.command {
        Command::Ingest(options) => ingest::run(options, &target, output, interrupt),
        Command::Link(options) => link::run(options, &target, output, interrupt),
        Command::Restore { path } => restore::run(path, &target, output, interrupt),
        Command::Status => status::run(&target, output),
        Command::Gc(options) => gc::run(options, &target, output),
        Command::Verify(options) => verify::run(options, &target, output),
        Command::Fetch {
            digest,
            output: file,
        } => fetch::run(digest, file.as_deref(), &target, output),
        Command::Forget { path } => forget::run(path, &target, output),
        Command::Manifest { .. } | Command::Doctor | Command::Completions { .. } => Ok(0),
    }
}

/// Standard output that is closed or full.
pub(crate) fn unwritten(error: io::Error) -> Failure {
    let kind = match error.kind() {
        // `vrift manifest | head` is no failure.
        io::ErrorKind::BrokenPipe => Kind::Unread,
        _ => Kind::Internal,
    };
    Failure::new(kind, "could not write the result").because(error.to_string())
}

/// The manifest of a directory, or the one in a file.
pub(crate) fn load_manifest(path: &Path) -> Result<Manifest, Failure> {
    if path.is_dir() {
        let project = Project::open(path)?;
        return project.manifest()?.ok_or_else(|| {
            Failure::new(
                Kind::Request,
                format!("`{}` was not ingested", path.display()),
            )
            .hint(format!("run `vrift ingest {}` first", path.display()))
        });
    }
    Ok(Project::read_manifest(path)?)
}
