//! `vx-execd`: runs actions in sandboxes until it is told to stop or its owner is gone.
//!
//! Everything is derived from the environment, so that whoever starts it passes on what it was given itself.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use daemon_lifecycle::Listener;
use vx_execd::Server;
use vx_proto::env::Settings;
use vx_proto::server::Stop;
use vx_proto::{server, token};
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

/// Threads for requests; they only move bytes and wait.
const WORKERS: usize = 2;
/// Threads that may block: one per running action, and some for the disk.
const BLOCKING_THREADS: usize = 512;

fn main() -> ExitCode {
    vx_sandbox::init_if_requested();
    let done = match Arguments::parse().command {
        Some(Command::Probe { json }) => probe(json),
        None => serve(),
    };
    done.unwrap_or_else(|error| {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        log(&format!("error: {text}"));
        ExitCode::FAILURE
    })
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
    // First of all, so that a listener that was handed over is never leaked to
    // anything else.
    let inherited = Listener::inherited()?;
    let settings = Settings::from_env()?;
    let token = token::load_or_create(&settings.home)?;
    let listener = match inherited {
        Some(listener) => listener,
        None => Listener::bind(&settings.exec)?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()?;
    let executor = {
        let _entered = runtime.enter();
        Server::open(&settings, Some(&token))?
    };
    log(&format!(
        "serves {} at {} (version {}, pid {})",
        settings.home.join("exec").display(),
        listener.endpoint(),
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
    ));
    let routes = executor.routes();
    let stop = runtime.block_on(server::serve(
        listener,
        routes,
        Some(token),
        executor,
        std::future::pending(),
    ))?;
    // Actions that still run have nobody to report to; their sandboxes end with this process.
    runtime.shutdown_background();
    log(match stop {
        Stop::OwnerGone => "ends, since its owner is gone",
        Stop::Requested | Stop::Signal => "ends, as it was asked to",
    });
    Ok(ExitCode::SUCCESS)
}

/// What an operator should know goes to standard error, one line each.
fn log(line: &str) {
    // Nobody can be told that the log is gone.
    drop(writeln!(anstream::stderr().lock(), "vx-execd: {line}"));
}
