//! `vx doctor`: what is wrong with this machine's setup, and how to mend it.
//!
//! Looks only; starts no service and creates nothing.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;
use vx_proto::env::Settings;
use vx_proto::token::{self, TOKEN_FILE, TokenError};

use crate::context::Context;
use crate::exit::{Failure, Kind, one_line};
use crate::programs;
use crate::services::{self, Answer, Service};
use crate::terminal::{ERROR, GOOD, WARNING, hint_line, paint};

/// Less free space than this is worth a warning, in bytes.
const LITTLE_SPACE: u64 = 2 * 1024 * 1024 * 1024;
/// With less than this no build can succeed, in bytes.
const NO_SPACE: u64 = 64 * 1024 * 1024;

#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    Ok,
    Warn,
    Fail,
}

/// One line of the report.
#[derive(Debug)]
struct Finding {
    grade: Grade,
    what: &'static str,
    text: String,
    mend: Vec<String>,
}

impl Finding {
    fn new(grade: Grade, what: &'static str, text: impl Into<String>) -> Finding {
        Finding {
            grade,
            what,
            text: text.into(),
            mend: Vec::new(),
        }
    }

    fn mend(mut self, how: impl Into<String>) -> Finding {
        self.mend.push(how.into());
        self
    }
}

/// Examines everything and prints what it finds.
pub(super) fn run(context: &Context) -> Result<u8, Failure> {
    let settings = &context.settings;
    let mut findings = vec![
        sandbox(),
        home(settings),
        space(&settings.home),
        secret(settings),
    ];
    findings.extend(
        services::ask_all(settings)
            .iter()
            .map(|service| endpoint(service, settings)),
    );
    findings.extend([program("vx-daemon"), program("vx-casd")]);
    findings.extend([tool("cargo", context), tool("rustc", context), linker()]);

    let text: String = findings.iter().map(line).collect();
    context
        .colors
        .stdout()
        .write_all(text.as_bytes())
        .map_err(|error| super::output(&error))?;
    match findings.iter().any(|finding| finding.grade == Grade::Fail) {
        true => Ok(Kind::Request.code()),
        false => Ok(0),
    }
}

fn line(finding: &Finding) -> String {
    let grade = match finding.grade {
        Grade::Ok => paint(GOOD, "  ok"),
        Grade::Warn => paint(WARNING, "warn"),
        Grade::Fail => paint(ERROR, "fail"),
    };
    let mut text = format!("{grade} {:<10} {}\n", finding.what, finding.text);
    for hint in &finding.mend {
        text.push_str("     ");
        text.push_str(&hint_line(hint));
    }
    text
}

/// What `vx-execd probe --json` answers.
#[derive(Deserialize)]
struct Probe {
    tier: Option<String>,
    problem: Option<String>,
    #[serde(default)]
    remedies: Vec<String>,
}

fn sandbox() -> Finding {
    const WHAT: &str = "sandbox";
    let Some(execd) = programs::find("vx-execd") else {
        return program("vx-execd");
    };
    let output = Command::new(&execd)
        .args(["probe", "--json"])
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            return Finding::new(
                Grade::Fail,
                WHAT,
                format!("cannot run `{}`: {error}", execd.display()),
            );
        }
    };
    match serde_json::from_slice::<Probe>(&output.stdout) {
        Ok(Probe {
            tier: Some(tier),
            problem: None,
            ..
        }) => Finding::new(Grade::Ok, WHAT, format!("works ({tier})")),
        Ok(probe) => {
            let problem = probe.problem.unwrap_or_else(|| "does not work".to_owned());
            let mut finding = Finding::new(Grade::Fail, WHAT, problem);
            finding.mend = probe.remedies;
            finding
        }
        Err(_) => Finding::new(
            Grade::Fail,
            WHAT,
            format!(
                "`{} probe` ended with {} and no answer",
                execd.display(),
                output.status
            ),
        ),
    }
}

fn program(name: &str) -> Finding {
    const WHAT: &str = "program";
    match programs::find(name) {
        Some(path) => Finding::new(Grade::Ok, WHAT, path.display().to_string()),
        None => Finding::new(
            Grade::Fail,
            WHAT,
            format!("`{name}` is neither beside vx nor on PATH"),
        )
        .mend("install all programs of vx into one directory"),
    }
}

fn home(settings: &Settings) -> Finding {
    const WHAT: &str = "home";
    let home = &settings.home;
    match fs::metadata(home) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Finding::new(
            Grade::Ok,
            WHAT,
            format!("{} (made by the first build)", home.display()),
        ),
        Err(error) => Finding::new(Grade::Fail, WHAT, format!("{}: {error}", home.display()))
            .mend("set VX_HOME to a directory of your own"),
        Ok(metadata) if !metadata.is_dir() => Finding::new(
            Grade::Fail,
            WHAT,
            format!("{} is not a directory", home.display()),
        )
        .mend("set VX_HOME to a directory of your own"),
        Ok(_) if rustix::fs::access(home, rustix::fs::Access::WRITE_OK).is_err() => Finding::new(
            Grade::Fail,
            WHAT,
            format!("{} cannot be written", home.display()),
        )
        .mend("set VX_HOME to a directory of your own"),
        Ok(_) => Finding::new(Grade::Ok, WHAT, home.display().to_string()),
    }
}

