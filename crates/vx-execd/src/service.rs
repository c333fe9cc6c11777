//! The Execution and Capabilities services.
//!
//! Actions that are asked for while they run are joined, not run again; an action that nobody waits for any more is ended.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use futures_util::{Stream, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use vx_proto::longrunning::Operation;
use vx_proto::reapi::capabilities_server::Capabilities;
use vx_proto::reapi::execution_server::Execution;
use vx_proto::reapi::{
    Action, ExecuteRequest, ExecutionCapabilities, GetCapabilitiesRequest, ServerCapabilities,
    WaitExecutionRequest,
};
use vx_proto::semver::SemVer;
use vx_proto::{Digest, DigestFunction};

use crate::executor::{Executor, Order};
use crate::progress::{Progress, State};

/// Ended operations that can still be asked for by name.
const KEPT: usize = 64;

/// Both services. Clones share everything.
#[derive(Clone)]
pub(crate) struct Service {
    executor: Arc<Executor>,
    operations: Arc<Mutex<Operations>>,
}

#[derive(Default)]
struct Operations {
    by_name: HashMap<String, Running>,
    /// The names of those that others may join.
    by_action: HashMap<(Digest, bool), String>,
    ended: VecDeque<(String, Digest, watch::Receiver<State>)>,
    started: u64,
}

struct Running {
    action: Digest,
    state: watch::Receiver<State>,
    cancel: CancellationToken,
    /// How many streams wait for it.
    waiting: usize,
}

/// One stream's share in an operation.
struct Ticket {
    operations: Arc<Mutex<Operations>>,
    name: String,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut operations = lock(&self.operations);
        let Some(running) = operations.by_name.get_mut(&self.name) else {
            return;
        };
        running.waiting -= 1;
        if running.waiting == 0 {
            running.cancel.cancel();
            // Whoever asks from now on gets a new run, not one that is being ended.
            let name = &self.name;
            operations.by_action.retain(|_, joinable| joinable != name);
        }
    }
}

fn lock(operations: &Mutex<Operations>) -> MutexGuard<'_, Operations> {
    operations.lock().unwrap_or_else(PoisonError::into_inner)
}

type Operating = Pin<Box<dyn Stream<Item = Result<Operation, Status>> + Send>>;

impl Service {
    pub(crate) fn new(executor: Arc<Executor>) -> Service {
        Service {
            executor,
            operations: Arc::default(),
        }
    }

    /// Joins the operation for `order`, or starts it.
    fn join_or_start(&self, order: Order) -> Operating {
        let key = (order.digest, order.skip_cache);
        let may_be_joined = !order.action.do_not_cache;
        let mut operations = lock(&self.operations);
        if let Some(name) = operations
            .by_action
            .get(&key)
            .filter(|_| may_be_joined)
            .cloned()
            && let Some(running) = operations.by_name.get_mut(&name)
        {
            running.waiting += 1;
            let state = running.state.clone();
            return follow(name.clone(), key.0, state, Some(self.ticket(name)));
        }
        operations.started += 1;
        let name = format!("operations/{}/{}", std::process::id(), operations.started);
        let (progress, cancel) = (Progress::new(), CancellationToken::new());
        let state = progress.subscribe();
        let running = Running {
            action: key.0,
            state: state.clone(),
            cancel: cancel.clone(),
            waiting: 1,
        };
        operations.by_name.insert(name.clone(), running);
        if may_be_joined {
            operations.by_action.insert(key, name.clone());
        }
        drop(operations);
        let (service, task_name) = (self.clone(), name.clone());
        drop(tokio::spawn(async move {
            let response = service.executor.run(order, &progress, &cancel).await;
            progress.done(response);
            service.end(&task_name);
        }));
        follow(name.clone(), key.0, state, Some(self.ticket(name)))
    }

    fn ticket(&self, name: String) -> Ticket {
        Ticket {
            operations: Arc::clone(&self.operations),
            name,
        }
    }

