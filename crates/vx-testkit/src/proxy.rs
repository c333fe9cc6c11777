//! A TCP proxy in front of a service: its port stays the same however often the
//! service is started again, and the network between the two can be broken.
//!
//! It copies bytes and knows nothing of what they mean. Plain threads, since a
//! test need not have an asynchronous runtime. The sockets are those of the
//! network in which commands and services are.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::endpoint::Address;
use crate::env::{Inner, TestEnv};
use crate::fault::Injected;

/// How long a connection to the service may take; it has nowhere to get lost.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// More connections at once than this are refused.
const CONNECTIONS_MAX: usize = 1024;

/// A TCP proxy in front of an endpoint; made by [`TestEnv::proxy`].
#[derive(Clone)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

type Action = Box<dyn FnOnce() + Send>;

struct Shared {
    endpoint: String,
    inner: Weak<Inner>,
    listener: TcpListener,
    accepted: AtomicUsize,
    at_connection: Mutex<BTreeMap<usize, Vec<Action>>>,
    weather: Mutex<Weather>,
    changed: Condvar,
    open: Mutex<Open>,
}

/// What befalls the bytes; each flag tells that it has befallen some.
#[derive(Default)]
struct Weather {
    partition: Option<Arc<AtomicBool>>,
    latency: Option<(Duration, Arc<AtomicBool>)>,
    half_open: Option<Arc<AtomicBool>>,
    stopped: bool,
}

#[derive(Default)]
struct Open {
    acceptor: Option<JoinHandle<()>>,
    connections: Vec<Connection>,
}

struct Connection {
    thread: JoinHandle<()>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({} for {})", self.address, self.shared.endpoint)
    }
}

impl TestEnv {
    /// Starts a proxy in front of an endpoint. Whoever is to go through it gets
    /// [`Proxy::address`] instead of the endpoint's own.
    ///
    /// # Panics
    /// If there is no such endpoint, or no port for the proxy.
    #[track_caller]
    pub fn proxy(&self, endpoint: &str) -> Proxy {
        assert!(
            self.inner.endpoints().contains_key(endpoint),
            "no endpoint `{endpoint}` was declared"
        );
        match Proxy::start(&self.inner, endpoint) {
            Ok(proxy) => proxy,
            Err(error) => panic!("failed to start the proxy for `{endpoint}`: {error}"),
        }
    }
}

impl Proxy {
    fn start(inner: &Arc<Inner>, endpoint: &str) -> io::Result<Proxy> {
        let listener = inner.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            endpoint: endpoint.to_owned(),
            inner: Arc::downgrade(inner),
            listener,
            accepted: AtomicUsize::new(0),
            at_connection: Mutex::default(),
            weather: Mutex::default(),
            changed: Condvar::new(),
            open: Mutex::default(),
        });
        let acceptor = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("proxy".to_owned())
                .spawn(move || shared.accept())?
        };
        lock(&shared.open).acceptor = Some(acceptor);
        let proxy = Proxy { address, shared };
        inner.proxies().push(proxy.clone());
        Ok(proxy)
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::Tcp(self.address)
    }

    /// How many connections it has got.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Nothing gets through any more in either direction, and nobody is told;
    /// what was sent arrives after [`heal`](Self::heal). It has fired when it
    /// held something back.
    pub fn partition(&self) -> Injected {
        let flag = self.change(|weather, flag| weather.partition = Some(flag));
        self.injected("partition in front of", flag)
    }

    /// Whatever is sent arrives later by this time, in each direction. It has
    /// fired when it delayed something.
    pub fn latency(&self, time: Duration) -> Injected {
        let flag = self.change(|weather, flag| weather.latency = Some((time, flag)));
        self.injected("latency in front of", flag)
    }

    /// Clients are not told when the service hangs up or dies: their connections
    /// stay open, and what they send is lost. It has fired when it kept that
    /// from a client.
    pub fn half_open(&self) -> Injected {
        let flag = self.change(|weather, flag| weather.half_open = Some(flag));
        self.injected("half-open connections to", flag)
    }

    /// Ends all of that.
    pub fn heal(&self) {
        let mut weather = lock(&self.shared.weather);
        weather.partition = None;
        weather.latency = None;
        weather.half_open = None;
        self.shared.changed.notify_all();
    }

    pub(crate) fn at_connection(&self, number: usize, action: impl FnOnce() + Send + 'static) {
        let mut actions = lock(&self.shared.at_connection);
        actions.entry(number).or_default().push(Box::new(action));
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    fn change(&self, change: impl FnOnce(&mut Weather, Arc<AtomicBool>)) -> Arc<AtomicBool> {
        let flag = Arc::new(AtomicBool::new(false));
        change(&mut lock(&self.shared.weather), Arc::clone(&flag));
        self.shared.changed.notify_all();
        flag
    }

    fn injected(&self, what: &str, flag: Arc<AtomicBool>) -> Injected {
        let what = format!("{what} `{}`", self.shared.endpoint);
        let injected = Injected::new(what, move || flag.load(Ordering::SeqCst));
        if let Some(inner) = self.shared.inner.upgrade() {
            inner.expect_fault(&injected);
        }
        injected
    }

    /// Closes everything and waits for the threads.
    pub(crate) fn stop(&self) {
        lock(&self.shared.weather).stopped = true;
        self.shared.changed.notify_all();
        // Wakes the thread that accepts; it fails only if there is no socket.
        rustix::net::shutdown(&self.shared.listener, rustix::net::Shutdown::Both).ok();
        let acceptor = lock(&self.shared.open).acceptor.take();
        if let Some(acceptor) = acceptor {
            acceptor.join().ok();
        }
        let connections = std::mem::take(&mut lock(&self.shared.open).connections);
        for connection in connections {
            for stream in lock(&connection.streams).iter() {
                stream.shutdown(Shutdown::Both).ok();
            }
            connection.thread.join().ok();
        }
    }
}

