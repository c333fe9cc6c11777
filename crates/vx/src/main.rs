//! `vx`: builds Rust projects hermetically, with the commands of cargo.
//!
//! This program parses, asks vx-daemon, and shows what it answers. It does not
//! know how anything is built.

mod cli;
mod commands;
mod context;
mod daemon;
mod exit;
mod interrupt;
mod options;
mod programs;
mod render;
mod services;
mod session;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, split_toolchain};
use context::Context;
use exit::Failure;
use options::OutputOptions;
use terminal::Colors;

fn main() -> ExitCode {
    let (toolchain, args) = split_toolchain(std::env::args_os());
    let Cli { output, command } = Cli::parse_from(args);
    let colors = Colors::new(
        output.color,
        std::env::var("CARGO_TERM_COLOR").ok().as_deref(),
    );
    match run(command, &output, colors, toolchain) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            terminal::tell(&mut colors.stderr(), &failure);
            ExitCode::from(failure.kind.code())
        }
    }
}

fn run(
    command: Command,
    output: &OutputOptions,
    colors: Colors,
    toolchain: Option<String>,
) -> Result<u8, Failure> {
    if let Some(done) = commands::without_settings(&command) {
        return done;
    }
    let context = Context::new(output, colors, toolchain)?;
    commands::dispatch(&context, &command)
}
