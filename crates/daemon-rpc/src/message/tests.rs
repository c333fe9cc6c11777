//! The bytes of each message. `PROTOCOL.md`, section "Messages".

use super::*;

fn version() -> ServiceVersion {
    ServiceVersion {
        service: "svc".into(),
        crate_version: "0.1".into(),
        protocol: 7,
        pid: 300,
        properties: [("k".to_owned(), "v".to_owned())].into(),
    }
}

fn build() -> BuildInfo {
    BuildInfo {
        id: "b2".into(),
        time: Some(5),
    }
}

#[test]
fn hello_golden() {
    let hello = Hello {
        wire_min: 1,
        wire_max: 1,
        protocol: 7,
        max_frame: 1 << 20,
        build: "b1".into(),
        token: Some([9; 32]),
        build_time: Some(300),
    };
    let mut bytes = b"dmnrpc\r\n".to_vec();
    bytes.extend([1, 1, 7, 0x80, 0x80, 0x40, 2, b'b', b'1', 1]);
    bytes.extend([9; 32]);
    // Version 1 ends here.
    let first = Hello::decode(&bytes).unwrap();
    assert!(first.build_time.is_none() && first.token == hello.token);
    bytes.extend([1, 0xac, 2]);
    assert_eq!(hello.encode(), bytes);
    assert!(Hello::decode(&bytes).unwrap() == hello);
    bytes.extend(b"a field of a later version");
    assert!(Hello::decode(&bytes).unwrap() == hello);
    bytes[0] = b'D';
    assert!(Hello::decode(&bytes).is_none());
}

#[test]
fn hello_ack_golden() {
    let ack = HelloAck {
        wire: 1,
        version: version(),
        max_frame: 128,
        max_command: 1,
        build: build(),
    };
    let bytes = [
        &[1][..],
        &[3, b's', b'v', b'c', 3, b'0', b'.', b'1', 7, 0xac, 2],
        &[1, 1, b'k', 1, b'v'],
        &[0x80, 1, 1],
        &[2, b'b', b'2', 1, 5],
    ]
    .concat();
    assert_eq!(encode(&ack), bytes);
    assert_eq!(decode::<HelloAck>(&bytes).unwrap(), ack);
}

#[test]
fn refused_golden() {
    for (refusal, bytes) in [
        (Refusal::Draining, &[1][..]),
        (Refusal::Busy, &[2]),
        (Refusal::Denied, &[3]),
        (Refusal::CommandTooLong { limit: 5 }, &[4, 5]),
        (Refusal::Unreadable, &[5]),
    ] {
        assert_eq!(refusal.encode(), bytes);
        assert_eq!(Refusal::decode(bytes), Some(refusal));
    }
    let refusal = Refusal::Version {
        wire_min: 1,
        wire_max: 2,
        version: version(),
        build: build(),
    };
    let bytes = refusal.encode();
    assert_eq!(bytes[..4], [0, 1, 2, 3]);
    assert_eq!(bytes[bytes.len() - 5..], [2, b'b', b'2', 1, 5]);
    assert_eq!(Refusal::decode(&bytes), Some(refusal));
    // Version 1 ends before the build.
    let first = Refusal::decode(&bytes[..bytes.len() - 5]).unwrap();
    assert!(matches!(first, Refusal::Version { build, .. } if build.id.is_empty()));
}

#[test]
fn ask_golden() {
    for (ask, number) in [
        (Ask::Status, 0),
        (Ask::Stop, 1),
        (Ask::Retire, 2),
        (Ask::Wait, 3),
    ] {
        let mut bytes = b"dmnrpc\r\n".to_vec();
        bytes.extend([number, 0]);
        assert_eq!(ask.encode(None), bytes);
        assert_eq!(Ask::decode(&bytes), Some((ask, None)));
        bytes.pop();
        assert_eq!(Ask::decode(&bytes), None);
        bytes.push(1);
        bytes.extend([9; 32]);
        assert_eq!(ask.encode(Some([9; 32])), bytes);
        bytes.extend(b"a field of a later version");
        assert_eq!(Ask::decode(&bytes), Some((ask, Some([9; 32]))));
        bytes[8] = 99;
        assert_eq!(Ask::decode(&bytes).unwrap().0, Ask::Status);
        bytes[0] = b'D';
        assert_eq!(Ask::decode(&bytes), None);
    }
}

#[test]
fn status_golden() {
    let status = Status {
        wire_min: 2,
        wire_max: 2,
        version: version(),
        build: build(),
        is_draining: true,
        connections: 3,
        uptime_secs: 300,
        running: 1,
        commands: vec![CommandStatus {
            id: 4,
            name: "wc".into(),
            secs: 6,
            client_pid: Some(7),
            is_stuck: true,
        }],
    };
    let bytes = [
        &[2, 2][..],
        &[3, b's', b'v', b'c', 3, b'0', b'.', b'1', 7, 0xac, 2],
        &[1, 1, b'k', 1, b'v'],
        &[2, b'b', b'2', 1, 5],
        &[1, 3, 0xac, 2, 1],
        &[1, 4, 2, b'w', b'c', 6, 1, 7, 1],
    ]
    .concat();
    assert_eq!(encode(&status), bytes);
    assert_eq!(decode::<Status>(&bytes).unwrap(), status);
}

#[test]
fn stdin_golden() {
    assert_eq!(StdinEnd::from_payload(&[0]), Some(StdinEnd::Complete));
    assert_eq!(StdinEnd::from_payload(&[1]), Some(StdinEnd::Broken));
    assert_eq!(StdinEnd::from_payload(&[2]), None);
    assert_eq!(credit_from_payload(&[0, 1, 0, 0]), Some(65536));
    assert_eq!(credit_from_payload(&[0, 1, 0]), None);
    let size = crate::command::WindowSize {
        columns: 200,
        rows: 50,
    };
    assert_eq!(encode(&size), [0xc8, 1, 50]);
}

#[test]
fn cancel_golden() {
    for (mode, byte) in [(CancelMode::Soft, 0), (CancelMode::Hard, 1)] {
        assert_eq!(mode.byte(), byte);
        assert_eq!(CancelMode::from_payload(&[byte]), Some(mode));
    }
    assert_eq!(CancelMode::from_payload(&[2]), None);
    assert_eq!(CancelMode::from_payload(&[]), None);
}

#[test]
fn end_golden() {
    let end = |status| {
        encode(&End {
            status,
            counts: Counts {
                stdout: 1,
                stderr: 2,
                events: 300,
            },
        })
    };
    assert_eq!(end(EndStatus::Exit(0)), [0, 0, 1, 2, 0xac, 2]);
    assert_eq!(end(EndStatus::Exit(101)), [0, 0xca, 1, 1, 2, 0xac, 2]);
    assert_eq!(end(EndStatus::Signal(9)), [1, 18, 1, 2, 0xac, 2]);
    assert_eq!(end(EndStatus::Cancelled), [2, 1, 2, 0xac, 2]);
    let failed = EndStatus::Failed {
        message: "no".into(),
    };
    assert_eq!(end(failed), [3, 2, b'n', b'o', 1, 2, 0xac, 2]);
}

#[test]
fn names_are_cut_between_characters() {
    assert_eq!(clip_to("aé", 2), "a");
    assert_eq!(clip_to("aé", 3), "aé");
    assert_eq!(clip(&"x".repeat(9999)).len(), MAX_NAME);
}
