//! A daemon in this process, which does as it is told.

use std::os::unix::net::UnixListener;
use std::sync::mpsc::{Receiver, Sender, channel};

use daemon_rpc::{
    CommandHandler, EndStatus, IncomingCommand, Listener, OutputSink, ServerConfig, serve,
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use vx_proto::PROTOCOL_VERSION;
use vx_proto::command::{BuildEvent, Command, UnitName};

use crate::DEADLINE;
use crate::place::Place;

/// What the daemon does with every command.
pub(crate) enum Script {
    /// Says this, and ends so.
    Say(Vec<BuildEvent>, EndStatus),
    /// Says that it begins, and ends when it is cancelled.
    UntilCancelled,
    /// Says that it begins, and never ends.
    Forever,
    /// Talks until it is cancelled.
    Flood,
}

/// A daemon in this process.
pub(crate) struct Daemon {
    pub(crate) runtime: Runtime,
    commands: Receiver<Command>,
    pub(crate) cancelled: Receiver<()>,
}

struct Handler {
    script: Script,
    commands: Sender<Command>,
    cancelled: Sender<()>,
}

fn encoded(event: &BuildEvent) -> Vec<u8> {
    postcard::to_stdvec(event).unwrap()
}

fn note() -> BuildEvent {
    BuildEvent::Note {
        verb: "Working".to_owned(),
        text: "on it".to_owned(),
    }
}

impl CommandHandler for Handler {
    type Payload = Command;

    async fn handle(
        &self,
        command: IncomingCommand<Command>,
        out: OutputSink,
        cancel: CancellationToken,
    ) -> EndStatus {
        self.commands.send(command.payload).unwrap();
        match &self.script {
            Script::Say(events, end) => {
                for event in events {
                    out.event(encoded(event)).await.unwrap();
                }
                return end.clone();
            }
            Script::UntilCancelled => {
                out.event(encoded(&note())).await.unwrap();
                cancel.cancelled().await;
            }
            Script::Forever => {
                out.event(encoded(&note())).await.unwrap();
                std::future::pending::<()>().await;
            }
            Script::Flood => {
                while !cancel.is_cancelled() {
                    if out.event(encoded(&artifact("/bin/true"))).await.is_err() {
                        break;
                    }
                }
            }
        }
        self.cancelled.send(()).unwrap();
        EndStatus::Cancelled
    }
}

impl Daemon {
    pub(crate) fn start(place: &Place, script: Script) -> Daemon {
        Daemon::start_with(place, script, PROTOCOL_VERSION)
    }

    pub(crate) fn start_with(place: &Place, script: Script, protocol: u32) -> Daemon {
        let listener = UnixListener::bind(place.daemon()).unwrap();
        let runtime = Runtime::new().unwrap();
        let (commands, received) = channel();
        let (cancelled, told) = channel();
        let handler = Handler {
            script,
            commands,
            cancelled,
        };
        let config = ServerConfig::new("vx-daemon", "9.9.9", protocol);
        runtime.spawn(serve(
            Listener::Unix(listener),
            config,
            handler,
            CancellationToken::new(),
        ));
        Daemon {
            runtime,
            commands: received,
            cancelled: told,
        }
    }

    pub(crate) fn command(&self) -> Command {
        self.commands.recv_timeout(DEADLINE).unwrap()
    }
}

pub(crate) fn artifact(executable: &str) -> BuildEvent {
    BuildEvent::Artifact {
        name: UnitName {
            package: "app".to_owned(),
            version: "1.2.3".to_owned(),
            target: "app".to_owned(),
            target_kind: vec!["bin".to_owned()],
            mode: "build".to_owned(),
            manifest_path: "/ws/Cargo.toml".into(),
            ..UnitName::default()
        },
        profile: vx_proto::command::ArtifactProfile::default(),
        features: Vec::new(),
        filenames: vec![executable.into()],
        executable: Some(executable.into()),
        fresh: true,
    }
}
