//! The environment of one test: its directories, endpoints, variables and the
//! lifeline that ends it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::builder::TestEnvBuilder;
use crate::command::Command;
use crate::dirs::Dirs;
use crate::endpoint::Address;
use crate::fault::Injected;
use crate::leaks::Report;
use crate::lifeline::client::Helper;
use crate::programs::{self, ProgramError};
use crate::proxy::Proxy;
use crate::redact::Redactions;
use crate::scarcity::Disk;
use crate::tier::Tier;
use crate::watch::Watched;

/// How long a loopback connection may take; it has nowhere to get lost.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// An endpoint as it is now.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) variable: String,
    /// `None` as long as a service has not reported it.
    pub(crate) address: Option<Address>,
    /// The listening socket that a service gets.
    pub(crate) listener: Option<Arc<TcpListener>>,
}

/// What commands and services of an environment share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) dirs: Dirs,
    pub(crate) helper: Helper,
    pub(crate) limit: Duration,
    pub(crate) vars: BTreeMap<OsString, OsString>,
    pub(crate) endpoints: Mutex<BTreeMap<String, Endpoint>>,
    pub(crate) named_dirs: BTreeMap<String, PathBuf>,
    pub(crate) redactions: Mutex<Redactions>,
    pub(crate) test: String,
    pub(crate) tier: Tier,
    pub(crate) faults: Mutex<Vec<Injected>>,
    pub(crate) proxies: Mutex<Vec<Proxy>>,
}

impl Inner {
    pub(crate) fn endpoints(&self) -> MutexGuard<'_, BTreeMap<String, Endpoint>> {
        self.endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What a command gets if it does not say otherwise.
    pub(crate) fn variables(&self) -> BTreeMap<OsString, OsString> {
        let mut vars = self.vars.clone();
        for endpoint in self.endpoints().values() {
            if let Some(address) = &endpoint.address {
                vars.insert(endpoint.variable.clone().into(), address.to_string().into());
            }
        }
        vars
    }

    /// Listens in the network of commands and services.
    pub(crate) fn listen(&self, address: SocketAddr) -> std::io::Result<TcpListener> {
        if self.tier == Tier::Sealed {
            self.helper.listen(address)
        } else {
            TcpListener::bind(address)
        }
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Vec<Injected>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn proxies(&self) -> MutexGuard<'_, Vec<Proxy>> {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects in the network of commands and services.
    pub(crate) fn connect(
        &self,
        address: SocketAddr,
        limit: Duration,
    ) -> std::io::Result<TcpStream> {
        if self.tier == Tier::Sealed {
            self.helper.connect(address, limit)
        } else {
            TcpStream::connect_timeout(&address, limit)
        }
    }

    /// The only TCP ports that commands and services may use.
    pub(crate) fn tcp_ports(&self) -> Option<Vec<u16>> {
        (self.tier == Tier::Landlock).then(|| {
            let proxies: Vec<u16> = self.proxies().iter().map(Proxy::port).collect();
            self.endpoints()
                .values()
                .filter_map(|endpoint| endpoint.address.as_ref()?.port())
                .chain(proxies)
                .collect()
        })
    }

    pub(crate) fn program(&self, name: &str) -> Result<PathBuf, ProgramError> {
        let search_path = self.vars.get("PATH".as_ref() as &std::ffi::OsStr);
        let search_path = search_path.map(|path| path.to_string_lossy().into_owned());
        let found = programs::find(name, &search_path.unwrap_or_default())?;
        let mut redactions = self
            .redactions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        redactions.program(name);
        Ok(found)
    }

    pub(crate) fn redactions(&self) -> Redactions {
        self.redactions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The environment of one test; see the [crate's front page](crate).
///
/// When it is dropped, or by [`finish`](Self::finish), the teardown commands
/// run, services are stopped, and whatever is left fails the test. When the test
/// process ends without that, the helper process does it.
#[derive(Debug)]
#[must_use = "everything in it ends when it is dropped"]
pub struct TestEnv {
    pub(crate) inner: Arc<Inner>,
    pub(crate) watched: Vec<Watched>,
    pub(crate) disks: BTreeMap<String, Disk>,
    pub(crate) finished: bool,
}

impl TestEnv {
    /// Starts the declarations of an environment.
    pub fn builder() -> TestEnvBuilder {
        TestEnvBuilder::default()
    }

    /// A command in this environment: a binary of the workspace, else a program
    /// on the search path, else the path given.
    pub fn command(&self, program: &str) -> Command {
        Command::new(Arc::clone(&self.inner), program)
    }

    /// The private home directory.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.inner.dirs.home()
    }

    /// The private runtime directory, which has the Unix sockets.
    #[must_use]
    pub fn runtime_dir(&self) -> PathBuf {
        self.inner.dirs.runtime()
    }

    /// The private temporary directory.
    #[must_use]
    pub fn temp_dir(&self) -> PathBuf {
        self.inner.dirs.temp()
    }

    /// Where commands run and fixtures are.
    #[must_use]
    pub fn work_dir(&self) -> PathBuf {
        self.inner.dirs.work()
    }

    /// Where services write their logs.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.inner.dirs.logs()
    }

    /// A directory that the builder declared.
    ///
    /// # Panics
    /// If none of that name was declared.
    #[track_caller]
    #[must_use]
    pub fn dir(&self, name: &str) -> PathBuf {
        match self.inner.named_dirs.get(name) {
            Some(path) => path.clone(),
            None => panic!("no directory `{name}` was declared"),
        }
    }

    /// The address of an endpoint.
    ///
    /// # Panics
    /// If none of that name was declared, or its service has not reported yet.
    #[track_caller]
    #[must_use]
    pub fn endpoint(&self, name: &str) -> Address {
        match self.inner.endpoints().get(name) {
            Some(endpoint) => match &endpoint.address {
                Some(address) => address.clone(),
                None => panic!("endpoint `{name}` has not been reported yet"),
            },
            None => panic!("no endpoint `{name}` was declared"),
        }
    }

    /// How far commands and services are shut off from the machine.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.inner.tier
    }

    /// Connects to an endpoint, also where its network is not that of the test.
    ///
    /// # Errors
    /// If nobody listens there.
    ///
    /// # Panics
    /// If there is no such endpoint, or it has no TCP address.
    #[track_caller]
    pub fn connect(&self, name: &str) -> std::io::Result<TcpStream> {
        match self.endpoint(name) {
            Address::Tcp(address) => self.inner.connect(address, CONNECT_LIMIT),
            Address::Unix(_) => panic!("endpoint `{name}` has no TCP address"),
        }
    }

    /// The value that a command finds in the variable.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<OsString> {
        self.inner.variables().remove(std::ffi::OsStr::new(name))
    }

