//! A component as a tarball in the layout of rust-installer, version 3.

use std::io;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

/// Files of one component.
#[derive(Debug)]
pub(super) struct Component {
    pub(super) name: String,
    /// Paths relative to a sysroot.
    pub(super) files: Vec<(String, Vec<u8>)>,
}

impl Component {
    /// The compressed tarball; the same for the same files.
    pub(super) fn pack(&self, directory: &str, target: &str) -> io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut add = |path: String, mode: u32, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(mode);
            header.set_entry_type(tar::EntryType::Regular);
            archive.append_data(&mut header, format!("{directory}/{path}"), content)
        };
        // As in the distribution, the standard library is named by its target.
        let inner = match self.name.as_str() {
            "rust-std" => format!("rust-std-{target}"),
            name => name.to_owned(),
        };
        add("rust-installer-version".to_owned(), 0o644, b"3\n")?;
        let list = if self.files.is_empty() {
            String::new()
        } else {
            format!("{inner}\n")
        };
        add("components".to_owned(), 0o644, list.as_bytes())?;
        let mut manifest = String::new();
        for (path, content) in &self.files {
            manifest += &format!("file:{path}\n");
            // The linker that comes with a compiler is in a `bin` further down.
            let mode = if path.starts_with("bin/") || path.contains("/bin/") {
                0o755
            } else {
                0o644
            };
            add(format!("{inner}/{path}"), mode, content)?;
        }
        if !self.files.is_empty() {
            add(format!("{inner}/manifest.in"), 0o644, manifest.as_bytes())?;
        }
        archive.into_inner()?.finish()
    }
}

/// The files of a component that rustup has installed.
pub(super) fn installed_files(sysroot: &Path, name: &str, target: &str) -> io::Result<Vec<String>> {
    let lists = sysroot.join("lib/rustlib");
    let with_target = lists.join(format!("manifest-{name}-{target}"));
    let list = if with_target.exists() {
        with_target
    } else {
        lists.join(format!("manifest-{name}"))
    };
    let mut paths = Vec::new();
    for line in std::fs::read_to_string(list)?.lines() {
        if let Some(path) = line.strip_prefix("file:") {
            paths.push(path.to_owned());
        } else if let Some(dir) = line.strip_prefix("dir:") {
            files_below(sysroot, dir, &mut paths)?;
        }
    }
    Ok(paths)
}

fn files_below(sysroot: &Path, dir: &str, paths: &mut Vec<String>) -> io::Result<()> {
    for entry in std::fs::read_dir(sysroot.join(dir))? {
        let entry = entry?;
        let path = format!("{dir}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            files_below(sysroot, &path, paths)?;
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_an_installed_component_are_those_of_its_list() {
        let sysroot = tempfile::tempdir().unwrap();
        let lists = sysroot.path().join("lib/rustlib");
        std::fs::create_dir_all(sysroot.path().join("share/doc/deep")).unwrap();
        std::fs::write(sysroot.path().join("share/doc/deep/a"), "").unwrap();
        std::fs::create_dir_all(&lists).unwrap();
        let list = "file:bin/rustc\ndir:share/doc\n";
        std::fs::write(lists.join("manifest-rustc-t"), list).unwrap();
        let files = installed_files(sysroot.path(), "rustc", "t").unwrap();
        assert_eq!(files, ["bin/rustc", "share/doc/deep/a"]);
        assert!(installed_files(sysroot.path(), "cargo", "t").is_err());
    }
}
