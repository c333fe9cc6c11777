//! `vx help`: of the program, of a command, or of a topic.

use std::io::{self, Write};

use clap::CommandFactory;
use clap::error::ErrorKind;

use crate::cli::{Cli, environment_table};
use crate::exit::{self, Failure};

/// Prints the help.
pub(super) fn run(topic: Option<&str>) -> Result<u8, Failure> {
    let mut program = Cli::command();
    program.build();
    let shown = match topic {
        Some("exit-codes") => return text(&exit::table()),
        Some("environment") => return text(&environment_table()),
        None => program.print_long_help(),
        Some(name) => match program.find_subcommand_mut(name) {
            Some(command) => command.print_long_help(),
            None => {
                let known: Vec<&str> = program
                    .get_subcommands()
                    .map(clap::Command::get_name)
                    .chain(["environment", "exit-codes"])
                    .collect();
                let message = format!(
                    "there is no help about `{name}`; there is about: {}",
                    known.join(", ")
                );
                program.error(ErrorKind::InvalidValue, message).exit()
            }
        },
    };
    shown.map_err(|error| super::output(&error))?;
    Ok(0)
}

fn text(text: &str) -> Result<u8, Failure> {
    writeln!(io::stdout(), "{text}").map_err(|error| super::output(&error))?;
    Ok(0)
}
