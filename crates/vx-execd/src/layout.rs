//! What an action asks for: its messages, read once into types that hold only what makes sense.
//!
//! Paths here are relative to the input root and normal: no `..`, no `.`, no empty part; the root itself is the empty text.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use vx_proto::Digest;
use vx_proto::reapi::{Action, Command};

use crate::failure::Failure;

/// Where input roots stand when the action does not say.
const DEFAULT_BASE: &str = "/vx/root";
/// The most paths that one action may name.
const MAX_PATHS: usize = 10_000;

/// An action that can be run.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) input_root: Digest,
    /// Where the input root stands in the sandbox.
    pub(crate) base: PathBuf,
    pub(crate) working_directory: String,
    /// Directories the command may write to.
    pub(crate) writable: BTreeSet<String>,
    /// Directories inside those that exist when the command starts.
    pub(crate) made: BTreeSet<String>,
    /// Directories whose reads are reported.
    pub(crate) observed: BTreeSet<String>,
    pub(crate) outputs: Vec<Wanted>,
    /// Those of the outputs that are published as soon as they are renamed into place.
    pub(crate) early: Vec<Wanted>,
    /// Variables that get the arguments of the jobserver.
    pub(crate) jobserver_variables: Vec<String>,
    /// Variables that get the number of slots.
    pub(crate) jobs_variables: Vec<String>,
    /// The fingerprint of host tools that the action was made for.
    pub(crate) host_tools: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) may_be_cached: bool,
}

/// An output: the name under which it was asked for, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) path: String,
}

impl Job {
    pub(crate) fn of(action: Action, command: Command) -> Result<Job, Failure> {
        let input_root = vx_proto::digest::required(action.input_root_digest.as_ref())
            .map_err(|error| Failure::Invalid(format!("input root: {error}")))?;
        if command.arguments.is_empty() {
            return Err(Failure::Invalid("the command has no arguments".to_owned()));
        }
        let platform = action.platform.or(command.platform).unwrap_or_default();
        let property = |name: &str| {
            let named = platform
                .properties
                .iter()
                .filter(move |property| property.name == name);
            named
                .map(|property| property.value.clone())
                .collect::<Vec<_>>()
        };
        let base = property("InputRootAbsolutePath").pop();
        let working_directory = normal("", &command.working_directory, false)?;
        let mut writable = normal_all(property("vx-writable"))?;
        if base.is_none() {
            // Clients that know nothing of our properties expect that they may write anywhere.
            writable.insert(String::new());
        }
        let wanted = |names: Vec<String>| -> Result<Vec<Wanted>, Failure> {
            let locate = |name: String| {
                let path = locate(&working_directory, &name, base.as_deref())?;
                Ok(Wanted { name, path })
            };
            names.into_iter().map(locate).collect()
        };
        let mut names = command.output_paths;
        names.extend(command.output_files);
        names.extend(command.output_directories);
        names.sort_unstable();
        names.dedup();
        let outputs = wanted(names)?;
        let early = wanted(property("vx-early-output"))?;
        let mut made = writable.clone();
        for output in outputs.iter().chain(&early) {
            make_place(&mut writable, output)?;
            made.extend(
                output
                    .path
                    .rsplit_once('/')
                    .map(|(parent, _)| parent.to_owned()),
            );
        }
        let timeout = action
            .timeout
            .filter(|limit| limit.seconds > 0 || limit.nanos > 0);
        let job = Job {
            argv: command.arguments,
            env: command
                .environment_variables
                .into_iter()
                .map(|v| (v.name, v.value))
                .collect(),
            input_root,
            base: base_path(base)?,
            working_directory,
            writable: outermost(writable),
            made,
            observed: normal_all(property("vx-observe"))?,
            outputs,
            early,
            jobserver_variables: property("vx-jobserver"),
            jobs_variables: property("vx-jobs"),
            host_tools: property("vx-host-tools").pop(),
            timeout: timeout.and_then(|limit| Duration::try_from(limit).ok()),
            may_be_cached: !action.do_not_cache,
        };
        if job.outputs.len() + job.writable.len() + job.observed.len() > MAX_PATHS {
            return Err(Failure::Invalid("more than 10000 paths".to_owned()));
        }
        Ok(job)
    }

    /// Where `path` stands in the sandbox.
    pub(crate) fn inside(&self, path: &str) -> PathBuf {
        if path.is_empty() {
            self.base.clone()
        } else {
            self.base.join(path)
        }
    }

    /// The place of an output: the writable directory it is in, and its path below that.
    pub(crate) fn place<'a>(&'a self, output: &'a str) -> Option<(&'a str, &'a str)> {
        let inside = |place: &'a String| below(output, place).map(|rest| (place.as_str(), rest));
        self.writable
            .iter()
            .filter_map(inside)
            .max_by_key(|(place, _)| place.len())
    }
}

/// The rest of `path` below `place`, the empty text for `place` itself.
pub(crate) fn below<'a>(path: &'a str, place: &str) -> Option<&'a str> {
    if place.is_empty() || path == place {
        return Some(&path[place.len()..]);
    }
    path.strip_prefix(place)?.strip_prefix('/')
}

