//! An action before it has a digest: command, environment and inputs by path.
//!
//! The platform properties are those that vx-execd documents in its `EXECUTION.md`; whatever decides on the result is in the messages made here, and nothing else is: neither the number of jobs nor a time limit.

use std::collections::BTreeMap;
use std::sync::Arc;

use vx_proto::Digest;
use vx_proto::cas::{Blob, BlobSource};
use vx_proto::reapi;
use vx_proto::tree::{TreeBuilder, TreeError};
use vx_tree::SourceTree;

/// A tree of sources in an action.
#[derive(Clone, Debug)]
pub(crate) struct SourceInput {
    /// Where it stands, without the leading `/`.
    pub(crate) at: String,
    /// What stands there.
    pub(crate) tree: Arc<SourceTree>,
    /// For sources that the user may change: a digest over the names that matter, which stands for the tree until it is known what is read of it.
    pub(crate) names: Option<Digest>,
}

/// All that an action is made from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    /// Program and arguments.
    pub(crate) arguments: Vec<String>,
    /// The whole environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// Where it runs, without the leading `/`.
    pub(crate) working_directory: String,
    /// Single files: path, digest, whether executable.
    pub(crate) files: Vec<(String, Digest, bool)>,
    /// Directories that the store has: path and digest of the message.
    pub(crate) directories: Vec<(String, Digest)>,
    /// Trees that may have to be uploaded.
    pub(crate) sources: Vec<SourceInput>,
    /// Files and directories to keep afterwards.
    pub(crate) outputs: Vec<String>,
    /// Directories that the action may write to.
    pub(crate) writable: Vec<String>,
    /// Outputs wanted as soon as they are there.
    pub(crate) early: Vec<String>,
    /// Whether it takes part in the jobserver of the executor.
    pub(crate) jobserver: bool,
    /// Name of the variable that tells the number of jobs.
    pub(crate) jobs_variable: Option<String>,
    /// Fingerprint of the tools of the executing host.
    pub(crate) host_tools: String,
}

/// An action with its digest, and everything that an executor has to find in the store.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    /// Digest of the `Action` message.
    pub(crate) digest: Digest,
    /// The messages: action, command and the directories of its own.
    pub(crate) messages: Vec<Blob>,
    /// The trees it uses.
    pub(crate) sources: Vec<Arc<SourceTree>>,
}

impl Draft {
    /// The action as it is executed.
    pub(crate) fn prepare(&self) -> Result<Prepared, TreeError> {
        let tree = self.input_root(|source| source.tree.digest)?.build();
        let (action, command) = self.messages(tree.root);
        let mut messages = vec![action, command];
        messages.extend(
            tree.directories
                .into_iter()
                .map(|(digest, bytes)| Blob::bytes(digest, bytes)),
        );
        Ok(Prepared {
            digest: messages[0].digest,
            messages,
            sources: self.sources.iter().map(|s| s.tree.clone()).collect(),
        })
    }

    /// A key over all that is known before it is known which sources are read.
    pub(crate) fn key(&self) -> Result<Digest, TreeError> {
        let tree = self
            .input_root(|source| source.names.unwrap_or(source.tree.digest))?
            .build();
        let (action, _) = self.messages(tree.root);
        let mut text = blake3::Hasher::new_derive_key("vx lookup start, format 1");
        text.update(&action.digest.hash);
        Ok(Digest {
            hash: *text.finalize().as_bytes(),
            size: 1,
        })
    }

    fn input_root(
        &self,
        content: impl Fn(&SourceInput) -> Digest,
    ) -> Result<TreeBuilder, TreeError> {
        let mut tree = TreeBuilder::new();
        for (path, digest, executable) in &self.files {
            tree.insert_file(path, *digest, *executable)?;
        }
        for (path, digest) in &self.directories {
            tree.insert_directory(path, *digest)?;
        }
        for source in &self.sources {
            tree.insert_directory(&source.at, content(source))?;
        }
        Ok(tree)
    }

    fn messages(&self, input_root: Digest) -> (Blob, Blob) {
        let command = Blob::of_message(&reapi::Command {
            arguments: self.arguments.clone(),
            environment_variables: self
                .environment
                .iter()
                .map(|(name, value)| reapi::command::EnvironmentVariable {
                    name: name.clone(),
                    value: value.clone(),
                })
                .collect(),
            output_paths: sorted(&self.outputs),
            working_directory: self.working_directory.clone(),
            output_directory_format: reapi::command::OutputDirectoryFormat::TreeAndDirectory.into(),
            ..reapi::Command::default()
        });
        let action = Blob::of_message(&reapi::Action {
            command_digest: Some(command.digest.into()),
            input_root_digest: Some(input_root.into()),
            platform: Some(reapi::Platform {
                properties: self.properties(),
            }),
            ..reapi::Action::default()
        });
        (action, command)
    }

