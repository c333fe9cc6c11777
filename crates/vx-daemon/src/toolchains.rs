//! The toolchain of a request: the one that the user chose, fetched when this machine does not have it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use vx_download::{Cache, Options};
use vx_proto::command::{BuildEvent, BuildRequest};
use vx_proto::env::{EnvError, Settings, VX_DIST_KEY};
use vx_proto::server;
use vx_toolchain::dist::{
    DEFAULT_SERVER, Dist, DistError, KeyRing, Lease, Mode, Record, Store, UNUSED, Wanted,
};
use vx_toolchain::{
    Choice, FindError, Found, Reason, Request, Rustup, RustupError, SelectError, Selection,
    Toolchain, ToolchainName, ToolchainTree, TreesError, find, host_triple, select,
};
use vx_tree::Records;

use crate::fetching::teller;
use crate::report::Reporter;

/// A moving channel that was asked for longer ago is worth a word: releases come every six weeks.
const OLD_SECONDS: u64 = 6 * 7 * 24 * 3600;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Why there is no toolchain.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ToolchainError {
    /// No choice could be made.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// rustup's settings.
    #[error(transparent)]
    Rustup(#[from] RustupError),
    /// The chosen one cannot be used.
    #[error(transparent)]
    Find(#[from] FindError),
    /// It cannot be fetched.
    #[error(transparent)]
    Dist(#[from] DistError),
    /// The download cache cannot be used.
    #[error("cannot use the download cache")]
    Cache(#[from] vx_download::Error),
    /// The keys of the distribution server cannot be used.
    #[error("cannot use the keys in `{}`, which {VX_DIST_KEY} names", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The client's environment makes no sense.
    #[error(transparent)]
    Environment(#[from] EnvError),
    /// The chosen one is not there, and the user does not want it to be fetched.
    #[error("toolchain `{name}` {}, and rustup's setting forbids to install anything by itself", missing(.lacks))]
    NotInstalled {
        /// Its name.
        name: String,
        /// What an installed one lacks.
        lacks: Vec<String>,
    },
    /// Something that is asked of a release was asked of another toolchain.
    #[error("`{0}` is no release of Rust: only those come from a distribution server")]
    NoRelease(String),
    /// It is not installed.
    #[error("toolchain `{0}` was not installed by vx")]
    NotOurs(String),
    /// It was removed in the meantime.
    #[error("the toolchain at `{}` was removed", .0.display())]
    Gone(PathBuf),
    /// Its files are not what they were.
    #[error("the files of the toolchain at `{}` were changed after they had been installed", .0.display())]
    Damaged(PathBuf),
    /// It cannot be an input.
    #[error(transparent)]
    Trees(#[from] TreesError),
    /// A task of the daemon failed.
    #[error("a task of the daemon ended early")]
    Task(#[from] tokio::task::JoinError),
}

fn missing(lacks: &[String]) -> String {
    match lacks {
        [] => "is not installed".to_owned(),
        lacks => format!("is installed without {}", lacks.join(" and ")),
    }
}

/// The toolchains of this machine.
pub(crate) struct Toolchains {
    directory: PathBuf,
    pub(crate) store: Store,
    cache: OnceLock<Cache>,
    /// When unused ones were looked for last.
    collected: Mutex<Option<Instant>>,
}

/// Whose toolchain it is about: the client's directory and environment.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) cwd: PathBuf,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) channel: Option<String>,
}

impl Client {
    /// The client behind a build.
    pub(crate) fn of(request: &BuildRequest) -> Client {
        Client {
            cwd: request.cwd.clone(),
            env: request.env.clone(),
            channel: request.toolchain.clone(),
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            directory: &self.cwd,
            environment: &self.env,
            channel: self.channel.as_deref(),
        }
    }

    fn settings(&self) -> Result<Settings, EnvError> {
        Settings::from_lookup(|name| self.request().variable(name).map(Into::into))
    }

    /// The distribution server that the client's environment names, without a slash at the end.
    fn server(&self) -> Result<String, EnvError> {
        let rustups = self
            .request()
            .variable("RUSTUP_DIST_SERVER")
            .map(str::to_owned);
        let given = self.settings()?.dist_server;
        let server = given
            .or(rustups)
            .unwrap_or_else(|| DEFAULT_SERVER.to_owned());
        Ok(server.trim_end_matches('/').to_owned())
    }

    /// Whether rustup was told to install nothing by itself.
    pub(crate) fn forbids_installing(&self, rustup: &Rustup) -> bool {
        match self.request().variable("RUSTUP_AUTO_INSTALL") {
            Some(value) => value == "0",
            None => rustup.forbids_installing(),
        }
    }
}

/// What the client chose, and what of it is here without any network.
pub(crate) struct Chosen {
    pub(crate) selection: Selection,
    pub(crate) rustup: Rustup,
    pub(crate) found: Found,
}

impl Toolchains {
    /// Toolchains beside the download cache at `directory`; nothing is made yet.
    pub(crate) fn new(directory: PathBuf) -> Toolchains {
        Toolchains {
            store: Store::new(&directory),
            directory,
            cache: OnceLock::new(),
            collected: Mutex::default(),
        }
    }

    /// Removes toolchains that nobody has used for a long time, once a day. Blocks.
    pub(crate) fn collect_daily(&self) {
        let mut collected = self
            .collected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if collected.is_some_and(|last| last.elapsed() < DAY) {
            return;
        }
        *collected = Some(Instant::now());
        drop(collected);
        match self.store.collect() {
            Ok(0) => {}
            Ok(removed) => {
                let days = UNUSED.as_secs() / DAY.as_secs();
                let text = format!(
                    "removed {removed} toolchains that nobody meant any more, or had used for {days} days"
                );
                server::log(crate::SERVICE, &text);
            }
            Err(error) => server::log(crate::SERVICE, &vx_proto::causes(&error)),
        }
    }

    /// What the client chose.
    ///
    /// A channel that was installed by vx is absent in `found`, wherever else it may be as well.
    pub(crate) async fn chosen(&self, client: &Client) -> Result<Chosen, ToolchainError> {
        let (client, store, server) = (client.clone(), self.store.clone(), client.server()?);
        tokio::task::spawn_blocking(move || {
            let request = client.request();
            let rustup = request.rustup()?;
            let selection = select(&request, &rustup)?;
            let ours = match &selection.choice {
                Choice::Named(ToolchainName::Channel(channel)) => {
                    let host = host_triple();
                    channel.host.as_ref().is_none_or(|named| *named == host)
                        && store.record(&server, &host, channel).is_some()
                }
                _ => false,
            };
            let found = if ours {
                Found::Absent { lacks: Vec::new() }
            } else {
                find(&request, &rustup, &selection)?
            };
            Ok(Chosen {
                selection,
                rustup,
                found,
            })
        })
        .await?
    }

    /// The download cache.
    pub(crate) async fn cache(&self) -> Result<Cache, ToolchainError> {
        Ok(match self.cache.get() {
            Some(cache) => cache.clone(),
            None => {
                let directory = self.directory.clone();
                let open = move || Cache::open(directory, Options::default());
                let cache = tokio::task::spawn_blocking(open).await??;
                self.cache.get_or_init(|| cache).clone()
            }
        })
    }

    /// The distribution server of the client.
    pub(crate) async fn dist(&self, client: &Client) -> Result<Dist, ToolchainError> {
        let keys = match client.settings()?.dist_key {
            Some(path) => Some(keys(path).await?),
            None => None,
        };
        Ok(Dist {
            cache: self.cache().await?,
            keys,
            store: self.store.clone(),
            server: client.server()?,
            host: host_triple(),
        })
    }

    /// The toolchain of a build, fetched if need be.
    pub(crate) async fn of_build(
        &self,
        request: &BuildRequest,
        reporter: &Reporter,
    ) -> Result<Toolchain, ToolchainError> {
        let client = Client::of(request);
        let chosen = self.chosen(&client).await?;
        let lacks = match chosen.found {
            Found::Here(toolchain, _) => return Ok(*toolchain),
            Found::Absent { lacks } => lacks,
        };
        let selection = chosen.selection;
        let Choice::Named(ToolchainName::Channel(channel)) = &selection.choice else {
            return Err(ToolchainError::NoRelease(format!("{:?}", selection.choice)));
        };
        let dist = self.dist(&client).await?;
        let is_known = {
            let (store, channel, server) = (self.store.clone(), channel.clone(), client.server()?);
            let record = move || store.record(&server, &host_triple(), &channel).is_some();
            tokio::task::spawn_blocking(record).await?
        };
        if !is_known && client.forbids_installing(&chosen.rustup) {
            return Err(ToolchainError::NotInstalled {
                name: channel.to_string(),
                lacks,
            });
        }
        let given = &request.selection;
        let mut targets: BTreeSet<String> = selection.targets.iter().cloned().collect();
        // Others are files that describe a target.
        let is_triple = |target: &&String| target.contains('-') && !target.ends_with(".json");
        targets.extend(given.target.iter().filter(is_triple).cloned());
        let wanted = Wanted {
            channel: channel.clone(),
            profile: selection.profile.clone(),
            components: selection.components.iter().cloned().collect(),
            targets,
        };
        let mode = match given.offline || given.frozen {
            true => Mode::Offline,
            false => Mode::Known,
        };
        let tell = teller(reporter, Some(why(&selection.reason, &lacks, &dist.server)));
        let installed = dist.obtain(&wanted, mode, &tell).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |duration| duration.as_secs());
        if let Some(hint) = old(&installed.record, now) {
            reporter.event(BuildEvent::Hint(hint)).await;
        }
        Ok(installed.toolchain)
    }

    /// Keeps a toolchain of ours from being removed; `None` for those of others.
    pub(crate) async fn lease(&self, sysroot: &Path) -> Result<Option<Lease>, ToolchainError> {
        let Some(id) = self.store.id_of(sysroot).map(str::to_owned) else {
            return Ok(None);
        };
        let store = self.store.clone();
        let leased = tokio::task::spawn_blocking(move || store.lease(&id)).await??;
        match leased {
            Some((_, lease)) => Ok(Some(lease)),
            None => Err(ToolchainError::Gone(sysroot.to_owned())),
        }
    }

    /// The trees of a toolchain; those of ours are checked against what was installed. Blocks.
    ///
    /// `records` is where the hashes of toolchains of others are kept.
    pub(crate) fn trees(
        &self,
        toolchain: &Toolchain,
        records: &Records,
    ) -> Result<Vec<ToolchainTree>, ToolchainError> {
        let Some(id) = self.store.id_of(&toolchain.sysroot) else {
            return Ok(toolchain.trees(records)?);
        };
        let trees = toolchain.trees(&self.store.trees())?;
        match self.store.receipt(id) {
            Some(receipt) if receipt.has_trees(&trees) => Ok(trees),
            Some(_) => {
                self.store.condemn(id)?;
                Err(ToolchainError::Damaged(toolchain.sysroot.clone()))
            }
            None => Err(ToolchainError::Gone(toolchain.sysroot.clone())),
        }
    }
}

/// The keys in a file.
async fn keys(path: PathBuf) -> Result<KeyRing, ToolchainError> {
    let read = tokio::fs::read_to_string(&path).await;
    let parsed = match read {
        Ok(text) => KeyRing::parse(&text).map_err(Into::into),
        Err(error) => Err(error.into()),
    };
    parsed.map_err(|source| ToolchainError::Keys { path, source })
}

/// Why something is fetched, and from where, in words.
fn why(reason: &Reason, lacks: &[String], server: &str) -> String {
    match lacks {
        [] => format!("from {server}, because {reason}"),
        lacks => format!(
            "from {server}, since that of rustup has no {}",
            lacks.join(" and no ")
        ),
    }
}

/// A word about a channel that nobody has asked for in a long time; `now` is in seconds since 1970.
fn old(record: &Record, now: u64) -> Option<String> {
    let age = now.saturating_sub(record.resolved);
    let name = record.channel.dated_name();
    (record.channel.is_moving() && age > OLD_SECONDS).then(|| {
        format!(
            "`{name}` is Rust {} here, as it was {} days ago: `vx toolchain update {name}` asks for a newer one",
            record.release,
            age / (24 * 3600)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moving_channel_that_nobody_asked_for_in_weeks_is_worth_a_word() {
        let record = |name: &str| Record {
            channel: match name.parse() {
                Ok(ToolchainName::Channel(channel)) => channel,
                other => panic!("{other:?}"),
            },
            server: String::new(),
            host: String::new(),
            release: "1.99.0".to_owned(),
            date: String::new(),
            manifest: String::new(),
            signed_by: None,
            unsigned: None,
            resolved: 1000,
            profile: None,
            components: BTreeSet::new(),
            targets: BTreeSet::new(),
            id: String::new(),
        };
        let later = 1000 + OLD_SECONDS + 1;
        let hint = old(&record("stable"), later).unwrap();
        assert!(hint.contains("as it was 42 days ago"), "{hint}");
        assert_eq!(old(&record("stable"), later - 1), None);
        assert_eq!(old(&record("1.99.0"), later), None);
        assert_eq!(old(&record("stable"), 0), None);
    }
}
