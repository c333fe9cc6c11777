//! `vx-casd`: opens the store of a `VX_HOME` and serves it until it is told to
//! stop or its owner is gone.
//!
//! Everything is derived from the environment, so that whoever starts it passes
//! on what it was given itself.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use cas_store::{GcOptions, Options, Store};
use clap::Parser;
use daemon_lifecycle::Listener;
use vx_proto::env::Settings;
use vx_proto::{server, token};

/// Stores blobs and action results for vx and other clients of the Remote
/// Execution API.
///
/// It listens where VX_CAS says (127.0.0.1:9002 unless set) and keeps everything
/// below `cas` in VX_HOME. Clients on a TCP port must send the token in VX_HOME.
#[derive(Parser)]
#[command(name = vx_casd::SERVICE, version)]
struct Arguments {}

/// What the store may take, in bytes; what was used within the last hour stays in any case.
const STORE_BYTES: u64 = 64 << 30;
/// How often the store is looked through, beginning at the start.
const COLLECTION: Duration = Duration::from_secs(3600);
/// Threads for requests; they only move bytes and wait.
const WORKERS: usize = 2;
/// Threads that may wait for the disk.
const DISK_THREADS: usize = 16;

fn main() -> ExitCode {
    daemon_lifecycle::limit_arenas();
    let Arguments {} = Arguments::parse();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                text.push_str(": ");
                text.push_str(&error.to_string());
                cause = error.source();
            }
            log(&format!("error: {text}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    // First of all, so that a listener that was handed over is never leaked to
    // anything else.
    let inherited = Listener::inherited()?;
    let settings = Settings::from_env()?;
    let token = token::load_or_create(&settings.home)?;
    let listener = match inherited {
        Some(listener) => listener,
        None => Listener::bind(&settings.cas)?,
    };
    let store = Store::open(&settings.home.join("cas"), Options::default())?;
    log(&format!(
        "serves {} at {} (version {}, pid {})",
        store.root().display(),
        listener.endpoint(),
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
    ));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(DISK_THREADS)
        .enable_all()
        .build()?;
    runtime.spawn(collect(store.clone()));
    let stop = runtime.block_on(server::serve(
        listener,
        vx_casd::routes(store),
        Some(token),
        server::version_info(vx_casd::SERVICE),
        std::future::pending(),
    ))?;
    log(match stop {
        server::Stop::OwnerGone => "ends, since its owner is gone",
        server::Stop::Signal | server::Stop::Requested => "ends, as it was asked to",
    });
    // A client that does not finish must not keep us.
    runtime.shutdown_background();
    Ok(())
}

/// Keeps the store within its limit: what was not used for longest goes first.
async fn collect(store: Store) {
    let mut hours = tokio::time::interval(COLLECTION);
    loop {
        hours.tick().await;
        let store = store.clone();
        let options = GcOptions {
            max_bytes: STORE_BYTES,
            dry_run: false,
        };
        match tokio::task::spawn_blocking(move || store.gc(&options)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => log(&format!("cannot look through the store: {error}")),
            Err(error) => log(&format!("looking through the store failed: {error}")),
        }
    }
}

/// One line for whoever reads the log. Nobody may be left to read it, which is no
/// reason to fail.
fn log(line: &str) {
    drop(writeln!(
        std::io::stderr().lock(),
        "{}: {line}",
        vx_casd::SERVICE
    ));
}
