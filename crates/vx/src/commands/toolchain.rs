//! `vx toolchain`: shows which toolchain a build uses, and manages those that came from a distribution server.

use std::fmt::Write as _;
use std::io::Write;

use serde_json::json;
use vx_proto::command::{BuildEvent, Command};
use vx_proto::toolchain::{ToolchainAction, ToolchainInfo, ToolchainRequest};

use crate::cli::{ToolchainArgs, ToolchainCommand};
use crate::context::{Context, current_directory, environment};
use crate::exit::Failure;
use crate::render::{Format, Verbosity};
use crate::session;
use crate::terminal::{GOOD, paint};

/// Asks the daemon and prints what it knows.
pub(super) fn run(context: &Context, args: &ToolchainArgs) -> Result<u8, Failure> {
    let format = Format::of(&args.message_format);
    let request = ToolchainRequest {
        cwd: current_directory()?,
        env: environment(),
        toolchain: context.toolchain.clone(),
        action: action(&args.command),
    };
    let mut all = Vec::new();
    let code = session::run(
        context,
        &Command::Toolchain(Box::new(request)),
        format,
        &mut |event| {
            if let BuildEvent::Toolchain(info) = event {
                all.push((**info).clone());
            }
        },
    )?;
    let text: String = if format.json.is_some() {
        all.iter().map(line).collect()
    } else {
        match &args.command {
            ToolchainCommand::Show => all.iter().map(shown).collect(),
            ToolchainCommand::List => listed(&all, context.verbosity == Verbosity::Verbose),
            // What was done has been told already.
            _ => String::new(),
        }
    };
    let mut stdout = context.colors.stdout();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| super::output(&error))?;
    Ok(code)
}

fn action(command: &ToolchainCommand) -> ToolchainAction {
    match command {
        ToolchainCommand::Show => ToolchainAction::Show,
        ToolchainCommand::List => ToolchainAction::List,
        ToolchainCommand::Install(install) => ToolchainAction::Install {
            names: install.names.clone(),
            profile: install.profile.clone(),
            components: install.component.clone(),
            targets: install.target.clone(),
            offline: install.offline,
        },
        ToolchainCommand::Update { names } => ToolchainAction::Update {
            names: names.clone(),
        },
        ToolchainCommand::Remove { names } => ToolchainAction::Remove {
            names: names.clone(),
        },
    }
}

/// One toolchain for programs.
fn line(info: &ToolchainInfo) -> String {
    let object = json!({
        "reason": "toolchain",
        "name": info.name,
        "active": info.active,
        "chosen_because": info.reason,
        "source": info.source,
        "installed": info.sysroot.is_some(),
        "sysroot": info.sysroot,
        "forbidden": info.is_forbidden,
        "rustc": info.rustc,
        "cargo": info.cargo,
        "server": info.server,
        "date": info.date,
        "signed_by": info.signed_by,
        "unsigned": info.unsigned,
        "resolved": info.resolved,
        "components": info.components,
        "targets": info.targets,
        "lacks": info.lacks,
    });
    format!("{object}\n")
}

/// Where a toolchain comes from.
fn origin(info: &ToolchainInfo) -> String {
    match (info.source.as_str(), &info.server, &info.date) {
        ("dist", Some(server), Some(date)) => format!("dist, the release of {date} from {server}"),
        ("dist", Some(server), None) => format!("dist, from {server}"),
        ("system", ..) => "system, installed without rustup".to_owned(),
        (source, ..) => source.to_owned(),
    }
}

fn shown(info: &ToolchainInfo) -> String {
    let mut text = format!("{}\n", paint(GOOD, &info.name));
    let mut row = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ok = writeln!(text, "{name:>12}: {value}");
    };
    if let Some(reason) = &info.reason {
        row("chosen", reason);
    }
    row("source", &origin(info));
    match &info.sysroot {
        Some(sysroot) => row("sysroot", &sysroot.display().to_string()),
        None if info.is_forbidden => row(
            "sysroot",
            "not installed, and rustup's setting forbids a build to fetch it",
        ),
        None => row("sysroot", "not installed; the next build fetches it"),
    }
    if !info.lacks.is_empty() {
        let lacks = info.lacks.join(", ");
        match &info.sysroot {
            Some(_) => row("lacks", &format!("{lacks}; the next build fetches it")),
            None => row("rustup's", &format!("lacks {lacks}")),
        }
    }
    for (name, value) in [("rustc", &info.rustc), ("cargo", &info.cargo)] {
        if let Some(value) = value {
            row(name, value);
        }
    }
    for (name, values) in [("components", &info.components), ("targets", &info.targets)] {
        if !values.is_empty() {
            row(name, &values.join(", "));
        }
    }
    if info.source == "dist" {
        let manifest = match (&info.signed_by, &info.unsigned) {
            (Some(key), _) => format!("the manifest by the key {key}"),
            (None, Some(why)) => format!("the manifest is not signed: {why}"),
            (None, None) => "the manifest by its signature, where there is one".to_owned(),
        };
        let archives = "each archive by the SHA-256 in the channel manifest";
        row("verified", &format!("{archives}; {manifest}"));
    }
    text
}

