//! What a test declares before its environment exists.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::endpoint::Flavour;
use crate::env::TestEnv;
use crate::setup::SetupError;
use crate::tier::Tier;

/// Collects the declarations of a test environment; made by
/// [`TestEnv::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing exists before `build`"]
pub struct TestEnvBuilder {
    pub(crate) endpoints: Vec<(String, String, Flavour)>,
    pub(crate) dirs: Vec<(String, String)>,
    pub(crate) env: BTreeMap<OsString, OsString>,
    pub(crate) fixtures: Vec<(PathBuf, PathBuf)>,
    pub(crate) teardown: Vec<(String, Vec<OsString>)>,
    pub(crate) teardown_limit: Duration,
    pub(crate) command_limit: Duration,
    pub(crate) grace: Duration,
    pub(crate) settle: Duration,
    pub(crate) watched: Vec<PathBuf>,
    pub(crate) rules: Vec<(String, String)>,
    pub(crate) hidden_versions: Vec<String>,
    pub(crate) required: Vec<String>,
    pub(crate) disks: Vec<(String, u64)>,
    pub(crate) tier: Tier,
    pub(crate) tier_required: bool,
}

impl Default for TestEnvBuilder {
    fn default() -> TestEnvBuilder {
        TestEnvBuilder {
            endpoints: Vec::new(),
            dirs: Vec::new(),
            env: BTreeMap::new(),
            fixtures: Vec::new(),
            teardown: Vec::new(),
            teardown_limit: Duration::from_secs(10),
            command_limit: Duration::from_secs(60),
            grace: Duration::from_secs(5),
            settle: Duration::from_secs(2),
            watched: Vec::new(),
            rules: Vec::new(),
            hidden_versions: Vec::new(),
            required: Vec::new(),
            disks: Vec::new(),
            tier: Tier::Plain,
            tier_required: false,
        }
    }
}

impl TestEnvBuilder {
    /// Declares an endpoint; commands find its address in the variable.
    pub fn endpoint(
        mut self,
        name: impl Into<String>,
        variable: impl Into<String>,
        flavour: Flavour,
    ) -> Self {
        self.endpoints.push((name.into(), variable.into(), flavour));
        self
    }

    /// Declares a private directory; commands find its path in the variable.
    pub fn dir(mut self, name: impl Into<String>, variable: impl Into<String>) -> Self {
        self.dirs.push((name.into(), variable.into()));
        self
    }

    /// Sets a variable for all commands.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Passes a variable of the caller on to all commands, if it is set.
    pub fn inherit(self, name: &str) -> Self {
        match std::env::var_os(name) {
            Some(value) => self.env(name, value),
            None => self,
        }
    }

    /// Copies a file or a tree to `to` below the work directory.
    pub fn fixture(mut self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Self {
        self.fixtures
            .push((from.as_ref().to_owned(), to.as_ref().to_owned()));
        self
    }

    /// Runs this command first when the environment ends, however it ends; its
    /// failure fails the test. Several run in the order of their declaration.
    pub fn teardown(
        mut self,
        program: impl Into<String>,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Self {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        self.teardown.push((program.into(), args.collect()));
        self
    }

    /// How long a teardown command may take (10 s).
    pub fn teardown_timeout(mut self, limit: Duration) -> Self {
        self.teardown_limit = limit;
        self
    }

    /// How long a command may take that does not say otherwise (60 s).
    pub fn command_timeout(mut self, limit: Duration) -> Self {
        self.command_limit = limit;
        self
    }

    /// How long a service may take to end after SIGTERM before it is killed (5 s).
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How long a process that nobody stopped may take to end by itself before
    /// it counts as left behind (2 s).
    pub fn settle(mut self, settle: Duration) -> Self {
        self.settle = settle;
        self
    }

    /// Fails the test if this path outside its directories appears, disappears
    /// or changes; of a directory, its direct entries are looked at.
    pub fn watch(mut self, path: impl AsRef<Path>) -> Self {
        self.watched.push(path.as_ref().to_owned());
        self
    }

    /// Adds a rule to the [redaction table](crate::Redactions) of snapshots.
    pub fn redact(mut self, pattern: impl Into<String>, replacement: impl Into<String>) -> Self {
        self.rules.push((pattern.into(), replacement.into()));
        self
    }

    /// Hides the version behind the name of this program in snapshots.
    pub fn redact_version(mut self, program: impl Into<String>) -> Self {
        self.hidden_versions.push(program.into());
        self
    }

    /// Fails at once unless this program is there and not older than its sources;
    /// for programs that others start, which find them for themselves.
    pub fn requires(mut self, program: impl Into<String>) -> Self {
        self.required.push(program.into());
        self
    }

    /// Declares a private directory that is a file system of this many bytes: to
    /// be full at some time ([`TestEnv::disk`]). It needs at least
    /// [`Tier::Processes`], which is required by this.
    pub fn small_disk(
        mut self,
        name: impl Into<String>,
        variable: impl Into<String>,
        bytes: u64,
    ) -> Self {
        let name = name.into();
        self.disks.push((name.clone(), bytes));
        self.tier = self.tier.max(Tier::Processes);
        self.tier_required = true;
        self.dir(name, variable)
    }

    /// How far commands and services are shut off from the machine. Where that
    /// cannot be had, the next lower tier is in force ([`TestEnv::tier`]), and
    /// the report of a failed test says which and why.
    pub fn tier(mut self, tier: Tier) -> Self {
        let disks = !self.disks.is_empty();
        self.tier = if disks {
            tier.max(Tier::Processes)
        } else {
            tier
        };
        self
    }

    /// [`Tier::Sealed`], and where it cannot be had the test fails with the
    /// reason; it never goes on with less.
    pub fn require_sealed(mut self) -> Self {
        self.tier = Tier::Sealed;
        self.tier_required = true;
        self
    }

    /// Makes the environment.
    ///
    /// # Panics
    /// If it cannot be made, see [`try_build`](Self::try_build).
    #[track_caller]
    #[must_use = "everything in it ends when it is dropped"]
    pub fn build(self) -> TestEnv {
        match self.try_build() {
            Ok(env) => env,
            Err(error) => panic!("{}", crate::env::chain(&error)),
        }
    }

    /// Makes the environment.
    ///
    /// # Errors
    /// If a directory, fixture, port or the helper process cannot be had, or a
    /// teardown program is missing.
    pub fn try_build(self) -> Result<TestEnv, SetupError> {
        TestEnv::create(self)
    }
}
