//! Link-time optimisation of each unit: a decision over the whole graph.
//!
//! Which crates must carry bitcode, object code or both depends on everything that links them.
//! Wrong answers still build, but slower or larger, or fail only in the final link.

use std::collections::HashMap;

use crate::plan::{Mode, Target, Unit, UnitId};

/// What a unit does for link-time optimisation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Lto {
    /// It performs it: `-C lto` or `-C lto=<kind>`.
    Run(Option<String>),
    /// `-C lto=off`: not even within the crate.
    Off,
    /// Only bitcode is needed: `-C linker-plugin-lto`.
    OnlyBitcode,
    /// Bitcode and object code: rustc's default, no flag.
    ObjectAndBitcode,
    /// Only object code: `-C embed-bitcode=no`.
    OnlyObject,
}

impl Lto {
    /// The flag's value, after `-C`.
    pub(crate) fn flag(&self) -> Option<String> {
        match self {
            Self::Run(None) => Some("lto".to_owned()),
            Self::Run(Some(kind)) => Some(format!("lto={kind}")),
            Self::Off => Some("lto=off".to_owned()),
            Self::OnlyBitcode => Some("linker-plugin-lto".to_owned()),
            Self::ObjectAndBitcode => None,
            Self::OnlyObject => Some("embed-bitcode=no".to_owned()),
        }
    }

    /// The least that serves both demands.
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (same, other) if same == other => same,
            (Self::Run(kind), _) | (_, Self::Run(kind)) => Self::Run(kind),
            (Self::Off, _) | (_, Self::Off) => Self::Off,
            _ => Self::ObjectAndBitcode,
        }
    }
}

/// Decides for all units that can be reached from the roots; the others keep `OnlyObject`.
pub(crate) fn decide(units: &[Unit], roots: &[UnitId]) -> Vec<Lto> {
    let mut decided: HashMap<UnitId, Lto> = HashMap::new();
    for root in roots {
        let unit = &units[root.0 as usize];
        let demand = match unit.profile.lto.as_str() {
            "false" => Lto::OnlyObject,
            "off" => Lto::Off,
            _ if unit.target.is_for_host() => Lto::OnlyObject,
            _ => {
                let types = rustc_crate_types(&unit.target);
                if needs_object(&types) {
                    with_object(&types)
                } else {
                    Lto::OnlyBitcode
                }
            }
        };
        // A work list instead of recursion: graphs are deep enough to care for the stack.
        let mut open = vec![(*root, demand)];
        while let Some((id, demand)) = open.pop() {
            let unit = &units[id.0 as usize];
            let own = of_unit(unit, demand);
            let joined = match decided.get(&id) {
                None => own,
                Some(before) => {
                    let joined = own.join(before.clone());
                    if joined == *before {
                        continue;
                    }
                    joined
                }
            };
            decided.insert(id, joined.clone());
            open.extend(
                unit.dependencies
                    .iter()
                    .map(|dep| (dep.unit, joined.clone())),
            );
        }
    }
    (0..units.len())
        .map(|index| {
            decided
                .remove(&UnitId(index as u32))
                .unwrap_or(Lto::OnlyObject)
        })
        .collect()
}

fn of_unit(unit: &Unit, demand: Lto) -> Lto {
    if unit.target.is_for_host() {
        return Lto::OnlyObject;
    }
    let types: Vec<&str> = match unit.mode {
        Mode::Test => vec!["bin"],
        _ => rustc_crate_types(&unit.target),
    };
    if types.iter().all(|kind| can_lto(kind)) {
        // Nothing links this unit in, so the demand of its dependents is void.
        return match unit.profile.lto.as_str() {
            "off" => Lto::Off,
            "true" => Lto::Run(None),
            "false" => Lto::OnlyObject,
            kind => Lto::Run(Some(kind.to_owned())),
        };
    }
    match (demand, needs_object(&types)) {
        (Lto::Run(_), false) => Lto::OnlyBitcode,
        (Lto::Run(_) | Lto::OnlyBitcode, true) => with_object(&types),
        (demand, _) => demand,
    }
}

fn rustc_crate_types(target: &Target) -> Vec<&str> {
    target.crate_types.iter().map(String::as_str).collect()
}

fn can_lto(crate_type: &str) -> bool {
    matches!(crate_type, "bin" | "staticlib" | "cdylib")
}

fn needs_object(crate_types: &[&str]) -> bool {
    crate_types
        .iter()
        .any(|kind| can_lto(kind) || matches!(*kind, "dylib" | "proc-macro"))
}

fn with_object(crate_types: &[&str]) -> Lto {
    // rustc cannot use bitcode of dylibs, so it would only cost space.
    if crate_types.iter().all(|kind| *kind == "dylib") {
        Lto::OnlyObject
    } else {
        Lto::ObjectAndBitcode
    }
}
