//! What an environment costs a test that does nothing, over a bare test that
//! does nothing, both run by nextest.
//!
//! For nextest this program is a test binary: it lists tests when it is asked
//! for one of the variants, and is an empty one when told to run it. Variants
//! take turns, so that a busy machine disturbs all of them. Run with
//! `cargo bench -p vx-testkit --bench empty [-- <tests> <rounds>]`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and has nobody to return errors to"
)]

use std::process::Command;
use std::time::Instant;

use vx_testkit::{TestEnv, TestEnvBuilder, Tier};

const VARIANT: &str = "EMPTY_VARIANT";
const TESTS: &str = "EMPTY_TESTS";
const VARIANTS: [&str; 4] = ["bare", "plain", "processes", "sealed"];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Ok(variant) = std::env::var(VARIANT) {
        return as_tests(&variant, &args);
    }
    // Not when a test runner only looks whether it starts.
    if !args.iter().any(|arg| arg == "--bench") {
        return;
    }
    let mut numbers = args.iter().filter_map(|arg| arg.parse::<usize>().ok());
    let tests = numbers.next().unwrap_or(100);
    let rounds = numbers.next().unwrap_or(5);
    let mut costs: Vec<Vec<Cost>> = VARIANTS.iter().map(|_| Vec::new()).collect();
    // What the first one finds cold is not the variant's.
    run("bare", tests);
    for _ in 0..rounds {
        for (variant, costs) in VARIANTS.iter().zip(&mut costs) {
            costs.push(run(variant, tests));
        }
    }
    println!("{tests} empty tests, -j 2, medians of {rounds} rounds, ms per test");
    println!(
        "{:<12}{:>10}{:>14}{:>12}{:>14}",
        "variant", "time", "over bare", "CPU", "over bare"
    );
    for (variant, own) in VARIANTS.iter().zip(&costs) {
        let per_test = |seconds: Vec<f64>| median(seconds) * 1e3 / tests as f64;
        let over = |of: fn(&Cost) -> f64| {
            let pairs = own.iter().zip(&costs[0]);
            per_test(pairs.map(|(own, bare)| of(own) - of(bare)).collect())
        };
        println!(
            "{variant:<12}{:>10.2}{:>+14.2}{:>12.2}{:>+14.2}",
            per_test(own.iter().map(|cost| cost.time).collect()),
            over(|cost| cost.time),
            per_test(own.iter().map(|cost| cost.cpu).collect()),
            over(|cost| cost.cpu),
        );
    }
}

/// Seconds of a whole run.
struct Cost {
    time: f64,
    cpu: f64,
}

fn run(variant: &str, tests: usize) -> Cost {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command
        .args(["nextest", "run", "-p", env!("CARGO_PKG_NAME")])
        .args(["--cargo-profile", "bench", "--bench", "empty", "-j", "2"])
        .env(VARIANT, variant)
        .env(TESTS, tests.to_string());
    let (cpu, start) = (cpu(), Instant::now());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains(&format!("{tests} tests run: {tests} passed")),
        "{said}"
    );
    Cost {
        time: start.elapsed().as_secs_f64(),
        cpu: self::cpu() - cpu,
    }
}

/// Of everything that this process has started and that has ended.
fn cpu() -> f64 {
    // SAFETY: zeroes are a valid value, which the call fills in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// What nextest asks of a test binary.
fn as_tests(variant: &str, args: &[String]) {
    if args.iter().any(|arg| arg == "--list") {
        let tests: usize = std::env::var(TESTS).unwrap().parse().unwrap();
        if !args.iter().any(|arg| arg == "--ignored") {
            for test in 0..tests {
                println!("{variant}_{test}: test");
            }
        }
        return;
    }
    let builder: Option<TestEnvBuilder> = match variant {
        "plain" => Some(TestEnv::builder()),
        "processes" => Some(TestEnv::builder().tier(Tier::Processes)),
        "sealed" => Some(TestEnv::builder().require_sealed()),
        _ => None,
    };
    if let Some(builder) = builder {
        let env = builder.build();
        assert!(variant == "plain" || env.tier() != Tier::Plain);
        env.finish();
    }
}
