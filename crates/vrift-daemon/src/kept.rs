//! What the roots of a caller keep, read when it is first asked for.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use vrift_store::{Error, Home};
use vx_digest::Digest;

use crate::session::lock;

/// What the roots of one caller keep, as far as it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<Option<Arc<HashSet<Digest>>>>);

impl Kept {
    /// The contents, as they were when they were asked for after the last [`Kept::forget`].
    pub(crate) fn get(&self, home: &Home, uid: u32) -> Result<Arc<HashSet<Digest>>, Error> {
        let mut kept = lock(&self.0);
        if let Some(kept) = &*kept {
            return Ok(Arc::clone(kept));
        }
        let fresh = Arc::new(home.kept_by(uid)?);
        *kept = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// The caller's roots may keep something else from now on.
    pub(crate) fn forget(&self) {
        *lock(&self.0) = None;
    }
}
