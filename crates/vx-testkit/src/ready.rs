//! When a service is ready, by who it is: a bare connect proves nothing, since
//! somebody else may listen there.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use crate::endpoint::Address;
use crate::env::Inner;
use crate::proc;

/// How long one look at a service may take.
const LOOK: Duration = Duration::from_secs(1);
/// An answer longer than this is not an answer to a readiness question.
const ANSWER_MAX: u64 = 1 << 20;

/// A condition that says that a service is ready; `Err` is the status so far.
#[derive(Clone)]
pub struct Ready(Arc<Look>);

type Look = dyn Fn(&Probe<'_>) -> Result<(), String> + Send + Sync;

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ready")
    }
}

impl Ready {
    /// Any condition of the test's own, for example that `version()` answers
    /// with the right name.
    pub fn check(look: impl Fn(&Probe<'_>) -> Result<(), String> + Send + Sync + 'static) -> Ready {
        Ready(Arc::new(look))
    }

    /// A line of its log has this text. The log is the service's own, so nobody
    /// else can say it.
    pub fn log_line(text: impl Into<String>) -> Ready {
        let text = text.into();
        Ready::check(move |probe| {
            let log = probe.log();
            // The last line may be half written.
            let whole = log.rfind('\n').map_or("", |end| &log[..end]);
            if whole.contains(&text) {
                Ok(())
            } else {
                Err(format!("no log line has `{text}`"))
            }
        })
    }

    /// The socket that listens at the endpoint belongs to the service or to a
    /// process below it.
    pub fn listens(endpoint: impl Into<String>) -> Ready {
        let endpoint = endpoint.into();
        Ready::check(move |probe| {
            let address = probe.endpoint(&endpoint)?;
            if probe.owns(&address) {
                Ok(())
            } else {
                Err(format!("it does not listen on `{address}`"))
            }
        })
    }

    /// The service has chosen a port itself; `find` reads it out of its log. From
    /// then on the endpoint has that address, once the service is seen to listen
    /// there.
    pub fn reports(
        endpoint: impl Into<String>,
        find: impl Fn(&str) -> Option<u16> + Send + Sync + 'static,
    ) -> Ready {
        let endpoint = endpoint.into();
        Ready::check(move |probe| {
            let port = find(&probe.log()).ok_or("its log does not tell the port")?;
            let address = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
            if !probe.owns(&address) {
                return Err(format!("it does not listen on `{address}`"));
            }
            let mut endpoints = probe.inner.endpoints();
            let slot = endpoints
                .get_mut(&endpoint)
                .ok_or_else(|| format!("no endpoint `{endpoint}` was declared"))?;
            slot.address = Some(address);
            Ok(())
        })
    }

    /// The answer to `request` has the nonce of this start, which the service
    /// finds in `VX_TESTKIT_NONCE`.
    pub fn answers_with_nonce(endpoint: impl Into<String>, request: impl Into<Vec<u8>>) -> Ready {
        let (endpoint, request) = (endpoint.into(), request.into());
        Ready::check(move |probe| {
            let address = probe.endpoint(&endpoint)?;
            let answer = ask(probe.inner, &address, &request, probe.nonce())
                .map_err(|error| format!("`{address}` does not answer: {error}"))?;
            if answer {
                Ok(())
            } else {
                Err(format!("`{address}` answers, but not with our nonce"))
            }
        })
    }

    pub(crate) fn look(&self, probe: &Probe<'_>) -> Result<(), String> {
        (self.0)(probe)
    }
}

/// What a readiness condition can look at.
pub struct Probe<'a> {
    pub(crate) inner: &'a Inner,
    pub(crate) pid: u32,
    pub(crate) nonce: &'a str,
    pub(crate) log: &'a (dyn Fn() -> String + 'a),
}

impl fmt::Debug for Probe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

impl Probe<'_> {
    /// The process id of the service.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What the service got as `VX_TESTKIT_NONCE`, different for each start.
    #[must_use]
    pub fn nonce(&self) -> &str {
        self.nonce
    }

    /// What it has logged since this start.
    #[must_use]
    pub fn log(&self) -> String {
        (self.log)()
    }

    /// The address of an endpoint.
    ///
    /// # Errors
    /// If it is not declared or not known yet.
    pub fn endpoint(&self, name: &str) -> Result<Address, String> {
        self.inner
            .endpoints()
            .get(name)
            .ok_or_else(|| format!("no endpoint `{name}` was declared"))?
            .address
            .clone()
            .ok_or_else(|| format!("the address of `{name}` is not known"))
    }

    /// Connects to an endpoint, also where its network is not that of the test.
    ///
    /// # Errors
    /// If it has no TCP address, or nobody listens there.
    pub fn connect(&self, name: &str) -> Result<TcpStream, String> {
        match self.endpoint(name)? {
            Address::Tcp(address) => self
                .inner
                .connect(address, LOOK)
                .map_err(|error| format!("failed to connect to `{address}`: {error}")),
            Address::Unix(_) => Err(format!("endpoint `{name}` has no TCP address")),
        }
    }

    /// Whether the service, or a process below it, listens there.
    #[must_use]
    pub fn owns(&self, address: &Address) -> bool {
        let below = proc::descendants(&proc::processes(), self.pid);
        std::iter::once(self.pid)
            .chain(below)
            .any(|pid| match address {
                Address::Tcp(address) => proc::listens_on(pid, *address),
                Address::Unix(path) => proc::listens_at(pid, path),
            })
    }
}

/// Reads until the nonce has come, the peer is done or the look is over.
fn ask(inner: &Inner, address: &Address, request: &[u8], nonce: &str) -> std::io::Result<bool> {
    match address {
        Address::Tcp(address) => {
            let stream = inner.connect(*address, LOOK)?;
            stream.set_read_timeout(Some(LOOK))?;
            stream.set_write_timeout(Some(LOOK))?;
            exchange(stream, request, nonce)
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(LOOK))?;
            stream.set_write_timeout(Some(LOOK))?;
            exchange(stream, request, nonce)
        }
    }
}

fn exchange(mut stream: impl Read + Write, request: &[u8], nonce: &str) -> std::io::Result<bool> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let mut stream = stream.take(ANSWER_MAX);
    loop {
        let length = match stream.read(&mut buffer) {
            // A stranger may answer and hang up without reading.
            Err(_) if !answer.is_empty() => return Ok(false),
            read => read?,
        };
        answer.extend_from_slice(&buffer[..length]);
        if String::from_utf8_lossy(&answer).contains(nonce) {
            return Ok(true);
        }
        if length == 0 {
            return Ok(false);
        }
    }
}