fn space(home: &Path) -> Finding {
    const WHAT: &str = "disk";
    // What is not there yet will be made in the nearest directory that is.
    let existing = home.ancestors().find(|path| path.exists()).unwrap_or(home);
    let free = match rustix::fs::statvfs(existing) {
        Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
        Err(error) => {
            return Finding::new(
                Grade::Warn,
                WHAT,
                format!("{}: {error}", existing.display()),
            );
        }
    };
    judge_space(free, existing)
}

fn judge_space(free: u64, existing: &Path) -> Finding {
    let text = format!("{} free in {}", size(free), existing.display());
    let grade = match free {
        0..NO_SPACE => Grade::Fail,
        NO_SPACE..LITTLE_SPACE => Grade::Warn,
        _ => Grade::Ok,
    };
    let finding = Finding::new(grade, "disk", text);
    match grade {
        Grade::Ok => finding,
        _ => finding.mend("make room, or set VX_HOME to a directory on another disk"),
    }
}

/// `1.5 GiB`
fn size(bytes: u64) -> String {
    let tenths = |unit: u64| {
        let tenths = u128::from(bytes) * 10 / u128::from(unit);
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    match bytes {
        0..1_048_576 => format!("{} KiB", tenths(1024)),
        1_048_576..1_073_741_824 => format!("{} MiB", tenths(1024 * 1024)),
        _ => format!("{} GiB", tenths(1024 * 1024 * 1024)),
    }
}

fn secret(settings: &Settings) -> Finding {
    const WHAT: &str = "token";
    let path = settings.home.join(TOKEN_FILE);
    match token::load(&settings.home) {
        Ok(_) => {
            let mode = fs::metadata(&path).map_or(0, |m| m.permissions().mode() & 0o777);
            Finding::new(
                Grade::Ok,
                WHAT,
                format!("{} (mode {mode:04o})", path.display()),
            )
        }
        Err(TokenError::Home { source, .. } | TokenError::File { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            Finding::new(Grade::Ok, WHAT, "none yet (made by the first build)")
        }
        Err(error) => {
            let failure = Failure::from(error);
            let mut finding = Finding::new(Grade::Fail, WHAT, failure.message);
            finding.mend = failure.hints;
            finding
        }
    }
}

fn endpoint(service: &Service, settings: &Settings) -> Finding {
    let at = &service.endpoint;
    match &service.answer {
        Answer::Ours(version) => Finding::new(
            Grade::Ok,
            service.name,
            format!("answers at {at}: {version}"),
        ),
        Answer::Silent if at.is_local() => Finding::new(
            Grade::Ok,
            service.name,
            format!("not running; {at} is free"),
        ),
        Answer::Silent => Finding::new(
            Grade::Fail,
            service.name,
            format!("does not answer at {at}, which is another machine"),
        )
        .mend(format!("start it there, or unset {}", service.variable)),
        Answer::Problem(problem) => Finding::new(Grade::Fail, service.name, problem.clone()).mend(
            match settings.daemon == *at {
                true => format!(
                    "run `vx kill`, or set {} to another endpoint",
                    service.variable
                ),
                false => format!(
                    "end that program, or set {} to another endpoint",
                    service.variable
                ),
            },
        ),
    }
}

fn tool(name: &'static str, context: &Context) -> Finding {
    let mut command = Command::new(name);
    if let Some(toolchain) = &context.toolchain {
        command.arg(format!("+{toolchain}"));
    }
    let output = command.arg("--version").stdin(Stdio::null()).output();
    let finding = match output {
        Ok(output) if output.status.success() => {
            let version = String::from_utf8_lossy(&output.stdout);
            let version = version.lines().next().unwrap_or_default();
            return Finding::new(Grade::Ok, name, version);
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().next().unwrap_or_default().to_owned();
            Finding::new(
                Grade::Fail,
                name,
                format!("ended with {}: {said}", output.status),
            )
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Finding::new(
                Grade::Ok,
                name,
                "none on PATH; a build fetches a toolchain (see `vx toolchain show`)",
            );
        }
        Err(error) => Finding::new(
            Grade::Fail,
            name,
            format!("cannot be run: {}", one_line(&error)),
        ),
    };
    finding.mend("install a Rust toolchain with rustup or your distribution's packages")
}

fn linker() -> Finding {
    match programs::on_path("cc") {
        Some(path) => Finding::new(Grade::Ok, "linker", path.display().to_string()),
        None => Finding::new(Grade::Fail, "linker", "`cc` is not on PATH")
            .mend("install a C toolchain, e.g. the package `build-essential` or `gcc`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        assert_eq!(size(0), "0.0 KiB");
        assert_eq!(size(1_572_864), "1.5 MiB");
        assert_eq!(size(u64::MAX), "17179869183.9 GiB");
    }

    #[test]
    fn little_space_warns_and_none_fails() {
        let here = Path::new("/h");
        assert_eq!(judge_space(NO_SPACE - 1, here).grade, Grade::Fail);
        assert_eq!(judge_space(LITTLE_SPACE - 1, here).grade, Grade::Warn);
        let enough = judge_space(LITTLE_SPACE, here);
        assert_eq!((enough.grade, enough.mend.len()), (Grade::Ok, 0));
    }

    #[test]
    fn every_bad_line_says_how_to_mend_it() {
        let finding = Finding::new(Grade::Fail, "linker", "gone").mend("install it");
        let text = anstream::adapter::strip_str(&line(&finding)).to_string();
        assert_eq!(text, "fail linker     gone\n     hint: install it\n");
    }
}