fn listed(all: &[ToolchainInfo], verbose: bool) -> String {
    let width = all.iter().map(|info| info.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for info in all {
        let mark = if info.active { "*" } else { " " };
        let name = format!("{:<width$}", info.name);
        let what = match (&info.rustc, info.lacks.first()) {
            (Some(rustc), _) => rustc.as_str(),
            (None, Some(problem)) => problem.as_str(),
            (None, None) => "not installed",
        };
        let _ok = writeln!(
            text,
            "{mark} {} {:<6} {what}",
            paint(GOOD, &name),
            info.source
        );
        if verbose {
            if let Some(sysroot) = &info.sysroot {
                let _ok = writeln!(text, "  {:width$} {}", "", sysroot.display());
            }
            if let Some(server) = &info.server {
                let _ok = writeln!(text, "  {:width$} from {server}", "");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> ToolchainInfo {
        ToolchainInfo {
            name: "stable".into(),
            active: true,
            reason: Some("it is the default of rustup".into()),
            source: "dist".into(),
            sysroot: Some("/c/installed/0".into()),
            rustc: Some("rustc 1.99.0 (abc 2020-01-01)".into()),
            cargo: Some("cargo 1.99.0 (def 2020-01-01)".into()),
            server: Some("https://mirror".into()),
            date: Some("2020-01-02".into()),
            unsigned: Some("the server offers no signature".into()),
            targets: vec!["wasm32-wasip1".into()],
            ..ToolchainInfo::default()
        }
    }

    #[test]
    fn the_choice_is_shown_with_its_reason_and_its_source() {
        let plain = anstream::adapter::strip_str(&shown(&info())).to_string();
        assert_eq!(
            plain,
            "stable\n      chosen: it is the default of rustup\n      source: dist, the release of 2020-01-02 from https://mirror\n     sysroot: /c/installed/0\n       rustc: rustc 1.99.0 (abc 2020-01-01)\n       cargo: cargo 1.99.0 (def 2020-01-01)\n     targets: wasm32-wasip1\n    verified: each archive by the SHA-256 in the channel manifest; the manifest is not signed: the server offers no signature\n"
        );
        let value: serde_json::Value = serde_json::from_str(&line(&info())).unwrap();
        assert_eq!(value["reason"], "toolchain");
        assert_eq!(value["installed"], true);
        assert_eq!(value["signed_by"], serde_json::Value::Null);
        assert_eq!(value["unsigned"], "the server offers no signature");
    }

    #[test]
    fn who_signed_the_manifest_is_shown() {
        let signed = ToolchainInfo {
            signed_by: Some("0123".into()),
            unsigned: None,
            ..info()
        };
        let plain = anstream::adapter::strip_str(&shown(&signed)).to_string();
        assert!(
            plain.ends_with("; the manifest by the key 0123\n"),
            "{plain}"
        );
    }

    #[test]
    fn what_no_build_may_fetch_is_shown() {
        let mut absent = ToolchainInfo {
            sysroot: None,
            ..info()
        };
        for (is_forbidden, says) in [
            (false, "sysroot: not installed; the next build fetches it\n"),
            (
                true,
                "sysroot: not installed, and rustup's setting forbids a build to fetch it\n",
            ),
        ] {
            absent.is_forbidden = is_forbidden;
            let plain = anstream::adapter::strip_str(&shown(&absent)).to_string();
            assert!(plain.contains(says), "{plain}");
            let value: serde_json::Value = serde_json::from_str(&line(&absent)).unwrap();
            assert_eq!(value["forbidden"], is_forbidden);
        }
    }

    #[test]
    fn what_the_next_build_adds_is_shown() {
        let lacking = ToolchainInfo {
            lacks: vec!["target `t`".into(), "component `rust-src`".into()],
            ..info()
        };
        let plain = anstream::adapter::strip_str(&shown(&lacking)).to_string();
        let line = "       lacks: target `t`, component `rust-src`; the next build fetches it\n";
        assert!(plain.contains(line), "{plain}");
    }

    #[test]
    fn the_list_marks_the_active_one() {
        let other = ToolchainInfo {
            name: "nightly".into(),
            source: "rustup".into(),
            ..ToolchainInfo::default()
        };
        let plain = anstream::adapter::strip_str(&listed(&[info(), other], false)).to_string();
        assert_eq!(
            plain,
            "* stable  dist   rustc 1.99.0 (abc 2020-01-01)\n  nightly rustup not installed\n"
        );
    }
}