    fn end(&self, name: &str) {
        let mut operations = lock(&self.operations);
        operations.by_action.retain(|_, joinable| joinable != name);
        if let Some(running) = operations.by_name.remove(name) {
            operations
                .ended
                .push_back((name.to_owned(), running.action, running.state));
            while operations.ended.len() > KEPT {
                operations.ended.pop_front();
            }
        }
    }

    fn find(&self, name: &str) -> Option<Operating> {
        let mut operations = lock(&self.operations);
        if let Some(running) = operations.by_name.get_mut(name).filter(|r| r.waiting > 0) {
            running.waiting += 1;
            let (action, state) = (running.action, running.state.clone());
            return Some(follow(
                name.to_owned(),
                action,
                state,
                Some(self.ticket(name.to_owned())),
            ));
        }
        let ended = operations.ended.iter().find(|(ended, ..)| ended == name)?;
        Some(follow(ended.0.clone(), ended.1, ended.2.clone(), None))
    }
}

/// All states of an operation from now to its end.
fn follow(
    name: String,
    action: Digest,
    mut state: watch::Receiver<State>,
    ticket: Option<Ticket>,
) -> Operating {
    state.mark_changed();
    let start = Some((state, ticket));
    Box::pin(stream::unfold(start, move |follower| {
        let name = name.clone();
        async move {
            let (mut state, ticket) = follower?;
            if state.changed().await.is_err() {
                let lost = Status::internal("the operation was lost");
                return Some((Err(lost), None));
            }
            let now = state.borrow_and_update().clone();
            let operation = now.operation(&name, action);
            let next = now.done.is_none().then_some((state, ticket));
            Some((Ok(operation), next))
        }
    }))
}

#[tonic::async_trait]
impl Execution for Service {
    type ExecuteStream = Operating;
    type WaitExecutionStream = Operating;

    async fn execute(
        &self,
        request: Request<ExecuteRequest>,
    ) -> Result<Response<Operating>, Status> {
        let queued = SystemTime::now();
        let request = request.into_inner();
        require_blake3(request.digest_function)?;
        let digest = vx_proto::digest::required(request.action_digest.as_ref())
            .map_err(|error| Status::invalid_argument(format!("action digest: {error}")))?;
        let action: Action = self
            .executor
            .cache
            .message(digest)
            .await
            .map_err(|failure| failure.status())?;
        let skip_cache = request.skip_cache_lookup;
        Ok(Response::new(self.join_or_start(Order {
            digest,
            action,
            skip_cache,
            queued,
        })))
    }

    async fn wait_execution(
        &self,
        request: Request<WaitExecutionRequest>,
    ) -> Result<Response<Operating>, Status> {
        let name = request.into_inner().name;
        let found = self.find(&name);
        found
            .map(Response::new)
            .ok_or_else(|| Status::not_found(format!("there is no operation `{name}`")))
    }
}

fn require_blake3(function: i32) -> Result<(), Status> {
    // Not given means what the length of the hash says, which is ambiguous; the API then reads it as SHA-256.
    match vx_proto::digest::function_of_number(function) {
        Ok(DigestFunction::Blake3) => Ok(()),
        Ok(other) => Err(Status::invalid_argument(format!(
            "actions are run with BLAKE3 digests only, not {other:?}"
        ))),
        Err(error) => Err(Status::invalid_argument(error.to_string())),
    }
}

#[tonic::async_trait]
impl Capabilities for Service {
    async fn get_capabilities(
        &self,
        _: Request<GetCapabilitiesRequest>,
    ) -> Result<Response<ServerCapabilities>, Status> {
        let version = |major, minor| SemVer {
            major,
            minor,
            ..SemVer::default()
        };
        let blake3 = vx_proto::digest::function_number(DigestFunction::Blake3);
        Ok(Response::new(ServerCapabilities {
            execution_capabilities: Some(ExecutionCapabilities {
                digest_function: blake3,
                digest_functions: vec![blake3],
                exec_enabled: true,
                ..ExecutionCapabilities::default()
            }),
            low_api_version: Some(version(2, 0)),
            high_api_version: Some(version(2, 3)),
            ..ServerCapabilities::default()
        }))
    }
}
