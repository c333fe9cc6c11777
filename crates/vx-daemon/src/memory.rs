//! What the daemon remembers of a build, so that the next one of the same kind has little to do.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vx_proto::Digest;
use vx_proto::command::{BuildEvent, BuildRequest};
use vx_proto::env::{VX_DIST_KEY, VX_DIST_SERVER};
use vx_tree::Stamp;

use crate::outcome::Outcome;
use crate::project::Project;
use crate::report::Reporter;
use crate::workspace::{Sources, Surroundings};

/// Requests that are remembered; a developer alternates between a few.
const KEPT: usize = 32;

/// What makes two requests the same: everything but the state of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestKey(Digest);

impl RequestKey {
    /// The key of `request`: directory, selection, toolchain, and the variables that cargo, rustup and the search for programs read.
    pub(crate) fn of(request: &BuildRequest) -> RequestKey {
        let mut variables: Vec<&(String, String)> = request
            .env
            .iter()
            .filter(|(name, _)| {
                name.starts_with("CARGO")
                    || name.starts_with("RUST")
                    || matches!(
                        name.as_str(),
                        "PATH" | "HOME" | VX_DIST_SERVER | VX_DIST_KEY
                    )
            })
            .collect();
        variables.sort();
        let text = format!(
            "{:?} {:?} {:?} {:?} {variables:?}",
            request.cwd, request.kind, request.selection, request.toolchain
        );
        RequestKey(Digest::of(text.as_bytes()))
    }
}

/// One remembered build.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    /// What cargo read outside of the trees.
    pub(crate) surroundings: Surroundings,
    /// A digest over what cargo read in the trees.
    pub(crate) manifests: Digest,
    /// What cargo said.
    pub(crate) project: Arc<Project>,
    /// The state after the build, if it succeeded.
    pub(crate) standing: Option<Arc<Standing>>,
}

/// Where a successful build left everything.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// The sources it was made from.
    pub(crate) sources: Sources,
    /// The files it left, with their stamps.
    pub(crate) outputs: Vec<(PathBuf, Stamp)>,
    /// The executor's tools.
    pub(crate) host_tools: String,
    /// Variables that units depend on, with the values they had.
    variables: HashMap<String, Option<String>>,
    /// What a build that has nothing to do repeats: warnings and artefacts.
    events: Vec<BuildEvent>,
    summary: BuildEvent,
}

impl Standing {
    /// The state after a successful build; `None` if a result is not where it was put.
    ///
    /// `configured` are variables that the plan depends on, whatever the units do.
    pub(crate) fn after(
        sources: &Sources,
        outcome: &Outcome,
        host_tools: &str,
        configured: Vec<String>,
    ) -> Option<Arc<Standing>> {
        Some(Arc::new(Standing {
            sources: sources.clone(),
            outputs: outcome.delivered_stamps()?,
            host_tools: host_tools.to_owned(),
            variables: outcome.variables(configured),
            events: outcome.events_to_repeat(),
            summary: outcome.summary(Duration::ZERO),
        }))
    }

    /// Whether the variables that units depend on have the values they had.
    pub(crate) fn variables_hold(&self, environment: &HashMap<&str, &str>) -> bool {
        self.variables
            .iter()
            .all(|(name, value)| environment.get(name.as_str()).copied() == value.as_deref())
    }

    /// Tells what a build tells that has nothing to do.
    pub(crate) async fn replay(&self, reporter: &Reporter, took: Duration) {
        for event in &self.events {
            reporter.event(event.clone()).await;
        }
        if let BuildEvent::Summary {
            units,
            profile,
            opt_desc,
            ..
        } = &self.summary
        {
            reporter
                .event(BuildEvent::Summary {
                    success: true,
                    units: *units,
                    hits: *units,
                    ran: 0,
                    up_to_date: true,
                    millis: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                    profile: profile.clone(),
                    opt_desc: opt_desc.clone(),
                })
                .await;
        }
    }
}

/// Whether the file is there with just this stamp.
pub(crate) fn has_stamp(path: &Path, stamp: &Stamp) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| Stamp::of(&meta) == *stamp)
}

/// The remembered builds, the least recent ones forgotten.
#[derive(Debug, Default)]
pub(crate) struct Memories {
    kept: Mutex<Vec<(RequestKey, Arc<Memory>)>>,
}

impl Memories {
    /// The last build of the same request.
    pub(crate) fn get(&self, key: &RequestKey) -> Option<Arc<Memory>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, memory) = kept.iter().find(|(k, _)| k == key)?;
        Some(memory.clone())
    }

    /// Remembers a build in place of the last one of the same request.
    pub(crate) fn insert(&self, key: RequestKey, memory: Memory) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(k, _)| *k != key);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((key, Arc::new(memory)));
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}
