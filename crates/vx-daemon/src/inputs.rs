//! The inputs of a unit by names that stay the same between two builds, for `vx explain`.
//!
//! File names of artefacts carry a hash over what they were made from; here they go by the name without it, so that a comparison says which dependency is another one, and not that one file went and another came.

use std::collections::BTreeMap;

use vx_proto::Digest;

use crate::draft::Draft;
use crate::lookup::{Position, World};

/// Every input of `draft`, and of the sources that were read on the way to `position`.
pub(crate) fn by_name(
    draft: &Draft,
    position: &Position,
    world: &impl World,
) -> BTreeMap<String, String> {
    let mut inputs = BTreeMap::new();
    let mut add = |name: String, value: String| {
        // Options that may be given several times are told apart by their number.
        let mut numbered = name.clone();
        for number in 2.. {
            if !inputs.contains_key(&numbered) {
                break;
            }
            numbered = format!("{name} ({number})");
        }
        inputs.insert(numbered, value);
    };
    for (name, value) in options(&draft.arguments) {
        add(name, value);
    }
    for (name, value) in &draft.environment {
        add(format!("variable {name}"), value.clone());
    }
    for name in &position.variables {
        let value = world.variable(name).unwrap_or("(not set)");
        add(format!("variable {name}"), value.to_owned());
    }
    add("tools of the host".to_owned(), draft.host_tools.clone());
    for (path, digest, _) in &draft.files {
        add(format!("artifact {}", without_hash(path)), short(digest));
    }
    for (path, digest) in &draft.directories {
        add(format!("directory {}", without_hash(path)), short(digest));
    }
    for source in &draft.sources {
        let (what, digest) = match &source.names {
            Some(names) => ("names of the files in", names),
            None => ("tree", &source.tree.digest),
        };
        add(format!("{what} {}", source.at), short(digest));
    }
    for path in position.paths() {
        let state = world
            .content(path)
            .map_or("absent".to_owned(), |digest| short(&digest));
        // The workspace is where the user is; only other places need their virtual path.
        let shown = path.strip_prefix("vx/ws/").unwrap_or(path);
        add(format!("source {shown}"), state);
    }
    inputs
}

/// Arguments as options with values; what only repeats other inputs is left out.
fn options(arguments: &[String]) -> Vec<(String, String)> {
    let mut options = Vec::new();
    let mut rest = arguments.iter().skip(1).peekable();
    while let Some(argument) = rest.next() {
        let takes_value = matches!(
            argument.as_str(),
            "-C" | "-L"
                | "-l"
                | "-Z"
                | "--cfg"
                | "--check-cfg"
                | "--extern"
                | "--crate-name"
                | "--crate-type"
                | "--target"
                | "--out-dir"
                | "--cap-lints"
        );
        let value = match rest.peek() {
            Some(value) if takes_value => value.as_str(),
            _ => {
                options.push((format!("argument {argument}"), "given".to_owned()));
                continue;
            }
        };
        let (key, setting) = value.split_once('=').unwrap_or((value, "given"));
        match (argument.as_str(), key) {
            // Both are hashes over inputs that are listed themselves.
            ("-C", "metadata" | "extra-filename") => {}
            // The file is listed with its content.
            ("--extern", _) => options.push((format!("{argument} {key}"), without_hash(setting))),
            ("-C", _) => options.push((format!("{argument} {key}"), setting.to_owned())),
            _ => options.push((format!("{argument} {value}"), "given".to_owned())),
        }
        rest.next();
    }
    options
}

/// `vx/deps/libserde-0123456789abcdef.rmeta` as `vx/deps/libserde.rmeta`
fn without_hash(path: &str) -> String {
    let mut parts = path.split('-');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_hash = part.len() >= 16 && part.bytes().take(16).all(|b| b.is_ascii_hexdigit());
        if is_hash {
            text.push_str(&part[16..]);
        } else {
            text.push('-');
            text.push_str(part);
        }
    }
    text
}

fn short(digest: &Digest) -> String {
    digest.hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_in_names_are_left_out_and_other_dashes_are_not() {
        assert_eq!(
            without_hash("vx/deps/libfoo_bar-0123456789abcdef.rmeta"),
            "vx/deps/libfoo_bar.rmeta"
        );
        assert_eq!(
            without_hash("vx/build/proc-macro2-0123456789abcdef/out"),
            "vx/build/proc-macro2/out"
        );
        assert_eq!(without_hash("vx/pkg/a-b-1.0.0"), "vx/pkg/a-b-1.0.0");
    }

    #[test]
    fn options_have_names_that_stay_when_their_value_changes() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let arguments = words(
            "rustc --crate-name a src/lib.rs -C opt-level=3 -C metadata=00 --cfg feature=\"x\" --extern b=/vx/deps/libb-0123456789abcdef.rmeta --test",
        );
        let found = options(&arguments);
        let expected = [
            ("--crate-name a", "given"),
            ("argument src/lib.rs", "given"),
            ("-C opt-level", "3"),
            ("--cfg feature=\"x\"", "given"),
            ("--extern b", "/vx/deps/libb.rmeta"),
            ("argument --test", "given"),
        ];
        let found: Vec<_> = found
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        assert_eq!(found, expected);
    }
}