    /// Writes a file below the work directory and returns its path.
    ///
    /// # Panics
    /// If it cannot be written.
    #[track_caller]
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work_dir().join(path);
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = made.and_then(|()| std::fs::write(&path, content)) {
            panic!("failed to write `{}`: {error}", path.display());
        }
        path
    }

    /// Reads a file below the work directory.
    ///
    /// # Panics
    /// If it cannot be read as text.
    #[track_caller]
    #[must_use]
    pub fn read(&self, path: impl AsRef<Path>) -> String {
        let path = self.work_dir().join(path);
        match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => panic!("failed to read `{}`: {error}", path.display()),
        }
    }

    /// The text as it would stand in a snapshot of this environment.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        self.inner.redactions().apply(text)
    }

    /// The name of the test that made it.
    #[must_use]
    pub fn test_name(&self) -> &str {
        &self.inner.test
    }

    /// Ends everything now.
    ///
    /// # Panics
    /// If something was left behind, see [`try_finish`](Self::try_finish).
    #[track_caller]
    pub fn finish(self) {
        let report = self.try_finish();
        assert!(report.is_clean(), "{report}");
    }

    /// Ends everything now and says what was left behind.
    #[must_use = "the report says what was left behind"]
    pub fn try_finish(mut self) -> Report {
        self.end(false)
    }

    fn end(&mut self, failed: bool) -> Report {
        self.finished = true;
        let faults = self.inner.inert_faults();
        let proxies = std::mem::take(&mut *self.inner.proxies());
        for proxy in proxies {
            proxy.stop();
        }
        let mut report = self
            .inner
            .helper
            .finish(failed, faults)
            .unwrap_or_else(|error| Report {
                test: self.inner.test.clone(),
                tier: self.inner.tier,
                teardown: vec![format!("the helper process did not report: {error}")],
                ..Report::default()
            });
        for watched in &self.watched {
            report.files.extend(watched.changes());
        }
        report
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let failed = std::thread::panicking();
        let report = self.end(failed);
        if failed {
            // A second panic would abort the test and hide the first.
            tell(&report.to_string());
        } else {
            assert!(report.is_clean(), "{report}");
        }
    }
}

/// Prints where the test harness captures it.
#[expect(
    clippy::print_stderr,
    reason = "the harness shows what a failing test prints"
)]
fn tell(text: &str) {
    eprintln!("{text}");
}

/// The error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
