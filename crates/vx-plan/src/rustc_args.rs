//! rustc's command line for one unit: cargo 1.95's flags in cargo's order.
//!
//! The order matters less to rustc than to whoever compares the two; it also decides which of two
//! contradicting flags wins, so it is kept exactly.
//! Left out on purpose: `-C incremental` (a hidden input) and flags that depend on the terminal.

use crate::action::ArtifactKind;
use crate::build_script::{BuildOutput, LinkArgTarget};
use crate::layout;
use crate::libraries;
use crate::paths;
use crate::plan::{Mode, Needs, Package, Plan, SourceKind, Unit, UnitId};
use crate::site::Site;

/// Collects arguments.
#[derive(Debug, Default)]
struct Args(Vec<String>);

impl Args {
    fn push(&mut self, argument: impl Into<String>) {
        self.0.push(argument.into());
    }

    fn pair(&mut self, flag: &str, value: impl Into<String>) {
        self.0.push(flag.to_owned());
        self.0.push(value.into());
    }
}

/// The whole command line, without `argv[0]`. `scripts` are the outputs of the build scripts whose
/// settings apply, in cargo's order.
pub(crate) fn rustc_args(
    plan: &Plan,
    unit: &Unit,
    site: &Site,
    scripts: &[(UnitId, &BuildOutput)],
) -> Vec<String> {
    let package = plan.package_of(unit);
    let mut args = Args::default();
    base(&mut args, plan, unit, site);
    profile(&mut args, unit, package);
    features(&mut args, unit, package);
    names(&mut args, plan, unit, package);
    dependencies(&mut args, plan, unit);
    if package.source != SourceKind::Path {
        args.pair("--cap-lints", "allow");
    }
    args.0.extend(
        plan.settings
            .rustflags(unit.platform.as_deref())
            .iter()
            .cloned(),
    );
    native(&mut args, plan, unit, package, scripts);
    own_script(&mut args, plan, unit, scripts);
    args.0
}

fn base(args: &mut Args, plan: &Plan, unit: &Unit, site: &Site) {
    args.pair("--crate-name", unit.target.crate_name());
    args.push(format!("--edition={}", unit.target.edition));
    args.push(plan.source_argument(unit, site));
    args.push("--error-format=json");
    args.push("--json=diagnostic-rendered-ansi,artifacts,future-incompat");
    let is_test = unit.mode.is_any_test();
    let mut has_dylib = false;
    if !is_test {
        for kind in &unit.target.crate_types {
            args.pair("--crate-type", kind.as_str());
            has_dylib |= kind == "dylib";
        }
    }
    args.push(if unit.mode.is_check() {
        "--emit=dep-info,metadata"
    } else if layout::needs_objects(unit) {
        "--emit=dep-info,link"
    } else {
        "--emit=dep-info,metadata,link"
    });
    if unit.target.is_proc_macro() || (has_dylib && !unit.is_primary) {
        args.pair("-C", "prefer-dynamic");
    }
}

fn profile(args: &mut Args, unit: &Unit, package: &Package) {
    let profile = &unit.profile;
    if profile.opt_level != "0" {
        args.pair("-C", format!("opt-level={}", profile.opt_level));
    }
    if profile.panic != "unwind" {
        args.pair("-C", format!("panic={}", profile.panic));
    }
    if let Some(flag) = unit.lto.flag() {
        args.pair("-C", flag);
    }
    if let Some(count) = profile.codegen_units {
        args.pair("-C", format!("codegen-units={count}"));
    }
    if profile.debuginfo.is_on() {
        args.pair("-C", format!("debuginfo={}", profile.debuginfo.as_str()));
        if let Some(split) = &profile.split_debuginfo {
            args.pair("-C", format!("split-debuginfo={split}"));
        }
    }
    args.0.extend(package.facts.lint_flags.iter().cloned());
    args.0.extend(profile.rustflags.iter().cloned());
    // Both assertions are on at level 0 and off above by default, overflow checks following debug
    // assertions; only what differs is said.
    let optimised = profile.opt_level != "0";
    match (optimised, profile.debug_assertions, profile.overflow_checks) {
        (true, true, true) => args.pair("-C", "debug-assertions=on"),
        (true, true, false) => {
            args.pair("-C", "debug-assertions=on");
            args.pair("-C", "overflow-checks=off");
        }
        (true, false, true) => args.pair("-C", "overflow-checks=on"),
        (false, false, true) => {
            args.pair("-C", "debug-assertions=off");
            args.pair("-C", "overflow-checks=on");
        }
        (false, false, false) => args.pair("-C", "debug-assertions=off"),
        (false, true, false) => args.pair("-C", "overflow-checks=off"),
        (true, false, false) | (false, true, true) => {}
    }
    if unit.mode.is_any_test() {
        if unit.target.harness {
            args.push("--test");
            if profile.panic == "abort" {
                args.pair("-Z", "panic-abort-tests");
            }
        } else {
            args.pair("--cfg", "test");
        }
    }
}

fn features(args: &mut Args, unit: &Unit, package: &Package) {
    for feature in &unit.features {
        args.pair("--cfg", format!("feature=\"{feature}\""));
    }
    let declared: Vec<String> = package
        .facts
        .features
        .keys()
        .map(|name| format!("\"{name}\""))
        .collect();
    args.pair("--check-cfg", "cfg(docsrs,test)");
    args.pair(
        "--check-cfg",
        format!("cfg(feature, values({}))", declared.join(", ")),
    );
}

