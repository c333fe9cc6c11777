//! What may be asked of a server without a command, by whom, and when it ends.

use std::time::{Duration, Instant};

use daemon_contract::Endpoint;
use daemon_rpc::{CancelMode, Client, Command, ConnectError, Daemon, EndStatus, Outcome, Stopped};

use crate::kit::{PATIENCE, Server, client_config, config};
use crate::{OK, daemon};

#[test]
fn every_version_may_ask_who_is_there_and_ask_it_to_end() {
    let mut config = config();
    config.build.id = "b1".to_owned();
    config.build.time = Some(1_700_000_000);
    config.drain = PATIENCE;
    let mut server = Server::unix(config);
    let mut other = client_config();
    other.protocol += 1;
    let daemon = Daemon::new(server.endpoint.clone(), "9.9.9", other);
    let status = daemon.status().unwrap().unwrap();
    assert_eq!(status.version.pid, std::process::id());
    assert_eq!(status.build.to_string(), "b1 (built at 1700000000)");
    assert!(!status.is_draining);
    assert_eq!((status.connections, status.running), (1, 0));

    // What runs may finish; meanwhile others are told.
    let client = server.client();
    let canceller = client.canceller();
    let mut ending = None;
    let outcome = client.run(&Command::new("wait"), |_| {
        ending = Some(daemon.stop(Duration::from_millis(1)).unwrap());
        let error = Client::connect(&server.endpoint, client_config()).unwrap_err();
        assert!(matches!(error, ConnectError::Draining { .. }), "{error:?}");
        assert!(daemon.status().unwrap().unwrap().is_draining);
        canceller.cancel(CancelMode::Soft);
    });
    assert_eq!(outcome, Outcome::Finished(EndStatus::Cancelled));
    assert!(matches!(ending, Some(Stopped::Ending(status)) if status.running == 1));
    server.stop();
    assert_eq!(daemon.stop(PATIENCE).unwrap(), Stopped::NotRunning);
    assert_eq!(daemon.status().unwrap(), None);
    // Nothing is left.
    let Endpoint::Unix(path) = &server.endpoint else {
        panic!("{}", server.endpoint);
    };
    assert!(!path.exists());
}

#[test]
fn the_socket_is_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::unix(config());
    assert_eq!(server.run("exit 0").0, OK);
    let Endpoint::Unix(path) = &server.endpoint else {
        panic!("{}", server.endpoint);
    };
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn who_asks_for_the_end_can_wait_for_it() {
    let mut server = Server::unix(config());
    let stopped = daemon(&server.endpoint).stop(PATIENCE).unwrap();
    assert!(matches!(stopped, Stopped::Ended(_)), "{stopped:?}");
    server.stop();
}

#[test]
fn a_stranger_may_ask_nothing() {
    let mut config = config();
    config.token = Some([5; 32]);
    let server = Server::tcp(config);
    for token in [None, Some([6; 32])] {
        let mut client = client_config();
        client.token = token;
        let daemon = Daemon::new(server.endpoint.clone(), "0.1.0", client);
        let error = daemon.status().unwrap_err();
        assert!(matches!(error, ConnectError::Denied { .. }), "{error:?}");
        let error = daemon.stop(PATIENCE).unwrap_err();
        assert!(matches!(error, ConnectError::Denied { .. }), "{error:?}");
    }
    assert!(!server.shutdown.is_cancelled());
}

#[test]
fn a_service_of_another_name_is_not_stopped() {
    let server = Server::unix(config());
    let mut client = client_config();
    client.service = "another".to_owned();
    let daemon = Daemon::new(server.endpoint.clone(), "0.1.0", client);
    let error = daemon.stop(PATIENCE).unwrap_err();
    assert!(matches!(error, ConnectError::Foreign { .. }), "{error:?}");
    assert!(!server.shutdown.is_cancelled());
    assert_eq!(server.run("exit 0").0, OK);
}

#[test]
fn a_service_without_work_ends() {
    let mut config = config();
    config.idle_exit = Some(Duration::from_millis(300));
    let mut server = Server::unix(config);
    let client = server.client();
    let canceller = client.canceller();
    let began = Instant::now();
    // Not while something runs, however long.
    let outcome = client.run(&Command::new("wait"), |_| {
        let status = daemon(&server.endpoint).status().unwrap().unwrap();
        assert!(!status.is_draining);
        canceller.cancel(CancelMode::Soft);
    });
    assert_eq!(outcome, Outcome::Finished(EndStatus::Cancelled));
    // It ends without being asked: nobody fires the token.
    server.join();
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(daemon(&server.endpoint).status().unwrap(), None);
}

#[test]
fn a_service_that_was_just_started_waits_longer_for_its_first_client() {
    let mut config = config();
    config.idle_exit = Some(Duration::from_millis(1));
    let server = Server::unix(config);
    // As a starter that gets no processor for a while; no shorter time would do.
    std::thread::park_timeout(Duration::from_millis(100));
    assert_eq!(server.run("exit 0").0, OK);
}
