//! The file system that a command sees.
//!
//! A tmpfs with the machine's programs and libraries (read-only), a handful of device nodes, own `/etc`, `/proc` and `/tmp`, and the declared mounts.
//! No home directory, no `/var`, no `/run`, no sockets.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat, symlinkat};

use crate::error::SetupFailure;
use crate::failure::{Step, failure};
use crate::mounts::{self, Allow};
use crate::observe::{self, Copy};
use crate::spec::{Mount, MountKind, NORMAL_MTIME, Spec};

/// System directories shown read-only; where the host has a link, a link.
const SYSTEM: [&str; 7] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
];

/// What programs need of the host's `/etc`: how libraries and tools are found.
const ETC: [&str; 4] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
];

const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

const DEVICE_LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "dev/fd"),
    ("/proc/self/fd/0", "dev/stdin"),
    ("/proc/self/fd/1", "dev/stdout"),
    ("/proc/self/fd/2", "dev/stderr"),
];

/// Parts of `/proc` through which user 0 may change the machine even without capabilities.
const DANGEROUS_PROC: [&str; 5] = ["sys", "sysrq-trigger", "irq", "bus", "fs"];

const READ_ONLY: Allow = Allow {
    writing: false,
    devices: false,
};

/// Everything that is taken from the host, cloned while the host's root is in place.
#[derive(Debug)]
pub(crate) struct Sources {
    system: Vec<(PathBuf, System)>,
    devices: Vec<(PathBuf, OwnedFd)>,
    /// By place, so that a mount comes before those inside it.
    mounts: Vec<(Mount, Source)>,
    order: Vec<PathBuf>,
}

#[derive(Debug)]
enum System {
    Link(PathBuf),
    Tree { tree: OwnedFd, is_directory: bool },
}

#[derive(Debug)]
enum Source {
    Directory(OwnedFd),
    File(OwnedFd),
    Copy(Copy),
    Nothing,
}

impl Sources {
    /// Collect them.
    pub(crate) fn collect(spec: &Spec) -> Result<Sources, SetupFailure> {
        let mut system = Vec::new();
        for path in SYSTEM.iter().chain(&ETC).map(Path::new) {
            if let Some(source) = system_source(path)? {
                system.push((path.to_path_buf(), source));
            }
        }
        let mut devices = Vec::new();
        for name in DEVICES {
            let path = Path::new("/dev").join(name);
            let tree = mounts::clone_host(&path)?;
            devices.push((path, tree));
        }
        let mut mounts = Vec::with_capacity(spec.mounts.len());
        for mount in &spec.mounts {
            mounts.push((mount.clone(), declared_source(mount)?));
        }
        mounts.sort_by(|(one, _), (other, _)| one.at.cmp(&other.at));
        let order = spec.mounts.iter().map(|mount| mount.at.clone()).collect();
        Ok(Sources {
            system,
            devices,
            mounts,
            order,
        })
    }

    /// Build the root from them, make it this process's root, and give back the copies to look at later.
    pub(crate) fn become_root(
        self,
        cwd: &Path,
        host_is_root: bool,
    ) -> Result<Vec<Copy>, SetupFailure> {
        let root = mounts::memory("0755")?;
        // Any directory that surely exists; it is covered in this mount namespace only.
        let cover = openat(CWD, "/usr", directory_flags(), Mode::empty()).step("open", "/usr")?;
        mounts::attach(&root, &cover, Path::new("/"))?;
        let mut view = View {
            root,
            made: Vec::new(),
        };
        view.add_system(self.system)?;
        view.add_etc()?;
        view.add_devices(self.devices)?;
        view.add_processes(host_is_root)?;
        let mut copies = Vec::new();
        for (mount, source) in self.mounts {
            if let Some(copy) = view.add_declared(&mount, source)? {
                copies.push((mount.at, copy));
            }
        }
        drop(view.directory(cwd)?);
        view.finish()?;
        for (_, copy) in &copies {
            copy.arm()?;
        }
        copies.sort_by_key(|(at, _)| self.order.iter().position(|place| place == at));
        Ok(copies.into_iter().map(|(_, copy)| copy).collect())
    }
}

