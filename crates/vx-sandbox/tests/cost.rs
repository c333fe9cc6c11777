//! What one run costs, printed for whoever asks (`--nocapture`); the bound only catches a blunder.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::{Duration, Instant};

use vx_sandbox::Launcher;

#[test]
fn a_run_costs_milliseconds() {
    let launcher = Launcher::new().unwrap();
    let mut spec = support::shell("");
    spec.argv = vec!["/bin/true".into()];
    let mut times: Vec<Duration> = (0..20)
        .map(|_| {
            let (io, _, _) = support::io();
            let start = Instant::now();
            launcher.spawn(&spec, io).unwrap().wait().unwrap();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("best {:?}, median {:?}", times[0], times[10]);
    assert!(times[0] < Duration::from_secs(1), "{times:?}");
}
