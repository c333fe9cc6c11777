//! `vx-casd`: opens the store of a `VX_HOME` and serves it until it is told to
//! stop or its owner is gone.
//!
//! Everything is derived from the environment, so that whoever starts it passes
//! on what it was given itself.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use cas_store::{GcOptions, Options, Store};
use clap::Parser;
use vx_proto::server::{self, Start};

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
/// Threads that may wait for the disk.
const DISK_THREADS: usize = 16;

fn main() -> ExitCode {
    daemon_lifecycle::limit_arenas();
    let Arguments {} = Arguments::parse();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => server::fail(vx_casd::SERVICE, error.as_ref()),
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let start = Start::of_process(|settings| &settings.cas)?;
    let store = Store::open(&start.settings.home.join("cas"), Options::default())?;
    start.announce(vx_casd::SERVICE, store.root());
    let runtime = server::runtime(DISK_THREADS)?;
    runtime.spawn(collect(store.clone()));
    let stop = runtime.block_on(server::serve(
        start.listener,
        vx_casd::routes(store),
        Some(start.token),
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

fn log(line: &str) {
    server::log(vx_casd::SERVICE, line);
}
