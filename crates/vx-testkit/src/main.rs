//! `vx-testkit sweep`: a step after the tests that fails if a test run left
//! processes behind.
//!
//! It knows nothing of what the tests were about.

use std::io::Write;
use std::process::ExitCode;

const USAGE: &str = "\
Find processes that test runs left behind

Usage: vx-testkit sweep [--run <NEXTEST_RUN_ID>] [--kill]

Options:
  --run <ID>  Look for everything that this finished nextest run started, too
  --kill      Kill what is found

Exit codes: 0 nothing was found, 1 something was found, 2 wrong usage
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let mut run_id = None;
    let mut kill = false;
    let mut sweep = false;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "sweep" if !sweep => sweep = true,
            "--kill" if sweep => kill = true,
            "--run" if sweep => match args.next() {
                Some(id) => run_id = Some(id),
                None => return wrong_usage("`--run` needs an id"),
            },
            "-h" | "--help" => return say(USAGE, ExitCode::SUCCESS),
            "-V" | "--version" => {
                let version = concat!("vx-testkit ", env!("CARGO_PKG_VERSION"), "\n");
                return say(version, ExitCode::SUCCESS);
            }
            other => return wrong_usage(&format!("unexpected argument `{other}`")),
        }
    }
    if !sweep {
        return wrong_usage("nothing to do");
    }
    let found = if kill {
        vx_testkit::kill_orphans(run_id.as_deref())
    } else {
        vx_testkit::orphans(run_id.as_deref())
    };
    if found.is_empty() {
        return say("nothing was left behind\n", ExitCode::SUCCESS);
    }
    let verb = if kill { "killed" } else { "left running" };
    let text: String = found
        .iter()
        .map(|process| format!("{verb}: {process}\n"))
        .collect();
    say(&text, ExitCode::from(1))
}

/// A reader that has left wants nothing more to be said.
fn say(text: &str, code: ExitCode) -> ExitCode {
    std::io::stdout().write_all(text.as_bytes()).ok();
    code
}

fn wrong_usage(why: &str) -> ExitCode {
    let text = format!("error: {why}\n\n{USAGE}");
    std::io::stderr().write_all(text.as_bytes()).ok();
    ExitCode::from(2)
}
