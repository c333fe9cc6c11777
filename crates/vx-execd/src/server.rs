//! From settings to a service that can be served.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cas_store::{GcOptions, OpenError, Options, Store};
use tonic::service::Routes;
use vx_proto::cas::CasClient;
use vx_proto::env::Settings;
use vx_proto::ext::VersionInfo;
use vx_proto::ext::directories_server::DirectoriesServer;
use vx_proto::reapi::capabilities_server::CapabilitiesServer;
use vx_proto::reapi::execution_server::ExecutionServer;
use vx_proto::server::{Identify, version_info};
use vx_proto::token::Token;
use vx_proto::{DigestFunction, MAX_MESSAGE_BYTES};
use vx_sandbox::{Launcher, SpawnError};
use vx_tree::Records;

use crate::cache::Cache;
use crate::disk::Home;
use crate::executor::Executor;
use crate::failure::Failure;
use crate::host_tools::HostTools;
use crate::offer::Offers;
use crate::provided::Provided;
use crate::service::Service;
use crate::slots::Slots;
use crate::trees::Trees;
use vx_proto::causes;

/// The name that the service answers with.
pub const SERVICE: &str = "vx-execd";

/// How long a client that asks who we are may wait for the first hashing of provided trees; less than it is willing to.
const HASHING_PATIENCE: Duration = Duration::from_secs(2);

/// What the local cache may take, in bytes; what was used within the last hour stays in any case.
const CACHE_BYTES: u64 = 20 << 30;

/// How often the local cache is looked through, beginning at the start.
const COLLECTION: Duration = Duration::from_secs(3600);

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The executor's directory cannot be used.
    #[error("cannot use `{}`", home.display())]
    Home {
        /// The directory.
        home: PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The local cache cannot be opened.
    #[error("cannot open the local cache")]
    Cache(#[source] OpenError),
    /// The process that starts commands cannot be set up.
    #[error("cannot start commands")]
    Launcher(#[source] SpawnError),
    /// The jobserver cannot be set up.
    #[error("cannot make a jobserver")]
    Slots(#[source] std::io::Error),
}

/// The executor, ready to be served. Clones share it.
#[derive(Clone)]
pub struct Server {
    executor: Arc<Executor>,
}

impl Server {
    /// Opens everything below `exec` in `VX_HOME`. Blocks; needs a running tokio runtime.
    pub fn open(settings: &Settings, token: Option<&Token>) -> Result<Server, Error> {
        let root = settings.home.join("exec");
        let fail = |source: Failure| Error::Home {
            home: root.clone(),
            source: Box::new(source),
        };
        let home = Home::take(root.clone()).map_err(fail)?;
        let trees = Trees::open(home.part("trees")).map_err(fail)?;
        let store = Store::open(&home.part("cache"), Options::default()).map_err(Error::Cache)?;
        let channel = vx_proto::connect::channel(&settings.cas);
        let cas = CasClient::new(channel, token, DigestFunction::Blake3);
        drop(tokio::spawn(keep_small(store.clone())));
        let slots = settings.exec_slots.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        });
        // Beside those of the daemon that may run with the same home: whoever comes first reads for both.
        let records = Records::new(settings.home.join("trees"));
        let provided = Provided::start(settings.exec_trees.clone(), records);
        let executor = Arc::new(Executor {
            cache: Cache::new(store, cas, home.part("fetch")),
            trees,
            provided,
            slots: Slots::new(slots).map_err(Error::Slots)?,
            launcher: Launcher::new().map_err(Error::Launcher)?,
            home,
            host_tools: HostTools::of(PathBuf::from("/")),
            worker: worker(),
        });
        // Asked for soon, so it is computed from the start on.
        let first = Arc::clone(&executor);
        drop(tokio::task::spawn_blocking(move || {
            first.host_tools.fingerprint()
        }));
        Ok(Server { executor })
    }

    /// Every service, but for the question for the version.
    pub fn routes(&self) -> Routes {
        let service = Service::new(Arc::clone(&self.executor));
        Routes::new(
            ExecutionServer::new(service.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(CapabilitiesServer::new(service))
        .add_service(DirectoriesServer::new(Offers {
            provided: self.executor.provided.clone(),
        }))
    }
}

impl Identify for Server {
    async fn identify(&self) -> VersionInfo {
        let mut info = version_info(SERVICE);
        let executor = Arc::clone(&self.executor);
        let fingerprint = tokio::task::spawn_blocking(move || executor.host_tools.fingerprint());
        self.executor.provided.ready(HASHING_PATIENCE).await;
        let trees: Vec<String> = self
            .executor
            .provided
            .digests()
            .iter()
            .map(ToString::to_string)
            .collect();
        let properties = [
            ("host-triple", host_triple()),
            // The thread can only fail to finish when the process is ending.
            ("host-tools", fingerprint.await.unwrap_or_default()),
            ("slots", self.executor.slots.count().to_string()),
            ("provided-trees", trees.join(",")),
        ];
        info.properties
            .extend(properties.map(|(name, value)| (name.to_owned(), value)));
        info
    }
}

/// Keeps the local cache within its limit, for as long as the runtime lives.
async fn keep_small(store: Store) {
    let mut hours = tokio::time::interval(COLLECTION);
    loop {
        hours.tick().await;
        let store = store.clone();
        let options = GcOptions {
            max_bytes: CACHE_BYTES,
            dry_run: false,
        };
        let collected = tokio::task::spawn_blocking(move || store.gc(&options)).await;
        if let Ok(Err(error)) = collected {
            crate::log(&causes(&error));
        }
    }
}

/// Rust's name for machines like this one.
fn host_triple() -> String {
    let environment = if cfg!(target_env = "musl") {
        "musl"
    } else {
        "gnu"
    };
    format!("{}-unknown-linux-{environment}", std::env::consts::ARCH)
}

fn worker() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}
