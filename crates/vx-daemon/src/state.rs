//! What lives as long as the daemon.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use vx_proto::env::Settings;
use vx_proto::token::Token;
use vx_tree::{DigestCache, Records};

use crate::backends::Backends;
use crate::cargo_home::CargoHomes;
use crate::deliver::Deliverer;
use crate::history::History;
use crate::memory::Memories;
use crate::packages::Packages;
use crate::toolchains::Toolchains;
use crate::turns::Turns;

/// Everything that one command leaves for the next.
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) backends: Backends,
    pub(crate) cargo_homes: CargoHomes,
    pub(crate) packages: Packages,
    pub(crate) toolchains: Toolchains,
    pub(crate) digests: Arc<DigestCache>,
    pub(crate) deliverer: Deliverer,
    pub(crate) memory: Memories,
    pub(crate) history: History,
    pub(crate) turns: Turns,
    pub(crate) since: Instant,
    /// Commands that are being worked on.
    pub(crate) active: AtomicU32,
}

impl State {
    /// The state of a daemon that has just started.
    pub(crate) fn new(settings: Settings, token: Token) -> State {
        let records = |name: &str| settings.home.join("daemon").join(name);
        let cargo_homes = CargoHomes::new(&settings);
        let ours = cargo_homes.shared().map(Path::to_owned);
        State {
            packages: Packages::new(records("packages"), ours),
            cargo_homes,
            toolchains: Toolchains::new(settings.download_cache_dir()),
            history: History::new(records("history")),
            backends: Backends::new(settings.clone(), token),
            digests: Arc::default(),
            deliverer: Deliverer::default(),
            memory: Memories::default(),
            turns: Turns::default(),
            since: Instant::now(),
            active: AtomicU32::new(0),
            settings,
        }
    }

    /// Trees of large directories; an executor with the same home shares them.
    pub(crate) fn trees(&self) -> Records {
        Records::new(self.settings.home.join("trees"))
    }
}