fn base_path(base: Option<String>) -> Result<PathBuf, Failure> {
    let Some(base) = base else {
        return Ok(PathBuf::from(DEFAULT_BASE));
    };
    if !base.starts_with('/') {
        return Err(Failure::Invalid(format!(
            "InputRootAbsolutePath `{base}` is not absolute"
        )));
    }
    Ok(Path::new("/").join(normal("", base.trim_start_matches('/'), false)?))
}

fn normal_all(paths: Vec<String>) -> Result<BTreeSet<String>, Failure> {
    paths.iter().map(|path| normal("", path, false)).collect()
}

/// `path`, relative to `from`, as a normal path; `..` may be used where `up` says so, but never to leave the root.
fn normal(from: &str, path: &str, up: bool) -> Result<String, Failure> {
    let refuse = |why: &str| Err(Failure::Invalid(format!("path `{path}` {why}")));
    if path.starts_with('/') {
        return refuse("is absolute");
    }
    if path.contains('\0') {
        return refuse("has a NUL byte");
    }
    let mut parts: Vec<&str> = from.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if up => {
                if parts.pop().is_none() {
                    return refuse("leaves the input root");
                }
            }
            ".." => return refuse("has a `..`"),
            name => parts.push(name),
        }
    }
    Ok(parts.join("/"))
}

/// Outputs are relative to the working directory; where the place of the root is known they may be absolute.
fn locate(working_directory: &str, name: &str, base: Option<&str>) -> Result<String, Failure> {
    let (Some(base), true) = (base, name.starts_with('/')) else {
        return normal(working_directory, name, true);
    };
    let path = normal("", name.trim_start_matches('/'), false)?;
    let base = normal("", base.trim_start_matches('/'), false)?;
    below(&path, &base)
        .map(str::to_owned)
        .ok_or_else(|| Failure::Invalid(format!("output `{name}` is outside the input root")))
}

/// The API has the executor make the directory of every output.
fn make_place(writable: &mut BTreeSet<String>, output: &Wanted) -> Result<(), Failure> {
    if writable
        .iter()
        .any(|place| below(&output.path, place).is_some())
    {
        return Ok(());
    }
    match output.path.rsplit_once('/') {
        Some((parent, _)) => {
            writable.insert(parent.to_owned());
            Ok(())
        }
        None => Err(Failure::Invalid(format!(
            "output `{}` stands directly in the root, which is not writable",
            output.name
        ))),
    }
}

/// Without those that lie inside another one.
fn outermost(places: BTreeSet<String>) -> BTreeSet<String> {
    let inner = |place: &String| {
        places
            .iter()
            .any(|outer| outer != place && below(place, outer).is_some())
    };
    places
        .iter()
        .filter(|place| !inner(place))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vx_proto::reapi::{Platform, platform::Property};

    fn job(properties: &[(&str, &str)], cwd: &str, outputs: &[&str]) -> Result<Job, Failure> {
        let property = |(name, value): &(&str, &str)| Property {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        };
        let action = Action {
            input_root_digest: Some(Digest::EMPTY.into()),
            platform: Some(Platform {
                properties: properties.iter().map(property).collect(),
            }),
            ..Action::default()
        };
        let command = Command {
            arguments: vec!["true".into()],
            working_directory: cwd.into(),
            output_paths: outputs.iter().map(|name| (*name).to_owned()).collect(),
            ..Command::default()
        };
        Job::of(action, command)
    }

    #[test]
    fn plain_clients_get_a_writable_root_of_their_own() {
        let job = job(&[], "sub", &["out/a", "../b"]).unwrap();
        assert_eq!(job.base, Path::new("/vx/root"));
        assert_eq!(job.writable, BTreeSet::from([String::new()]));
        let paths: Vec<_> = job
            .outputs
            .iter()
            .map(|output| output.path.as_str())
            .collect();
        assert_eq!(paths, ["b", "sub/out/a"]);
        assert_eq!(job.place("sub/out/a"), Some(("", "sub/out/a")));
    }

    #[test]
    fn with_a_fixed_root_only_named_places_are_writable() {
        let properties = [
            ("InputRootAbsolutePath", "/"),
            ("vx-writable", "vx/out"),
            ("vx-writable", "vx/out/x"),
        ];
        let job = job(
            &properties,
            "vx/ws",
            &["/vx/out/lib", "../other/y", "../out/x/z"],
        )
        .unwrap();
        assert_eq!(job.base, Path::new("/"));
        assert_eq!(Vec::from_iter(&job.writable), ["vx/other", "vx/out"]);
        assert_eq!(job.place("vx/out/lib"), Some(("vx/out", "lib")));
        assert_eq!(job.inside("vx/out"), Path::new("/vx/out"));
    }

    #[test]
    fn paths_that_leave_the_root_are_refused() {
        let root = ("InputRootAbsolutePath", "/");
        assert!(job(&[root], "a", &["../../x"]).is_err());
        assert!(job(&[root], "../a", &[]).is_err());
        assert!(job(&[("vx-writable", "/abs")], "", &[]).is_err());
        assert!(job(&[], "", &["/abs"]).is_err());
        assert!(job(&[("InputRootAbsolutePath", "/p")], "", &["/q/x"]).is_err());
        assert!(job(&[root], "", &["x"]).is_err());
    }
}
