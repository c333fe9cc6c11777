//! Following an action: whatever an executor does, the stream ends with a
//! response or with an error, and what it repeats is told once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::pin::Pin;
use std::sync::Arc;

use daemon_contract::Endpoint;
use daemon_lifecycle::Listener;
use futures_util::{Stream, StreamExt};
use prost_types::Any;
use tokio::sync::Notify;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use vx_proto::exec::{ExecClient, ExecError, ExecEvent};
use vx_proto::ext::EarlyOutput;
use vx_proto::longrunning::{Operation, operation};
use vx_proto::reapi::execution_server::{Execution, ExecutionServer};
use vx_proto::reapi::execution_stage::Value as Stage;
use vx_proto::reapi::{
    ExecuteOperationMetadata, ExecuteRequest, ExecuteResponse, ExecutedActionMetadata, OutputFile,
    WaitExecutionRequest,
};
use vx_proto::token::Token;
use vx_proto::{Digest, DigestFunction, connect, rpc, server};

type Operations = Pin<Box<dyn Stream<Item = Result<Operation, Status>> + Send>>;

/// An executor that plays a script for every action.
struct Scripted {
    script: Vec<Result<Operation, Status>>,
    /// Goes on for ever after the script, until nobody listens.
    endless: Option<Arc<Notify>>,
}

/// Tells when it is dropped.
struct Told(Arc<Notify>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tonic::async_trait]
impl Execution for Scripted {
    type ExecuteStream = Operations;
    type WaitExecutionStream = Operations;

    async fn execute(&self, _: Request<ExecuteRequest>) -> Result<Response<Operations>, Status> {
        let script = tokio_stream::iter(self.script.clone());
        Ok(Response::new(match &self.endless {
            None => Box::pin(script),
            Some(over) => {
                let told = Told(Arc::clone(over));
                Box::pin(script.chain(futures_util::stream::poll_fn(move |_| {
                    let _owned = &told;
                    std::task::Poll::Pending
                })))
            }
        }))
    }

    async fn wait_execution(
        &self,
        _: Request<WaitExecutionRequest>,
    ) -> Result<Response<Operations>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
}

fn serve(scripted: Scripted) -> ExecClient {
    let listener = Listener::bind(&"127.0.0.1:0".parse::<Endpoint>().unwrap()).unwrap();
    let channel = connect::channel(&listener.endpoint());
    let token = Token::random().unwrap();
    let client = ExecClient::new(channel, Some(&token), DigestFunction::Blake3);
    tokio::spawn(server::serve_until(
        listener,
        Routes::new(ExecutionServer::new(scripted)),
        Some(token),
        server::version_info("vx-execd"),
        std::future::pending(),
    ));
    client
}

fn play(script: Vec<Result<Operation, Status>>) -> ExecClient {
    serve(Scripted {
        script,
        endless: None,
    })
}

fn output(path: &str) -> OutputFile {
    OutputFile {
        path: path.into(),
        digest: Some(Digest::of(path.as_bytes()).into()),
        ..Default::default()
    }
}

fn progress(stage: Stage, early: &[&str]) -> Result<Operation, Status> {
    let auxiliary_metadata = early
        .iter()
        .map(|path| {
            Any::from_msg(&EarlyOutput {
                file: Some(output(path)),
            })
            .unwrap()
        })
        .collect();
    let metadata = ExecuteOperationMetadata {
        stage: stage as i32,
        partial_execution_metadata: Some(ExecutedActionMetadata {
            auxiliary_metadata,
            ..Default::default()
        }),
        ..Default::default()
    };
    Ok(Operation {
        name: "operations/1".into(),
        metadata: Some(Any::from_msg(&metadata).unwrap()),
        ..Default::default()
    })
}

fn response() -> ExecuteResponse {
    ExecuteResponse {
        message: "done".into(),
        ..Default::default()
    }
}

fn finished(result: operation::Result) -> Result<Operation, Status> {
    Ok(Operation {
        done: true,
        result: Some(result),
        ..Default::default()
    })
}

fn done() -> Result<Operation, Status> {
    let response = Any::from_msg(&response()).unwrap();
    finished(operation::Result::Response(response))
}

/// All that the client sees.
async fn follow(client: &ExecClient) -> Vec<Result<ExecEvent, ExecError>> {
    let execution = client.execute(Digest::of(b"action"), false).await.unwrap();
    execution.collect().await
}

#[tokio::test]
async fn stages_and_early_outputs_are_told_once() {
    let client = play(vec![
        progress(Stage::Queued, &[]),
        progress(Stage::Executing, &[]),
        progress(Stage::Executing, &["a.rmeta"]),
        progress(Stage::Executing, &["a.rmeta", "b.rmeta"]),
        done(),
    ]);
    let events: Vec<ExecEvent> = follow(&client)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(
        events,
        [
            ExecEvent::Stage(Stage::Queued),
            ExecEvent::Stage(Stage::Executing),
            ExecEvent::Early(output("a.rmeta")),
            ExecEvent::Early(output("b.rmeta")),
            ExecEvent::Done(Box::new(response())),
        ]
    );
}

#[tokio::test]
async fn a_stream_without_a_response_is_interrupted() {
    let client = play(vec![progress(Stage::Executing, &[])]);
    let events = follow(&client).await;
    assert_eq!(events.len(), 2);
    assert!(matches!(
        events.last(),
        Some(Err(ExecError::Interrupted { .. }))
    ));
}

#[tokio::test]
async fn errors_of_the_call_and_of_the_operation_end_the_stream() {
    let client = play(vec![Err(Status::unavailable("going down"))]);
    assert!(matches!(
        follow(&client).await.as_slice(),
        [Err(ExecError::Call { source, .. })] if source.code() == Code::Unavailable
    ));
    let client = play(vec![finished(operation::Result::Error(rpc::Status {
        code: rpc::Code::Cancelled as i32,
        message: "stopped".into(),
        details: Vec::new(),
    }))]);
    assert!(matches!(
        follow(&client).await.as_slice(),
        [Err(ExecError::Failed { code: Code::Cancelled, message, .. })] if message == "stopped"
    ));
}

#[tokio::test]
async fn nonsense_ends_the_stream() {
    let nonsense = Any {
        type_url: "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteResponse".into(),
        value: vec![0xff],
    };
    let client = play(vec![finished(operation::Result::Response(nonsense))]);
    assert!(matches!(
        follow(&client).await.as_slice(),
        [Err(ExecError::Protocol { .. })]
    ));
}

#[tokio::test]
async fn dropping_the_stream_reaches_the_executor() {
    let over = Arc::new(Notify::new());
    let client = serve(Scripted {
        script: vec![progress(Stage::Executing, &[])],
        endless: Some(Arc::clone(&over)),
    });
    let mut execution = client.execute(Digest::of(b"action"), false).await.unwrap();
    assert!(matches!(
        execution.next().await,
        Some(Ok(ExecEvent::Stage(Stage::Executing)))
    ));
    drop(execution);
    // The connection stays; only this call is over.
    over.notified().await;
}
