//! The examples as a newcomer runs them: whole processes, with their own daemons.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod place;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use place::{Place, outcome, signal};
use rustix::process::Signal;

#[test]
fn wordcount_counts_files_and_its_input() {
    let place = Place::new("wordcount");
    place.write("one.txt", "a few words\n");
    place.write("two.txt", "  and\tsome more\nhere");
    assert_eq!(
        place.run(&["one.txt", "two.txt"], ""),
        (0, "3 one.txt\n4 two.txt\n".to_owned(), String::new())
    );
    let long = "word ".repeat(400_000);
    assert_eq!(
        place.run(&[], &long),
        (0, "400000\n".to_owned(), String::new())
    );
    let (code, stdout, stderr) = place.run(&["one.txt", "missing.txt"], "");
    assert_eq!((code, stdout.as_str()), (1, "3 one.txt\n"));
    assert_eq!(
        stderr,
        "wordcount: the command failed: No such file or directory (os error 2)\n"
    );
    // All that was one daemon.
    assert_eq!(place.daemons().len(), 1);
}

#[test]
fn a_daemon_can_be_asked_about_and_stopped() {
    let place = Place::new("wordcount");
    assert_eq!(
        place.run(&["--status"], ""),
        (3, "not running\n".to_owned(), String::new())
    );
    assert_eq!(place.run(&["--stop"], "").0, 0);
    assert!(place.daemons().is_empty(), "asking started one");
    place.run(&[], "words");
    let (pid, _) = place.daemons()[0];
    let (code, status, _) = place.run(&["--status"], "");
    assert_eq!(code, 0);
    let expected = format!("wordcount 0.1.0 (protocol 1, pid {pid}), build ");
    assert!(status.starts_with(&expected), "{status}");
    assert_eq!(
        place.run(&["--stop"], ""),
        (0, format!("stopped the process {pid}\n"), String::new())
    );
    place.wait_until_gone();
    assert_eq!(place.run(&["--status"], "").0, 3);
    assert!(!place.socket().exists());
}

#[test]
fn without_a_daemon_everything_is_the_same() {
    let mut place = Place::new("wordcount");
    place.set("WORDCOUNT_DAEMON", "0");
    place.write("one.txt", "a few words\n");
    assert_eq!(
        place.run(&["one.txt"], ""),
        (0, "3 one.txt\n".to_owned(), String::new())
    );
    assert_eq!(place.run(&[], "two words").1, "2\n");
    assert_eq!(place.run(&["missing.txt"], "").0, 1);
    assert!(place.daemons().is_empty());
}

#[test]
fn the_output_of_a_first_run_ends_with_it() {
    // A daemon that kept the pipe would keep its reader.
    let place = Place::new("wordcount");
    let mut child = place
        .command(&[])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let mut pipe = child.stdout.take().unwrap();
    pipe.read_to_string(&mut stdout).unwrap();
    let mut pipe = child.stderr.take().unwrap();
    pipe.read_to_string(&mut stderr).unwrap();
    assert_eq!((stdout.as_str(), stderr.as_str()), ("0\n", ""));
    assert!(child.wait().unwrap().success());
    assert_eq!(place.daemons().len(), 1);
}

#[test]
fn many_first_runs_at_once_share_one_daemon() {
    let place = Place::new("wordcount");
    let children: Vec<_> = (0..12)
        .map(|number| {
            let mut child = place
                .command(&[])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = child.stdin.take().unwrap();
            write!(stdin, "{}", "word ".repeat(number)).unwrap();
            child
        })
        .collect();
    for (number, child) in children.into_iter().enumerate() {
        let (code, stdout, stderr) = outcome(&child.wait_with_output().unwrap());
        assert_eq!((code, stderr.as_str()), (0, ""));
        assert_eq!(stdout, format!("{number}\n"));
    }
    assert_eq!(place.daemons().len(), 1);
}

#[test]
fn primes_shows_progress_and_remembers() {
    let place = Place::new("primes");
    let (code, stdout, stderr) = place.run(&["100000"], "");
    assert_eq!((code, stdout.as_str()), (0, "9592\n"));
    assert!(stderr.ends_with("100 %\n"), "{stderr}");
    // The second time it is known.
    let again = place.run(&["100000"], "");
    assert_eq!(again, (0, "9592\n".to_owned(), String::new()));
    assert_eq!(place.run(&["2"], "").1, "0\n");
    assert_eq!(place.run(&["3"], "").1, "1\n");
    let usage = (64, String::new(), "usage: primes N\n".to_owned());
    assert_eq!(place.run(&["many"], ""), usage);
}

/// Signals the client in the middle of a computation; what became of it, and what
/// it said to the end.
fn interrupted(place: &Place) -> (std::process::ExitStatus, String) {
    let mut child = place
        .command(&["18446744073709551615"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    // It has begun.
    stderr.read_line(&mut said).unwrap();
    assert_eq!(said, "0 %\n");
    signal(child.id(), Signal::INT);
    stderr.read_to_string(&mut said).unwrap();
    (child.wait().unwrap(), said)
}

#[test]
fn ctrl_c_ends_the_computation_and_the_process_as_shells_expect_it() {
    for in_process in [false, true] {
        let mut place = Place::new("primes");
        if in_process {
            place.set("PRIMES_DAEMON", "0");
        }
        let (status, said) = interrupted(&place);
        assert_eq!(status.signal(), Some(2), "{status:?}");
        assert!(said.contains("stopped at "), "{said}");
    }
}

#[test]
fn a_reader_that_leaves_ends_the_process_as_a_pipe_does() {
    let place = Place::new("wordcount");
    let mut child = place
        .command(&[])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all(b"words").unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(13), "{status:?}");
}

#[test]
fn a_daemon_that_is_killed_is_never_a_success_and_the_next_run_has_another() {
    let place = Place::new("primes");
    let mut child = place
        .command(&["18446744073709551615"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    let (pid, _) = place.daemons()[0];
    signal(pid, Signal::KILL);
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(70));
    assert!(
        said.ends_with(
            "primes: the command was interrupted: \
             the server went away before the command ended\n"
        ),
        "{said}"
    );
    assert_eq!(place.run(&["100"], "").1, "25\n");
    place.wait_until(|| place.daemons().len() == 1);
    assert_ne!(place.daemons()[0].0, pid);
}

#[test]
fn another_build_takes_the_place_of_a_daemon_when_that_has_finished() {
    let place = Place::new("primes");
    let mut busy = place
        .command(&["18446744073709551615"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(busy.stderr.take().unwrap());
    stderr.read_line(&mut String::new()).unwrap();
    let (old, _) = place.daemons()[0];

    let other = place.other_build();
    let next = place
        .command_of(&other, &["100"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It waits for what runs: the old one lets nobody in any more, and works on.
    place.wait_until(|| place.run(&["--nothing"], "").0 == 64 && place.is_draining());
    assert!(busy.try_wait().unwrap().is_none());
    signal(busy.id(), Signal::INT);
    assert_eq!(busy.wait().unwrap().signal(), Some(2));
    let (code, stdout, _) = outcome(&next.wait_with_output().unwrap());
    assert_eq!((code, stdout.as_str()), (0, "25\n"));
    // The old one closes its socket a moment before its process is gone.
    place.wait_until(|| place.daemons().len() == 1);
    let daemons = place.daemons();
    assert_ne!(daemons[0].0, old);
    // The daemon of the other build is another program, and stays.
    assert_eq!(daemons[0].1, other);
    let again = place.command_of(&other, &["100"]).output().unwrap();
    assert_eq!(outcome(&again).0, 0);
    assert_eq!(place.daemons(), daemons);
}
