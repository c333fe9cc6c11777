//! Action results: the first one stays, as long as its outputs are there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use prost::Message;
use serving::Serving;
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use vx_proto::cas::{Blob, CasClient, CasError};
use vx_proto::exec::missing_blobs;
use vx_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use vx_proto::token::Bearer;
use vx_proto::tree::{Tree, TreeBuilder};
use vx_proto::{Digest, DigestFunction, reapi};

mod serving;

fn file(path: &str, content: &str) -> reapi::OutputFile {
    reapi::OutputFile {
        path: path.into(),
        digest: Some(Digest::of(content.as_bytes()).into()),
        ..Default::default()
    }
}

fn with_exit_code(exit_code: i32) -> reapi::ActionResult {
    reapi::ActionResult {
        exit_code,
        ..Default::default()
    }
}

/// Takes a blob out of the store behind its back.
fn lose(serving: &Serving, digest: &Digest) {
    let path = serving.store.path(digest, false).unwrap().unwrap();
    fs::remove_file(path).unwrap();
}

/// A tree with two levels, and the blobs it needs.
fn tree(salt: &str) -> (Tree, Vec<Blob>) {
    let deep = format!("deep {salt}");
    let mut builder = TreeBuilder::new();
    builder
        .insert_file("top", Digest::of(b"top"), false)
        .unwrap();
    builder
        .insert_file("a/b/deep", Digest::of(deep.as_bytes()), true)
        .unwrap();
    let tree = builder.build();
    let mut blobs = vec![Blob::of("top"), Blob::of(deep)];
    for (digest, bytes) in &tree.directories {
        blobs.push(Blob::bytes(*digest, bytes.clone()));
    }
    (tree, blobs)
}