fn system_source(path: &Path) -> Result<Option<System>, SetupFailure> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).step("look at", path.display()),
    };
    if meta.is_symlink() && SYSTEM.iter().any(|name| Path::new(name) == path) {
        let target = fs::read_link(path).step("read", path.display())?;
        return Ok(Some(System::Link(target)));
    }
    let tree = mounts::clone_host(path)?;
    mounts::restrict(&tree, READ_ONLY, path)?;
    let is_directory = fs::metadata(path).step("look at", path.display())?.is_dir();
    Ok(Some(System::Tree { tree, is_directory }))
}

fn declared_source(mount: &Mount) -> Result<Source, SetupFailure> {
    Ok(match &mount.kind {
        MountKind::ReadOnlyTree { host_dir } => {
            let tree = mounts::clone_host(host_dir)?;
            mounts::restrict(&tree, READ_ONLY, host_dir)?;
            Source::Directory(tree)
        }
        MountKind::WritableDir { host_dir } => {
            let tree = mounts::clone_host(host_dir)?;
            mounts::restrict(
                &tree,
                Allow {
                    writing: true,
                    devices: false,
                },
                host_dir,
            )?;
            Source::Directory(tree)
        }
        MountKind::ObservedCopy { host_dir } => {
            let source = observe::open_source(host_dir)?;
            Source::Copy(Copy::of(&source, host_dir, &mount.at)?)
        }
        MountKind::ReadOnlyFile { host_file } => {
            let tree = mounts::clone_host(host_file)?;
            mounts::restrict(&tree, READ_ONLY, host_file)?;
            Source::File(tree)
        }
        MountKind::EmptyDir | MountKind::Symlink { .. } => Source::Nothing,
    })
}

/// A root under construction.
#[derive(Debug)]
struct View {
    root: OwnedFd,
    /// What this code put into the tmpfs, relative to the root; gets the normal time at the end.
    made: Vec<PathBuf>,
}

impl View {
    fn add_system(&mut self, system: Vec<(PathBuf, System)>) -> Result<(), SetupFailure> {
        for (path, source) in system {
            match source {
                System::Link(target) => self.link(&target, &path)?,
                System::Tree {
                    tree,
                    is_directory: true,
                } => {
                    mounts::attach(&tree, self.directory(&path)?, &path)?;
                }
                System::Tree {
                    tree,
                    is_directory: false,
                } => {
                    mounts::attach(&tree, self.file(&path, "")?, &path)?;
                }
            }
        }
        Ok(())
    }

    fn add_etc(&mut self) -> Result<(), SetupFailure> {
        let files = [
            (
                "/etc/passwd",
                "user:x:1000:1000::/tmp:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
            ),
            ("/etc/group", "user:x:1000:\nnogroup:x:65534:\n"),
            ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
            (
                "/etc/nsswitch.conf",
                "passwd: files\ngroup: files\nhosts: files\n",
            ),
        ];
        for (path, text) in files {
            drop(self.file(Path::new(path), text)?);
        }
        Ok(())
    }

    fn add_devices(&mut self, devices: Vec<(PathBuf, OwnedFd)>) -> Result<(), SetupFailure> {
        for (path, tree) in devices {
            mounts::attach(&tree, self.file(&path, "")?, &path)?;
        }
        for (target, path) in DEVICE_LINKS {
            self.link(Path::new(target), &Path::new("/").join(path))?;
        }
        for place in ["/dev/shm", "/tmp"].map(Path::new) {
            mounts::attach(&mounts::memory("1777")?, self.directory(place)?, place)?;
        }
        Ok(())
    }

