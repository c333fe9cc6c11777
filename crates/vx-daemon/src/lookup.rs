//! Finds results of actions whose inputs are only known after they ran once.
//!
//! A unit of the user's own sources is given the whole workspace, of which it reads little.
//! Its key must not cover what it does not read, or an edit to a README would rebuild everything; and nobody knows what it reads before it ran.
//! So the action cache holds a trie for it:
//!
//! - The walk starts at a key over all that is known beforehand: command, toolchain, artefacts of dependencies, names of the package's files.
//! - A node is either the result, or [`NextInputs`]: the paths and environment variables that a run which came this far went on to read. The next key is derived from this key and the content of those.
//!
//! Equal content along the walk means that a run would have read the same things up to there, so each node is true for whoever reaches it.
//! The first writer of a node wins, and a later one continues from what it finds.

use std::collections::BTreeSet;

use prost::Message;
use vx_proto::Digest;
use vx_proto::cas::{CasClient, CasError};
use vx_proto::ext::NextInputs;
use vx_proto::reapi::{ActionResult, ExecutedActionMetadata};

/// Nodes on one walk; a run adds one node at most for each round of its own discovery.
const DEPTH: usize = 16;

/// Where the content comes from that keys are derived from.
pub(crate) trait World {
    /// The digest of the file at `path`, or of the names in it when `path` ends in `/`; `None` when there is nothing.
    fn content(&self, path: &str) -> Option<Digest>;
    /// The value of an environment variable of the client.
    fn variable(&self, name: &str) -> Option<&str>;
}

/// A place in the trie without an entry, and what was read on the way to it.
#[derive(Clone, Debug)]
pub(crate) struct Position {
    key: Digest,
    paths: BTreeSet<String>,
    /// Names of the variables that a run is known to ask for.
    pub(crate) variables: BTreeSet<String>,
}

/// Where a walk ended.
#[derive(Debug)]
pub(crate) enum Found {
    /// At a result, with the position that it stands at.
    Result(Box<ActionResult>, Position),
    /// At a place where nothing is known yet.
    Nothing(Position),
}

impl Position {
    /// The place where every walk for `key` starts.
    pub(crate) fn start(key: Digest) -> Position {
        Position {
            key,
            paths: BTreeSet::new(),
            variables: BTreeSet::new(),
        }
    }

    /// The files and directories that were read on the way here.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }

    /// The part of `read` that is not known at this place.
    fn news(&self, read: &NextInputs) -> NextInputs {
        NextInputs {
            paths: difference(&read.paths, &self.paths),
            env_names: difference(&read.env_names, &self.variables),
        }
    }

    fn step(&mut self, next: &NextInputs, world: &impl World) {
        let mut text = blake3::Hasher::new_derive_key("vx lookup trie, format 1");
        text.update(&self.key.hash);
        for path in &next.paths {
            text.update(path.as_bytes()).update(b"\0");
            match world.content(path) {
                Some(digest) => text.update(&digest.hash),
                None => text.update(b"absent"),
            };
        }
        for name in &next.env_names {
            text.update(b"\0env\0").update(name.as_bytes());
            match world.variable(name) {
                Some(value) => text.update(b"=").update(value.as_bytes()),
                None => text.update(b" unset"),
            };
        }
        self.key = Digest {
            hash: *text.finalize().as_bytes(),
            // A key names no blob; the number of paths is as good a size as any.
            size: next.paths.len() as u64 + 1,
        };
        self.paths.extend(next.paths.iter().cloned());
        self.variables.extend(next.env_names.iter().cloned());
    }
}

/// Walks from `position` as far as the trie knows.
pub(crate) async fn walk(
    cas: &CasClient,
    mut position: Position,
    world: &impl World,
) -> Result<Found, CasError> {
    for _ in 0..DEPTH {
        match cas.get_action_result(&position.key).await? {
            None => return Ok(Found::Nothing(position)),
            Some(entry) => match next_of(&entry) {
                Some(next) => position.step(&next, world),
                None => return Ok(Found::Result(Box::new(entry), position)),
            },
        }
    }
    Ok(Found::Nothing(position))
}

