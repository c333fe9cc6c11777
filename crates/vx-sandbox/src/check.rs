//! Refuse a spec that cannot be built before any process is started for it.

use std::path::{Component, Path};

use crate::error::SpawnError;
use crate::spec::{MountKind, Spec};

/// `Ok` when every path is absolute and plain, no two mounts collide, and none lies inside one that cannot take it.
pub(crate) fn check(spec: &Spec) -> Result<(), SpawnError> {
    if spec.argv.first().is_none_or(String::is_empty) {
        return Err(SpawnError::EmptyCommand);
    }
    plain(&spec.cwd)?;
    let mut places: Vec<(&Path, &MountKind)> = Vec::with_capacity(spec.mounts.len());
    for mount in &spec.mounts {
        plain(&mount.at)?;
        if let Some(host) = mount.kind.host_path() {
            plain(host)?;
        }
        places.push((&mount.at, &mount.kind));
    }
    places.sort_by_key(|(at, _)| *at);
    // Sorted by components, whatever lies below a mount follows it directly.
    let mut outer: Vec<(&Path, &MountKind)> = Vec::new();
    for (at, kind) in places {
        while outer
            .last()
            .is_some_and(|(above, _)| !at.starts_with(above))
        {
            outer.pop();
        }
        if let Some((above, above_kind)) = outer.last() {
            if *above == at {
                return Err(SpawnError::Duplicate(at.to_path_buf()));
            }
            if !above_kind.takes_mounts() {
                return Err(SpawnError::InsideReadOnly {
                    inner: at.to_path_buf(),
                    outer: above.to_path_buf(),
                });
            }
        }
        outer.push((at, kind));
    }
    Ok(())
}

fn plain(path: &Path) -> Result<(), SpawnError> {
    if path.to_str().is_none() {
        return Err(SpawnError::NotUtf8(path.to_path_buf()));
    }
    let mut components = path.components();
    let rooted = components.next() == Some(Component::RootDir);
    if rooted && components.all(|part| matches!(part, Component::Normal(_))) {
        Ok(())
    } else {
        Err(SpawnError::BadPath(path.to_path_buf()))
    }
}

impl MountKind {
    /// Where the content comes from, if it comes from the host.
    pub(crate) fn host_path(&self) -> Option<&Path> {
        match self {
            MountKind::ReadOnlyTree { host_dir }
            | MountKind::WritableDir { host_dir }
            | MountKind::ObservedCopy { host_dir } => Some(host_dir),
            MountKind::ReadOnlyFile { host_file } => Some(host_file),
            MountKind::EmptyDir | MountKind::Symlink { .. } => None,
        }
    }

    /// Whether a mount point can be made inside.
    fn takes_mounts(&self) -> bool {
        matches!(
            self,
            MountKind::WritableDir { .. } | MountKind::ObservedCopy { .. } | MountKind::EmptyDir
        )
    }
}
