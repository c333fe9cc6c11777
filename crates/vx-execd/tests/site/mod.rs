//! A store and an executor in a directory of their own, inside the test's process.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cas_store::{Options, Store};
use daemon_contract::Endpoint;
use daemon_lifecycle::Listener;
use futures_util::StreamExt;
use vx_execd::Server;
use vx_proto::cas::{Blob, CasClient};
use vx_proto::env::Settings;
use vx_proto::exec::{ExecClient, ExecEvent, Execution};
use vx_proto::ext::VersionInfo;
use vx_proto::reapi::{self, ActionResult, ExecuteResponse, OutputFile};
use vx_proto::server::{Identify, serve_until, version_info};
use vx_proto::tree::TreeBuilder;
use vx_proto::{Digest, DigestFunction};

// The test harness owns `main`; a constructor runs before it, with a single thread.
#[used]
#[unsafe(link_section = ".init_array")]
static INIT: extern "C" fn() = {
    extern "C" fn init() {
        vx_sandbox::init_if_requested();
    }
    init
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Site {
    pub(crate) home: tempfile::TempDir,
    pub(crate) cas: CasClient,
    pub(crate) exec: ExecClient,
    pub(crate) version: VersionInfo,
}

/// Sockets stand only in directories that keep others out.
pub(crate) fn private_directory() -> tempfile::TempDir {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    tempfile::Builder::new()
        .permissions(mode)
        .tempdir()
        .unwrap()
}

/// Settings for services below `home`.
pub(crate) fn settings(home: &Path) -> Settings {
    let home = home.to_owned();
    Settings::from_lookup(|name| match name {
        "VX_HOME" => Some(home.clone().into()),
        "VX_CAS" => Some(format!("unix://{}/cas.sock", home.display()).into()),
        "VX_EXEC" => Some(format!("unix://{}/exec.sock", home.display()).into()),
        "VX_EXEC_SLOTS" => Some("2".into()),
        _ => None,
    })
    .unwrap()
}

/// A store in `home`, listening.
pub(crate) async fn start_store(home: &Path) -> CasClient {
    let Endpoint::Unix(path) = settings(home).cas else {
        unreachable!()
    };
    let endpoint = Endpoint::Unix(path);
    let listener = Listener::bind(&endpoint).unwrap();
    let store = Store::open(&home.join("cas"), Options::default()).unwrap();
    let version = version_info("vx-casd");
    let never = std::future::pending();
    drop(tokio::spawn(serve_until(
        listener,
        vx_casd::routes(store),
        None,
        version,
        never,
    )));
    CasClient::new(
        vx_proto::connect::channel(&endpoint),
        None,
        DigestFunction::Blake3,
    )
}

impl Site {
    pub(crate) async fn start() -> Site {
        Site::with_trees(Vec::new()).await
    }

    pub(crate) async fn with_trees(trees: Vec<PathBuf>) -> Site {
        let home = private_directory();
        let cas = start_store(home.path()).await;
        let mut settings = settings(home.path());
        settings.exec_trees = trees;
        let listener = Listener::bind(&settings.exec).unwrap();
        let server = Server::open(&settings, None).unwrap();
        let version = server.identify().await;
        let never = std::future::pending();
        drop(tokio::spawn(serve_until(
            listener,
            server.routes(),
            None,
            server,
            never,
        )));
        let channel = vx_proto::connect::channel(&settings.exec);
        let exec = ExecClient::new(channel, None, DigestFunction::Blake3);
        Site {
            home,
            cas,
            exec,
            version,
        }
    }

    /// Runs to the end.
    pub(crate) async fn run(&self, action: &ActionBuilder) -> ExecuteResponse {
        let digest = action.store(&self.cas).await;
        self.finish(self.exec.execute(digest, false).await.unwrap())
            .await
            .1
    }

    /// Runs to the end; it must have a result.
    pub(crate) async fn result(&self, action: &ActionBuilder) -> ActionResult {
        let response = self.run(action).await;
        assert_eq!(response.status.unwrap_or_default().message, "");
        response.result.unwrap()
    }

    /// Follows an execution to its end; what was published early comes first.
    pub(crate) async fn finish(
        &self,
        mut execution: Execution,
    ) -> (Vec<OutputFile>, ExecuteResponse) {
        let mut early = Vec::new();
        loop {
            let event = tokio::time::timeout(PATIENCE, execution.next())
                .await
                .unwrap();
            match event.unwrap().unwrap() {
                ExecEvent::Early(file) => early.push(file),
                ExecEvent::Stage(_) => {}
                ExecEvent::Done(response) => return (early, *response),
            }
        }
    }

    /// The content of an output file.
    pub(crate) async fn content(&self, result: &ActionResult, path: &str) -> Bytes {
        let file = result
            .output_files
            .iter()
            .find(|file| file.path == path)
            .unwrap();
        let digest = vx_proto::digest::required(file.digest.as_ref()).unwrap();
        self.cas.read(&digest, u64::MAX).await.unwrap()
    }

    /// The writable directories of all actions that run now.
    pub(crate) fn writable_directories(&self) -> Vec<PathBuf> {
        let works = std::fs::read_dir(self.home.path().join("exec/work")).unwrap();
        works
            .flatten()
            .flat_map(|work| {
                std::fs::read_dir(work.path())
                    .into_iter()
                    .flatten()
                    .flatten()
            })
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .collect()
    }
}

/// The next early output.
pub(crate) async fn next_early(execution: &mut Execution) -> OutputFile {
    loop {
        let event = tokio::time::timeout(PATIENCE, execution.next())
            .await
            .unwrap();
        match event.unwrap().unwrap() {
            ExecEvent::Early(file) => return file,
            ExecEvent::Stage(_) => {}
            ExecEvent::Done(response) => panic!("ended before: {response:?}"),
        }
    }
}

/// Returns when `condition` holds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Whether a process has `mark` among its arguments.
pub(crate) fn is_running(mark: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.into_iter().any(|process| {
        let arguments = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(mark)
    })
}

/// An action under construction: `/vx/out` is writable, the root of inputs is `/`.
#[derive(Clone)]
pub(crate) struct ActionBuilder {
    pub(crate) command: reapi::Command,
    pub(crate) action: reapi::Action,
    pub(crate) properties: Vec<(String, String)>,
    pub(crate) files: Vec<(String, Bytes, bool)>,
    pub(crate) directories: Vec<(String, Digest)>,
}

/// Runs `script` with a shell.
pub(crate) fn shell(script: &str) -> ActionBuilder {
    let arguments = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let path = reapi::command::EnvironmentVariable {
        name: "PATH".into(),
        value: "/usr/local/bin:/usr/bin:/bin".into(),
    };
    let command = reapi::Command {
        arguments,
        environment_variables: vec![path],
        ..reapi::Command::default()
    };
    ActionBuilder {
        command,
        action: reapi::Action::default(),
        properties: vec![
            ("InputRootAbsolutePath".into(), "/".into()),
            ("vx-writable".into(), "vx/out".into()),
        ],
        files: Vec::new(),
        directories: Vec::new(),
    }
}

impl ActionBuilder {
    pub(crate) fn file(mut self, path: &str, content: impl Into<Bytes>) -> Self {
        self.files.push((path.into(), content.into(), false));
        self
    }

    pub(crate) fn directory(mut self, path: &str, digest: Digest) -> Self {
        self.directories.push((path.into(), digest));
        self
    }

    pub(crate) fn output(mut self, path: &str) -> Self {
        self.command.output_paths.push(path.into());
        self
    }

    pub(crate) fn cwd(mut self, path: &str) -> Self {
        self.command.working_directory = path.into();
        self
    }

    pub(crate) fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Sends everything to the store.
    pub(crate) async fn store(&self, cas: &CasClient) -> Digest {
        let mut blobs = Vec::new();
        let mut tree = TreeBuilder::new();
        for (path, content, executable) in &self.files {
            let blob = Blob::of(content.clone());
            tree.insert_file(path, blob.digest, *executable).unwrap();
            blobs.push(blob);
        }
        for (path, digest) in &self.directories {
            tree.insert_directory(path, *digest).unwrap();
        }
        let tree = tree.build();
        blobs.extend(
            tree.directories
                .into_iter()
                .map(|(digest, bytes)| Blob::bytes(digest, bytes)),
        );
        let command = Blob::of_message(&self.command);
        let mut action = self.action.clone();
        action.command_digest = Some(command.digest.into());
        action.input_root_digest = Some(tree.root.into());
        let property = |(name, value): &(String, String)| reapi::platform::Property {
            name: name.clone(),
            value: value.clone(),
        };
        action.platform = Some(reapi::Platform {
            properties: self.properties.iter().map(property).collect(),
        });
        let action = Blob::of_message(&action);
        let digest = action.digest;
        blobs.extend([command, action]);
        cas.ensure(blobs).await.unwrap();
        digest
    }
}
