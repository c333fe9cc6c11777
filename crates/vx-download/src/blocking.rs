//! The same for callers without an asynchronous runtime.

use crate::cache::Cache;
use crate::entry::Entry;
use crate::error::Error;
use crate::options::Request;

impl Cache {
    /// As [`fetch`](Self::fetch), and blocks. It may be called from anywhere, but
    /// a thread of an asynchronous runtime should not be blocked.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub fn fetch_blocking(&self, request: &Request) -> Result<Entry, Error> {
        let run = || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(Error::cache("start a runtime for", self.dir()))?
                .block_on(self.fetch(request))
        };
        // On a thread of its own: a runtime within a runtime panics.
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("download".to_owned());
            thread
                .spawn_scoped(scope, run)
                .map_err(Error::cache("start a thread for", self.dir()))?
                .join()
                .unwrap_or(Err(Error::CutOff))
        })
    }
}
