//! One form for cargo's commands and ours, so that they can be compared as they are.

use std::collections::BTreeMap;

use vx_plan::{ActionSpec, Plan};

use crate::recording::{Command, Recording, Script};

/// Replaces every `-<16 hexadecimal digits>` and `metadata=<..>` by a fixed text.
pub(crate) fn hidden(text: &str) -> String {
    let mut result = String::new();
    let mut digits = String::new();
    for character in text.chars().chain(['\0']) {
        if character.is_ascii_digit() || ('a'..='f').contains(&character) {
            digits.push(character);
            continue;
        }
        if digits.len() == 16 && (result.ends_with('-') || result.ends_with("metadata=")) {
            result.push_str("HASH");
        } else {
            result.push_str(&digits);
        }
        digits.clear();
        if character != '\0' {
            result.push(character);
        }
    }
    result
}

/// Variables that belong to the sandbox, or whose value is a list of places.
const OURS_ONLY: [&str; 4] = ["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH"];

fn env(env: &BTreeMap<String, String>, place: impl Fn(&str) -> String) -> BTreeMap<String, String> {
    env.iter()
        .filter(|(name, _)| !OURS_ONLY.contains(&name.as_str()))
        // The recorder's own doing.
        .filter(|(name, _)| {
            !matches!(name.as_str(), "RUSTC_WRAPPER" | "RUSTFLAGS")
                && !name.starts_with("CARGO_PROFILE_")
        })
        .map(|(name, value)| (name.clone(), hidden(&place(value))))
        .collect()
}

pub(crate) fn ours(action: &ActionSpec) -> Command {
    Command {
        args: action.args.iter().map(|arg| hidden(arg)).collect(),
        env: env(&action.env, str::to_owned),
        cwd: action.cwd.clone(),
    }
}

/// Real places to virtual ones. Test binaries keep the workspace's real path.
fn place(plan: &Plan, text: &str, keep_workspace: bool) -> String {
    let mut text = text.to_owned();
    for package in plan
        .packages
        .iter()
        .filter(|package| package.virtual_root != "/vx/ws")
    {
        let directory = format!("{}/", package.source_root.display());
        text = text.replace(&directory, &format!("{}/", package.virtual_root));
        if text == package.source_root.display().to_string() {
            text.clone_from(&package.virtual_root);
        }
    }
    if !keep_workspace {
        text = text.replace("/project/ws", "/vx/ws");
    }
    for profile in ["debug", "release", "dist"] {
        for triple in ["", "/x86_64-unknown-linux-gnu"] {
            text = text.replace(&format!("/target{triple}/{profile}/deps"), "/vx/deps");
            text = text.replace(&format!("/target{triple}/{profile}/examples"), "/vx/out");
            text = text.replace(&format!("/target{triple}/{profile}/build/"), "/vx/build/");
        }
    }
    text.replace("/sysroot/bin/", "/vx/toolchain/bin/")
}

pub(crate) fn cargos(plan: &Plan, _recording: &Recording, command: &Command) -> Command {
    let is_test = command.args.iter().any(|arg| arg == "--test")
        || command
            .args
            .windows(2)
            .any(|pair| pair[0] == "--cfg" && pair[1] == "test");
    let is_check = command
        .args
        .iter()
        .any(|arg| arg == "--emit=dep-info,metadata");
    let keep = is_test && !is_check;
    let mut args = Vec::new();
    let mut given = command.args.iter();
    let mut deps = 0;
    while let Some(arg) = given.next() {
        if arg == "--out-dir" {
            given.next();
            args.extend(["--out-dir".to_owned(), "/vx/out".to_owned()]);
            continue;
        }
        let arg = hidden(&place(plan, arg, keep));
        if arg == "dependency=/vx/deps" {
            deps += 1;
            if deps == 2 {
                args.pop();
                continue;
            }
        }
        args.push(arg);
    }
    Command {
        args,
        env: env(&command.env, |value| place(plan, value, keep)),
        cwd: place(plan, &command.cwd, keep),
    }
}

pub(crate) fn stdout(plan: &Plan, _recording: &Recording, script: &Script) -> String {
    hidden(&place(plan, &script.stdout, false))
}

pub(crate) fn script_env(
    plan: &Plan,
    _recording: &Recording,
    script: &Script,
) -> BTreeMap<String, String> {
    env(&script.env, |value| match value {
        "rustc" | "rustdoc" => format!("/vx/toolchain/bin/{value}"),
        other => place(plan, other, false),
    })
}

/// How one of our commands differs from the most similar one of cargo's.
pub(crate) fn explain(own: &Command, theirs: &[Command]) -> String {
    let alike = |other: &&Command| {
        let same = other
            .args
            .iter()
            .filter(|arg| own.args.contains(arg))
            .count();
        2 * same as i64 - other.args.len() as i64
            + 8 * i64::from(other.args.get(1) == own.args.get(1))
            + 8 * i64::from(other.args.get(3) == own.args.get(3))
    };
    let name = own.args.get(1).cloned().unwrap_or_default();
    let Some(nearest) = theirs.iter().max_by_key(alike) else {
        return format!("{name}: cargo compiled nothing like it\n");
    };
    let mut report = String::new();
    if nearest.args != own.args {
        report.push_str(&format!(
            "{name}: arguments\n  cargo {}\n  vx    {}\n",
            nearest.args.join(" "),
            own.args.join(" ")
        ));
    }
    if nearest.cwd != own.cwd {
        report.push_str(&format!("{name}: cwd {} vx {}\n", nearest.cwd, own.cwd));
    }
    report.push_str(&compare_env(&name, &nearest.env, &own.env));
    report
}

pub(crate) fn compare_env(
    name: &str,
    expected: &BTreeMap<String, String>,
    actual: &BTreeMap<String, String>,
) -> String {
    let mut report = String::new();
    for key in expected
        .keys()
        .chain(actual.keys().filter(|key| !expected.contains_key(*key)))
    {
        let (cargo, vx) = (expected.get(key), actual.get(key));
        if cargo != vx {
            report.push_str(&format!("{name}: {key} cargo {cargo:?} vx {vx:?}\n"));
        }
    }
    report
}
