//! How much is in a store, and for whom.

use std::collections::HashSet;

use vx_digest::Digest;

use crate::error::Error;
use crate::home::Home;

/// How much is in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Distinct blobs, those that nobody keeps included.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of executable twins.
    pub executable_bytes: u64,
    /// Damaged files that were moved away.
    pub quarantine: u64,
    /// Bytes of all files of all directories that are kept.
    pub logical_bytes: u64,
    /// Bytes of the distinct contents among them.
    pub kept_bytes: u64,
    /// Each user who keeps something.
    pub users: Vec<UserUsage>,
}

/// How much one user keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserUsage {
    /// The user.
    pub uid: u32,
    /// Directories.
    pub roots: u64,
    /// Files in them.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Distinct contents among them.
    pub unique: u64,
    /// Their bytes, in full even if others keep them as well: what a quota counts.
    pub unique_bytes: u64,
    /// Bytes of what the user gave up and nobody collected yet.
    pub released_bytes: u64,
}

impl Usage {
    /// Bytes of all files that are kept for each byte that is stored for them; `None` for an empty store.
    pub fn ratio(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
        (self.kept_bytes > 0).then(|| self.logical_bytes as f64 / self.kept_bytes as f64)
    }
}

impl Home {
    /// Counts everything.
    ///
    /// # Errors
    /// When the store or a root cannot be read.
    pub fn usage(&self) -> Result<Usage, Error> {
        let stats = self.store.stats()?;
        let mut usage = Usage {
            blobs: stats.blobs,
            bytes: stats.bytes,
            executable_bytes: stats.executable_bytes,
            quarantine: stats.quarantine,
            ..Usage::default()
        };
        let mut all: HashSet<Digest> = HashSet::new();
        for uid in self.roots.users()? {
            let (user, digests) = self.usage_of(uid)?;
            usage.logical_bytes = usage.logical_bytes.saturating_add(user.bytes);
            all.extend(digests);
            usage.users.push(user);
        }
        usage.kept_bytes = all.iter().map(|digest| digest.size).sum();
        Ok(usage)
    }

    /// What one user keeps, and the distinct contents.
    ///
    /// # Errors
    /// When a root cannot be read.
    pub fn usage_of(&self, uid: u32) -> Result<(UserUsage, HashSet<Digest>), Error> {
        let mut user = UserUsage {
            uid,
            ..UserUsage::default()
        };
        let mut digests = HashSet::new();
        for root in self.roots.of(uid)? {
            user.roots += 1;
            // `verify` tells what is missing.
            let manifest = match self.manifest(&root.request.manifest) {
                Err(Error::Absent { .. }) => continue,
                result => result?,
            };
            let (files, bytes) = manifest.totals();
            user.files += files;
            user.bytes = user.bytes.saturating_add(bytes);
            digests.extend(manifest.digests());
        }
        user.unique = digests.len() as u64;
        user.unique_bytes = digests.iter().map(|digest| digest.size).sum();
        user.released_bytes = self
            .roots
            .released(uid)?
            .difference(&digests)
            .map(|digest| digest.size)
            .sum();
        Ok((user, digests))
    }
}
