//! Makes the environment of a test out of its declarations.
//!
//! The order matters: directories first, then the helper that is to remove them,
//! and everything else only after that: ports may be those of its network.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::builder::TestEnvBuilder;
use crate::command::CommandError;
use crate::dirs::{self, Dirs};
use crate::endpoint::{Address, Flavour};
use crate::env::{Endpoint, Inner, TestEnv};
use crate::identity::Identity;
use crate::inside::INSIDE;
use crate::lifeline::client::{Helper, Refused};
use crate::lifeline::{sweep, wire};
use crate::ports;
use crate::programs::{self, ProgramError};
use crate::redact::Redactions;
use crate::scarcity;
use crate::tier::Tier;
use crate::watch::Watched;

/// Why there is no environment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// Directories could not be made.
    #[error("failed to make the directories of the test")]
    Directories(#[source] io::Error),
    /// A fixture could not be copied.
    #[error("failed to copy fixture `{}`", path.display())]
    Fixture {
        /// The file or tree to be copied.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No port could be had.
    #[error("failed to get a port for endpoint `{endpoint}`")]
    Port {
        /// The endpoint's name.
        endpoint: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A rule of the test's own is not a regular expression.
    #[error("redaction `{pattern}` is not a regular expression")]
    Redaction {
        /// The pattern.
        pattern: String,
        /// Why.
        #[source]
        source: regex::Error,
    },
    /// The process that cleans up could not be started.
    #[error("failed to start the helper process")]
    Helper(#[source] io::Error),
    /// The tier of hermeticity that the test requires cannot be had.
    #[error("`{tier}` cannot be had here")]
    Tier {
        /// The tier.
        tier: Tier,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program that the test requires is not there.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A command that is to run at the end cannot run.
    #[error("teardown is not possible")]
    Teardown(#[source] CommandError),
}

impl TestEnv {
    pub(crate) fn create(builder: TestEnvBuilder) -> Result<TestEnv, SetupError> {
        let dirs = Dirs::create().map_err(SetupError::Directories)?;
        let root = dirs.root.clone();
        // Until the helper is responsible, nobody else removes the directories.
        TestEnv::create_in(builder, dirs).inspect_err(|_| {
            dirs::remove(&root).ok();
        })
    }

    fn create_in(builder: TestEnvBuilder, dirs: Dirs) -> Result<TestEnv, SetupError> {
        let identity = Identity::of_this_test();
        let watched = builder
            .watched
            .iter()
            .map(|path| Watched::new(path))
            .collect();
        let mut redactions = redactions_for(&dirs);
        for (pattern, replacement) in &builder.rules {
            redactions
                .rule(pattern, replacement)
                .map_err(|source| SetupError::Redaction {
                    pattern: pattern.clone(),
                    source,
                })?;
        }
        for program in &builder.hidden_versions {
            redactions.program(program);
        }
        let mut vars = crate::environment::base(&dirs);
        let mut named_dirs = BTreeMap::new();
        for (name, variable) in &builder.dirs {
            let path = dirs.root.join(name);
            dirs::make_private(&path).map_err(SetupError::Directories)?;
            redactions.path(&path, &name.to_uppercase());
            vars.insert(variable.into(), path.clone().into());
            named_dirs.insert(name.clone(), path);
        }
        for (from, to) in &builder.fixtures {
            dirs::copy(from, &dirs.work().join(to)).map_err(|source| SetupError::Fixture {
                path: from.clone(),
                source,
            })?;
        }
        let tag = tag(&dirs.root);
        vars.insert(sweep::TAG.into(), tag.clone().into());
        vars.extend(builder.env.clone());
        let disks: Vec<(String, PathBuf, u64)> = builder
            .disks
            .iter()
            .map(|(name, size)| (name.clone(), named_dirs[name].clone(), *size))
            .collect();
        let (helper, tier) = Helper::start(
            wire::Context {
                tag,
                test: identity.test.clone(),
                root: dirs.root.clone(),
                bundle: identity.bundle,
                reproduce: identity.reproduce,
                environment: crate::bundle::environment(),
                grace: builder.grace,
                settle: builder.settle,
                runner_reads_stderr: runner_reads_stderr(),
                tier: builder.tier,
                tier_reason: None,
                disks: disks
                    .iter()
                    .map(|(_, path, size)| (path.clone(), *size))
                    .collect(),
            },
            builder.tier_required,
        )
        .map_err(|Refused { tier, source }| match tier {
            Tier::Plain => SetupError::Helper(source),
            tier => SetupError::Tier { tier, source },
        })?;
        let mut leases = Vec::new();
        let endpoints = endpoints(&builder, &dirs, &helper, tier, &mut leases)?;
        for lock in leases.iter().filter_map(|lease| lease.lock.as_ref()) {
            helper.hold(lock.as_fd()).map_err(SetupError::Helper)?;
        }
        let inner = Arc::new(Inner {
            dirs,
            helper,
            limit: builder.command_limit,
            vars,
            endpoints: Mutex::new(endpoints),
            named_dirs,
            redactions: Mutex::new(redactions),
            test: identity.test,
            tier,
            faults: Mutex::default(),
            proxies: Mutex::default(),
        });
        let env = TestEnv {
            disks: scarcity::disks(&inner, &disks),
            inner,
            watched,
            finished: false,
        };
        for program in &builder.required {
            env.inner.program(program)?;
        }
        for (program, args) in &builder.teardown {
            let launch = env
                .command(program)
                .args(args)
                .launch()
                .map_err(SetupError::Teardown)?;
            env.inner
                .helper
                .teardown(launch, builder.teardown_limit)
                .map_err(SetupError::Helper)?;
        }
        Ok(env)
    }
}

fn redactions_for(dirs: &Dirs) -> Redactions {
    let mut redactions = Redactions::new();
    redactions.path(&dirs.root, "ENV");
    redactions.path(&dirs.home(), "HOME");
    redactions.path(&dirs.runtime(), "RUNTIME");
    redactions.path(&dirs.temp(), "TEMP");
    redactions.path(&dirs.work(), "WORK");
    redactions.path(&dirs.logs(), "LOGS");
    if let Some(dir) = programs::profile_dir() {
        redactions.path(&dir, "BIN");
    }
    for (variable, default) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        if let Some(home) = crate::environment::tool_home(variable, default) {
            redactions.path(&home, variable);
        }
    }
    redactions
}

fn endpoints(
    builder: &TestEnvBuilder,
    dirs: &Dirs,
    helper: &Helper,
    tier: Tier,
    leases: &mut Vec<ports::Lease>,
) -> Result<BTreeMap<String, Endpoint>, SetupError> {
    let mut endpoints = BTreeMap::new();
    let mut ports = Vec::new();
    for (name, variable, flavour) in &builder.endpoints {
        let failed = |source| SetupError::Port {
            endpoint: name.clone(),
            source,
        };
        let mut listener = None;
        let address = match flavour {
            Flavour::Unix => {
                let path = dirs.runtime().join(format!("{name}.sock"));
                if path.as_os_str().len() > dirs::SOCKET_PATH_MAX {
                    return Err(failed(io::Error::other("its socket path is too long")));
                }
                Some(Address::Unix(path))
            }
            Flavour::Handed => {
                let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let bound = if tier == Tier::Sealed {
                    helper.listen(any)
                } else {
                    TcpListener::bind(any)
                }
                .map_err(failed)?;
                let address = bound.local_addr().map_err(failed)?;
                listener = Some(Arc::new(bound));
                Some(Address::Tcp(address))
            }
            Flavour::Reported => None,
            Flavour::Fixed(port) => {
                let ours = tier == Tier::Sealed
                    || INSIDE.get().is_some_and(|inside| inside.entered.is_ok());
                if !ours {
                    let why = format!("port {port} may be somebody else's in tier `{tier}`");
                    return Err(failed(io::Error::other(why)));
                }
                Some(Address::Tcp((Ipv4Addr::LOCALHOST, *port).into()))
            }
            Flavour::Leased => {
                if ports.is_empty() {
                    let lease = ports::lease().map_err(failed)?;
                    ports = lease.ports.clone();
                    ports.reverse();
                    leases.push(lease);
                }
                ports
                    .pop()
                    .map(|port| Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
            }
        };
        endpoints.insert(
            name.clone(),
            Endpoint {
                variable: variable.clone(),
                address,
                listener,
            },
        );
    }
    Ok(endpoints)
}

/// The random name of the root makes the mark unique on this machine at a time;
/// time and process id keep it unique over time.
fn tag(root: &Path) -> String {
    let name = root.file_name().unwrap_or_default().to_string_lossy();
    let time = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos());
    format!("{name}-{}-{time:x}", std::process::id())
}

/// nextest reads a test's standard error through a pipe for as long as it lives;
/// other readers of a pipe may leave early without meaning anything by it.
fn runner_reads_stderr() -> bool {
    std::env::var_os("NEXTEST").is_some_and(|value| value == "1")
        && rustix::fs::fstat(rustix::stdio::stderr()).is_ok_and(|stat| {
            rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo
        })
}
