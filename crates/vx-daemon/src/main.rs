//! `vx-daemon`: plans builds and drives the store and the executor.
//!
//! It asks cargo what a build consists of, turns each unit into an action, and lets the services do the rest. It runs no compiler and reads no file of theirs.

mod attempt;
mod backends;
mod build;
mod cargo;
mod cargo_config;
mod cargo_home;
mod cargo_words;
mod changed;
mod clean;
mod crate_downloads;
mod deliver;
mod diagnostics;
mod draft;
mod ended;
mod executor;
mod fetching;
mod hints;
mod history;
mod inputs;
mod lock_file;
mod lookup;
mod memory;
mod missing;
mod names;
mod out_dir;
mod outcome;
mod packages;
mod project;
mod report;
mod runner;
mod schedule;
mod seed;
mod service;
mod slots;
mod state;
mod tether;
mod toolchain_command;
mod toolchains;
mod turns;
mod unit;
mod verify;
mod workspace;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use daemon_contract::ServiceVersion;
use daemon_lifecycle::Listener;
use daemon_rpc::{ServerConfig, serve};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use vx_proto::PROTOCOL_VERSION;
use vx_proto::server::{self, Start};

use crate::service::Service;
use crate::state::State;

const SERVICE: &str = "vx-daemon";

/// Plans builds for vx and drives the store and the executor.
///
/// It listens where VX_DAEMON says (127.0.0.1:9001 unless set) and starts vx-casd and vx-execd when a build needs them. `vx` starts it when it is not running, and `vx kill` ends it with what it started.
#[derive(Parser)]
#[command(name = SERVICE, version)]
struct Arguments {}

/// Threads that may wait for files and for cargo.
const BLOCKING_THREADS: usize = 32;
/// Commands at a time; more are told to come again.
const COMMANDS: usize = 64;
/// How long commands may go on when the daemon is to end; they are cancelled then.
const DRAIN: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let Arguments {} = Arguments::parse();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => server::fail(SERVICE, error.as_ref()),
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    daemon_lifecycle::limit_arenas();
    let start = Start::of_process(|settings| &settings.daemon)?;
    start.announce(SERVICE, &start.settings.home);
    let runtime = server::runtime(BLOCKING_THREADS)?;
    let config = ServerConfig {
        token: Some(*start.token.as_bytes()),
        max_concurrent: COMMANDS,
        drain: DRAIN,
        ..ServerConfig::new(SERVICE, env!("CARGO_PKG_VERSION"), PROTOCOL_VERSION)
    };
    let state = Arc::new(State::new(start.settings, start.token));
    let served = runtime.block_on(serve_until_asked(start.listener, config, state.clone()));
    // Whatever way the daemon ends, its services end first, and nobody else's.
    state.backends.end();
    runtime.shutdown_background();
    server::log(SERVICE, "ends");
    served
}

async fn serve_until_asked(
    listener: Listener,
    config: ServerConfig,
    state: Arc<State>,
) -> Result<(), Box<dyn Error>> {
    let shutdown = CancellationToken::new();
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::spawn({
        let shutdown = shutdown.clone();
        async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            shutdown.cancel();
        }
    });
    let service = Service {
        state,
        version: ServiceVersion {
            service: SERVICE.to_owned(),
            crate_version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL_VERSION,
            pid: std::process::id(),
            properties: Default::default(),
        },
        ending: CancellationToken::new(),
        shutdown: shutdown.clone(),
    };
    let listener = match listener {
        Listener::Tcp(listener) => daemon_rpc::server::Listener::from(listener),
        Listener::Unix(listener) => daemon_rpc::server::Listener::from(listener),
    };
    Ok(serve(listener, config, service, shutdown).await?)
}
