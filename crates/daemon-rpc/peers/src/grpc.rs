//! tonic: the same over gRPC.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Instant;

use futures::{Stream, StreamExt, stream};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use crate::{MESSAGE, Samples};

mod peer {
    tonic::include_proto!("peer");
}
use peer::peer_client::PeerClient;
use peer::peer_server::{Peer, PeerServer};

struct Service;

#[tonic::async_trait]
impl Peer for Service {
    async fn echo(&self, request: Request<peer::Bytes>) -> Result<Response<peer::Bytes>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    type StreamStream = Pin<Box<dyn Stream<Item = Result<peer::Bytes, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<peer::Flood>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let flood = request.into_inner();
        let data = bytes::Bytes::from(vec![b'x'; flood.size as usize]);
        let chunks = (0..flood.chunks).map(move |_| Ok(peer::Bytes { data: data.clone() }));
        Ok(Response::new(stream::iter(chunks).boxed()))
    }
}

pub async fn serve_at(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    Server::builder()
        .add_service(PeerServer::new(Service))
        .serve_with_incoming(UnixListenerStream::new(listener))
        .await
        .unwrap();
}

async fn connect(socket: &Path) -> PeerClient<Channel> {
    let socket: PathBuf = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://peer")
        .connect_with_connector(connector)
        .await
        .unwrap();
    PeerClient::new(channel).max_decoding_message_size(1 << 20)
}

fn message() -> peer::Bytes {
    peer::Bytes {
        data: bytes::Bytes::from_static(&[b'x'; MESSAGE]),
    }
}

pub async fn connect_and_reply(socket: &Path, rounds: usize) -> Samples {
    let mut samples = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        let mut client = connect(socket).await;
        let answer = client.echo(message()).await.unwrap();
        assert_eq!(answer.into_inner().data.len(), MESSAGE);
        drop(client);
        samples.push(began.elapsed());
    }
    Samples(samples)
}

pub async fn round_trips(socket: &Path, rounds: usize) -> Samples {
    let mut client = connect(socket).await;
    let mut samples = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        client.echo(message()).await.unwrap();
        samples.push(began.elapsed());
    }
    Samples(samples)
}

pub async fn stream(socket: &Path, bytes: u64, size: u32) -> f64 {
    let mut client = connect(socket).await;
    let (began, mut received) = (Instant::now(), 0);
    let chunks = bytes / u64::from(size);
    let answer = client.stream(peer::Flood { chunks, size }).await.unwrap();
    let mut answer = answer.into_inner();
    while let Some(chunk) = answer.message().await.unwrap() {
        received += chunk.data.len() as u64;
    }
    assert_eq!(received, bytes);
    bytes as f64 / began.elapsed().as_secs_f64()
}

/// Connections that have been used once.
pub async fn crowd(socket: &Path, count: usize) -> Vec<impl Sized> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = connect(socket).await;
        client.echo(message()).await.unwrap();
        clients.push(client);
    }
    clients
}
