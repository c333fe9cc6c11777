//! The parts that the test program plays: a client, a daemon, and those of the naive
//! algorithm and of squatters.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use daemon_lifecycle::{
    Connection, Daemon, Ensure, IdentifiedProcess, Instance, Listener, StartLock, Step,
};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use crate::kit::{
    CLIENT_FAULT, DAEMON_FAULT, DEADLINE, FOLDER, PATIENCE, ROLE, instance, publish, spec,
};
use crate::{naive, ordinary};

#[test]
fn role() {
    let Ok(role) = env::var(ROLE) else {
        return;
    };
    let folder = PathBuf::from(env::var_os(FOLDER).unwrap());
    match role.as_str() {
        "client" => client(&folder),
        "gated_client" => {
            // All begin when the test lets go of this lock.
            let deadline = Instant::now() + PATIENCE;
            drop(StartLock::acquire(folder.join("gate"), deadline).unwrap());
            client(&folder);
        }
        "frugal_client" => ordinary::frugal_client(&folder),
        "daemon" => daemon(&folder),
        "naive_client" => naive::client(&folder),
        "naive_daemon" => naive::daemon(&folder),
        "squatter" => squatter(),
        "broken" => broken(&folder),
        other => panic!("no such role: {other}"),
    }
}

/// Does to this process at a step what the variable `name` says.
pub(crate) fn fault(name: &str) -> impl Fn(&str) + use<> {
    let fault = env::var(name).unwrap_or_default();
    move |step| {
        let signal = match fault.split_once(':') {
            Some((at, "Kill")) if at == step => libc::SIGKILL,
            Some((at, "Stop")) if at == step => libc::SIGSTOP,
            _ => return,
        };
        // To this thread: a signal to the process may be taken by another one, and
        // this one would go on for a while.
        // SAFETY: takes a number.
        assert_eq!(unsafe { libc::raise(signal) }, 0);
    }
}

fn name_of(step: &Step) -> String {
    let text = format!("{step:?}");
    text.split('(').next().unwrap().to_owned()
}

pub(crate) fn say_error(folder: &Path, text: &str) -> ! {
    let file = folder.join(format!("errors/{}", std::process::id()));
    publish(file, text);
    std::process::exit(1);
}

fn deadline() -> Duration {
    env::var(DEADLINE).map_or(PATIENCE, |ms| Duration::from_millis(ms.parse().unwrap()))
}

/// Connects or starts, asks, and takes nothing but a complete answer.
fn client(folder: &Path) {
    let fault = fault(CLIENT_FAULT);
    let observer = |step: Step| fault(&name_of(&step));
    let instance = instance(folder);
    let spec = spec(folder);
    let until = Instant::now() + deadline();
    loop {
        let ensured = Ensure::new(&instance, &spec)
            .deadline(until)
            .observe(&observer)
            .run();
        let connection = match ensured {
            Ok(ensured) => ensured.connection,
            Err(error) => say_error(folder, &chain(&error)),
        };
        let Connection::Unix(stream) = connection else {
            panic!("not a Unix socket");
        };
        match ask(stream, "who", until) {
            Ok(pid) => {
                publish(folder.join(format!("answers/{}", std::process::id())), &pid);
                return;
            }
            // Not admitted: it left before it read anything.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => say_error(folder, &format!("no answer: {error}")),
        }
    }
}

pub(crate) fn ask(mut stream: UnixStream, what: &str, until: Instant) -> io::Result<String> {
    let left = until.saturating_duration_since(Instant::now());
    stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
    writeln!(stream, "{what}")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    match text.strip_suffix("end\n") {
        Some(answer) => Ok(answer.trim().to_owned()),
        None if text.is_empty() => Err(io::ErrorKind::ConnectionReset.into()),
        None => Err(io::Error::other(format!("a truncated answer: {text:?}"))),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

pub(crate) fn served(folder: &Path) {
    let pid = std::process::id();
    let identity = IdentifiedProcess::identity_of(pid).unwrap();
    let text = serde_json::to_string(&identity).unwrap();
    publish(folder.join(format!("served/{pid}")), &text);
}

/// Answers each line with its pid; leaves when a line says so.
fn daemon(folder: &Path) {
    let fault = fault(DAEMON_FAULT);
    let observer = move |step: Step| fault(&name_of(&step));
    let instance = match Instance::inherited() {
        Some(told) => {
            assert_eq!(told, instance(folder), "told another one");
            told
        }
        // By hand, or by a service manager.
        None => instance(folder),
    };
    let (mut daemon, listener) = Daemon::begin_observed(&instance, None, &observer).unwrap();
    served(folder);
    daemon.ready();
    let Listener::Unix(listener) = listener else {
        // Of the port, only the listener is looked at.
        loop {
            thread::park();
        }
    };
    let leave = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
    listener.set_nonblocking(true).unwrap();
    loop {
        let mut fds = [
            PollFd::new(&listener, PollFlags::IN),
            PollFd::new(&*leave, PollFlags::IN),
        ];
        poll(&mut fds, None).unwrap();
        if fds[1].revents().contains(PollFlags::IN) {
            break;
        }
        if let Ok((stream, _)) = listener.accept() {
            let leave = Arc::clone(&leave);
            thread::spawn(move || serve(stream, &leave));
        }
    }
    let leaving = daemon.leave();
    // Who had connected is told at once, by a reset, that nothing happened.
    while listener.accept().is_ok() {}
    drop(listener);
    leaving.finish();
}

fn serve(stream: UnixStream, leave: &OwnedFd) {
    stream.set_nonblocking(false).unwrap();
    let mut line = String::new();
    // Clients may leave at any time.
    if BufReader::new(&stream).read_line(&mut line).is_err() || line.is_empty() {
        return;
    }
    // At once, so that the end of the process cannot cut it in two.
    let answer = format!("{}\nend\n", std::process::id());
    let _sent = (&stream).write_all(answer.as_bytes());
    // The answer is complete with the end of the stream.
    drop(stream);
    if line == "leave\n" {
        rustix::io::write(leave, &1_u64.to_ne_bytes()).unwrap();
    }
}

/// A daemon that cannot serve, and says why.
#[expect(clippy::print_stderr, reason = "its log")]
fn broken(folder: &Path) {
    let instance = instance(folder);
    let (daemon, _listener) = Daemon::begin(&instance, None).unwrap();
    eprintln!("read 3 of 4 tables");
    daemon.failed(&io::Error::other("the index has a hole"));
    std::process::exit(7);
}

/// Listens where a variable says, for whoever comes.
fn squatter() {
    let path = env::var_os("SQUAT_AT").unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    publish(PathBuf::from(env::var_os("SQUAT_READY").unwrap()), "");
    for stream in listener.incoming() {
        let mut text = String::new();
        let _read = BufReader::new(stream.unwrap()).read_line(&mut text);
        if !text.is_empty() {
            fs::write(Path::new(&path).with_extension("stolen"), text).unwrap();
        }
    }
}
