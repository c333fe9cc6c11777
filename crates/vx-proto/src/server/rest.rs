//! Gives memory back when no call has come for a while.
//!
//! Nothing wakes up as long as nobody calls.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// How long it must have been quiet.
const QUIET: Duration = Duration::from_secs(1);

/// Notices calls. Clones notice for the same service.
#[derive(Clone, Default)]
pub(super) struct Rest {
    call: Arc<Notify>,
}

impl Interceptor for Rest {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        self.call.notify_one();
        Ok(request)
    }
}

impl Rest {
    /// Gives memory back after each burst of calls, until it is dropped.
    pub(super) async fn watch(self) -> ! {
        loop {
            self.call.notified().await;
            while tokio::time::timeout(QUIET, self.call.notified())
                .await
                .is_ok()
            {}
            daemon_lifecycle::give_back();
        }
    }
}
