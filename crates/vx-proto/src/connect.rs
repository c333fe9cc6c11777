//! Reaching a service, and making sure that it is the right one.
//!
//! An answer to "who are you" is the health check of every service. Whatever
//! else may listen at an endpoint is told apart at once: it gets one request, and
//! whether it hangs up, answers in another language or not at all, it is not
//! ours. Nothing here waits for a service to appear.

use std::io;
use std::time::Duration;

use daemon_contract::{Endpoint, ServiceVersion};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tonic::transport::{Channel, Uri};
use tonic::{Code, Response, Status};

use crate::PROTOCOL_VERSION;
use crate::ext::version_client::VersionClient;
use crate::ext::{GetVersionRequest, VersionInfo};
use crate::reapi::capabilities_client::CapabilitiesClient;
use crate::reapi::{GetCapabilitiesRequest, ServerCapabilities};
use crate::token::{Bearer, Token};

/// How long a service may take to say who it is. Ours take a few milliseconds,
/// also under load; what is silent for longer is something else.
pub const VERIFY_TIMEOUT: Duration = Duration::from_secs(3);

/// Flow control windows that do not stall the transfer of blobs between
/// processes of one machine.
pub(crate) const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
pub(crate) const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
pub(crate) const MAX_FRAME: u32 = 1024 * 1024;

/// Idle connections to other machines are checked this often.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Why an endpoint is not the service that is expected there.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Nobody listens there.
    #[error("{service} cannot be reached at {endpoint}")]
    Unreachable {
        /// Who is expected.
        service: String,
        /// Where.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else listens there.
    #[error("{endpoint} answers, but is not {service}")]
    Foreign {
        /// Who is expected.
        service: String,
        /// Where.
        endpoint: Endpoint,
        /// How it was recognised, for those who look closer.
        why: String,
    },
    /// The service is another version of ours.
    #[error(
        "{} at {endpoint} speaks protocol {} (version {}), this is protocol {PROTOCOL_VERSION} (version {})",
        theirs.service, theirs.protocol, theirs.crate_version, env!("CARGO_PKG_VERSION")
    )]
    ProtocolMismatch {
        /// Where.
        endpoint: Endpoint,
        /// What it said about itself.
        theirs: Box<ServiceVersion>,
    },
    /// It does not let us in, so it belongs to another `VX_HOME`.
    #[error("{endpoint} does not accept our token: it belongs to another VX_HOME")]
    Denied {
        /// Where.
        endpoint: Endpoint,
    },
}

/// A channel that connects when it is used first, and again when the connection
/// was lost. Never fails here; calls on it do.
pub fn channel(endpoint: &Endpoint) -> Channel {
    channel_from(endpoint, None)
}

/// Connects and asks who is there.
pub async fn verify(
    endpoint: &Endpoint,
    token: Option<&Token>,
    service: &str,
    timeout: Duration,
) -> Result<VersionInfo, VerifyError> {
    open(endpoint, token, service, timeout)
        .await
        .map(|(_, version)| version)
}

/// Connects, asks who is there, and keeps the connection.
pub async fn open(
    endpoint: &Endpoint,
    token: Option<&Token>,
    service: &str,
    timeout: Duration,
) -> Result<(Channel, VersionInfo), VerifyError> {
    let bearer = Bearer::new(token);
    let ask = |channel| async {
        VersionClient::with_interceptor(channel, bearer)
            .max_decoding_message_size(64 * 1024)
            .get_version(GetVersionRequest {})
            .await
    };
    let (channel, version) = first_answer(endpoint, service, timeout, ask).await?;
    if version.service != service {
        return Err(VerifyError::Foreign {
            service: service.to_owned(),
            endpoint: endpoint.clone(),
            why: format!("it is `{}`", version.service),
        });
    }
    if version.protocol != PROTOCOL_VERSION {
        return Err(VerifyError::ProtocolMismatch {
            endpoint: endpoint.clone(),
            theirs: Box::new(version.into()),
        });
    }
    Ok((channel, version))
}

/// Connects to a store or executor of somebody else and asks what it can do. It
/// has no version of ours, so this is how it is told from whatever else may
/// listen there.
pub async fn capabilities(
    endpoint: &Endpoint,
    token: Option<&Token>,
    timeout: Duration,
) -> Result<(Channel, ServerCapabilities), VerifyError> {
    let bearer = Bearer::new(token);
    let ask = |channel| async {
        CapabilitiesClient::with_interceptor(channel, bearer)
            .get_capabilities(GetCapabilitiesRequest::default())
            .await
    };
    first_answer(
        endpoint,
        "a server of the Remote Execution API",
        timeout,
        ask,
    )
    .await
}

/// Connects, asks one question, and tells who gives no proper answer.
async fn first_answer<T, Answer>(
    endpoint: &Endpoint,
    service: &str,
    timeout: Duration,
    ask: impl FnOnce(Channel) -> Answer,
) -> Result<(Channel, T), VerifyError>
where
    Answer: Future<Output = Result<Response<T>, Status>>,
{
    let unreachable = |source| VerifyError::Unreachable {
        service: service.to_owned(),
        endpoint: endpoint.clone(),
        source,
    };
    let foreign = |why: String| VerifyError::Foreign {
        service: service.to_owned(),
        endpoint: endpoint.clone(),
        why,
    };
    let deadline = Instant::now() + timeout;
    let stream = timeout_at(deadline, connect(endpoint))
        .await
        .map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))?
        .map_err(unreachable)?;
    let channel = channel_from(endpoint, Some(stream));
    match timeout_at(deadline, ask(channel.clone())).await {
        Ok(Ok(answer)) => Ok((channel, answer.into_inner())),
        Ok(Err(status)) if is_denial(&status) => Err(VerifyError::Denied {
            endpoint: endpoint.clone(),
        }),
        Ok(Err(status)) => Err(foreign(status.message().to_owned())),
        Err(_) => Err(foreign(format!("no answer within {timeout:?}"))),
    }
}

fn is_denial(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unauthenticated | Code::PermissionDenied
    )
}

impl From<VersionInfo> for ServiceVersion {
    fn from(info: VersionInfo) -> ServiceVersion {
        ServiceVersion {
            service: info.service,
            crate_version: info.crate_version,
            protocol: info.protocol,
            pid: info.pid,
            properties: info.properties,
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(endpoint: &Endpoint) -> io::Result<Box<dyn Stream>> {
    match endpoint {
        Endpoint::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            // Requests are answered before the next is sent; waiting for more to
            // fill a packet would only add latency.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        Endpoint::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
    }
}

/// A channel whose first connection may be made already.
fn channel_from(endpoint: &Endpoint, stream: Option<Box<dyn Stream>>) -> Channel {
    // The library wants an address for its headers; the connection is ours.
    let mut builder = tonic::transport::Endpoint::from_static("http://vx.invalid")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME);
    if !endpoint.is_local() {
        builder = builder
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .connect_timeout(KEEP_ALIVE);
    }
    let endpoint = endpoint.clone();
    let mut first = stream;
    builder.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let made = first.take();
        let endpoint = endpoint.clone();
        async move {
            let stream = match made {
                Some(stream) => stream,
                None => connect(&endpoint).await?,
            };
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    }))
}
