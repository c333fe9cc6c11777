//! rustc's dep-info files (`.d`): which files and which environment variables a crate read.

use std::collections::BTreeSet;

/// What a dep-info file says. Paths are as rustc saw them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DepInfo {
    /// Source files, and files named by `include_str!` and the like.
    pub files: BTreeSet<String>,
    /// Variables read by `env!` and `option_env!`, with the value they had (`None`: unset).
    pub env: Vec<(String, Option<String>)>,
}

/// Parses a dep-info file. Lines that are not understood are skipped: make has a richer syntax than
/// rustc uses.
pub fn parse_dep_info(text: &str) -> DepInfo {
    let mut info = DepInfo::default();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# env-dep:") {
            let mut parts = rest.splitn(2, '=');
            let name = unescape_env(parts.next().unwrap_or_default());
            info.env.push((name, parts.next().map(unescape_env)));
        } else if let Some(position) = line.find(": ") {
            info.files.extend(split_paths(&line[position + 2..]));
        }
    }
    info
}

/// Paths are separated by blanks; a blank inside of a path has a backslash before it.
fn split_paths(list: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut current = String::new();
    let mut characters = list.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.peek() == Some(&' ') => {
                characters.next();
                current.push(' ');
            }
            ' ' => {
                if !current.is_empty() {
                    paths.push(std::mem::take(&mut current));
                }
            }
            other => current.push(other),
        }
    }
    if !current.is_empty() {
        paths.push(current);
    }
    paths
}

/// rustc escapes line breaks and backslashes in names and values.
fn unescape_env(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            result.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => result.push('\n'),
            Some('r') => result.push('\r'),
            Some(other) => result.push(other),
            None => result.push('\\'),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_variables_are_found() {
        let info = parse_dep_info(
            "/vx/out/a.d: src/lib.rs src/with\\ blank.rs\n\n/vx/out/liba.rlib: src/lib.rs\n\
             src/lib.rs:\nsrc/with\\ blank.rs:\n\n# env-dep:CARGO_PKG_NAME=a\n# env-dep:UNSET\n\
             # env-dep:LINES=one\\ntwo\\\\\n",
        );
        assert_eq!(
            info.files.iter().map(String::as_str).collect::<Vec<_>>(),
            ["src/lib.rs", "src/with blank.rs"]
        );
        assert_eq!(
            info.env,
            [
                ("CARGO_PKG_NAME".to_owned(), Some("a".to_owned())),
                ("UNSET".to_owned(), None),
                ("LINES".to_owned(), Some("one\ntwo\\".to_owned())),
            ]
        );
    }
}
