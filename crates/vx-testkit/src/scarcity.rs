//! Things that a service runs out of: disk space and file descriptors.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::env::{Inner, TestEnv};
use crate::fault::Injected;
use crate::service::Service;

/// What takes the space that is to be missing.
const FILLER: &str = ".vx-testkit-filler";

/// A small file system for one directory of the environment; made by
/// [`TestEnvBuilder::small_disk`](crate::TestEnvBuilder::small_disk).
///
/// It has to be full at some time: the test fails if it is not seen full by
/// [`fill`](Disk::fill), by [`wait_full`](Disk::wait_full), or at the end.
#[derive(Clone, Debug)]
pub struct Disk {
    /// As the test, which does not have the mount, gets there.
    path: PathBuf,
    full: Injected,
}

impl Disk {
    pub(crate) fn new(inner: &Inner, name: &str, path: PathBuf) -> Disk {
        let looked_at = path.clone();
        let full = Injected::new(format!("disk `{name}` is full"), move || {
            available(&looked_at).is_ok_and(|left| left == 0)
        });
        inner.expect_fault(&full);
        Disk { path, full }
    }

    /// The directory as the test sees it; the path in the variable leads
    /// commands there, but the test only to the empty directory below.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Bytes that can still be written.
    ///
    /// # Errors
    /// If it is gone.
    pub fn available(&self) -> io::Result<u64> {
        available(&self.path)
    }

    /// Takes all the space there is, so that the next write fails.
    ///
    /// # Panics
    /// If it cannot.
    #[track_caller]
    pub fn fill(&self) {
        let filled = File::options()
            .append(true)
            .create(true)
            .open(self.path.join(FILLER))
            .and_then(|mut file| {
                let chunk = vec![0; 64 << 10];
                loop {
                    match file.write(&chunk) {
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                        Err(error) => return Err(error),
                    }
                }
            });
        if let Err(error) = filled {
            panic!("failed to fill `{}`: {error}", self.path.display());
        }
        self.full.wait(Duration::ZERO);
    }

    /// Gives the space back that [`fill`](Self::fill) took.
    ///
    /// # Errors
    /// If it took none.
    pub fn free(&self) -> io::Result<()> {
        std::fs::remove_file(self.path.join(FILLER))
    }

    /// Waits until somebody has filled it.
    ///
    /// # Panics
    /// If nobody has within the limit.
    #[track_caller]
    pub fn wait_full(&self, limit: Duration) {
        self.full.wait(limit);
    }
}

fn available(path: &PathBuf) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail * stat.f_frsize)
}

impl TestEnv {
    /// A small disk that the builder declared.
    ///
    /// # Panics
    /// If none of that name was declared.
    #[track_caller]
    #[must_use]
    pub fn disk(&self, name: &str) -> Disk {
        match self.disks.get(name) {
            Some(disk) => disk.clone(),
            None => panic!("no small disk `{name}` was declared"),
        }
    }
}

/// The file descriptors of a service, used up; made by
/// [`Service::exhaust_files`].
#[derive(Debug)]
#[must_use = "`restore` ends it"]
pub struct ExhaustedFiles {
    pid: u32,
    before: libc::rlimit,
}

impl Service {
    /// Takes its free file descriptors away: from now on it cannot open a file or
    /// accept a connection (`EMFILE`), unless it closes something first.
    ///
    /// # Panics
    /// If it has ended, or goes on closing files so that it always has free ones.
    #[track_caller]
    pub fn exhaust_files(&self) -> ExhaustedFiles {
        match exhaust(self.pid()) {
            Ok(exhausted) => exhausted,
            Err(error) => panic!("failed to take the service's file descriptors: {error}"),
        }
    }
}

impl ExhaustedFiles {
    /// Gives the service its limit back.
    ///
    /// # Errors
    /// If it has ended.
    pub fn restore(self) -> io::Result<()> {
        limit_files(self.pid, Some(self.before)).map(drop)
    }
}

/// The system hands out the lowest free number below the limit, so a limit at
/// the lowest free number leaves none.
fn exhaust(pid: u32) -> io::Result<ExhaustedFiles> {
    let before = limit_files(pid, None)?;
    for _ in 0..100 {
        let free = lowest_free(pid)?;
        let less = libc::rlimit {
            rlim_cur: free,
            ..before
        };
        limit_files(pid, Some(less))?;
        if lowest_free(pid)? >= free {
            return Ok(ExhaustedFiles { pid, before });
        }
    }
    limit_files(pid, Some(before))?;
    Err(io::Error::other("it closes files all the time"))
}

/// Sets the limit, if one is given, and returns the one before.
fn limit_files(pid: u32, limit: Option<libc::rlimit>) -> io::Result<libc::rlimit> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    let new = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let mut old = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both point to structures that outlive the call, or to nothing.
    if unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, new, &raw mut old) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(old)
}

fn lowest_free(pid: u32) -> io::Result<u64> {
    let mut used: Vec<u64> = std::fs::read_dir(format!("/proc/{pid}/fd"))?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    used.sort_unstable();
    Ok((0..).zip(&used).take_while(|(at, fd)| at == *fd).count() as u64)
}

/// Makes the handles of the declared disks.
pub(crate) fn disks(
    inner: &Arc<Inner>,
    declared: &[(String, PathBuf, u64)],
) -> std::collections::BTreeMap<String, Disk> {
    declared
        .iter()
        .map(|(name, path, _)| {
            let inside = inner.helper.sees(path);
            (name.clone(), Disk::new(inner, name, inside))
        })
        .collect()
}
