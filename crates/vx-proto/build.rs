//! Generates the message types and services of `proto/`.
//!
//! The definitions are compiled in this process, so that building vx needs no
//! `protoc` on the machine.

use std::path::Path;

const FILES: &[&str] = &[
    "build/bazel/remote/execution/v2/remote_execution.proto",
    "google/bytestream/bytestream.proto",
    "google/rpc/error_details.proto",
    "vx/v1/vx.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("proto");
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(FILES, [root])?;
    let mut config = tonic_prost_build::Config::new();
    // Messages inside of `Any` are found by their type name.
    config
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com");
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .include_file("generated.rs")
        .compile_fds_with_config(files, config)?;
    Ok(())
}