    fn properties(&self) -> Vec<reapi::platform::Property> {
        let mut properties = vec![
            ("InputRootAbsolutePath", "/".to_owned()),
            ("vx-host-tools", self.host_tools.clone()),
        ];
        for (name, values) in [
            ("vx-writable", &self.writable),
            ("vx-early-output", &self.early),
        ] {
            properties.extend(values.iter().map(|value| (name, value.clone())));
        }
        let observed = self.sources.iter().filter(|source| source.names.is_some());
        properties.extend(observed.map(|source| ("vx-observe", source.at.clone())));
        if self.jobserver {
            for variable in ["CARGO_MAKEFLAGS", "MAKEFLAGS", "MFLAGS"] {
                properties.push(("vx-jobserver", variable.to_owned()));
            }
        }
        if let Some(variable) = &self.jobs_variable {
            properties.push(("vx-jobs", variable.clone()));
        }
        // The API wants them sorted by name and then by value, so that equal platforms have equal digests.
        properties.sort();
        properties.dedup();
        properties
            .into_iter()
            .map(|(name, value)| reapi::platform::Property {
                name: name.to_owned(),
                value,
            })
            .collect()
    }
}

impl Prepared {
    /// The content of the trees, read from where they lie.
    pub(crate) fn source_blobs(tree: &SourceTree) -> impl Iterator<Item = Blob> {
        let directories = tree
            .directories
            .iter()
            .map(|(digest, bytes)| Blob::bytes(*digest, bytes.clone()));
        let files = tree.files.iter().map(|file| Blob {
            digest: file.digest,
            source: BlobSource::File(tree.root.join(&file.path)),
        });
        directories.chain(files)
    }
}

fn sorted(paths: &[String]) -> Vec<String> {
    let mut paths = paths.to_vec();
    paths.sort_unstable();
    paths.dedup();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Arc<SourceTree> {
        Arc::new(SourceTree {
            root: "/nowhere".into(),
            digest: Digest::of(text.as_bytes()),
            directories: Vec::new(),
            files: Vec::new(),
            names: Vec::new(),
        })
    }

    fn draft(text: &str, names: Option<&str>) -> Draft {
        Draft {
            arguments: vec!["/vx/toolchain/bin/rustc".into()],
            sources: vec![SourceInput {
                at: "vx/ws".into(),
                tree: tree(text),
                names: names.map(|n| Digest::of(n.as_bytes())),
            }],
            ..Draft::default()
        }
    }

    #[test]
    fn sources_that_may_change_are_in_the_action_but_not_in_the_key() {
        let (a, b) = (draft("a", Some("names")), draft("b", Some("names")));
        assert_ne!(a.prepare().unwrap().digest, b.prepare().unwrap().digest);
        assert_eq!(a.key().unwrap(), b.key().unwrap());
        assert_ne!(a.key().unwrap(), draft("a", Some("others")).key().unwrap());
    }

    #[test]
    fn sources_that_do_not_change_are_in_both() {
        let (a, b) = (draft("a", None), draft("b", None));
        assert_ne!(a.prepare().unwrap().digest, b.prepare().unwrap().digest);
        assert_ne!(a.key().unwrap(), b.key().unwrap());
    }

    #[test]
    fn every_part_of_the_draft_changes_the_digest() {
        let changes: [fn(&mut Draft); 9] = [
            |d| d.arguments.push("-O".into()),
            |d| drop(d.environment.insert("A".into(), "1".into())),
            |d| d.working_directory = "vx".into(),
            |d| d.files.push(("vx/deps/a".into(), Digest::EMPTY, false)),
            |d| d.directories.push(("vx/out".into(), Digest::EMPTY)),
            |d| d.outputs.push("vx/out/a".into()),
            |d| d.writable.push("vx/out".into()),
            |d| d.host_tools = "gcc 13".into(),
            |d| d.jobs_variable = Some("NUM_JOBS".into()),
        ];
        let plain = draft("a", None).prepare().unwrap().digest;
        for (number, change) in changes.iter().enumerate() {
            let mut draft = draft("a", None);
            change(&mut draft);
            assert_ne!(draft.prepare().unwrap().digest, plain, "change {number}");
        }
    }
}