/// Records that a run which came to `position` read `read`, and returns the place after that.
///
/// Another run may have recorded something else there first; then the walk goes on from its entry.
pub(crate) async fn record_read(
    cas: &CasClient,
    mut position: Position,
    read: &NextInputs,
    world: &impl World,
) -> Result<Found, CasError> {
    for _ in 0..DEPTH {
        let news = position.news(read);
        if news.paths.is_empty() && news.env_names.is_empty() {
            return walk(cas, position, world).await;
        }
        let entry = cas.update_action_result(&position.key, node(&news)).await?;
        match next_of(&entry) {
            Some(next) => position.step(&next, world),
            None => return Ok(Found::Result(Box::new(entry), position)),
        }
    }
    Ok(Found::Nothing(position))
}

/// Records a result at a place where nothing is known.
pub(crate) async fn record_result(
    cas: &CasClient,
    position: &Position,
    result: &ActionResult,
) -> Result<(), CasError> {
    // What was observed has been recorded as nodes; the result itself is the same for all who reach it.
    let mut result = result.clone();
    result.execution_metadata = None;
    cas.update_action_result(&position.key, result).await?;
    Ok(())
}

fn difference(read: &[String], known: &BTreeSet<String>) -> Vec<String> {
    let mut news: Vec<String> = read
        .iter()
        .filter(|r| !known.contains(*r))
        .cloned()
        .collect();
    news.sort_unstable();
    news.dedup();
    news
}

const NODE_TYPE: &str = "type.googleapis.com/vx.v1.NextInputs";

fn node(next: &NextInputs) -> ActionResult {
    ActionResult {
        execution_metadata: Some(ExecutedActionMetadata {
            auxiliary_metadata: vec![prost_types::Any {
                type_url: NODE_TYPE.to_owned(),
                value: next.encode_to_vec(),
            }],
            ..ExecutedActionMetadata::default()
        }),
        ..ActionResult::default()
    }
}

fn next_of(entry: &ActionResult) -> Option<NextInputs> {
    let metadata = entry.execution_metadata.as_ref()?;
    let any = metadata
        .auxiliary_metadata
        .iter()
        .find(|any| any.type_url == NODE_TYPE)?;
    NextInputs::decode(any.value.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Default)]
    struct Files(BTreeMap<&'static str, &'static str>);

    impl World for Files {
        fn content(&self, path: &str) -> Option<Digest> {
            self.0.get(path).map(|text| Digest::of(text.as_bytes()))
        }
        fn variable(&self, name: &str) -> Option<&str> {
            self.0.get(name).copied()
        }
    }

    fn step(world: &Files, paths: &[&str], env: &[&str]) -> Position {
        let mut position = Position::start(Digest::of(b"start"));
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        position.step(
            &NextInputs {
                paths: owned(paths),
                env_names: owned(env),
            },
            world,
        );
        position
    }

    #[test]
    fn content_presence_names_and_values_all_count() {
        let world =
            |entries: &[(&'static str, &'static str)]| Files(entries.iter().copied().collect());
        let keys = [
            step(&world(&[("a", "1")]), &["a"], &[]),
            step(&world(&[("a", "2")]), &["a"], &[]),
            step(&world(&[]), &["a"], &[]),
            step(&world(&[]), &["b"], &[]),
            step(&world(&[]), &[], &["a"]),
            step(&world(&[("a", "")]), &[], &["a"]),
            step(&world(&[("a", "1")]), &[], &["a"]),
        ]
        .map(|position| position.key.hash);
        let different: BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
    }

    #[test]
    fn a_node_comes_back_as_it_was_stored_and_a_result_is_not_a_node() {
        let next = NextInputs {
            paths: vec!["vx/ws/src/lib.rs".to_owned()],
            env_names: vec!["CC".to_owned()],
        };
        assert_eq!(next_of(&node(&next)), Some(next));
        assert_eq!(next_of(&ActionResult::default()), None);
    }

    #[test]
    fn only_what_is_not_known_yet_is_news() {
        let position = step(&Files::default(), &["a"], &["X"]);
        let news = position.news(&NextInputs {
            paths: vec!["b".to_owned(), "a".to_owned(), "b".to_owned()],
            env_names: vec!["X".to_owned()],
        });
        assert_eq!(news.paths, ["b"]);
        assert!(news.env_names.is_empty());
    }
}
