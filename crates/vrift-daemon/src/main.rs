//! `vrift-daemon`: parses and serves, or installs itself for one user.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use vrift_daemon::{Config, install_for_user, serve};

/// One deduplicating store for all users of this machine.
#[derive(Debug, Parser)]
#[command(
    name = "vrift-daemon",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(flatten)]
    config: Config,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the units of a service, and say how to start it
    Install {
        /// For this user only; for all users, install the package
        #[arg(long, required = true)]
        user: bool,
    },
}

fn main() -> ExitCode {
    vrift_daemon::keep_little_memory();
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Install { .. }) => install(),
        None => serve(cli.config).map_err(|error| chain(&error)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _gone = writeln!(std::io::stderr(), "error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

fn install() -> Result<(), String> {
    let home = std::env::home_dir().ok_or("your home directory is not known; set HOME")?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let written = install_for_user(&home, &program).map_err(|error| error.to_string())?;
    let mut out = std::io::stdout();
    let mut say = |line: String| writeln!(out, "{line}").map_err(|error| error.to_string());
    for path in written {
        say(format!("wrote {}", path.display()))?;
    }
    let [start, settle] = vrift_daemon::HOW_TO_START_ALONE;
    say(format!("start it: {start}"))?;
    say(format!("use it:   {settle}"))
}
