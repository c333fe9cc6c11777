//! tarpc: the same with calls. It has no streams; each chunk is the answer of a call.

use std::path::Path;
use std::time::Instant;

use futures::{StreamExt, future};
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;
use tarpc::{client, context};

use crate::{MESSAGE, Samples};

#[tarpc::service]
trait Peer {
    async fn echo(data: Vec<u8>) -> Vec<u8>;
    async fn chunk(size: u32) -> Vec<u8>;
}

#[derive(Clone)]
struct Service;

impl Peer for Service {
    async fn echo(self, _: context::Context, data: Vec<u8>) -> Vec<u8> {
        data
    }

    async fn chunk(self, _: context::Context, size: u32) -> Vec<u8> {
        vec![b'x'; size as usize]
    }
}

pub async fn serve_at(socket: &Path) {
    let mut incoming = tarpc::serde_transport::unix::listen(socket, Bincode::default)
        .await
        .unwrap();
    incoming.config_mut().max_frame_length(16 << 20);
    incoming
        .filter_map(|transport| future::ready(transport.ok()))
        .for_each(|transport| async {
            tokio::spawn(
                BaseChannel::with_defaults(transport)
                    .execute(Service.serve())
                    .for_each(|answer| async {
                        tokio::spawn(answer);
                    }),
            );
        })
        .await;
}

async fn connect(socket: &Path) -> PeerClient {
    let mut connecting = tarpc::serde_transport::unix::connect(socket, Bincode::default);
    connecting.config_mut().max_frame_length(16 << 20);
    PeerClient::new(client::Config::default(), connecting.await.unwrap()).spawn()
}

pub async fn connect_and_reply(socket: &Path, rounds: usize) -> Samples {
    let mut samples = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        let client = connect(socket).await;
        let answer = client.echo(context::current(), vec![b'x'; MESSAGE]).await;
        assert_eq!(answer.unwrap().len(), MESSAGE);
        drop(client);
        samples.push(began.elapsed());
    }
    Samples(samples)
}

pub async fn round_trips(socket: &Path, rounds: usize) -> Samples {
    let client = connect(socket).await;
    let mut samples = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        let answer = client.echo(context::current(), vec![b'x'; MESSAGE]).await;
        answer.unwrap();
        samples.push(began.elapsed());
    }
    Samples(samples)
}

pub async fn stream(socket: &Path, bytes: u64, size: u32) -> f64 {
    let client = connect(socket).await;
    let (began, mut received) = (Instant::now(), 0);
    while received < bytes {
        let chunk = client.chunk(context::current(), size).await.unwrap();
        received += chunk.len() as u64;
    }
    bytes as f64 / began.elapsed().as_secs_f64()
}

/// Connections that have been used once.
pub async fn crowd(socket: &Path, count: usize) -> Vec<impl Sized> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let client = connect(socket).await;
        let answer = client.echo(context::current(), vec![b'x'; MESSAGE]).await;
        answer.unwrap();
        clients.push(client);
    }
    clients
}
