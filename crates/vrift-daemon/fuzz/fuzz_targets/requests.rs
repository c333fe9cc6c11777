//! Any bytes as the requests of a caller: the daemon answers or hangs up, and goes on to serve others.

#![no_main]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::OnceLock;

use clap::Parser;
use serde_json::json;
use vrift_daemon::{Client, Config};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let socket = daemon();
    let mut caller = UnixStream::connect(socket).expect("the daemon listens");
    // It may hang up before it has read everything.
    let _refused = caller.write_all(data);
    let _gone = caller.shutdown(Shutdown::Write);
    let mut answers = Vec::new();
    let _gone = caller.read_to_end(&mut answers);
    for line in answers
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        serde_json::from_slice::<serde_json::Value>(line).expect("every answer is JSON");
    }
    let mut other = Client::connect(socket).expect("the daemon listens");
    other
        .call("version", json!({}), &[])
        .expect("others are served");
});

/// The socket of a daemon in this process, which serves until the process ends.
fn daemon() -> &'static PathBuf {
    static SOCKET: OnceLock<PathBuf> = OnceLock::new();
    SOCKET.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a folder").keep();
        let socket = dir.join("s");
        let config = Config::parse_from([
            "vrift-daemon".as_ref(),
            "--home".as_ref(),
            dir.join("home").as_os_str(),
            "--socket".as_ref(),
            socket.as_os_str(),
            // Whatever paths a caller names, little is read of them.
            "--max-blob".as_ref(),
            "64K".as_ref(),
            "--quota".as_ref(),
            "1M".as_ref(),
            "--private".as_ref(),
        ]);
        std::thread::spawn(move || vrift_daemon::serve(config));
        while UnixStream::connect(&socket).is_err() {
            std::thread::yield_now();
        }
        socket
    })
}
