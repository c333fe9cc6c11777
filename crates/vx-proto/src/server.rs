//! What all services have in common: who may come in, who they are, when they
//! end.
//!
//! On a TCP port every call must carry the token, also the question for the
//! version: whoever listens elsewhere or belongs to somebody else learns nothing.
//! On a Unix socket the system says who the peer is, and only our own user (and
//! root) is let in.

mod accept;
mod rest;
mod start;
mod stop;

use std::io;
use std::time::Duration;

use daemon_lifecycle::Listener;
use tokio::sync::oneshot;
use tonic::service::{Interceptor, InterceptorLayer, Routes};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

pub use start::{Start, StartError, fail, log, runtime};
pub use stop::Stop;

use crate::connect::{CONNECTION_WINDOW, MAX_FRAME, STREAM_WINDOW};
use crate::ext::version_server::{Version, VersionServer};
use crate::ext::{GetVersionRequest, VersionInfo};
use crate::token::Token;

/// Calls that one connection may have open. A build has as many as it has units
/// running, and a few for transfers.
const MAX_STREAMS: u32 = 1024;
/// How long calls may take to finish after the service was asked to end. Also how
/// long a client that is frozen can keep it.
const GRACE: Duration = Duration::from_secs(5);

/// Why a service cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A TCP port without a token would be open to every user of the machine.
    #[error("a TCP port is not served without a token")]
    NoToken,
    /// The socket cannot be used.
    #[error("cannot use the listening socket")]
    Socket(#[source] io::Error),
    /// Signals cannot be received.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// The pipe of the lifeline cannot be used.
    #[error("cannot watch the lifeline")]
    Lifeline(#[source] io::Error),
    /// The server broke.
    #[error("the server ended")]
    Server(#[source] tonic::transport::Error),
}

/// Who this service is; `service` is its name, e.g. `vx-casd`.
pub fn version_info(service: &str) -> VersionInfo {
    VersionInfo {
        service: service.to_owned(),
        crate_version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: crate::PROTOCOL_VERSION,
        pid: std::process::id(),
        properties: Default::default(),
    }
}

/// Says who a service is. A fixed [`VersionInfo`] is enough for those whose
/// properties never change.
pub trait Identify: Send + Sync + 'static {
    /// The answer as of now.
    fn identify(&self) -> impl Future<Output = VersionInfo> + Send;
}

impl Identify for VersionInfo {
    async fn identify(&self) -> VersionInfo {
        self.clone()
    }
}

/// Serves until `shutdown`, SIGTERM, SIGINT, or the end of the process that holds
/// our lifeline, and says which it was. Meant for a service's `main`: it takes
/// the process' signals and its lifeline.
///
/// When the owner is gone it returns at once, since nobody is left to answer;
/// else calls get a few seconds to finish.
pub async fn serve(
    listener: Listener,
    routes: Routes,
    token: Option<Token>,
    version: impl Identify,
    shutdown: impl Future<Output = ()>,
) -> Result<Stop, ServeError> {
    let stop = stop::Watch::of_process()?;
    serve_until(listener, routes, token, version, async {
        tokio::select! {
            () = shutdown => Stop::Requested,
            stop = stop.wait() => stop,
        }
    })
    .await
}

/// Serves until `stop`, and leaves signals and lifeline to the caller.
pub async fn serve_until(
    listener: Listener,
    routes: Routes,
    token: Option<Token>,
    version: impl Identify,
    stop: impl Future<Output = Stop>,
) -> Result<Stop, ServeError> {
    let routes = routes.add_service(VersionServer::new(Identity(version)));
    let server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(MAX_STREAMS);
    let rest = rest::Rest::default();
    let server = server.layer(InterceptorLayer::new(rest.clone()));
    let stop = async {
        tokio::select! {
            stop = stop => stop,
            never = rest.watch() => never,
        }
    };
    let (end, ended) = oneshot::channel();
    let ended = async {
        // An error means that the other side is gone, which ends the server too.
        let _ended = ended.await;
    };
    match listener {
        Listener::Tcp(listener) => {
            let token = token.ok_or(ServeError::NoToken)?;
            let incoming = accept::tcp(listener).map_err(ServeError::Socket)?;
            let serving = server
                .layer(InterceptorLayer::new(Guard(token)))
                .serve_with_incoming_shutdown(routes.prepare(), incoming, ended);
            run(serving, end, stop).await
        }
        Listener::Unix(listener) => {
            let incoming = accept::unix(listener).map_err(ServeError::Socket)?;
            let serving =
                { server }.serve_with_incoming_shutdown(routes.prepare(), incoming, ended);
            run(serving, end, stop).await
        }
    }
}

/// Runs a server until it is to stop, then lets it finish what it has begun, for
/// a while.
async fn run(
    serving: impl Future<Output = Result<(), tonic::transport::Error>>,
    end: oneshot::Sender<()>,
    stop: impl Future<Output = Stop>,
) -> Result<Stop, ServeError> {
    let mut serving = std::pin::pin!(serving);
    let stop = tokio::select! {
        served = &mut serving => {
            served.map_err(ServeError::Server)?;
            return Ok(Stop::Requested);
        }
        stop = stop => stop,
    };
    if stop == Stop::OwnerGone {
        return Ok(stop);
    }
    // The receiver is gone only when the server has ended by itself.
    let _sent = end.send(());
    // What does not finish in time is cut off when the runtime ends.
    if let Ok(served) = tokio::time::timeout(GRACE, serving).await {
        served.map_err(ServeError::Server)?;
    }
    Ok(stop)
}

/// Lets in who has the token.
#[derive(Clone)]
struct Guard(Token);

impl Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        match request.metadata().get("authorization") {
            Some(header) if self.0.matches_header(header.as_bytes()) => Ok(request),
            Some(_) => Err(Status::unauthenticated(
                "the token is not that of this VX_HOME",
            )),
            None => Err(Status::unauthenticated("a token is needed")),
        }
    }
}

struct Identity<I>(I);

#[tonic::async_trait]
impl<I: Identify> Version for Identity<I> {
    async fn get_version(
        &self,
        _: Request<GetVersionRequest>,
    ) -> Result<Response<VersionInfo>, Status> {
        Ok(Response::new(self.0.identify().await))
    }
}
