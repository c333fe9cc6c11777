//! How units are called: the words that cargo has for them.

use vx_proto::command::UnitName;

fn has(name: &UnitName, kind: &str) -> bool {
    name.target_kind.iter().any(|have| have == kind)
}

/// Whether the target is a library of any crate type.
fn is_library(name: &UnitName) -> bool {
    !["bin", "example", "test", "bench", "custom-build"]
        .iter()
        .any(|kind| has(name, kind))
}

/// Whether running this unit means running a build script.
pub(crate) fn is_script_run(name: &UnitName) -> bool {
    name.mode == "run-custom-build"
}

/// Whether the target is built, or only checked, as a test.
fn is_for_test(name: &UnitName) -> bool {
    matches!(name.mode.as_str(), "test" | "check-test")
}

/// `foo v1.0.0 (/path)`
pub(crate) fn package(name: &UnitName) -> String {
    match &name.path {
        Some(path) => format!("{} v{} ({})", name.package, name.version, path.display()),
        None => format!("{} v{}", name.package, name.version),
    }
}

/// `` `foo` (lib)``
pub(crate) fn target(name: &UnitName) -> String {
    let mut kind = if has(name, "custom-build") {
        "build script".to_owned()
    } else if is_library(name) {
        "lib".to_owned()
    } else {
        let kind = name.target_kind.first().map_or("target", String::as_str);
        format!("{kind} \"{}\"", name.target)
    };
    if is_for_test(name) && !has(name, "test") && !has(name, "bench") {
        kind.push_str(" test");
    }
    format!("`{}` ({kind})", name.package)
}

/// What stands in the progress bar: `foo`, `foo(bin)`, `foo(build)`.
pub(crate) fn brief(name: &UnitName) -> String {
    let kind = if is_script_run(name) {
        "build"
    } else if has(name, "custom-build") {
        "build.rs"
    } else if is_for_test(name) {
        "test"
    } else if is_library(name) {
        return name.package.clone();
    } else {
        name.target_kind.first().map_or("target", String::as_str)
    };
    if name.target == name.package || has(name, "custom-build") {
        format!("{}({kind})", name.package)
    } else {
        format!("{}({kind})", name.target)
    }
}
