//! Who is let in: the answer to a Hello.

use subtle::ConstantTimeEq;

use super::config::ServerConfig;
use crate::message::{Hello, Refusal, WIRE_VERSION};

/// Whether a client may stay. `peer_uid` is known on Unix sockets.
pub(super) fn admit(
    config: &ServerConfig,
    hello: &Hello,
    peer_uid: Option<u32>,
    draining: bool,
) -> Result<(), Refusal> {
    let other_version = || Refusal::Version {
        wire_min: WIRE_VERSION,
        wire_max: WIRE_VERSION,
        version: config.service_version(),
        build: config.build.clone(),
    };
    // Who may not come in learns nothing else.
    if !is_known(config, hello.token.as_ref(), peer_uid) {
        return Err(Refusal::Denied);
    }
    if !(hello.wire_min..=hello.wire_max).contains(&WIRE_VERSION) {
        return Err(other_version());
    }
    if draining {
        return Err(Refusal::Draining);
    }
    if hello.protocol != config.protocol {
        return Err(other_version());
    }
    Ok(())
}

/// Whether it is the user of this server, or root; where the socket does not tell,
/// whether it has the token. The time that takes does not depend on how much of
/// the token is right.
pub(super) fn is_known(
    config: &ServerConfig,
    token: Option<&[u8; 32]>,
    peer_uid: Option<u32>,
) -> bool {
    if let Some(uid) = peer_uid {
        return uid == 0 || uid == rustix::process::geteuid().as_raw();
    }
    match (&config.token, token) {
        (Some(ours), Some(theirs)) => ours.ct_eq(theirs).into(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            wire_min: WIRE_VERSION,
            wire_max: WIRE_VERSION,
            protocol: 7,
            max_frame: 4096,
            build: String::new(),
            token: None,
            build_time: None,
        }
    }

    #[test]
    fn a_port_wants_the_token_and_a_socket_the_user() {
        let mut config = ServerConfig::new("svc", "0.1", 7);
        assert_eq!(
            admit(&config, &hello(), None, false),
            Err(Refusal::Denied),
            "no token configured lets nobody in"
        );
        config.token = Some([3; 32]);
        let mut with_token = hello();
        for (token, allowed) in [(None, false), (Some([2; 32]), false), (Some([3; 32]), true)] {
            with_token.token = token;
            assert_eq!(admit(&config, &with_token, None, false).is_ok(), allowed);
        }
        let own = rustix::process::geteuid().as_raw();
        assert!(admit(&config, &hello(), Some(own), false).is_ok());
        assert_eq!(
            admit(&config, &with_token, Some(own + 12345), false),
            Err(Refusal::Denied)
        );
    }

    #[test]
    fn strangers_do_not_learn_the_version() {
        let config = ServerConfig::new("svc", "0.1", 7);
        let mut other = hello();
        other.protocol = 8;
        assert_eq!(admit(&config, &other, None, true), Err(Refusal::Denied));
        assert!(matches!(
            admit(&config, &other, Some(0), false),
            Err(Refusal::Version { .. })
        ));
        other.wire_min = WIRE_VERSION + 1;
        other.wire_max = WIRE_VERSION + 2;
        assert!(matches!(
            admit(&config, &other, Some(0), true),
            Err(Refusal::Version { .. })
        ));
        assert_eq!(
            admit(&config, &hello(), Some(0), true),
            Err(Refusal::Draining)
        );
    }
}
