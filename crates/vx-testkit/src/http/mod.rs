//! A file server on loopback with chosen faults, for tests of what downloads.
//!
//! It knows as much of HTTP/1.1 as a client of files needs: GET, HEAD, ranges,
//! one request for each connection. It runs in threads of the test, so a fault
//! is where the test can release it.

mod fault;
mod request;
mod respond;
#[cfg(feature = "https")]
mod tls;
mod wire;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use fault::HttpFault;
pub use request::Recorded;
#[cfg(feature = "https")]
pub use tls::{CertificateAuthority, ServerCertificate};
use wire::Wires;

/// A client that says nothing for so long is not worth a thread.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server of files on a port of its own.
///
/// ```
/// use vx_testkit::{HttpFault, HttpFixture};
/// # use std::io::{Read, Write};
///
/// let server = HttpFixture::start();
/// server.file("/tool.tar", "content");
/// // The first request fails, the others get the file.
/// server.fault_times("/tool.tar", 1, HttpFault::Status(503));
/// # for _ in 0..2 {
/// #     let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
/// #     stream.write_all(b"GET /tool.tar HTTP/1.1\r\n\r\n").unwrap();
/// #     stream.read_to_string(&mut String::new()).unwrap();
/// # }
/// // … have `server.url("/tool.tar")` downloaded …
/// server.assert_requests("/tool.tar", 2);
/// // Dropping it fails the test if a fault never came to pass.
/// ```
#[derive(Debug)]
pub struct HttpFixture {
    address: SocketAddr,
    listener: Arc<TcpListener>,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    scheme: &'static str,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Arc<[u8]>>,
    faults: BTreeMap<String, Vec<Planned>>,
    requests: Vec<Recorded>,
    /// Connections that are open, to be cut when the fixture ends.
    connections: BTreeMap<u64, TcpStream>,
    workers: Vec<JoinHandle<()>>,
    /// How often stalled answers were let go.
    released: u64,
    closing: bool,
}

#[derive(Debug)]
struct Planned {
    fault: HttpFault,
    /// How many requests are still to meet it; `None` is all.
    left: Option<u32>,
    fired: u32,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the condition holds, the fixture ends, or time is up.
    fn wait(&self, limit: Duration, done: impl Fn(&State) -> bool) -> bool {
        let waiting = |state: &mut State| !state.closing && !done(state);
        let (state, _) = self
            .changed
            .wait_timeout_while(self.state(), limit, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        done(&state)
    }
}

impl HttpFixture {
    /// Starts a server that has no files yet.
    ///
    /// # Panics
    /// If there is no port or thread for it.
    #[must_use = "it ends when it is dropped"]
    #[track_caller]
    pub fn start() -> HttpFixture {
        match HttpFixture::try_start() {
            Ok(fixture) => fixture,
            Err(error) => panic!("failed to start the HTTP fixture: {error}"),
        }
    }

    /// Starts a server that has no files yet.
    ///
    /// # Errors
    /// If there is no port or thread for it.
    pub fn try_start() -> std::io::Result<HttpFixture> {
        HttpFixture::begin(Wires::Plain)
    }

    /// Starts a server that speaks TLS and has no files yet. Its clients must
    /// trust the authority that signed the certificate; those that read the
    /// system's certificates take it from `SSL_CERT_FILE`.
    ///
    /// # Panics
    /// If there is no port or thread for it.
    #[cfg(feature = "https")]
    #[must_use = "it ends when it is dropped"]
    #[track_caller]
    pub fn start_https(certificate: &ServerCertificate) -> HttpFixture {
        match HttpFixture::begin(Wires::Tls(certificate.config())) {
            Ok(fixture) => fixture,
            Err(error) => panic!("failed to start the HTTPS fixture: {error}"),
        }
    }

    fn begin(wires: Wires) -> std::io::Result<HttpFixture> {
        let scheme = wires.scheme();
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0")?);
        let shared = Arc::new(Shared::default());
        let acceptor = {
            let (listener, shared) = (Arc::clone(&listener), Arc::clone(&shared));
            std::thread::Builder::new()
                .name("http-fixture".to_owned())
                .spawn(move || accept(&listener, &wires, &shared))?
        };
        Ok(HttpFixture {
            address: listener.local_addr()?,
            listener,
            shared,
            acceptor: Some(acceptor),
            scheme,
        })
    }

    /// Serves a file at a path that begins with a slash.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &HttpFixture {
        let content = Arc::from(content.as_ref());
        self.shared.state().files.insert(path.to_owned(), content);
        self
    }

