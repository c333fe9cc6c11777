//! Any bytes as a manifest, and behind a right checksum: no panic, no path that leaves, and what is read is written again as it was.

#![no_main]

use vrift_store::manifest::Manifest;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    read(data);
    let mut sealed = b"vriftm1\n".to_vec();
    sealed.extend(blake3::hash(data).as_bytes());
    sealed.extend(data);
    read(&sealed);
});

fn read(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(bytes) else {
        return;
    };
    for entry in manifest.entries() {
        assert!(!entry.path.starts_with(b"/"));
        assert!(
            !entry
                .path
                .split(|byte| *byte == b'/')
                .any(|name| name == b".." || name == b".")
        );
    }
    assert_eq!(manifest.encode(), bytes);
}
