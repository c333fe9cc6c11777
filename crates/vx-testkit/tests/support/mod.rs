//! Small services for the tests of the kit: this test binary, run again in a
//! role, and shell scripts.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, its helpers as well, and services talk"
)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::FromRawFd;
use std::path::Path;

use vx_testkit::{ServiceBuilder, TestEnv};

const ROLE: &str = "SERVICE_ROLE";

/// A service that plays a role of [`role`].
pub(crate) fn service(env: &TestEnv, name: &str, role: &str) -> ServiceBuilder {
    let me = std::env::current_exe().unwrap();
    env.service(name, me.to_str().unwrap())
        .args([
            "--exact",
            "support::role",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(ROLE, role)
}

/// A command that plays a role of [`role`].
pub(crate) fn command(env: &TestEnv, role: &str) -> vx_testkit::Command {
    let me = std::env::current_exe().unwrap();
    env.command(me.to_str().unwrap())
        .args([
            "--exact",
            "support::role",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(ROLE, role)
}

/// The other side of [`service`]; an empty test when run as one.
#[test]
fn role() {
    match std::env::var(ROLE).as_deref() {
        Ok("handed") => {
            assert_eq!(
                std::env::var("LISTEN_PID").unwrap(),
                std::process::id().to_string()
            );
            assert_eq!(std::env::var("LISTEN_FDS").unwrap(), "1");
            // SAFETY: the socket was handed over as descriptor 3.
            answer(unsafe { TcpListener::from_raw_fd(3) });
        }
        Ok("reports") => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            println!(
                "listening on port {}",
                listener.local_addr().unwrap().port()
            );
            answer(listener);
        }
        Ok("binds") => answer(TcpListener::bind(std::env::var("PORT_ADDRESS").unwrap()).unwrap()),
        Ok("connects") => {
            let address = std::env::var("TO").unwrap();
            match std::net::TcpStream::connect(address) {
                Ok(_) => println!("connected"),
                Err(error) => println!("refused: {error}"),
            }
        }
        Ok("opens") => {
            println!("up");
            let lines = std::fs::File::open(std::env::var("GO").unwrap()).unwrap();
            for _line in std::io::BufRead::lines(std::io::BufReader::new(lines)) {
                // Closed before that is said: whoever reads it may take what is free.
                match std::fs::File::open("/dev/null").map(drop) {
                    Ok(()) => println!("opened"),
                    Err(error) => println!("{error}"),
                }
            }
        }
        Ok("dies") => {
            eprintln!("the configuration is wrong");
            std::process::exit(7);
        }
        _ => {}
    }
}

/// Answers each request with the nonce.
fn answer(listener: TcpListener) {
    let nonce = std::env::var("VX_TESTKIT_NONCE").unwrap_or_default();
    println!("serving");
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut request = [0; 16];
        let length = stream.read(&mut request).unwrap_or(0);
        if length > 0 {
            stream.write_all(nonce.as_bytes()).ok();
        }
    }
}

/// Whether the process runs; one that only waits to be collected does not.
pub(crate) fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with('Z'))
}

/// The id that a script wrote.
pub(crate) fn pid_in(file: &Path) -> u32 {
    std::fs::read_to_string(file)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}
