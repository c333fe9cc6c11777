//! What is compared, side by side: a server and its clients for each. Each server is a
//! program of its own, so that none is charged for the code of the others.

pub mod calls;
pub mod grpc;
pub mod ours;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Bytes of a message.
pub const MESSAGE: usize = 64;

/// Durations of the same thing.
pub struct Samples(pub Vec<Duration>);

impl Samples {
    pub fn take(rounds: usize, mut what: impl FnMut()) -> Samples {
        let one = |_| {
            let began = Instant::now();
            what();
            began.elapsed()
        };
        Samples((0..rounds).map(one).collect())
    }

    /// In microseconds.
    pub fn percentile(&mut self, percent: usize) -> f64 {
        self.0.sort();
        self.0[(self.0.len() - 1) * percent / 100].as_secs_f64() * 1e6
    }
}

/// Runs it on a runtime with one thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// The socket that a server is told to serve at.
pub fn socket_of_this_server() -> PathBuf {
    // As daemons do that mostly wait.
    daemon_lifecycle::limit_arenas();
    std::env::args_os()
        .nth(1)
        .expect("usage: serve-... SOCKET")
        .into()
}
