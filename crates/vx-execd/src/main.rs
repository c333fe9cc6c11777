//! `vx-execd`: runs actions in sandboxes until it is told to stop or its owner is gone.
//!
//! Everything is derived from the environment, so that whoever starts it passes on what it was given itself.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use vx_execd::Server;
use vx_proto::server::{self, Start, Stop};
use vx_sandbox::Launcher;

/// Runs actions in sandboxes, for vx and other clients of the Remote Execution
/// API.
///
/// It listens where VX_EXEC says (127.0.0.1:9003 unless set), takes inputs from
/// and puts outputs into the store at VX_CAS, and keeps everything of its own
/// below `exec` in VX_HOME. Clients on a TCP port must send the token in VX_HOME.
#[derive(Parser)]
#[command(name = vx_execd::SERVICE, version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Tells whether sandboxes work on this machine, and if not, what to do.
    Probe {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Threads that may block: one per running action, and some for the disk.
const BLOCKING_THREADS: usize = 512;

fn main() -> ExitCode {
    vx_sandbox::init_if_requested();
    let done = match Arguments::parse().command {
        Some(Command::Probe { json }) => probe(json),
        None => serve(),
    };
    done.unwrap_or_else(|error| server::fail(vx_execd::SERVICE, error.as_ref()))
}

fn probe(json: bool) -> Result<ExitCode, Box<dyn Error>> {
    let probe = vx_sandbox::probe(&Launcher::new()?);
    let mut out = anstream::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&probe)?)?;
    } else if let Some(tier) = probe.tier {
        let tier = match tier {
            vx_sandbox::Tier::UserNamespace => "in user namespaces",
            vx_sandbox::Tier::RootOnly => "as root, without user namespaces",
        };
        writeln!(out, "sandboxes work, {tier}")?;
    } else {
        writeln!(
            out,
            "sandboxes do not work: {}",
            probe.problem.as_deref().unwrap_or_default()
        )?;
        for remedy in &probe.remedies {
            writeln!(out, "hint: {remedy}")?;
        }
    }
    Ok(if probe.tier.is_some() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn serve() -> Result<ExitCode, Box<dyn Error>> {
    daemon_lifecycle::limit_arenas();
    let start = Start::of_process(|settings| &settings.exec)?;
    let runtime = server::runtime(BLOCKING_THREADS)?;
    let executor = {
        let _entered = runtime.enter();
        Server::open(&start.settings, Some(&start.token))?
    };
    start.announce(vx_execd::SERVICE, &start.settings.home.join("exec"));
    let routes = executor.routes();
    let stop = runtime.block_on(server::serve(
        start.listener,
        routes,
        Some(start.token),
        executor,
        std::future::pending(),
    ))?;
    // Actions that still run have nobody to report to; their sandboxes end with this process.
    runtime.shutdown_background();
    let why = match stop {
        Stop::OwnerGone => "ends, since its owner is gone",
        Stop::Requested | Stop::Signal => "ends, as it was asked to",
    };
    server::log(vx_execd::SERVICE, why);
    Ok(ExitCode::SUCCESS)
}
