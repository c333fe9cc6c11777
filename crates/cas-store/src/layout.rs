//! Names below a store's root: which directory and file name a digest has.
//!
//! Pure text; it knows nothing of file systems.
//! The size stands in the name so that one `stat` finds what a crash truncated, without reading a byte.

use vx_digest::Digest;

/// Directories and files at a store's root, in the order of `STORE.md`.
pub(crate) const FORMAT: &str = "format";
pub(crate) const BLOBS: [&str; 2] = ["blobs/blake3", "blake3"];
pub(crate) const INDEX: &str = "index/sha256";
pub(crate) const ACTIONS: &str = "actions";
pub(crate) const TMP: &str = "tmp";
pub(crate) const QUARANTINE: &str = "quarantine";
/// First components of all of the above: what a store's root may contain.
pub(crate) const ROOT_NAMES: [&str; 7] =
    [FORMAT, "blobs", "blake3", "index", ACTIONS, TMP, QUARANTINE];

/// Where the blobs of a store with so many levels lie.
///
/// With two levels the path of a blob is promised to others, so it has nothing in it that says nothing.
pub(crate) fn blobs(levels: u8) -> &'static str {
    BLOBS[usize::from(levels > 1)]
}

/// The two inodes a blob can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// `<hash>_<size>.bin`, mode 0444.
    Plain,
    /// `<hash>_<size>.x.bin`, mode 0555: the mode belongs to the inode, so it takes a second one.
    Executable,
}

impl Kind {
    pub(crate) fn of(executable: bool) -> Kind {
        if executable {
            Kind::Executable
        } else {
            Kind::Plain
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Kind::Plain => ".bin",
            Kind::Executable => ".x.bin",
        }
    }

    /// Permission bits of the inode.
    pub(crate) fn mode(self) -> u32 {
        match self {
            Kind::Plain => 0o444,
            Kind::Executable => 0o555,
        }
    }
}

/// `<hash>_<size>`: the name of a record, and the stem of a blob's.
pub(crate) fn stem(digest: &Digest) -> String {
    format!("{}_{}", digest.hex(), digest.size)
}

/// The file name of a blob.
pub(crate) fn blob_name(digest: &Digest, kind: Kind) -> String {
    format!("{}{}", stem(digest), kind.suffix())
}

/// Reads a blob's file name; `None` for anything that [`blob_name`] would not have written.
pub(crate) fn parse_blob_name(name: &str) -> Option<(Digest, Kind)> {
    // The longer suffix ends with the shorter one, so it is tried first.
    for kind in [Kind::Executable, Kind::Plain] {
        if let Some(stem) = name.strip_suffix(kind.suffix()) {
            return parse_stem(stem).map(|digest| (digest, kind));
        }
    }
    None
}

/// Reads `<hash>_<size>`; `None` for anything that [`stem`] would not have written.
pub(crate) fn parse_stem(name: &str) -> Option<Digest> {
    let (hash, size) = name.split_once('_')?;
    let digest: Digest = format!("{hash}/{size}").parse().ok()?;
    // One digest has one name: no leading zeros.
    (stem(&digest) == name).then_some(digest)
}

/// The shard directories of a hash, outermost first: one pair of hex digits per level.
pub(crate) fn shards(hash: &[u8; 32], levels: u8) -> impl Iterator<Item = String> + '_ {
    hash.iter()
        .take(usize::from(levels))
        .map(|byte| format!("{byte:02x}"))
}

/// [`shards`] as one path.
pub(crate) fn shard_path(hash: &[u8; 32], levels: u8) -> String {
    let mut path = String::with_capacity(5);
    for shard in shards(hash, levels) {
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(&shard);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> Digest {
        let mut hash = [0xab; 32];
        hash[1] = 0x0c;
        Digest { hash, size: 1234 }
    }

    #[test]
    fn a_name_reads_back_as_its_digest() {
        for kind in [Kind::Plain, Kind::Executable] {
            assert_eq!(
                parse_blob_name(&blob_name(&digest(), kind)),
                Some((digest(), kind))
            );
        }
    }

    #[test]
    fn names_nobody_wrote_are_refused() {
        let good = blob_name(&digest(), Kind::Plain);
        for bad in [
            good.to_uppercase(),
            good.replace("_1234", "_01234"),
            good.replace("_1234", "_+1234"),
            good.replace("_1234", "_"),
            good.replace("_1234", "_99999999999999999999999"),
            good.replace(".bin", ".y.bin"),
            good[1..].to_owned(),
            "é".repeat(32) + "_1.bin",
            String::new(),
        ] {
            assert_eq!(parse_blob_name(&bad), None, "{bad}");
        }
    }

    #[test]
    fn shards_are_the_leading_bytes() {
        assert_eq!(shards(&digest().hash, 1).collect::<Vec<_>>(), ["ab"]);
        assert_eq!(shards(&digest().hash, 2).collect::<Vec<_>>(), ["ab", "0c"]);
    }
}