    fn add_processes(&mut self, host_is_root: bool) -> Result<(), SetupFailure> {
        let place = Path::new("/proc");
        mounts::attach(&mounts::processes()?, self.directory(place)?, place)?;
        if !host_is_root {
            return Ok(());
        }
        let proc = self.directory(place)?;
        for name in DANGEROUS_PROC.map(Path::new) {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // Not every kernel has all of them.
            let Ok(target) = openat(&proc, name, flags, Mode::empty()) else {
                continue;
            };
            let tree = mounts::clone_tree(proc.as_fd(), name)?;
            mounts::restrict(&tree, READ_ONLY, &place.join(name))?;
            mounts::attach(&tree, target, &place.join(name))?;
        }
        Ok(())
    }

    fn add_declared(
        &mut self,
        mount: &Mount,
        source: Source,
    ) -> Result<Option<Copy>, SetupFailure> {
        let at = &mount.at;
        match source {
            Source::Directory(tree) => mounts::attach(&tree, self.directory(at)?, at)?,
            Source::File(tree) => mounts::attach(&tree, self.file(at, "")?, at)?,
            Source::Copy(copy) => {
                mounts::attach(copy.mount(), self.directory(at)?, at)?;
                return Ok(Some(copy));
            }
            Source::Nothing => match &mount.kind {
                MountKind::Symlink { target } => self.link(Path::new(target), at)?,
                _ => drop(self.directory(at)?),
            },
        }
        Ok(None)
    }

    /// The directory at `path`, made with its parents where it is missing.
    ///
    /// Goes one name at a time and follows no link, so that no link can lead out of the new root.
    fn directory(&mut self, path: &Path) -> Result<OwnedFd, SetupFailure> {
        let mut here =
            openat(&self.root, ".", directory_flags(), Mode::empty()).step("open", "/")?;
        let mut walked = PathBuf::new();
        for name in names(path) {
            walked.push(name);
            match mkdirat(&here, name, Mode::from_raw_mode(0o755)) {
                Ok(()) => self.made.push(walked.clone()),
                Err(rustix::io::Errno::EXIST) => {}
                // In a read-only file system an existing directory may serve; `openat` tells.
                Err(rustix::io::Errno::ROFS) => {}
                Err(errno) => return Err(errno).step("make the directory", path.display()),
            }
            here = openat(&here, name, directory_flags(), Mode::empty())
                .step("open the mount point", path.display())?;
        }
        Ok(here)
    }

    fn parent<'a>(&mut self, path: &'a Path) -> Result<(OwnedFd, &'a OsStr), SetupFailure> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let name = path
            .file_name()
            .ok_or_else(|| failure("mount over", path.display(), libc::EBUSY))?;
        Ok((self.directory(parent)?, name))
    }

    /// A new file with this text.
    fn file(&mut self, path: &Path, text: &str) -> Result<OwnedFd, SetupFailure> {
        let (parent, name) = self.parent(path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&parent, name, flags, Mode::from_raw_mode(0o444))
            .step("make the file", path.display())?;
        let mut file = fs::File::from(file);
        file.write_all(text.as_bytes())
            .step("write", path.display())?;
        self.made.push(names(path).collect());
        Ok(file.into())
    }

    fn link(&mut self, target: &Path, path: &Path) -> Result<(), SetupFailure> {
        let (parent, name) = self.parent(path)?;
        symlinkat(target, &parent, name).step("make the link", path.display())?;
        self.made.push(names(path).collect());
        Ok(())
    }

    /// Normal times, read-only, and the old root gone.
    fn finish(self) -> Result<(), SetupFailure> {
        for path in self
            .made
            .iter()
            .map(PathBuf::as_path)
            .chain([Path::new(".")])
        {
            // Fails where something read-only was mounted, which has times of its own.
            let _ = observe::set_times(self.root.as_fd(), path, NORMAL_MTIME);
        }
        mounts::seal(&self.root, Path::new("/"))?;
        rustix::process::fchdir(&self.root).step("enter", "the new root")?;
        rustix::process::pivot_root(".", ".").step("change", "the root")?;
        // The old root lies on top of the new one now.
        rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)
            .step("leave", "the old root")?;
        rustix::process::chdir("/").step("enter", "/")
    }
}

fn directory_flags() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn names(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}
