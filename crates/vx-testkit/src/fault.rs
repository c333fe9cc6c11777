//! Faults that a test injects, and the rule that each of them has to fire: a
//! fault that never struck makes a green test that proves nothing.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::env::{Inner, TestEnv};
use crate::lifeline::sweep::readable;
use crate::proxy::Proxy;
use crate::wait::wait_until;

/// A signal for a service at a certain moment; made by [`kill`](Fault::kill),
/// [`freeze`](Fault::freeze) or [`thaw`](Fault::thaw) and armed by
/// [`TestEnv::inject`].
#[derive(Clone, Debug)]
#[must_use = "a fault does nothing until it is injected"]
pub struct Fault {
    service: String,
    signal: i32,
    moment: Moment,
}

#[derive(Clone, Debug)]
enum Moment {
    Now,
    LogLine { log: String, text: String },
    Connection { proxy: Proxy, number: usize },
}

impl Fault {
    /// Kills the service of that name with SIGKILL.
    pub fn kill(service: impl Into<String>) -> Fault {
        Fault::signal(service, libc::SIGKILL)
    }

    /// Stops it with SIGSTOP: it keeps its sockets and answers nobody.
    pub fn freeze(service: impl Into<String>) -> Fault {
        Fault::signal(service, libc::SIGSTOP)
    }

    /// Lets a frozen one go on.
    pub fn thaw(service: impl Into<String>) -> Fault {
        Fault::signal(service, libc::SIGCONT)
    }

    fn signal(service: impl Into<String>, signal: i32) -> Fault {
        Fault {
            service: service.into(),
            signal,
            moment: Moment::Now,
        }
    }

    /// As soon as its log has a line with this text, written after the fault was
    /// injected; the service need not have been started by then.
    pub fn at_log_line(self, text: impl Into<String>) -> Fault {
        let log = self.service.clone();
        self.at_log_line_of(log, text)
    }

    /// As soon as the log of another service has such a line.
    pub fn at_log_line_of(mut self, service: impl Into<String>, text: impl Into<String>) -> Fault {
        self.moment = Moment::LogLine {
            log: service.into(),
            text: text.into(),
        };
        self
    }

    /// When the proxy gets its connection of this number, counted from 1 on since
    /// the proxy was made, and before the service gets it.
    pub fn at_connection(mut self, proxy: &Proxy, number: usize) -> Fault {
        self.moment = Moment::Connection {
            proxy: proxy.clone(),
            number,
        };
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.signal {
            libc::SIGKILL => "kill",
            libc::SIGSTOP => "freeze",
            _ => "thaw",
        };
        write!(f, "{verb} service `{}`", self.service)?;
        match &self.moment {
            Moment::Now => Ok(()),
            Moment::LogLine { log, text } => write!(f, " when `{log}` logs `{text}`"),
            Moment::Connection { number, .. } => write!(f, " at connection {number}"),
        }
    }
}

/// A fault that was injected. If it has not fired when the environment ends,
/// the test fails.
#[derive(Clone)]
pub struct Injected {
    what: Arc<str>,
    look: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Injected({})", self.what)
    }
}

impl Injected {
    /// `look` says whether it has fired; once it has, it has for ever.
    pub(crate) fn new(what: String, look: impl Fn() -> bool + Send + Sync + 'static) -> Injected {
        let fired = AtomicBool::new(false);
        Injected {
            what: what.into(),
            look: Arc::new(move || {
                if !fired.load(Ordering::SeqCst) && look() {
                    fired.store(true, Ordering::SeqCst);
                }
                fired.load(Ordering::SeqCst)
            }),
        }
    }

    /// Whether it has struck.
    #[must_use]
    pub fn has_fired(&self) -> bool {
        (self.look)()
    }

    /// Waits until it has struck.
    ///
    /// # Panics
    /// If it has not within the limit.
    #[track_caller]
    pub fn wait(&self, limit: Duration) {
        let what = format!("fault: {}", self.what);
        wait_until(&what, limit, || {
            if self.has_fired() {
                Ok(())
            } else {
                Err("it has not fired".to_owned())
            }
        });
    }
}

impl Inner {
    /// From now on the fault has to fire.
    pub(crate) fn expect_fault(&self, fault: &Injected) {
        self.faults().push(fault.clone());
    }

    /// The faults that have not fired.
    pub(crate) fn inert_faults(&self) -> Vec<String> {
        let faults = self.faults().clone();
        faults
            .iter()
            .filter(|fault| !fault.has_fired())
            .map(|fault| fault.what.to_string())
            .collect()
    }

    /// Lets the helper strike, now or at a line.
    fn strike(&self, fault: &Fault, line: Option<(String, String)>) -> io::Result<Struck> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        self.helper
            .strike(&fault.service, fault.signal, line, writer.as_fd())?;
        // A byte says that it struck, the end of file that it never will.
        Ok(Box::new(move || {
            readable(&reader, Some(Instant::now())).unwrap_or(false)
                && matches!(rustix::io::read(&reader, &mut [0; 1]), Ok(1))
        }))
    }
}

type Struck = Box<dyn Fn() -> bool + Send + Sync>;

impl TestEnv {
    /// Injects a fault. Unless it has fired when the environment ends, the test
    /// fails: a fault that did not strike proves nothing.
    ///
    /// # Panics
    /// If a fault without a later moment finds no such service.
    #[track_caller]
    pub fn inject(&self, fault: Fault) -> Injected {
        let what = fault.to_string();
        let struck = match &fault.moment {
            Moment::Now => self.inner.strike(&fault, None),
            Moment::LogLine { log, text } => {
                let line = Some((log.clone(), text.clone()));
                self.inner.strike(&fault, line)
            }
            Moment::Connection { proxy, number } => {
                let struck = Arc::new(std::sync::OnceLock::<Struck>::new());
                let (seen, inner) = (Arc::clone(&struck), Arc::downgrade(&self.inner));
                let fault = fault.clone();
                proxy.at_connection(*number, move || {
                    if let Some(inner) = inner.upgrade()
                        && let Ok(struck) = inner.strike(&fault, None)
                    {
                        seen.set(struck).ok();
                    }
                });
                Ok(Box::new(move || struck.get().is_some_and(|look| look())) as Struck)
            }
        };
        match struck {
            Ok(struck) => {
                let injected = Injected::new(what, struck);
                self.inner.expect_fault(&injected);
                injected
            }
            Err(error) => panic!("failed to {what}: {error}"),
        }
    }
}