impl Shared {
    fn accept(self: Arc<Self>) {
        while let Ok((client, _)) = self.listener.accept() {
            let number = self.accepted.fetch_add(1, Ordering::SeqCst) + 1;
            let actions = lock(&self.at_connection).remove(&number);
            for action in actions.into_iter().flatten() {
                action();
            }
            let mut open = lock(&self.open);
            open.connections
                .retain(|connection| !connection.thread.is_finished());
            if open.connections.len() >= CONNECTIONS_MAX {
                continue;
            }
            let streams = Arc::new(Mutex::new(Vec::new()));
            let (shared, ours) = (Arc::clone(&self), Arc::clone(&streams));
            let thread = std::thread::Builder::new()
                .name("proxy connection".to_owned())
                .spawn(move || {
                    // Without a service, the client is told by the end of it.
                    shared.carry(&client, &ours).ok();
                    lock(&ours).clear();
                });
            if let Ok(thread) = thread {
                open.connections.push(Connection { thread, streams });
            }
        }
    }

    fn carry(&self, client: &TcpStream, streams: &Mutex<Vec<TcpStream>>) -> io::Result<()> {
        lock(streams).push(client.try_clone()?);
        self.pass();
        let service = self.connect()?;
        client.set_nodelay(true)?;
        service.set_nodelay(true)?;
        {
            let mut streams = lock(streams);
            if lock(&self.weather).stopped {
                return Ok(());
            }
            streams.push(service.try_clone()?);
        }
        std::thread::scope(|scope| {
            scope.spawn(|| self.pump(client, &service, false));
            self.pump(&service, client, true);
        });
        Ok(())
    }

    /// The address may be another one after each start of the service.
    fn connect(&self) -> io::Result<TcpStream> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let inner = self.inner.upgrade().ok_or_else(gone)?;
        let address = inner
            .endpoints()
            .get(&self.endpoint)
            .and_then(|endpoint| endpoint.address.clone());
        match address {
            Some(Address::Tcp(address)) => inner.connect(address, CONNECT_LIMIT),
            _ => Err(gone()),
        }
    }

    /// Copies one direction until its end.
    fn pump(&self, mut from: &TcpStream, mut to: &TcpStream, from_service: bool) {
        let mut buffer = vec![0; 64 << 10];
        let mut lost = false;
        loop {
            let length = match from.read(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => 0,
            };
            if length > 0 {
                self.pass();
                if !lost && to.write_all(&buffer[..length]).is_err() {
                    if from_service || !self.hides_the_end() {
                        break;
                    }
                    // Read on, as a network would that has lost the peer.
                    lost = true;
                }
                continue;
            }
            self.pass();
            if from_service {
                self.wait_while_hidden();
            }
            break;
        }
        to.shutdown(Shutdown::Write).ok();
    }

    /// Waits as long as bytes are held back.
    fn pass(&self) {
        let mut weather = lock(&self.weather);
        if let Some((time, flag)) = &weather.latency {
            flag.store(true, Ordering::SeqCst);
            let deadline = Instant::now() + *time;
            while !weather.stopped {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                let waited = self.changed.wait_timeout(weather, left);
                weather = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        while let (Some(flag), false) = (&weather.partition, weather.stopped) {
            flag.store(true, Ordering::SeqCst);
            let waited = self.changed.wait(weather);
            weather = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn hides_the_end(&self) -> bool {
        let weather = lock(&self.weather);
        if let Some(flag) = &weather.half_open {
            flag.store(true, Ordering::SeqCst);
        }
        weather.half_open.is_some()
    }

    fn wait_while_hidden(&self) {
        let mut weather = lock(&self.weather);
        while let (Some(flag), false) = (&weather.half_open, weather.stopped) {
            flag.store(true, Ordering::SeqCst);
            let waited = self.changed.wait(weather);
            weather = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
