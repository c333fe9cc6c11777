//! Results of actions. The first one that is complete stays; one whose outputs
//! are gone is none, and makes room for the next.

use std::sync::Arc;

use cas_store::Store;
use prost::Message;
use tonic::{Request, Response, Status};
use vx_proto::exec::missing_blobs_status;
use vx_proto::reapi::action_cache_server::ActionCache;
use vx_proto::{Digest, DigestFunction, reapi};

use crate::complete::Completeness;
use crate::failure;
use crate::storage::{self, Storage};

/// How often a result without outputs is removed before giving up: somebody puts
/// such results there as fast as we remove them.
const ATTEMPTS: usize = 4;

/// Answers for action results.
pub(crate) struct Actions {
    storage: Storage,
    completeness: Arc<Completeness>,
}

impl Actions {
    pub(crate) fn new(storage: Storage) -> Actions {
        Actions {
            storage,
            completeness: Arc::default(),
        }
    }
}

#[tonic::async_trait]
impl ActionCache for Actions {
    async fn get_action_result(
        &self,
        request: Request<reapi::GetActionResultRequest>,
    ) -> Result<Response<reapi::ActionResult>, Status> {
        let request = request.into_inner();
        let function = storage::function(request.digest_function)?;
        let action = storage::digest(request.action_digest.as_ref())?;
        let completeness = Arc::clone(&self.completeness);
        let found = self
            .storage
            .run(move |store| match store.actions().get(&action) {
                Ok(Some(bytes)) => complete(store, &completeness, function, &action, &bytes),
                Ok(None) => Ok(None),
                Err(error) => Err(failure::read(error)),
            })
            .await?;
        found
            .map(Response::new)
            .ok_or_else(|| Status::not_found(format!("there is no result of action `{action}`")))
    }

    async fn update_action_result(
        &self,
        request: Request<reapi::UpdateActionResultRequest>,
    ) -> Result<Response<reapi::ActionResult>, Status> {
        let request = request.into_inner();
        let function = storage::function(request.digest_function)?;
        let action = storage::digest(request.action_digest.as_ref())?;
        let result = request
            .action_result
            .ok_or_else(|| Status::invalid_argument("the action result is missing"))?;
        let completeness = Arc::clone(&self.completeness);
        self.storage
            .run(move |store| {
                let missing = completeness.missing(store, function, &result)?;
                if !missing.is_empty() {
                    return Err(missing_blobs_status(&missing, function));
                }
                let ours = result.encode_to_vec();
                for _ in 0..ATTEMPTS {
                    let winner = store
                        .actions()
                        .put_first(&action, &ours)
                        .map_err(failure::put)?;
                    if winner == ours {
                        return Ok(Response::new(result));
                    }
                    if let Some(winner) =
                        complete(store, &completeness, function, &action, &winner)?
                    {
                        return Ok(Response::new(winner));
                    }
                }
                Err(Status::aborted(format!(
                    "results of action `{action}` come and go"
                )))
            })
            .await
    }
}

/// A stored result, unless something of it is gone; then it is forgotten.
fn complete(
    store: &Store,
    completeness: &Completeness,
    function: DigestFunction,
    action: &Digest,
    bytes: &[u8],
) -> Result<Option<reapi::ActionResult>, Status> {
    // A result that cannot be understood, or whose trees cannot, is as good as
    // none; only the store's own trouble is the client's business.
    let usable = match reapi::ActionResult::decode(bytes) {
        Ok(result) => match completeness.missing(store, function, &result) {
            Ok(missing) => missing.is_empty().then_some(result),
            Err(status) if status.code() == tonic::Code::InvalidArgument => None,
            Err(status) => return Err(status),
        },
        Err(_) => None,
    };
    if usable.is_none() {
        store
            .actions()
            .forget(action, bytes)
            .map_err(failure::read)?;
    }
    Ok(usable)
}
