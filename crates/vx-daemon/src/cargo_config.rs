//! Configuration of cargo that is read from another place than the one it was written for.
//!
//! Relative paths in `<directory>/.cargo/config.toml` mean files below `<directory>`; see <https://doc.rust-lang.org/cargo/reference/config.html#config-relative-paths>.

use std::path::Path;

use toml::{Table, Value};

/// What a value of the configuration is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A path.
    Path,
    /// A program, or a list of one and its arguments: a path only if there is a slash in it.
    Program,
    /// A list of programs.
    Programs,
    /// The name of a target, or the path of a file that describes one.
    Target,
    /// A list of paths, or of tables with a `path`.
    Include,
}

/// All values that may be relative paths; `*` is any key.
const PLACES: &[(&[&str], Kind)] = &[
    (&["paths"], Kind::Path),
    (&["include"], Kind::Include),
    (&["build", "rustc"], Kind::Program),
    (&["build", "rustc-wrapper"], Kind::Program),
    (&["build", "rustc-workspace-wrapper"], Kind::Program),
    (&["build", "rustdoc"], Kind::Program),
    (&["build", "target"], Kind::Target),
    (&["build", "target-dir"], Kind::Path),
    (&["build", "build-dir"], Kind::Path),
    (&["build", "dep-info-basedir"], Kind::Path),
    (&["credential-alias", "*"], Kind::Program),
    (&["doc", "browser"], Kind::Program),
    (&["http", "cainfo"], Kind::Path),
    (&["http", "proxy-cainfo"], Kind::Path),
    (&["install", "root"], Kind::Path),
    (&["patch", "*", "*", "path"], Kind::Path),
    (&["registry", "credential-provider"], Kind::Program),
    (&["registry", "global-credential-providers"], Kind::Programs),
    (&["registries", "*", "credential-provider"], Kind::Program),
    (&["source", "*", "directory"], Kind::Path),
    (&["source", "*", "local-registry"], Kind::Path),
    (&["target", "*", "linker"], Kind::Program),
    (&["target", "*", "runner"], Kind::Program),
];

/// The configuration `text` of the CARGO_HOME `home` with absolute paths, if it has relative ones.
///
/// `None` as well where it is not TOML: cargo is the one to say what is wrong with it.
pub(crate) fn with_absolute_paths(text: &str, home: &Path) -> Option<String> {
    let before: Table = text.parse().ok()?;
    let mut after = before.clone();
    let root = home.parent().unwrap_or(home);
    for (keys, kind) in PLACES {
        // What is included lies beside the file, everything else beside its directory.
        let root = if *kind == Kind::Include { home } else { root };
        at(&mut after, keys, &mut |value| absolute(value, *kind, root));
    }
    relative_variables(&mut after, root);
    (after != before).then(|| after.to_string())
}

fn at(table: &mut Table, keys: &[&str], change: &mut impl FnMut(&mut Value)) {
    let Some((key, rest)) = keys.split_first() else {
        return;
    };
    let values: Vec<&mut Value> = match *key {
        "*" => table.iter_mut().map(|(_, value)| value).collect(),
        key => table.get_mut(key).into_iter().collect(),
    };
    for value in values {
        match value {
            value if rest.is_empty() => change(value),
            Value::Table(table) => at(table, rest, change),
            _ => {}
        }
    }
}

fn absolute(value: &mut Value, kind: Kind, root: &Path) {
    match (value, kind) {
        (Value::String(text), Kind::Program | Kind::Programs) => {
            // A program may be given with its arguments.
            let (program, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
            if program.contains('/') {
                *text = join(root, program) + rest;
            }
        }
        (Value::String(text), Kind::Target) if !text.ends_with(".json") => {}
        (Value::String(text), _) => *text = join(root, text),
        (Value::Array(values), Kind::Program) => {
            if let Some(Value::String(program)) = values.first_mut()
                && program.contains('/')
            {
                *program = join(root, program);
            }
        }
        (Value::Array(values), kind) => {
            values
                .iter_mut()
                .for_each(|value| absolute(value, kind, root));
        }
        (Value::Table(table), Kind::Include) => {
            at(table, &["path"], &mut |path| absolute(path, kind, root));
        }
        _ => {}
    }
}

/// `[env]` may have paths that say themselves that they are relative.
fn relative_variables(config: &mut Table, root: &Path) {
    let Some(Value::Table(variables)) = config.get_mut("env") else {
        return;
    };
    for (_, variable) in variables.iter_mut() {
        if let Value::Table(variable) = variable
            && variable.get("relative") == Some(&Value::Boolean(true))
            && let Some(Value::String(value)) = variable.get_mut("value")
        {
            *value = join(root, value);
            variable.remove("relative");
        }
    }
}

fn join(root: &Path, path: &str) -> String {
    root.join(path).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absolute(text: &str) -> Option<String> {
        with_absolute_paths(text, Path::new("/home/ann/.cargo"))
    }

    #[test]
    fn what_has_no_relative_path_stays_as_it_is() {
        for text in [
            "",
            "no toml",
            "[build]\ntarget-dir = \"/t\"\nrustc-wrapper = \"sccache\"\ntarget = \"wasm32-wasip1\"\n",
            "[registries.mine]\nindex = \"sparse+https://r/\"\ntoken = \"t\"\n",
            "[target.x]\nlinker = \"clang\"\nrunner = [\"qemu\", \"-L\", \"./lib\"]\n",
        ] {
            assert_eq!(absolute(text), None, "{text}");
        }
    }

    #[test]
    fn relative_paths_become_those_that_cargo_would_use() {
        for (text, expected) in [
            ("paths = [\"a\"]", "\"/home/ann/a\""),
            (
                "include = [\"more.toml\"]",
                "\"/home/ann/.cargo/more.toml\"",
            ),
            ("[build]\ntarget-dir = \"t\"", "\"/home/ann/t\""),
            ("[build]\ntarget = [\"my.json\"]", "\"/home/ann/my.json\""),
            ("[http]\ncainfo = \"ca.pem\"", "\"/home/ann/ca.pem\""),
            ("[source.s]\ndirectory = \"v\"", "\"/home/ann/v\""),
            ("[patch.crates-io.a]\npath = \"a\"", "\"/home/ann/a\""),
            ("[target.x]\nlinker = \"./cc\"", "\"/home/ann/./cc\""),
            (
                "[target.x]\nrunner = \"bin/run -v ./x\"",
                "\"/home/ann/bin/run -v ./x\"",
            ),
            (
                "[registry]\nglobal-credential-providers = [\"cargo:token\", \"bin/ask x\"]",
                "\"/home/ann/bin/ask x\"",
            ),
            (
                "[env]\nA = { value = \"a\", relative = true }",
                "\"/home/ann/a\"",
            ),
        ] {
            let found = absolute(text).unwrap();
            assert!(found.contains(expected), "{text}: {found}");
            assert!(!found.contains("relative"), "{found}");
        }
    }
}
