//! Random operations on a store and on a map must agree, whatever is damaged, reopened or collected in between.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use cas_store::{Durability, GcOptions, Options, Store};
use vx_digest::{Digest, DigestFunction};

/// A small generator with a known sequence, so that a failing seed can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(0x5851_f42d_4c95_7f2d);
        (self.0 >> 33) % limit
    }
}

/// What the store should know.
#[derive(Default)]
struct Model {
    blobs: HashSet<Digest>,
    index: HashMap<Digest, Digest>,
    actions: HashMap<Digest, Vec<u8>>,
}

fn content(n: u64) -> Vec<u8> {
    n.to_be_bytes().repeat(1 + n as usize * 100)
}

fn open(root: &std::path::Path, levels: u8, durability: Durability) -> Store {
    let lease = Duration::ZERO;
    Store::open(
        root,
        Options {
            levels,
            durability,
            lease,
            ..Options::default()
        },
    )
    .unwrap()
}

fn blob_file(root: &std::path::Path, levels: u8, digest: &Digest, twin: bool) -> PathBuf {
    let hex = digest.hex();
    let mut path = root.join(["blobs/blake3", "blake3"][usize::from(levels > 1)]);
    for level in 0..usize::from(levels) {
        path.push(&hex[level * 2..level * 2 + 2]);
    }
    path.join(format!(
        "{hex}_{}{}.bin",
        digest.size,
        if twin { ".x" } else { "" }
    ))
}

fn damage(path: &PathBuf, random: &mut Random) {
    let mut bytes = fs::read(path).unwrap();
    let position = random.below(bytes.len() as u64) as usize;
    match random.below(3) {
        0 => bytes[position] ^= 0x40,
        1 => bytes.truncate(position),
        _ => bytes.push(0),
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let levels = 1 + (seed % 2) as u8;
    let mut store = open(&root, levels, Durability::Cheap);
    let mut model = Model::default();
    for step in 0..400 {
        let bytes = content(random.below(12));
        let digest = Digest::of(&bytes);
        let sha256 = DigestFunction::Sha256.digest(&bytes);
        let at = format!("seed {seed}, step {step}");
        match random.below(16) {
            0 | 1 => {
                let new = model.blobs.insert(digest);
                assert_eq!(store.put_bytes(&digest, &bytes).unwrap().new, new, "{at}");
            }
            2 => {
                let mut writer = store.writer(None).unwrap();
                bytes
                    .chunks(333)
                    .for_each(|piece| writer.append(piece).unwrap());
                if random.below(4) > 0 {
                    assert_eq!(
                        writer.commit().unwrap().new,
                        model.blobs.insert(digest),
                        "{at}"
                    );
                }
            }
            3 => {
                let stored = store.put_bytes_sha256(&sha256, &bytes).unwrap();
                assert_eq!(stored.new, model.blobs.insert(digest), "{at}");
                model.index.insert(sha256, digest);
            }
            4 => {
                let other = content(random.below(12));
                let pair = [(digest, &bytes[..]), (Digest::of(&other), &other[..])];
                for answer in store.put_many(&pair) {
                    model.blobs.insert(answer.unwrap().digest);
                }
            }
            5 => assert_eq!(
                store.contains(&digest).unwrap(),
                model.blobs.contains(&digest),
                "{at}"
            ),
            6 | 7 => {
                let expected = model.blobs.contains(&digest).then_some(bytes);
                assert_eq!(store.read(&digest).unwrap(), expected, "{at}");
            }
            8 => {
                let path = store.path(&digest, true).unwrap();
                assert_eq!(path.is_some(), model.blobs.contains(&digest), "{at}");
                if let Some(path) = path {
                    assert_eq!(fs::read(path).unwrap(), bytes, "{at}");
                }
            }
            9 => {
                let to = dir.path().join(format!("out-{step}"));
                let executable = random.below(2) == 0;
                let placed = store.link_or_copy_to(&digest, executable, &to).unwrap();
                assert_eq!(placed.is_some(), model.blobs.contains(&digest), "{at}");
                if placed.is_some() {
                    assert_eq!(fs::read(&to).unwrap(), bytes, "{at}");
                }
            }
            10 => {
                let expected = model
                    .index
                    .get(&sha256)
                    .filter(|digest| model.blobs.contains(digest));
                let found = store.by_sha256(&sha256.hash, sha256.size).unwrap();
                assert_eq!(found.as_ref(), expected, "{at}");
            }
            11 => {
                let winner = model.actions.entry(digest).or_insert(vec![step as u8]);
                assert_eq!(
                    store.actions().put_first(&digest, &[step as u8]).unwrap(),
                    *winner,
                    "{at}"
                );
            }
            12 => {
                let expected = model.actions.get(&digest);
                assert_eq!(
                    store.actions().get(&digest).unwrap().as_ref(),
                    expected,
                    "{at}"
                );
            }
            13 if model.blobs.contains(&digest) => {
                let twin = random.below(2) == 0;
                let path = blob_file(&root, levels, &digest, twin);
                if path.exists() {
                    damage(&path, &mut random);
                }
                // `contains` promises the size only, so let somebody look closer.
                assert_eq!(store.read(&digest).unwrap().is_some(), twin, "{at}");
                if !twin {
                    model.blobs.remove(&digest);
                }
            }
            14 => {
                let durable = [Durability::Cheap, Durability::Grouped][random.below(2) as usize];
                // Syncing is slow, and most steps do not change by it.
                let durable = if seed == 0 {
                    durable
                } else {
                    Durability::Cheap
                };
                store = open(&root, levels, durable);
            }
            15 if random.below(4) == 0 => {
                let max_bytes = random.below(40_000);
                let dry = store
                    .gc(&GcOptions {
                        max_bytes,
                        dry_run: true,
                    })
                    .unwrap();
                let report = store
                    .gc(&GcOptions {
                        max_bytes,
                        dry_run: false,
                    })
                    .unwrap();
                assert_eq!(dry, report, "{at}");
                assert!(report.bytes_kept <= max_bytes, "{at}: {report:?}");
                // What is left is for the store to decide; the model follows, and the counts must agree.
                let before = model.blobs.len() as u64;
                model
                    .blobs
                    .retain(|digest| blob_file(&root, levels, digest, false).exists());
                assert!(before - model.blobs.len() as u64 <= report.blobs, "{at}");
                model.index.retain(|_, digest| model.blobs.contains(digest));
                model.actions.retain(|key, _| {
                    let hex = key.hex();
                    root.join(format!("actions/{}/{hex}_{}", &hex[..2], key.size))
                        .exists()
                });
                let stats = store.stats().unwrap();
                assert_eq!(stats.actions, model.actions.len() as u64, "{at}");
                assert_eq!((stats.quarantine, stats.temporary), (0, 0), "{at}");
            }
            _ => {}
        }
    }
    let stats = store.stats().unwrap();
    assert_eq!(
        (stats.blobs, stats.temporary),
        (model.blobs.len() as u64, 0),
        "seed {seed}"
    );
}

#[test]
fn a_store_agrees_with_a_map() {
    for seed in 0..12 {
        run(seed);
    }
}
