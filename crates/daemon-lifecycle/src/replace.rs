//! What to do about a daemon of another build.
//!
//! Two rules keep two programs from ending each other's daemons in turn: an older
//! one never replaces the daemon of a newer one, and one invocation replaces at most
//! once. How a daemon is asked to finish its work and leave is the protocol's.

use std::cmp::Ordering;

use crate::Build;
use crate::build_id::is_superseded;

/// What a program wants when the daemon is of another build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Each build has a daemon of its own, at an endpoint that has the build in its
    /// name. For programs of which several builds are used in turn.
    SideBySide,
    /// There is one daemon, of the newest build.
    Exclusive,
    /// The user decides.
    Refuse,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is the same build: use it.
    Use,
    /// Ask it to finish and leave, then start ours.
    Replace,
    /// Start ours beside it.
    StartBeside,
    /// Leave it alone, and say why.
    Refuse(Refusal),
}

/// Why the daemon is neither used nor replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The policy leaves it to the user.
    #[error("the daemon is of another build; end it to have this one's started")]
    OtherBuild,
    /// An older program must not end the daemon of a newer one.
    #[error("the daemon is newer than this program; update this program, or end the daemon")]
    DaemonIsNewer,
    /// The file of this program was replaced while it runs: it is the older one,
    /// whatever the versions say, and would start the newer file anyway.
    #[error("this program was replaced by another build while it ran; run the command again")]
    ProgramIsSuperseded,
    /// One invocation replaces once.
    #[error(
        "a daemon of another build was replaced already, and another one came; programs of several builds are in use"
    )]
    ReplacedAlready,
    /// The versions are no versions, so neither is known to be newer.
    #[error("neither of the versions of program and daemon is known to be newer; end the daemon")]
    Unordered,
}

/// What the program with the build `ours` does about a running daemon of the build
/// `theirs`; `replaced` says whether this invocation replaced one already.
///
/// Versions are compared as Cargo does. Different builds of one version replace each
/// other, as whoever develops wants it, but for a program whose file was replaced.
pub fn decide(ours: &Build, theirs: &Build, policy: Policy, replaced: bool) -> Decision {
    let superseded = || is_superseded(std::process::id()).unwrap_or(false);
    decide_knowing(ours, theirs, policy, replaced, superseded)
}

fn decide_knowing(
    ours: &Build,
    theirs: &Build,
    policy: Policy,
    replaced: bool,
    superseded: impl FnOnce() -> bool,
) -> Decision {
    if ours.id == theirs.id {
        return Decision::Use;
    }
    match policy {
        Policy::SideBySide => Decision::StartBeside,
        Policy::Refuse => Decision::Refuse(Refusal::OtherBuild),
        Policy::Exclusive => match compare_versions(&ours.version, &theirs.version) {
            None => Decision::Refuse(Refusal::Unordered),
            Some(Ordering::Less) => Decision::Refuse(Refusal::DaemonIsNewer),
            Some(_) if superseded() => Decision::Refuse(Refusal::ProgramIsSuperseded),
            Some(_) if replaced => Decision::Refuse(Refusal::ReplacedAlready),
            Some(_) => Decision::Replace,
        },
    }
}

/// Which of two versions of a program is the newer one, as Cargo orders them (by
/// precedence, <https://semver.org> 2.0.0, section 11); `None` if that cannot be said,
/// since one of them is no such version.
pub fn compare_versions(one: &str, other: &str) -> Option<Ordering> {
    if one == other {
        return Some(Ordering::Equal);
    }
    let parse = |version| semver::Version::parse(version).ok();
    Some(parse(one)?.cmp_precedence(&parse(other)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(id: &str, version: &str) -> Build {
        Build {
            id: id.into(),
            version: version.into(),
        }
    }

    fn exclusive(ours: (&str, &str), theirs: (&str, &str), replaced: bool) -> Decision {
        let (ours, theirs) = (build(ours.0, ours.1), build(theirs.0, theirs.1));
        decide_knowing(&ours, &theirs, Policy::Exclusive, replaced, || false)
    }

    #[test]
    fn a_newer_daemon_is_never_replaced() {
        for (ours, theirs) in [
            ("1.9.0", "1.10.0"),
            ("1.0.0-rc.1", "1.0.0"),
            ("0.1.0", "2.0.0"),
        ] {
            assert_eq!(
                exclusive(("a", ours), ("b", theirs), false),
                Decision::Refuse(Refusal::DaemonIsNewer)
            );
            assert_eq!(
                exclusive(("b", theirs), ("a", ours), false),
                Decision::Replace
            );
        }
        assert_eq!(
            exclusive(("a", "x"), ("b", "1.0.0"), false),
            Decision::Refuse(Refusal::Unordered)
        );
    }

    #[test]
    fn one_invocation_replaces_once() {
        assert_eq!(
            exclusive(("a", "1.0.0"), ("b", "1.0.0"), false),
            Decision::Replace
        );
        assert_eq!(
            exclusive(("a", "1.0.0"), ("b", "1.0.0"), true),
            Decision::Refuse(Refusal::ReplacedAlready)
        );
        assert_eq!(
            exclusive(("a", "1.0.0"), ("a", "1.0.0"), true),
            Decision::Use
        );
    }

    #[test]
    fn a_program_whose_file_was_replaced_ends_nobody() {
        let (ours, theirs) = (build("a", "1.0.0"), build("b", "1.0.0"));
        assert_eq!(
            decide_knowing(&ours, &theirs, Policy::Exclusive, false, || true),
            Decision::Refuse(Refusal::ProgramIsSuperseded)
        );
        assert_eq!(
            decide_knowing(&ours, &ours, Policy::Exclusive, false, || true),
            Decision::Use
        );
    }

    #[test]
    fn the_policy_decides_about_other_builds() {
        let (ours, theirs) = (build("a", "1.0.0"), build("b", "2.0.0"));
        assert_eq!(
            decide(&ours, &theirs, Policy::SideBySide, true),
            Decision::StartBeside
        );
        assert_eq!(
            decide(&ours, &theirs, Policy::Refuse, false),
            Decision::Refuse(Refusal::OtherBuild)
        );
        assert_eq!(decide(&ours, &ours, Policy::Refuse, false), Decision::Use);
    }
}
