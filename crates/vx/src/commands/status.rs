//! `vx status`: what runs, as the daemon sees it.

use std::io::Write;
use std::time::Duration;

use vx_proto::command::{BuildEvent, Command, ServiceStatus, StatusReport};

use crate::context::Context;
use crate::exit::{Failure, Kind};
use crate::render::{Format, Verbosity};
use crate::terminal::{ERROR, GOOD, paint};
use crate::{daemon, session};

/// Prints the status. Nothing running is a status too.
pub(super) fn run(context: &Context) -> Result<u8, Failure> {
    let Some(client) = daemon::connect_existing(&context.settings)? else {
        return print(
            context,
            &format!(
                "vx-daemon is not running ({})\nhome {}\n",
                context.settings.daemon,
                context.settings.home.display()
            ),
        );
    };
    let mut report = None;
    let code = session::run_with(
        context,
        client,
        &Command::Status,
        Format::of(&[]),
        &mut |event| {
            if let BuildEvent::Status(status) = event {
                report = Some(status.clone());
            }
        },
    )?;
    match report {
        Some(report) => {
            print(
                context,
                &text(&report, context.verbosity == Verbosity::Verbose),
            )?;
            Ok(code)
        }
        None if code != 0 => Ok(code),
        None => Err(Failure::new(
            Kind::Internal,
            "vx-daemon did not say how it is",
        )),
    }
}

fn print(context: &Context, text: &str) -> Result<u8, Failure> {
    context
        .colors
        .stdout()
        .write_all(text.as_bytes())
        .map_err(|error| super::output(&error))?;
    Ok(0)
}

fn text(report: &StatusReport, verbose: bool) -> String {
    let mut text = String::new();
    for service in &report.services {
        text.push_str(&service_line(service, verbose));
    }
    text.push_str(&format!(
        "home {}\nup {}, {} command{} running\n",
        report.home.display(),
        duration(Duration::from_secs(report.uptime_secs)),
        report.active_commands,
        if report.active_commands == 1 { "" } else { "s" },
    ));
    text
}

fn service_line(service: &ServiceStatus, verbose: bool) -> String {
    let mut line = match &service.version {
        Some(version) => format!(
            "{} {} at {} (pid {}{})\n",
            paint(GOOD, &format!("{:<9}", service.service)),
            version.crate_version,
            service.endpoint,
            version.pid,
            if service.started_by_daemon {
                ", started by vx-daemon"
            } else {
                ""
            },
        ),
        None => format!(
            "{} {} ({})\n",
            paint(ERROR, &format!("{:<9}", service.service)),
            service.problem.as_deref().unwrap_or("does not answer"),
            service.endpoint,
        ),
    };
    let properties = service
        .version
        .iter()
        .flat_map(|version| &version.properties);
    for (name, value) in properties {
        // What the store holds is of interest to everybody, the rest to few.
        if verbose || name.starts_with("store-") {
            line.push_str(&format!("  {name}: {value}\n"));
        }
    }
    line
}

/// `5s`, `4m 05s`, `3h 04m`
fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use daemon_contract::ServiceVersion;

    use super::*;

    #[test]
    fn the_report_names_services_and_problems() {
        let service = |name: &str, answers: bool| ServiceStatus {
            service: name.into(),
            endpoint: "127.0.0.1:9001".into(),
            version: answers.then(|| ServiceVersion {
                service: name.into(),
                crate_version: "0.1.0".into(),
                protocol: 1,
                pid: 7,
                properties: BTreeMap::from([
                    ("slots".to_owned(), "2".to_owned()),
                    ("store-bytes".to_owned(), "10".to_owned()),
                ]),
            }),
            problem: (!answers).then(|| "connection refused".into()),
            started_by_daemon: true,
        };
        let report = StatusReport {
            services: vec![service("vx-casd", true), service("vx-execd", false)],
            home: "/h".into(),
            uptime_secs: 3700,
            active_commands: 1,
        };
        let plain = anstream::adapter::strip_str(&text(&report, false)).to_string();
        assert_eq!(
            plain,
            "vx-casd   0.1.0 at 127.0.0.1:9001 (pid 7, started by vx-daemon)\n  \
             store-bytes: 10\n\
             vx-execd  connection refused (127.0.0.1:9001)\n\
             home /h\nup 1h 01m, 1 command running\n"
        );
        assert!(text(&report, true).contains("slots: 2"));
    }
}
