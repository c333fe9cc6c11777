//! Everything an action needs before it may start: its inputs on this machine, its directories, its sandbox.
//!
//! All of this happens before the action takes a slot, so that slots are never idle while something is fetched.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::try_join_all;
use vx_proto::Digest;
use vx_sandbox::{Mount, MountKind, Spec, UserNamespace};

use crate::content::{Content, Form};
use crate::disk::{self, WorkDir};
use crate::executor::Executor;
use crate::failure::{Failure, blocking};
use crate::layout::{Job, Wanted};
use crate::outputs::Source;
use crate::plan::{Place, Placed, plan};
use crate::slots::Slots;
use crate::trees::Lease;

/// An action that can start as soon as there is a slot.
pub(crate) struct Ready {
    pub(crate) spec: Spec,
    pub(crate) work: WorkDir,
    /// Host directories of the writable places.
    hosts: HashMap<String, PathBuf>,
    /// Trees that are mounted, held until the action has ended.
    _leases: Vec<Lease>,
}

impl Ready {
    /// Where the host finds an output; `None` when the command has put something in its way.
    pub(crate) fn source(&self, job: &Job, wanted: &Wanted) -> Result<Option<Source>, Failure> {
        let Some((place, rest)) = job.place(&wanted.path) else {
            return Ok(None);
        };
        let Some(host) = self.hosts.get(place) else {
            return Ok(None);
        };
        let path = disk::inside(host, rest).map_err(Failure::local("look for the output", host))?;
        Ok(path.map(|path| Source {
            name: wanted.name.clone(),
            path,
        }))
    }
}

/// Fetches, links and copies what `job` needs.
pub(crate) async fn prepare(executor: &Arc<Executor>, job: &Job) -> Result<Ready, Failure> {
    let is_ready = |digest: &Digest| executor.provided.has(digest) || executor.trees.has(digest);
    let places = plan(job, &executor.cache, is_ready).await?;
    let files = places.iter().filter_map(|(_, place)| match place {
        Place::File { digest, .. } => Some(*digest),
        _ => None,
    });
    executor.cache.ensure(files.collect()).await?;
    let home = Arc::clone(executor);
    let work = blocking(move || home.home.work()).await?;
    let mut ready = Ready {
        spec: spec(executor, job),
        work,
        hosts: HashMap::new(),
        _leases: Vec::new(),
    };
    let mut number = 0;
    let placing = places.into_iter().map(|(path, place)| {
        number += 1;
        let host = ready.work.path().join(format!("w{number}"));
        put(executor, job, (path, place), host)
    });
    for put in try_join_all(placing).await?.into_iter().flatten() {
        if let MountKind::WritableDir { host_dir } = &put.mount.kind {
            ready.hosts.insert(put.path, host_dir.clone());
        }
        ready.spec.mounts.push(put.mount);
        ready._leases.extend(put.lease);
    }
    let made: Vec<(PathBuf, String)> = job
        .made
        .iter()
        .filter_map(|path| {
            let (place, rest) = job.place(path)?;
            Some((ready.hosts.get(place)?.clone(), rest.to_owned()))
        })
        .collect();
    blocking(move || {
        made.iter()
            .try_for_each(|(host, rest)| disk::make_inside(host, rest))
    })
    .await?;
    Ok(ready)
}

fn spec(executor: &Executor, job: &Job) -> Spec {
    let mut env = job.env.clone();
    for name in &job.jobserver_variables {
        env.insert(name.clone(), Slots::arguments());
    }
    for name in &job.jobs_variables {
        env.insert(name.clone(), executor.slots.count().to_string());
    }
    Spec {
        argv: job.argv.clone(),
        env: env.into_iter().collect(),
        cwd: job.inside(&job.working_directory),
        mounts: Vec::new(),
        user_namespace: UserNamespace::Preferred,
    }
}

struct Put {
    path: String,
    mount: Mount,
    lease: Option<Lease>,
}

/// `None` for the root of the file system, which is there anyway.
async fn put(
    executor: &Arc<Executor>,
    job: &Job,
    (path, place): Placed,
    host: PathBuf,
) -> Result<Option<Put>, Failure> {
    let at = job.inside(&path);
    let is_root = at.parent().is_none();
    let mut lease = None;
    let kind = match place {
        Place::Empty if is_root => return Ok(None),
        _ if is_root => {
            return Err(Failure::Invalid(
                "the root itself can be neither written nor observed".to_owned(),
            ));
        }
        Place::Empty => MountKind::EmptyDir,
        Place::Link(target) => MountKind::Symlink { target },
        Place::Tree(digest) => match provided(executor, digest).await? {
            Some(host_dir) => MountKind::ReadOnlyTree { host_dir },
            None => {
                let tree = executor.trees.get(&executor.cache, digest).await?;
                MountKind::ReadOnlyTree {
                    host_dir: lease.insert(tree).path().to_owned(),
                }
            }
        },
        Place::Observed(digest) => {
            let tree = executor.trees.get(&executor.cache, digest).await?;
            MountKind::ObservedCopy {
                host_dir: lease.insert(tree).path().to_owned(),
            }
        }
        Place::Writable(content) => {
            fill(executor, content, host.clone()).await?;
            MountKind::WritableDir { host_dir: host }
        }
        Place::File { digest, executable } => {
            let store = executor.cache.store().clone();
            let found =
                blocking(move || store.path(&digest, executable).map_err(Failure::cache)).await?;
            let host_file = found.ok_or_else(|| Failure::Missing(vec![digest]))?;
            MountKind::ReadOnlyFile { host_file }
        }
    };
    Ok(Some(Put {
        path,
        mount: Mount { at, kind },
        lease,
    }))
}

async fn provided(executor: &Arc<Executor>, digest: Digest) -> Result<Option<PathBuf>, Failure> {
    if !executor.provided.has(&digest) {
        return Ok(None);
    }
    let provided = executor.provided.clone();
    blocking(move || Ok(provided.directory(&digest))).await
}

async fn fill(
    executor: &Arc<Executor>,
    content: Option<Digest>,
    host: PathBuf,
) -> Result<(), Failure> {
    let Some(root) = content else {
        return blocking(move || {
            fs::create_dir(&host).map_err(Failure::local("make the directory", &host))
        })
        .await;
    };
    let content = Content::read(&executor.cache, root).await?;
    let cache = executor.cache.clone();
    blocking(move || content.write(&cache, &host, Form::Private)).await
}
