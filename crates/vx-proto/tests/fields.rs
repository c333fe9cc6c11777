//! The field numbers of messages, against the public definition of the API: other
//! clients and servers must understand ours.

use prost::Message;
use vx_proto::{Digest, DigestFunction, bytestream, ext, longrunning, reapi, rpc, semver};

/// The field numbers of an encoded message, in their order.
fn fields(message: &impl Message) -> Vec<u32> {
    let bytes = message.encode_to_vec();
    let mut rest = bytes.as_slice();
    let mut numbers = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest);
        numbers.push((key >> 3) as u32);
        match key & 7 {
            0 => {
                varint(&mut rest);
            }
            2 => {
                let size = varint(&mut rest) as usize;
                rest = &rest[size..];
            }
            other => panic!("wire type {other}"),
        }
    }
    numbers
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = rest[0];
        *rest = &rest[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn digest() -> Option<reapi::Digest> {
    Some(Digest::of(b"x").into())
}

fn text() -> String {
    "x".into()
}

#[test]
fn fields_of_results() {
    let stamp = || Some(prost_types::Timestamp::default());
    assert_eq!(
        fields(&reapi::ActionResult {
            output_files: vec![Default::default()],
            output_directories: vec![Default::default()],
            exit_code: 1,
            stdout_raw: "x".into(),
            stdout_digest: digest(),
            stderr_raw: "x".into(),
            stderr_digest: digest(),
            execution_metadata: Some(Default::default()),
            output_file_symlinks: vec![Default::default()],
            output_directory_symlinks: vec![Default::default()],
            output_symlinks: vec![Default::default()],
        }),
        [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    );
    assert_eq!(
        fields(&reapi::ExecutedActionMetadata {
            worker: text(),
            queued_timestamp: stamp(),
            worker_start_timestamp: stamp(),
            worker_completed_timestamp: stamp(),
            input_fetch_start_timestamp: stamp(),
            input_fetch_completed_timestamp: stamp(),
            execution_start_timestamp: stamp(),
            execution_completed_timestamp: stamp(),
            output_upload_start_timestamp: stamp(),
            output_upload_completed_timestamp: stamp(),
            auxiliary_metadata: vec![Default::default()],
            virtual_execution_duration: Some(Default::default()),
        }),
        (1..=12).collect::<Vec<_>>()
    );
    assert_eq!(
        fields(&reapi::OutputFile {
            path: text(),
            digest: digest(),
            is_executable: true,
            contents: "x".into(),
            node_properties: Some(Default::default()),
        }),
        [1, 2, 4, 5, 7]
    );
    assert_eq!(
        fields(&reapi::OutputDirectory {
            path: text(),
            tree_digest: digest(),
            is_topologically_sorted: true,
            root_directory_digest: digest(),
        }),
        [1, 3, 4, 5]
    );
    assert_eq!(
        fields(&reapi::OutputSymlink {
            path: text(),
            target: text(),
            node_properties: Some(Default::default()),
        }),
        [1, 2, 4]
    );
    assert_eq!(
        fields(&reapi::FileNode {
            name: text(),
            digest: digest(),
            is_executable: true,
            node_properties: Some(Default::default()),
        }),
        [1, 2, 4, 6]
    );
    assert_eq!(
        fields(&reapi::NodeProperties {
            properties: vec![Default::default()],
            mtime: stamp(),
            unix_mode: Some(0o755),
        }),
        [1, 2, 3]
    );
}

#[test]
fn fields_of_requests_and_responses() {
    let blake3 = vx_proto::digest::function_number(DigestFunction::Blake3);
    assert_eq!(blake3, 9);
    assert_eq!(
        fields(&reapi::ExecuteRequest {
            instance_name: text(),
            skip_cache_lookup: true,
            action_digest: digest(),
            execution_policy: Some(Default::default()),
            results_cache_policy: Some(Default::default()),
            digest_function: blake3,
            inline_stdout: true,
            inline_stderr: true,
            inline_output_files: vec![text()],
        }),
        [1, 3, 6, 7, 8, 9, 10, 11, 12]
    );
    assert_eq!(
        fields(&reapi::ExecuteResponse {
            result: Some(Default::default()),
            cached_result: true,
            status: Some(Default::default()),
            server_logs: [(text(), Default::default())].into(),
            message: text(),
        }),
        [1, 2, 3, 4, 5]
    );
    assert_eq!(
        fields(&reapi::ExecuteOperationMetadata {
            stage: 1,
            action_digest: digest(),
            stdout_stream_name: text(),
            stderr_stream_name: text(),
            partial_execution_metadata: Some(Default::default()),
            digest_function: blake3,
        }),
        [1, 2, 3, 4, 5, 6]
    );
    assert_eq!(
        fields(&reapi::GetActionResultRequest {
            instance_name: text(),
            action_digest: digest(),
            inline_stdout: true,
            inline_stderr: true,
            inline_output_files: vec![text()],
            digest_function: blake3,
        }),
        [1, 2, 3, 4, 5, 6]
    );
    assert_eq!(
        fields(&reapi::UpdateActionResultRequest {
            instance_name: text(),
            action_digest: digest(),
            action_result: Some(Default::default()),
            results_cache_policy: Some(Default::default()),
            digest_function: blake3,
        }),
        [1, 2, 3, 4, 5]
    );
    assert_eq!(
        fields(&reapi::FindMissingBlobsRequest {
            instance_name: text(),
            blob_digests: digest().into_iter().collect(),
            digest_function: blake3,
        }),
        [1, 2, 3]
    );
    assert_eq!(
        fields(&reapi::FindMissingBlobsResponse {
            missing_blob_digests: digest().into_iter().collect(),
        }),
        [2]
    );
    assert_eq!(
        fields(&reapi::BatchUpdateBlobsRequest {
            instance_name: text(),
            requests: vec![Default::default()],
            digest_function: blake3,
        }),
        [1, 2, 5]
    );
    assert_eq!(
        fields(&reapi::BatchReadBlobsRequest {
            instance_name: text(),
            digests: digest().into_iter().collect(),
            acceptable_compressors: vec![0],
            digest_function: blake3,
        }),
        [1, 2, 3, 4]
    );
    assert_eq!(
        fields(&reapi::batch_read_blobs_response::Response {
            digest: digest(),
            data: "x".into(),
            status: Some(Default::default()),
            compressor: 1,
        }),
        [1, 2, 3, 4]
    );
    assert_eq!(
        fields(&reapi::GetTreeRequest {
            instance_name: text(),
            root_digest: digest(),
            page_size: 1,
            page_token: text(),
            digest_function: blake3,
        }),
        [1, 2, 3, 4, 5]
    );
    assert_eq!(
        fields(&reapi::CacheCapabilities {
            digest_functions: vec![blake3],
            action_cache_update_capabilities: Some(Default::default()),
            cache_priority_capabilities: Some(Default::default()),
            max_batch_total_size_bytes: 1,
            symlink_absolute_path_strategy: 1,
            supported_compressors: vec![1],
            supported_batch_update_compressors: vec![1],
        }),
        [1, 2, 3, 4, 5, 6, 7]
    );
    assert_eq!(
        fields(&reapi::ExecutionCapabilities {
            digest_function: 1,
            exec_enabled: true,
            execution_priority_capabilities: Some(Default::default()),
            supported_node_properties: vec![text()],
            digest_functions: vec![blake3],
        }),
        [1, 2, 3, 4, 5]
    );
    assert_eq!(
        fields(&semver::SemVer {
            major: 2,
            minor: 3,
            patch: 1,
            prerelease: text(),
        }),
        [1, 2, 3, 4]
    );
}

#[test]
fn fields_of_streams_operations_and_errors() {
    assert_eq!(
        fields(&bytestream::ReadRequest {
            resource_name: text(),
            read_offset: 1,
            read_limit: 1,
        }),
        [1, 2, 3]
    );
    assert_eq!(fields(&bytestream::ReadResponse { data: "x".into() }), [10]);
    assert_eq!(
        fields(&bytestream::WriteRequest {
            resource_name: text(),
            write_offset: 1,
            finish_write: true,
            data: "x".into(),
        }),
        [1, 2, 3, 10]
    );
    assert_eq!(
        fields(&bytestream::QueryWriteStatusResponse {
            committed_size: 1,
            complete: true,
        }),
        [1, 2]
    );
    let operation = |result| longrunning::Operation {
        name: text(),
        metadata: Some(Default::default()),
        done: true,
        result: Some(result),
    };
    use longrunning::operation::Result::{Error, Response};
    assert_eq!(fields(&operation(Error(Default::default()))), [1, 2, 3, 4]);
    assert_eq!(
        fields(&operation(Response(Default::default()))),
        [1, 2, 3, 5]
    );
    assert_eq!(
        fields(&rpc::Status {
            code: rpc::Code::FailedPrecondition as i32,
            message: text(),
            details: vec![Default::default()],
        }),
        [1, 2, 3]
    );
    for code in 0..=16 {
        let ours = rpc::Code::try_from(code).unwrap().as_str_name();
        let grpc = format!("{:?}", tonic::Code::from(code));
        assert_eq!(ours.replace('_', ""), grpc.to_uppercase(), "{code}");
    }
}

#[test]
fn fields_of_our_own_records() {
    assert_eq!(
        fields(&ext::VersionInfo {
            service: text(),
            crate_version: text(),
            protocol: 1,
            pid: 1,
            properties: [(text(), text())].into(),
        }),
        [1, 2, 3, 4, 5]
    );
    assert_eq!(
        fields(&ext::ObservedInputs {
            read_files: vec![text()],
            listed_directories: vec![text()],
        }),
        [1, 2]
    );
    assert_eq!(
        fields(&ext::NextInputs {
            paths: vec![text()],
            env_names: vec![text()],
        }),
        [1, 2]
    );
}
