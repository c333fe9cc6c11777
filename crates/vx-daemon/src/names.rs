//! How units are called in events.

use vx_plan::{Plan, Unit};
use vx_proto::command::{ArtifactProfile, UnitName};

/// The name of a unit with all that messages for people and programs say of it.
pub(crate) fn unit_name(plan: &Plan, unit: &Unit) -> UnitName {
    let package = plan.package_of(unit);
    UnitName {
        package: package.name.clone(),
        version: package.version.clone(),
        package_id: package.id.clone(),
        manifest_path: package.manifest_path.clone(),
        target: unit.target.name.clone(),
        target_kind: unit.target.kinds.clone(),
        crate_types: unit.target.crate_types.clone(),
        src_path: unit.target.src_path.clone(),
        edition: unit.target.edition.clone(),
        mode: unit.mode.as_str().to_owned(),
        member: package.is_member,
        path: package
            .is_mutable()
            .then(|| {
                package
                    .manifest_path
                    .parent()
                    .map(std::path::Path::to_owned)
            })
            .flatten(),
    }
}

/// The profile of a unit as cargo's messages have it.
pub(crate) fn artifact_profile(unit: &Unit) -> ArtifactProfile {
    let profile = &unit.profile;
    ArtifactProfile {
        opt_level: profile.opt_level.clone(),
        debuginfo: profile
            .debuginfo
            .is_on()
            .then(|| profile.debuginfo.as_str().to_owned()),
        debug_assertions: profile.debug_assertions,
        overflow_checks: profile.overflow_checks,
        test: unit.mode.is_any_test(),
    }
}
