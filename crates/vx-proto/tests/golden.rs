//! The bytes of messages that digests are made of, against the public definition of
//! the API: a changed byte changes every digest that was ever stored.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use prost::Message;
use vx_proto::reapi::{self, command};
use vx_proto::{Digest, DigestFunction};

/// A field of a digest: its key, its length, then the hash as text and the size.
fn digest_field(key: u8, digest: Digest) -> Vec<u8> {
    let mut inner = vec![0x0a, 64];
    inner.extend(digest.hex().bytes());
    if digest.size > 0 {
        assert!(digest.size < 128);
        inner.extend([0x10, digest.size as u8]);
    }
    let mut field = vec![key, inner.len() as u8];
    field.extend(inner);
    field
}

#[test]
fn directory_bytes() {
    let file = Digest::of(b"fn main() {}");
    let mut builder = vx_proto::tree::TreeBuilder::new();
    builder.insert_file("m", file, true).unwrap();
    builder.insert_directory("d", Digest::EMPTY).unwrap();
    builder.insert_symlink("l", "m").unwrap();
    let tree = builder.build();

    // files = 1 { name = 1, digest = 2, is_executable = 4 }
    let mut node = vec![0x0a, 1, b'm'];
    node.extend(digest_field(0x12, file));
    node.extend([0x20, 1]);
    let mut expected = vec![0x0a, node.len() as u8];
    expected.extend(node);
    // directories = 2 { name = 1, digest = 2 }
    let mut node = vec![0x0a, 1, b'd'];
    node.extend(digest_field(0x12, Digest::EMPTY));
    expected.extend([0x12, node.len() as u8]);
    expected.extend(node);
    // symlinks = 3 { name = 1, target = 2 }
    expected.extend([0x1a, 6, 0x0a, 1, b'l', 0x12, 1, b'm']);

    assert_eq!(tree.directories, [(Digest::of(&expected), expected)]);
}

#[test]
fn action_bytes() {
    let (command, root) = (Digest::of(b"c"), Digest::EMPTY);
    let action = reapi::Action {
        command_digest: Some(command.into()),
        input_root_digest: Some(root.into()),
        timeout: Some(prost_types::Duration {
            seconds: 5,
            nanos: 0,
        }),
        do_not_cache: true,
        salt: b"s".to_vec().into(),
        platform: Some(reapi::Platform {
            properties: vec![reapi::platform::Property {
                name: "n".into(),
                value: "v".into(),
            }],
        }),
    };
    let mut expected = digest_field(0x0a, command);
    expected.extend(digest_field(0x12, root));
    expected.extend([0x32, 2, 0x08, 5]); // timeout = 6
    expected.extend([0x38, 1]); // do_not_cache = 7
    expected.extend([0x4a, 1, b's']); // salt = 9
    expected.extend([0x52, 8, 0x0a, 6, 0x0a, 1, b'n', 0x12, 1, b'v']); // platform = 10
    assert_eq!(action.encode_to_vec(), expected);
}

#[test]
fn command_bytes() {
    let command = reapi::Command {
        arguments: vec!["a".into(), String::new()],
        environment_variables: vec![command::EnvironmentVariable {
            name: "N".into(),
            value: "v".into(),
        }],
        output_files: vec!["f".into()],
        output_directories: vec!["d".into()],
        platform: Some(reapi::Platform::default()),
        working_directory: "w".into(),
        output_paths: vec!["p".into()],
        output_node_properties: vec!["q".into()],
        output_directory_format: command::OutputDirectoryFormat::DirectoryOnly as i32,
    };
    let expected = [
        &[0x0a, 1, b'a', 0x0a, 0][..],            // arguments = 1
        &[0x12, 6, 0x0a, 1, b'N', 0x12, 1, b'v'], // environment_variables = 2
        &[0x1a, 1, b'f'],                         // output_files = 3
        &[0x22, 1, b'd'],                         // output_directories = 4
        &[0x2a, 0],                               // platform = 5
        &[0x32, 1, b'w'],                         // working_directory = 6
        &[0x3a, 1, b'p'],                         // output_paths = 7
        &[0x42, 1, b'q'],                         // output_node_properties = 8
        &[0x48, 1],                               // output_directory_format = 9
    ]
    .concat();
    assert_eq!(command.encode_to_vec(), expected);
}

#[test]
fn the_empty_directory_has_the_published_sha256() {
    let tree = vx_proto::tree::TreeBuilder::new().build_with(DigestFunction::Sha256);
    assert_eq!(
        tree.root.to_string(),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/0"
    );
}