fn names(args: &mut Args, plan: &Plan, unit: &Unit, package: &Package) {
    args.pair("-C", format!("metadata={}", unit.hash));
    if layout::has_hash_in_name(unit, package) {
        args.pair("-C", format!("extra-filename=-{}", unit.hash));
    }
    if unit.profile.rpath {
        args.pair("-C", "rpath");
    }
    args.pair("--out-dir", paths::OUT);
    if let Some(triple) = &unit.platform {
        args.pair("--target", triple.as_str());
    }
    let platform = plan.settings.platforms.get(plan.triple_of(unit));
    if let Some(linker) = platform.and_then(|platform| platform.linker.as_ref()) {
        args.pair("-C", format!("linker={linker}"));
    }
    if let Some(strip) = &unit.profile.strip {
        args.pair("-C", format!("strip={strip}"));
    }
}

fn dependencies(args: &mut Args, plan: &Plan, unit: &Unit) {
    args.pair("-L", format!("dependency={}", paths::DEPS));
    let mut unstable = false;
    for dependency in &unit.dependencies {
        let other = &plan.units[dependency.unit.0 as usize];
        if !other.target.is_linkable() || other.mode == Mode::RunBuildScript {
            continue;
        }
        let prefix = if dependency.noprelude {
            "noprelude:"
        } else {
            ""
        };
        unstable |= dependency.noprelude;
        for file in artifacts_for(plan, unit, other) {
            args.pair(
                "--extern",
                format!("{prefix}{}={}/{file}", dependency.extern_name, paths::DEPS),
            );
        }
    }
    if unit.target.is_proc_macro() {
        args.pair("--extern", "proc_macro");
    }
    if unstable {
        args.pair("-Z", "unstable-options");
    }
}

/// Names of the files of `other` that `unit` gets: its metadata, or all that Rust can link.
pub(crate) fn artifacts_for(plan: &Plan, unit: &Unit, other: &Unit) -> Vec<String> {
    let metadata_only = other.mode.is_check() || libraries::needs(unit, other) == Needs::Metadata;
    plan.outputs(other.id)
        .into_iter()
        .filter(|file| {
            if metadata_only {
                file.kind == ArtifactKind::Rmeta
            } else {
                file.kind.is_linkable()
            }
        })
        .map(|file| file.file_name)
        .collect()
}

fn native(
    args: &mut Args,
    plan: &Plan,
    unit: &Unit,
    package: &Package,
    scripts: &[(UnitId, &BuildOutput)],
) {
    // Directories made by build scripts are searched before those of the system.
    let all = || scripts.iter().flat_map(|(_, output)| &output.library_paths);
    let is_own = |path: &str| without_kind(path).starts_with(paths::BUILD);
    for path in all()
        .filter(|path| is_own(path))
        .chain(all().filter(|path| !is_own(path)))
    {
        args.pair("-L", path.as_str());
    }
    // With a library in the package, its `-l` are the library's; binaries get them through it.
    let passes_libraries = unit.target.is_lib()
        || !package
            .facts
            .targets
            .iter()
            .any(|target| is_lib_kind(&target.kind));
    for (run, output) in scripts {
        let is_own = plan.units[run.0 as usize].package == unit.package;
        if is_own && passes_libraries {
            for library in &output.library_links {
                args.pair("-l", library.as_str());
            }
        }
        for (target, argument) in &output.link_args {
            if applies_to(target, unit) && (is_own || *target == LinkArgTarget::Cdylib) {
                args.pair("-C", format!("link-arg={argument}"));
            }
        }
    }
}

fn own_script(args: &mut Args, plan: &Plan, unit: &Unit, scripts: &[(UnitId, &BuildOutput)]) {
    let Some(run) = libraries::own_build_script(&plan.units, unit) else {
        return;
    };
    for (_, output) in scripts.iter().filter(|(id, _)| *id == run) {
        for cfg in &output.cfgs {
            args.pair("--cfg", cfg.as_str());
        }
        for cfg in &output.check_cfgs {
            args.pair("--check-cfg", cfg.as_str());
        }
    }
}

/// `native=/dir` without its kind.
pub(crate) fn without_kind(path: &str) -> &str {
    match path.split_once('=') {
        Some(("dependency" | "crate" | "native" | "framework" | "all", rest)) => rest,
        _ => path,
    }
}

fn is_lib_kind(kinds: &[String]) -> bool {
    !kinds.iter().any(|kind| {
        matches!(
            kind.as_str(),
            "bin" | "example" | "test" | "bench" | "custom-build"
        )
    })
}

fn applies_to(target: &LinkArgTarget, unit: &Unit) -> bool {
    let own = &unit.target;
    match target {
        LinkArgTarget::All => true,
        LinkArgTarget::Cdylib => {
            !unit.mode.is_any_test()
                && own.is_lib()
                && own.crate_types.iter().any(|kind| kind == "cdylib")
        }
        LinkArgTarget::Bin => own.is_bin(),
        LinkArgTarget::SingleBin(name) => own.is_bin() && own.name == *name,
        LinkArgTarget::Test => own.is_test(),
        LinkArgTarget::Bench => own.is_bench(),
        LinkArgTarget::Example => {
            own.is_example() && own.crate_types.iter().any(|kind| kind == "bin")
        }
    }
}
