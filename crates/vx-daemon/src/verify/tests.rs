//! Archives, unpacked packages and vendored ones, each whole and changed.

use std::io::Write;

use vx_tree::{DigestCache, scan};

use super::*;

/// A package in a registry, unpacked as cargo does it.
fn package(dir: &Path) -> Immutable {
    let packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(packed);
    let root = dir.join("registry/src/index/a-1.0.0");
    fs::create_dir_all(root.join("src")).unwrap();
    for (path, content) in [("Cargo.toml", "[package]"), ("src/lib.rs", "// a")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("a-1.0.0/{path}"), content.as_bytes())
            .unwrap();
        fs::write(root.join(path), content).unwrap();
    }
    fs::write(root.join(MARK), "{}").unwrap();
    let archive = tar.into_inner().unwrap().finish().unwrap();
    let cache = dir.join("registry/cache/index");
    fs::create_dir_all(&cache).unwrap();
    let archive_path = cache.join("a-1.0.0.crate");
    fs::write(&archive_path, archive).unwrap();
    Immutable {
        name: "a".to_owned(),
        version: "1.0.0".to_owned(),
        identity: "a 1.0.0".to_owned(),
        checksum: Some(sha256(&archive_path).unwrap()),
        root,
    }
}

fn verify(package: &Immutable) -> Result<Verified, String> {
    let tree = scan(&package.root, &Rules::sources([])).unwrap();
    let tree = tree.hash(&DigestCache::default()).unwrap();
    package
        .verify(&tree.files)
        .map_err(|error| error.to_string())
}

#[test]
fn sources_of_a_registry_are_those_of_the_archive_that_the_lock_file_names() {
    let dir = tempfile::tempdir().unwrap();
    let package = package(dir.path());
    let file = package.root.join("src/lib.rs");
    assert_eq!(verify(&package), Ok(Verified::Yes));
    fs::write(&file, "// b").unwrap();
    let error = verify(&package).unwrap_err();
    let says = "the file `src/lib.rs` of `a 1.0.0` is not the one in its archive";
    assert!(error.starts_with(says), "{error}");
    fs::remove_file(&file).unwrap();
    assert!(verify(&package).unwrap_err().contains("is missing"));
    fs::write(&file, "// a").unwrap();
    let extra = package.root.join("build.rs");
    fs::write(&extra, "").unwrap();
    assert!(
        verify(&package)
            .unwrap_err()
            .contains("is not in its archive")
    );
    fs::remove_file(extra).unwrap();
    assert_eq!(verify(&package), Ok(Verified::Yes));
}

#[test]
fn another_archive_is_told_with_both_checksums() {
    let dir = tempfile::tempdir().unwrap();
    let mut package = package(dir.path());
    let found = package.checksum.replace("0".repeat(64)).unwrap();
    let error = verify(&package).unwrap_err();
    let says = format!(
        "`a 1.0.0` has the checksum {found}, but Cargo.lock says {}",
        "0".repeat(64)
    );
    assert!(error.starts_with(&says), "{error}");
    package.checksum = None;
    assert_eq!(verify(&package), Ok(Verified::NotAsked));
    package.checksum = Some(found);
    fs::remove_dir_all(dir.path().join("registry/cache")).unwrap();
    assert_eq!(verify(&package), Ok(Verified::NoArchive));
}

#[test]
fn vendored_sources_are_those_of_their_list() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("vendor/a");
    fs::create_dir_all(&root).unwrap();
    let file = root.join("lib.rs");
    fs::write(&file, "// a").unwrap();
    let sum = sha256(&file).unwrap();
    let mut list = File::create(root.join(LIST)).unwrap();
    write!(list, r#"{{"package":"abc","files":{{"lib.rs":"{sum}"}}}}"#).unwrap();
    let mut package = Immutable {
        name: "a".to_owned(),
        version: "1.0.0".to_owned(),
        identity: "a 1.0.0".to_owned(),
        checksum: Some("abc".to_owned()),
        root,
    };
    assert_eq!(verify(&package), Ok(Verified::Yes));
    fs::write(&file, "// b").unwrap();
    let error = verify(&package).unwrap_err();
    assert!(
        error.contains("`lib.rs` of `a 1.0.0` has the SHA-256"),
        "{error}"
    );
    package.checksum = Some("def".to_owned());
    let error = verify(&package).unwrap_err();
    assert!(
        error.contains("has the checksum abc, but Cargo.lock says def"),
        "{error}"
    );
}
