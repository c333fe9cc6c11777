//! Blobs of all sizes, through the client that the other services use.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use serving::Serving;
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use vx_proto::bytestream::byte_stream_client::ByteStreamClient;
use vx_proto::bytestream::{QueryWriteStatusRequest, ReadRequest, WriteRequest};
use vx_proto::cas::{Blob, CasError};
use vx_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use vx_proto::token::Bearer;
use vx_proto::{Digest, DigestFunction, reapi};

mod serving;

const LARGE: usize = 20 * 1024 * 1024;

/// Bytes without a pattern that a damaged transfer could hide in.
fn noise(size: usize, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    (0..size)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

async fn round_trip(serving: &Serving) {
    for function in [DigestFunction::Blake3, DigestFunction::Sha256] {
        let client = serving.client_with(function);
        let contents = [
            Vec::new(),
            b"small".to_vec(),
            noise(1024 * 1024, 1),
            noise(1024 * 1024 + 1, 2),
            noise(LARGE, 3),
        ];
        let digests: Vec<Digest> = contents.iter().map(|c| function.digest(c)).collect();
        // The empty blob is there always.
        assert_eq!(client.find_missing(&digests).await.unwrap(), digests[1..]);
        let blobs = digests
            .iter()
            .zip(&contents)
            .map(|(digest, content)| Blob::bytes(*digest, content.clone()))
            .collect::<Vec<_>>();
        let sent = client.ensure(blobs.clone()).await.unwrap();
        assert_eq!(sent, digests.iter().map(|digest| digest.size).sum::<u64>());
        assert_eq!(client.find_missing(&digests).await.unwrap(), []);
        assert_eq!(client.ensure(blobs).await.unwrap(), 0);
        for (digest, content) in digests.iter().zip(&contents) {
            assert_eq!(client.read(digest, u64::MAX).await.unwrap(), content);
        }
        let read = client.read_batch(&digests).await.unwrap();
        assert!(
            read.iter()
                .zip(&contents)
                .all(|(read, content)| read.as_ref().unwrap() == content)
        );
    }
}

#[tokio::test]
async fn blobs_round_trip_over_tcp() {
    round_trip(&Serving::on_tcp()).await;
}

#[tokio::test]
async fn blobs_round_trip_over_a_unix_socket() {
    round_trip(&Serving::on_unix()).await;
}

#[tokio::test]
async fn files_round_trip() {
    let serving = Serving::on_tcp();
    let client = serving.client();
    for (name, size) in [("small", 10), ("large", LARGE)] {
        let content = noise(size, 4);
        let source = serving.dir().join(name);
        fs::write(&source, &content).unwrap();
        let digest = Digest::of(&content);
        client
            .ensure(vec![Blob::file(digest, &source)])
            .await
            .unwrap();
        let target = serving.dir().join(format!("{name}-back"));
        assert!(client.read_to_file(&digest, &target).await.unwrap());
        assert_eq!(fs::read(&target).unwrap(), content);
        // An existing file is not touched.
        let error = client.read_to_file(&digest, &target).await.unwrap_err();
        assert!(matches!(error, CasError::Sink { .. }), "{error}");
        assert_eq!(fs::read(&target).unwrap(), content);
    }
}

#[tokio::test]
async fn a_large_file_that_changed_is_refused_and_not_stored() {
    let serving = Serving::on_tcp();
    let path = serving.dir().join("changing");
    fs::write(&path, noise(LARGE, 5)).unwrap();
    let digest = Digest::of(&noise(LARGE, 6));
    let error = serving
        .client()
        .upload(vec![Blob::file(digest, &path)])
        .await
        .unwrap_err();
    assert!(
        matches!(
            &error,
            CasError::Refused {
                code: Code::InvalidArgument,
                ..
            }
        ),
        "{error}"
    );
    let shorter = Digest {
        size: 1 << 40,
        ..digest
    };
    let error = serving
        .client()
        .upload(vec![Blob::file(shorter, &path)])
        .await
        .unwrap_err();
    assert!(matches!(error, CasError::SourceChanged { .. }), "{error}");
    assert!(!serving.store.contains(&digest).unwrap());
}

#[tokio::test]
async fn content_that_is_not_that_of_its_digest_is_refused() {
    let serving = Serving::on_tcp();
    let client = serving.client();
    for size in [10, LARGE] {
        let digest = Digest::of(&noise(size, 7));
        let error = client
            .upload(vec![
                Blob::of("a good one in the same batch"),
                Blob::bytes(digest, noise(size, 8)),
            ])
            .await
            .unwrap_err();
        assert!(
            matches!(&error, CasError::Refused { digest: named, .. } if *named == digest),
            "{error}"
        );
        assert_eq!(client.find_missing(&[digest]).await.unwrap(), [digest]);
    }
    // The mistake of one is not the loss of the others.
    let good = Digest::of(b"a good one in the same batch");
    assert_eq!(client.find_missing(&[good]).await.unwrap(), []);
}

#[tokio::test]
async fn what_is_not_there_is_missing() {
    let serving = Serving::on_tcp();
    let client = serving.client();
    let target = serving.dir().join("target");
    for size in [10, LARGE] {
        let digest = Digest::of(&noise(size, 9));
        assert!(matches!(
            client.read(&digest, u64::MAX).await,
            Err(CasError::Missing { .. })
        ));
        assert_eq!(client.read_batch(&[digest]).await.unwrap(), [None]);
        assert!(!client.read_to_file(&digest, &target).await.unwrap());
        assert!(!target.exists());
    }
    let big = Digest {
        size: 100,
        ..Digest::of(b"x")
    };
    assert!(matches!(
        client.read(&big, 99).await,
        Err(CasError::TooLarge { limit: 99, .. })
    ));
}

#[tokio::test]
async fn a_blob_that_was_damaged_on_disk_is_absent_and_can_be_sent_again() {
    let serving = Serving::on_tcp();
    for size in [10, LARGE] {
        let content = noise(size, 10);
        let digest = serving.store.writer(None).and_then(|mut writer| {
            writer.append(&content)?;
            Ok(writer.commit()?.digest)
        });
        let digest = digest.unwrap();
        let path = serving.store.path(&digest, false).unwrap().unwrap();
        let mut damaged = content.clone();
        damaged[0] ^= 1;
        // A new file: the old one is read-only, and may be in use.
        fs::remove_file(&path).unwrap();
        fs::write(&path, damaged).unwrap();

        let client = serving.client();
        assert_eq!(client.read_batch(&[digest]).await.unwrap(), [None]);
        client
            .ensure(vec![Blob::bytes(digest, content.clone())])
            .await
            .unwrap();
        assert_eq!(client.read(&digest, u64::MAX).await.unwrap(), content);
    }
}

#[tokio::test]
async fn batches_have_a_limit() {
    let serving = Serving::on_tcp();
    let service = InterceptedService::new(serving.channel(), Bearer::new(Some(&serving.token)));
    let mut cas = ContentAddressableStorageClient::new(service);
    let half = noise(2 * 1024 * 1024 + 1, 11);
    let request = reapi::batch_update_blobs_request::Request {
        digest: Some(Digest::of(&half).into()),
        data: half.into(),
        compressor: 0,
    };
    let function = vx_proto::digest::function_number(DigestFunction::Blake3);
    let status = cas
        .batch_update_blobs(reapi::BatchUpdateBlobsRequest {
            requests: vec![request.clone(), request],
            digest_function: function,
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    // The answer would be too large, whether the blobs are there or not.
    let huge = Digest {
        size: 1 << 40,
        ..Digest::EMPTY
    };
    let status = cas
        .batch_read_blobs(reapi::BatchReadBlobsRequest {
            digests: vec![huge.into(), huge.into()],
            digest_function: function,
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    // Nonsense is told as such.
    let status = cas
        .find_missing_blobs(reapi::FindMissingBlobsRequest {
            blob_digests: vec![reapi::Digest {
                hash: "../../etc/passwd".into(),
                size_bytes: 1,
            }],
            digest_function: function,
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("../../etc/passwd"), "{status}");
}

#[tokio::test]
async fn streams_have_offsets_limits_and_states() {
    let serving = Serving::on_tcp();
    let content = noise(2_000_000, 12);
    let digest = Digest::of(&content);
    let service = InterceptedService::new(serving.channel(), Bearer::new(Some(&serving.token)));
    let mut streams = ByteStreamClient::new(service);
    let upload = format!("main/uploads/0b5c/blobs/blake3/{digest}");
    let status = |streams: &mut ByteStreamClient<_>| {
        let mut streams = streams.clone();
        let resource_name = upload.clone();
        async move {
            let answer = streams
                .query_write_status(QueryWriteStatusRequest { resource_name })
                .await
                .unwrap()
                .into_inner();
            (answer.committed_size, answer.complete)
        }
    };
    assert_eq!(status(&mut streams).await, (0, false));

    let piece = |offset: usize, size: usize| WriteRequest {
        resource_name: upload.clone(),
        write_offset: offset as i64,
        finish_write: false,
        data: content[offset..offset + size].to_vec().into(),
    };
    for (pieces, why) in [
        (vec![piece(0, 1000)], "ended without `finish_write`"),
        (vec![piece(1000, 10)], "write offset 1000 where 0 bytes"),
        (
            vec![piece(0, 10), piece(20, 10)],
            "write offset 20 where 10 bytes",
        ),
        (vec![], "no messages"),
    ] {
        let error = streams.write(tokio_stream::iter(pieces)).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains(why), "{error}");
    }
    assert_eq!(status(&mut streams).await, (0, false));

    let size = content.len();
    let last = WriteRequest {
        finish_write: true,
        ..piece(size / 2, size - size / 2)
    };
    let written = streams
        .write(tokio_stream::iter([piece(0, size / 2), last]))
        .await
        .unwrap();
    assert_eq!(written.into_inner().committed_size, size as i64);
    assert_eq!(status(&mut streams).await, (size as i64, true));
    // What is there is not sent again: the first message is enough.
    let again = streams
        .write(tokio_stream::iter([piece(0, 1)]))
        .await
        .unwrap();
    assert_eq!(again.into_inner().committed_size, size as i64);

    for (offset, limit) in [(0, 0), (1_500_000, 0), (3, 1_000_000), (size as i64, 0)] {
        let mut pieces = streams
            .read(ReadRequest {
                resource_name: format!("blobs/blake3/{digest}"),
                read_offset: offset,
                read_limit: limit,
            })
            .await
            .unwrap()
            .into_inner();
        let mut read = Vec::new();
        while let Some(piece) = pieces.message().await.unwrap() {
            read.extend_from_slice(&piece.data);
        }
        let end = if limit == 0 {
            size
        } else {
            (offset + limit) as usize
        };
        assert!(read == content[offset as usize..end], "{offset} {limit}");
    }
}

#[tokio::test]
async fn sha256_and_blake3_name_the_same_blob() {
    let serving = Serving::on_tcp();
    let content = noise(100, 13);
    let sha256 = DigestFunction::Sha256.digest(&content);
    serving
        .client_with(DigestFunction::Sha256)
        .upload(vec![Blob::bytes(sha256, content.clone())])
        .await
        .unwrap();
    let blake3 = Digest::of(&content);
    assert_eq!(serving.client().read(&blake3, 100).await.unwrap(), content);
}
