//! Facts and settings that hold for all units of a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use cargo_platform::Cfg;

use crate::cfg;
use crate::config::{Config, EnvEntry};
use crate::error::PlanError;
use crate::input::PlanInput;

/// Everything that command lines and environments take from outside of the graph.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) rustc_version: String,
    /// By triple.
    pub(crate) platforms: BTreeMap<String, Platform>,
    /// Flags of host units; differ from the host platform's once `--target` is given.
    pub(crate) host_rustflags: Vec<String>,
    pub(crate) env_entries: Vec<EnvEntry>,
    pub(crate) client_env: BTreeMap<String, String>,
    pub(crate) output_root: PathBuf,
    /// Names of the profiles that descend from `release`.
    pub(crate) release_like: BTreeSet<String>,
}

/// Facts of one platform.
#[derive(Debug)]
pub(crate) struct Platform {
    pub(crate) cfg: Vec<Cfg>,
    pub(crate) rustflags: Vec<String>,
    pub(crate) linker: Option<String>,
}

/// The value of a `name: value` line of `rustc -vV`.
pub(crate) fn version_field(text: &str, name: &'static str) -> Result<String, PlanError> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(|value| value.trim().to_owned())
        .ok_or(PlanError::RustcVersion(name))
}

impl Settings {
    pub(crate) fn gather(
        input: &PlanInput<'_>,
        config: &Config<'_>,
        host: &str,
        targets: &BTreeSet<&str>,
        release_like: BTreeSet<String>,
    ) -> Result<Self, PlanError> {
        let targets_given = !targets.is_empty();
        let mut platforms = BTreeMap::new();
        for triple in targets.iter().copied().chain([host]) {
            let facts = input
                .platforms
                .get(triple)
                .ok_or_else(|| PlanError::UnknownPlatform(triple.to_owned()))?;
            let cfg = cfg::parse(&facts.cfg)?;
            let rustflags = config.rustflags(triple, &cfg, false, targets_given)?;
            let linker = config.linker(triple, &cfg)?;
            platforms.insert(
                triple.to_owned(),
                Platform {
                    cfg,
                    rustflags,
                    linker,
                },
            );
        }
        let host_rustflags = match platforms.get(host) {
            Some(platform) => config.rustflags(host, &platform.cfg, true, targets_given)?,
            None => Vec::new(),
        };
        Ok(Self {
            rustc_version: input.rustc_version.to_owned(),
            platforms,
            host_rustflags,
            env_entries: config.env_entries()?,
            client_env: input.env.clone(),
            output_root: input.output_root.clone(),
            release_like,
        })
    }

    /// Flags of a unit, by its platform.
    pub(crate) fn rustflags(&self, platform: Option<&str>) -> &[String] {
        match platform {
            Some(triple) => self
                .platforms
                .get(triple)
                .map_or(&[], |found| &found.rustflags),
            None => &self.host_rustflags,
        }
    }
}