fn directory(path: &str) -> reapi::OutputDirectory {
    reapi::OutputDirectory {
        path: path.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn the_first_result_wins() {
    let serving = Serving::on_tcp();
    let client = serving.client();
    let action = Digest::of(b"action");
    assert_eq!(client.get_action_result(&action).await.unwrap(), None);
    let first = with_exit_code(1);
    let stored = client.update_action_result(&action, first.clone()).await;
    assert_eq!(stored.unwrap(), first);
    let second = client
        .update_action_result(&action, with_exit_code(2))
        .await;
    assert_eq!(second.unwrap(), first, "the second learns what is stored");
    assert_eq!(
        client.get_action_result(&action).await.unwrap(),
        Some(first)
    );
}

#[tokio::test]
async fn all_who_come_at_once_get_the_same_result() {
    let serving = Serving::on_tcp();
    let client = serving.client();
    let action = Digest::of(b"race");
    let updates = (0..16).map(|code| client.update_action_result(&action, with_exit_code(code)));
    let results = futures_util::future::join_all(updates).await;
    let winner = client.get_action_result(&action).await.unwrap().unwrap();
    for result in results {
        assert_eq!(result.unwrap(), winner);
    }
}

#[tokio::test]
async fn a_result_whose_outputs_were_never_sent_is_refused() {
    let serving = Serving::on_tcp();
    let client = serving.client();
    let action = Digest::of(b"action");
    let result = reapi::ActionResult {
        output_files: vec![file("out", "never sent")],
        ..Default::default()
    };
    let error = client
        .update_action_result(&action, result)
        .await
        .unwrap_err();
    let CasError::Call { source, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(source.code(), Code::FailedPrecondition);
    assert_eq!(missing_blobs(source), [Digest::of(b"never sent")]);
    assert_eq!(client.get_action_result(&action).await.unwrap(), None);
}

/// Stores a result, takes `lost` away, and expects the result to be gone and
/// another one to take its place.
async fn is_a_miss_without(
    serving: &Serving,
    client: &CasClient,
    result: &reapi::ActionResult,
    lost: &Digest,
) {
    let action = Digest::of(format!("{result:?} {lost}").as_bytes());
    client
        .update_action_result(&action, result.clone())
        .await
        .unwrap();
    assert_eq!(
        client.get_action_result(&action).await.unwrap().as_ref(),
        Some(result)
    );
    lose(serving, lost);
    assert_eq!(client.get_action_result(&action).await.unwrap(), None);
    let next = with_exit_code(3);
    let stored = client.update_action_result(&action, next.clone()).await;
    assert_eq!(stored.unwrap(), next);
}

#[tokio::test]
async fn a_result_without_one_of_its_outputs_is_a_miss() {
    let serving = Serving::on_tcp();
    let client = serving.client();
    let digest = |content: &str| Digest::of(content.as_bytes());
    let some = |content: &str| Some(digest(content).into());
    let (tree, mut blobs) = tree("directory");
    blobs.extend(["file", "stdout", "stderr"].map(Blob::of));
    let result = reapi::ActionResult {
        output_files: vec![file("out/file", "file")],
        stdout_digest: some("stdout"),
        stderr_digest: some("stderr"),
        output_directories: vec![reapi::OutputDirectory {
            root_directory_digest: Some(tree.root.into()),
            ..directory("out/dir")
        }],
        ..Default::default()
    };
    let mut needed: Vec<Digest> = blobs.iter().map(|blob| blob.digest).collect();
    needed.dedup();
    assert_eq!(needed.len(), 8);
    for lost in &needed {
        client.ensure(blobs.clone()).await.unwrap();
        is_a_miss_without(&serving, &client, &result, lost).await;
    }
}

#[tokio::test]
async fn trees_in_one_message_are_complete_too() {
    let serving = Serving::on_tcp();
    let client = serving.client();
    let (tree, blobs) = tree("message");
    let mut directories = tree
        .directories
        .iter()
        .rev()
        .map(|(_, bytes)| reapi::Directory::decode(bytes.as_slice()).unwrap());
    let message = reapi::Tree {
        root: directories.next(),
        children: directories.collect(),
    };
    let message = Blob::of_message(&message);
    let result = reapi::ActionResult {
        output_directories: vec![reapi::OutputDirectory {
            tree_digest: Some(message.digest.into()),
            ..directory("out/dir")
        }],
        ..Default::default()
    };
    for lost in [message.digest, Digest::of(b"deep message")] {
        client.ensure(blobs.clone()).await.unwrap();
        client.ensure(vec![message.clone()]).await.unwrap();
        is_a_miss_without(&serving, &client, &result, &lost).await;
    }
}

#[tokio::test]
async fn an_incomplete_winner_makes_room_for_a_complete_one() {
    let serving = Serving::on_tcp();
    let client = serving.client();
    let action = Digest::of(b"action");
    client.upload(vec![Blob::of("output")]).await.unwrap();
    let first = reapi::ActionResult {
        output_files: vec![file("out", "output")],
        ..Default::default()
    };
    client.update_action_result(&action, first).await.unwrap();
    lose(&serving, &Digest::of(b"output"));
    // Nobody has asked for the first one in between.
    let second = with_exit_code(2);
    let stored = client.update_action_result(&action, second.clone()).await;
    assert_eq!(stored.unwrap(), second);
}

#[tokio::test]
async fn trees_are_walked_in_pages() {
    let serving = Serving::on_tcp();
    let client = serving.client();
    let mut builder = TreeBuilder::new();
    for index in 0..50 {
        builder
            .insert_file(&format!("d{index}/file"), Digest::of(&[index]), false)
            .unwrap();
    }
    let tree = builder.build();
    let directories = tree
        .directories
        .iter()
        .map(|(digest, bytes)| Blob::bytes(*digest, bytes.clone()));
    client.ensure(directories.collect()).await.unwrap();

    let service = InterceptedService::new(serving.channel(), Bearer::new(Some(&serving.token)));
    let mut cas = ContentAddressableStorageClient::new(service);
    let mut walk = async |page_token: &str, page_size| {
        let mut pages = cas
            .get_tree(reapi::GetTreeRequest {
                root_digest: Some(tree.root.into()),
                page_size,
                page_token: page_token.to_owned(),
                digest_function: vx_proto::digest::function_number(DigestFunction::Blake3),
                ..Default::default()
            })
            .await?
            .into_inner();
        let mut found = Vec::new();
        while let Some(page) = pages.message().await? {
            found.push(page);
        }
        Ok::<_, tonic::Status>(found)
    };
    let digests = |pages: &[reapi::GetTreeResponse]| {
        pages
            .iter()
            .flat_map(|page| &page.directories)
            .map(vx_proto::digest::of_message)
            .collect::<Vec<_>>()
    };
    let pages = walk("", 0).await.unwrap();
    assert_eq!(pages.len(), 1);
    let all = digests(&pages);
    assert_eq!(all.len(), 51);
    assert_eq!(all[0], tree.root);
    let pages = walk("", 20).await.unwrap();
    assert_eq!(pages.len(), 3);
    assert_eq!(digests(&pages), all);
    let rest = walk(&pages[0].next_page_token, 20).await.unwrap();
    assert_eq!(digests(&rest), all[20..]);

    // Parts that are gone are left out, the root is not.
    let lost = all[7];
    lose(&serving, &lost);
    let pages = walk("", 0).await.unwrap();
    assert_eq!(digests(&pages).len(), 50);
    lose(&serving, &tree.root);
    assert_eq!(walk("", 0).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(
        walk("nonsense", 0).await.unwrap_err().code(),
        Code::InvalidArgument
    );

    // The client's own walk checks every directory.
    let error = client.read_tree(&tree.root, 100).await.unwrap_err();
    assert!(matches!(error, CasError::Missing { .. }), "{error}");
}

#[tokio::test]
async fn the_client_reads_trees_up_to_a_limit() {
    let serving = Serving::on_tcp();
    let client = serving.client();
    let (tree, blobs) = tree("client");
    client.ensure(blobs).await.unwrap();
    let read = client.read_tree(&tree.root, 3).await.unwrap();
    assert_eq!(read.len(), 3);
    for (digest, bytes) in &tree.directories {
        assert_eq!(read[digest].encode_to_vec(), *bytes);
    }
    assert!(matches!(
        client.read_tree(&tree.root, 2).await,
        Err(CasError::TreeTooLarge { limit: 2, .. })
    ));
}
