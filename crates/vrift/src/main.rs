//! `vrift`: directories in a store that keeps each content once.
//!
//! This program parses, finds the store that is meant, and shows what came of it.

mod cli;
mod commands;
mod exit;
mod interrupt;
mod options;
mod output;
mod platform;
mod progress;
mod remote;
mod target;

use std::process::ExitCode;

use clap::Parser;

use cli::Cli;
use output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(&cli.output);
    match commands::run(&cli, &output) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.kind.code())
        }
    }
}
