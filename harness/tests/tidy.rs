//! Rules about the tree that a reader relies on.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The layer of each crate; a crate may depend on lower layers, and within layers 1 and 2 on those listed before it.
const LAYERS: [(&str, u32); 19] = [
    ("daemon-contract", 0),
    ("vx-digest", 0),
    ("daemon-lifecycle", 10),
    ("daemon-rpc", 11),
    ("vx-proto", 12),
    ("cas-store", 20),
    ("vx-sandbox", 20),
    ("vx-plan", 20),
    ("vx-tree", 20),
    ("vx-download", 20),
    ("vx-toolchain", 21),
    ("vrift-store", 21),
    ("vx-casd", 30),
    ("vx-execd", 30),
    ("vx-daemon", 30),
    ("vrift-daemon", 30),
    ("vx", 40),
    ("vrift", 40),
    ("vx-testkit", 50),
];

/// Names of the crates of this workspace in one section of a manifest, those for some systems only included.
fn dependencies(manifest: &str, section: &str) -> Vec<String> {
    let (always, sometimes) = (format!("[{section}]"), format!(".{section}]"));
    let mut found = Vec::new();
    let mut is_meant = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_meant = line == always || line.ends_with(&sometimes);
        } else if let (true, Some(name)) = (is_meant, line.split(['.', ' ', '=']).next())
            && LAYERS.iter().any(|(known, _)| *known == name)
        {
            found.push(name.to_owned());
        }
    }
    found
}

#[test]
fn dependencies_point_down_only() {
    let layers: BTreeMap<&str, u32> = LAYERS.into_iter().collect();
    let mut checked = 0;
    for (name, layer) in &layers {
        let path = root().join("crates").join(name).join("Cargo.toml");
        let manifest = fs::read_to_string(&path).unwrap();
        for dependency in dependencies(&manifest, "dependencies") {
            assert!(
                layers[dependency.as_str()] < *layer,
                "{name} must not depend on {dependency}"
            );
            checked += 1;
        }
    }
    assert!(
        checked > 20,
        "the manifests were not read: {checked} dependencies found"
    );
    let crates = fs::read_dir(root().join("crates")).unwrap().count();
    assert_eq!(crates, LAYERS.len(), "a crate has no layer");
}

#[test]
fn the_test_kit_stands_alone() {
    let manifest = fs::read_to_string(root().join("crates/vx-testkit/Cargo.toml")).unwrap();
    assert_eq!(
        dependencies(&manifest, "dependencies"),
        Vec::<String>::new()
    );
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files);
    sources(&root().join("harness"), &mut files);
    assert!(files.len() > 100);
    // Data of tests is not ours to comment.
    let ours = files
        .iter()
        .filter(|path| !path.to_string_lossy().contains("/tests/data/"));
    let silent: Vec<_> = ours
        .filter(|path| {
            !fs::read_to_string(path)
                .unwrap()
                .trim_start()
                .starts_with("//!")
        })
        .collect();
    assert!(silent.is_empty(), "files without a header: {silent:#?}");
}

#[test]
fn only_one_file_names_the_variables() {
    let mut files = Vec::new();
    for name in ["vx", "vx-daemon", "vx-casd", "vx-execd"] {
        sources(&root().join("crates").join(name).join("src"), &mut files);
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for reader in ["env::var(\"VX_", "env::var_os(\"VX_"] {
            assert!(
                !text.contains(reader),
                "{} reads a variable of vx by itself",
                file.display()
            );
        }
    }
}

#[test]
fn the_readme_has_every_variable() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let declared = fs::read_to_string(root().join("crates/vx-proto/src/env.rs")).unwrap();
    let names = declared
        .lines()
        .filter_map(|line| line.strip_prefix("pub const VX_"))
        .filter_map(|line| line.split(':').next());
    let mut count = 0;
    for name in names {
        assert!(
            readme.contains(&format!("`VX_{name}`")),
            "README.md lacks `VX_{name}`"
        );
        count += 1;
    }
    assert!(count >= 7, "found only {count} variables");
}
