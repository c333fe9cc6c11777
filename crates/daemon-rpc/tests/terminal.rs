//! A tool in front of a person: a process on a terminal of its own, with its window
//! and its Ctrl+C.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod place;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use place::{PATIENCE, Place, signal};
use rustix::process::{Signal, ioctl_tiocsctty, setsid};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A terminal, and the process that it belongs to.
struct Terminal {
    screen: OwnedFd,
    keyboard: File,
    shown: Receiver<Vec<u8>>,
    text: String,
    child: Child,
    /// Keeps the terminal when its process has ended.
    _theirs: OwnedFd,
}

impl Terminal {
    /// Runs the program of this place on a terminal of this many columns.
    fn run(place: &Place, columns: u16) -> Terminal {
        let screen =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let theirs = ioctl_tiocgptpeer(
            &screen,
            OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
        )
        .unwrap();
        resize(&screen, columns);
        let mut command = place.command(&[]);
        let end = || Stdio::from(theirs.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: two system calls, and no memory is touched.
        unsafe {
            command.pre_exec(|| {
                setsid()?;
                ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        let (show, shown) = channel();
        let mut output = File::from(screen.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error is the end: nobody has the terminal open any more.
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                if show.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal {
            keyboard: screen.try_clone().unwrap().into(),
            screen,
            shown,
            text: String::new(),
            child,
            _theirs: theirs,
        }
    }

    /// Waits until this is on the screen, and forgets what came up to then.
    fn expect(&mut self, wanted: &str) {
        let began = Instant::now();
        loop {
            if let Some(at) = self.text.find(wanted) {
                self.text.drain(..at + wanted.len());
                return;
            }
            let left = PATIENCE.saturating_sub(began.elapsed());
            match self.shown.recv_timeout(left) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => panic!("`{wanted}` does not come ({error}): {:?}", self.text),
            }
        }
    }

    fn press_ctrl_c(&mut self) {
        self.keyboard.write_all(&[3]).unwrap();
    }

    fn end(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

fn resize(screen: &OwnedFd, columns: u16) {
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(screen, size).unwrap();
}

/// Both ways of the program: with its daemon and without.
fn places() -> [Place; 2] {
    let mut without = Place::new("ruler");
    without.set("RULER_DAEMON", "0");
    [Place::new("ruler"), without]
}

#[test]
fn the_window_and_its_changes_reach_the_command() {
    for place in places() {
        let mut terminal = Terminal::run(&place, 20);
        terminal.expect(&format!("20 {}\r\n", "─".repeat(17)));
        for columns in [33, 7, 120] {
            resize(&terminal.screen, columns);
            terminal.expect(&format!("{columns} ─"));
        }
        // The window is closed.
        signal(terminal.child.id(), Signal::HUP);
        assert_eq!(terminal.end().signal(), Some(1));
    }
}

#[test]
fn the_first_ctrl_c_asks_and_the_second_does_not() {
    for place in places() {
        let mut terminal = Terminal::run(&place, 20);
        terminal.expect("20 ");
        terminal.press_ctrl_c();
        terminal.expect("once more to end this\r\n");
        // It still runs.
        resize(&terminal.screen, 21);
        terminal.expect("21 ");
        terminal.press_ctrl_c();
        assert_eq!(terminal.end().signal(), Some(2));
    }
}

/// Whether all threads of the process are stopped (state `T` of proc(5)).
fn is_stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('T'))
    })
}

#[test]
fn the_third_ctrl_c_leaves_whatever_the_daemon_does() {
    let place = Place::new("ruler");
    let mut terminal = Terminal::run(&place, 20);
    terminal.expect("20 ");
    let daemon = place.daemons()[0].0;
    signal(daemon, Signal::STOP);
    place.wait_until(|| is_stopped(daemon));
    // Two signals that come at once are one, so there may be more than three.
    let (began, mut pressed) = (Instant::now(), 0);
    while terminal.child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < PATIENCE, "it stays");
        terminal.press_ctrl_c();
        pressed += 1;
        terminal.expect("^C");
    }
    assert!(pressed >= 3, "{pressed}");
    assert_eq!(terminal.end().signal(), Some(2));
    // The daemon learns of it when it goes on.
    signal(daemon, Signal::CONT);
    let mut next = Terminal::run(&place, 30);
    next.expect("30 ─");
    assert_eq!(place.daemons()[0].0, daemon);
    signal(next.child.id(), Signal::HUP);
    assert_eq!(next.end().signal(), Some(1));
}
