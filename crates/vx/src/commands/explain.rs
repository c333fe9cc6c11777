//! `vx explain`: why units were rebuilt in the last build.

use std::io::Write;

use vx_proto::command::{BuildEvent, Change, Command, ExplainRequest, Explanation, How, UnitName};

use crate::cli::ExplainArgs;
use crate::context::{Context, current_directory};
use crate::exit::Failure;
use crate::render::{Format, Verbosity};
use crate::session;
use crate::terminal::{GOOD, NOTE, paint};

/// Explains.
pub(super) fn run(context: &Context, args: &ExplainArgs) -> Result<u8, Failure> {
    let request = ExplainRequest {
        cwd: current_directory()?,
        manifest_path: args.project.manifest_path.clone(),
        unit: args.unit.clone(),
        profile: args.project.profile(),
        target_dir: args.project.target_dir.clone(),
    };
    let mut explanations = Vec::new();
    let code = session::run(
        context,
        &Command::Explain(request),
        Format::of(&[]),
        &mut |event| {
            if let BuildEvent::Explained(explanation) = event {
                explanations.push(explanation.clone());
            }
        },
    )?;
    let all = args.unit.is_some() || context.verbosity == Verbosity::Verbose;
    context
        .colors
        .stdout()
        .write_all(report(&explanations, all).as_bytes())
        .map_err(|error| super::output(&error))?;
    Ok(code)
}

/// The explanations of units that were built, or of `all`.
fn report(explanations: &[Explanation], all: bool) -> String {
    let mut text = String::new();
    let mut silent = 0;
    for explanation in explanations {
        if all || explanation.how == How::Ran {
            explain(&mut text, explanation);
        } else {
            silent += 1;
        }
    }
    match (text.is_empty(), silent) {
        (true, 0) => text.push_str("no build to explain\n"),
        (true, _) => text.push_str("nothing was rebuilt in the last build\n"),
        (false, 0) => {}
        (false, _) => text.push_str(&format!("{silent} other units were not rebuilt\n")),
    }
    text
}

fn explain(text: &mut String, explanation: &Explanation) {
    let how = match explanation.how {
        How::Ran => "built",
        How::Hit => "from the store",
        How::UpToDate => "up to date",
    };
    text.push_str(&format!("{}: {how}\n", title(&explanation.name)));
    if explanation.how != How::Ran && explanation.changes.is_empty() {
        return;
    }
    if !explanation.has_earlier {
        text.push_str("  there is no earlier build to compare with\n");
    } else if explanation.changes.is_empty() {
        text.push_str("  no input differs: its result was no longer in the store\n");
    }
    for change in &explanation.changes {
        text.push_str(&line(change));
    }
}

fn title(name: &UnitName) -> String {
    let what = match name.mode.as_str() {
        "run-custom-build" => "run of build script".to_owned(),
        mode => format!("{mode} {}", name.target_kind.join(",")),
    };
    format!(
        "{} {} ({what} `{}`)",
        paint(GOOD, &name.package),
        name.version,
        name.target
    )
}

fn line(change: &Change) -> String {
    let input = paint(NOTE, &change.input);
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => format!("  {input}: {before} -> {after}\n"),
        (Some(before), None) => format!("  {input}: was {before}, is gone\n"),
        (None, Some(after)) => format!("  {input}: is new, {after}\n"),
        (None, None) => format!("  {input}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_built_is_explained_unless_asked() {
        let unit = |package: &str, how, changes| Explanation {
            name: UnitName {
                package: package.into(),
                version: "1.0.0".into(),
                target: package.into(),
                target_kind: vec!["lib".into()],
                mode: "build".into(),
                ..UnitName::default()
            },
            how,
            has_earlier: true,
            changes,
        };
        let change = Change {
            input: "src/lib.rs".into(),
            before: Some("aa/1".into()),
            after: Some("bb/2".into()),
        };
        let explanations = [
            unit("a", How::Ran, vec![change]),
            unit("b", How::Hit, Vec::new()),
        ];
        let strip = |text: String| anstream::adapter::strip_str(&text).to_string();
        assert_eq!(
            strip(report(&explanations, false)),
            "a 1.0.0 (build lib `a`): built\n  src/lib.rs: aa/1 -> bb/2\n\
             1 other units were not rebuilt\n"
        );
        assert!(
            strip(report(&explanations, true))
                .ends_with("b 1.0.0 (build lib `b`): from the store\n")
        );
        assert_eq!(
            report(&explanations[1..], false),
            "nothing was rebuilt in the last build\n"
        );
        assert_eq!(report(&[], false), "no build to explain\n");
    }
}
