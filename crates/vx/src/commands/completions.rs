//! `vx completions`: a completion script for a shell.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::Failure;

/// Prints the script.
pub(super) fn run(shell: Shell) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "vx", &mut script);
    io::stdout()
        .write_all(&script)
        .map_err(|error| super::output(&error))?;
    Ok(0)
}
