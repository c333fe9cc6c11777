//! A daemon and its command line in one program: it counts how often it was asked.
//!
//! ```sh
//! cargo run -p daemon-lifecycle --example counter            # starts it, or finds it
//! cargo run -p daemon-lifecycle --example counter -- status
//! cargo run -p daemon-lifecycle --example counter -- stop
//! ```

use std::error::Error;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use daemon_contract::StatusRequest;
use daemon_lifecycle::{
    Build, Connection, Daemon, Ensure, Instance, Listener, ServiceSpec, status, stop,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout();
    let argument = std::env::args().nth(1).unwrap_or_default();
    if argument == "daemon" {
        // Before there are threads.
        return serve(&Instance::inherited().ok_or("started by hand")?);
    }
    let instance = Instance::of_user("counter", b"")?;
    let soon = Instant::now() + Duration::from_secs(1);
    match argument.as_str() {
        "status" => {
            let status = status(&instance, &StatusRequest::new("counter"), soon)?;
            writeln!(out, "{}", serde_json::to_string_pretty(&status)?)?;
        }
        "stop" => {
            let stopped = stop(&instance, Duration::from_secs(5), "the user asked")?;
            writeln!(out, "{stopped:?}")?;
        }
        _ => {
            let spec = ServiceSpec {
                program: std::env::current_exe()?,
                args: vec!["daemon".into()],
                env: vec![],
                log: instance.folder().join("log"),
                lifeline: false,
            };
            let ensured = Ensure::new(&instance, &spec).run()?;
            let Connection::Unix(mut stream) = ensured.connection else {
                return Err("not a Unix socket".into());
            };
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            write!(out, "{answer}")?;
        }
    }
    Ok(())
}

fn serve(instance: &Instance) -> Result<(), Box<dyn Error>> {
    let build = Build::current(env!("CARGO_PKG_VERSION")).ok();
    let (mut daemon, listener) = Daemon::begin(instance, build)?;
    let Listener::Unix(listener) = listener else {
        return Err("not a Unix socket".into());
    };
    daemon.ready();
    for (count, stream) in (1..).zip(listener.incoming()) {
        // A client that left was counted as well.
        drop(writeln!(stream?, "asked {count} times"));
    }
    Ok(())
}