    /// All further requests for the path meet this fault, after those planned
    /// before for a number of times.
    pub fn fault(&self, path: &str, fault: HttpFault) -> &HttpFixture {
        self.plan(path, fault, None)
    }

    /// The next requests for the path, as many as given, meet this fault, after
    /// those planned before.
    pub fn fault_times(&self, path: &str, times: u32, fault: HttpFault) -> &HttpFixture {
        self.plan(path, fault, Some(times))
    }

    fn plan(&self, path: &str, fault: HttpFault, left: Option<u32>) -> &HttpFixture {
        let mut state = self.shared.state();
        let planned = state.faults.entry(path.to_owned()).or_default();
        planned.push(Planned {
            fault,
            left,
            fired: 0,
        });
        drop(state);
        self
    }

    /// Lets all answers go on that stall now.
    pub fn release(&self) {
        self.shared.state().released += 1;
        self.shared.changed.notify_all();
    }

    /// The address of the server.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path that begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// All requests so far, in the order in which they came.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.state().requests.clone()
    }

    /// The requests for one path so far.
    #[must_use]
    pub fn requests_for(&self, path: &str) -> Vec<Recorded> {
        let mut requests = self.requests();
        requests.retain(|request| request.path == path);
        requests
    }

    /// Checks how often a path was asked for.
    ///
    /// # Panics
    /// If it was another number of times; all requests are listed.
    #[track_caller]
    pub fn assert_requests(&self, path: &str, count: usize) {
        let found = self.requests_for(path).len();
        assert!(
            found == count,
            "`{path}` was asked for {found} times instead of {count}; all requests: {:#?}",
            self.requests()
        );
    }

    /// Waits until an answer to a request for the path has sent this many bytes
    /// of content.
    ///
    /// # Panics
    /// If that does not happen in time.
    #[track_caller]
    pub fn wait_until_sent(&self, path: &str, bytes: u64, limit: Duration) {
        let reached = |state: &State| {
            let mut requests = state.requests.iter();
            requests.any(|request| request.path == path && request.sent >= bytes)
        };
        let started = Instant::now();
        assert!(
            self.shared.wait(limit, reached),
            "no answer to `{path}` has sent {bytes} bytes within {:.1} s; all requests: {:#?}",
            started.elapsed().as_secs_f32(),
            self.requests()
        );
    }

    /// The faults that have not come to pass, or not as often as planned.
    #[must_use]
    pub fn faults_left(&self) -> Vec<String> {
        let state = self.shared.state();
        let all = state
            .faults
            .iter()
            .flat_map(|(path, planned)| planned.iter().map(move |planned| (path, planned)));
        all.filter(|(_, planned)| match planned.left {
            Some(left) => left > 0,
            None => planned.fired == 0,
        })
        .map(|(path, planned)| format!("`{path}`: {:?}", planned.fault))
        .collect()
    }
}

impl Drop for HttpFixture {
    fn drop(&mut self) {
        let workers = {
            let mut state = self.shared.state();
            state.closing = true;
            for connection in state.connections.values() {
                connection.shutdown(std::net::Shutdown::Both).ok();
            }
            std::mem::take(&mut state.workers)
        };
        self.shared.changed.notify_all();
        // Wakes the acceptor, which then sees that it is over.
        rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both).ok();
        for thread in self.acceptor.take().into_iter().chain(workers) {
            thread.join().ok();
        }
        if !std::thread::panicking() {
            let left = self.faults_left();
            assert!(left.is_empty(), "faults that never happened: {left:#?}");
        }
    }
}

fn accept(listener: &TcpListener, wires: &Wires, shared: &Arc<Shared>) {
    for number in 0.. {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(_) if shared.state().closing => return,
            // For example a client that was gone before it was accepted.
            Err(_) => continue,
        };
        stream.set_read_timeout(Some(PATIENCE)).ok();
        let Ok(watched) = stream.try_clone() else {
            continue;
        };
        let worker = {
            let (wires, shared) = (wires.clone(), Arc::clone(shared));
            std::thread::Builder::new()
                .name("http-fixture".to_owned())
                .spawn(move || {
                    // A client that goes away is its own affair.
                    let served = wires.wrap(stream);
                    served.and_then(|wire| respond::serve(wire, &shared)).ok();
                    shared.state().connections.remove(&number);
                })
        };
        let mut state = shared.state();
        if state.closing {
            watched.shutdown(std::net::Shutdown::Both).ok();
        }
        state.workers.retain(|worker| !worker.is_finished());
        if let Ok(worker) = worker {
            if !worker.is_finished() {
                state.connections.insert(number, watched);
            }
            state.workers.push(worker);
        }
    }
}
