//! The fixture server does what it was told, and tells what it did.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use vx_testkit::{HttpFault, HttpFixture};

const LIMIT: Duration = Duration::from_secs(30);

fn connect(server: &HttpFixture, path: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// The status line and the content.
fn get(server: &HttpFixture, path: &str, headers: &str) -> (String, String) {
    let mut answer = Vec::new();
    connect(server, path, headers)
        .read_to_end(&mut answer)
        .unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) => (head.to_owned(), body.to_owned()),
        None => (answer, String::new()),
    }
}

#[test]
fn files_and_ranges_are_served_and_recorded() {
    let server = HttpFixture::start();
    server.file("/a", "0123456789");
    let (head, body) = get(&server, "/a", "");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(head.contains("content-length: 10"), "{head}");
    assert_eq!(body, "0123456789");
    let (head, body) = get(&server, "/a", "Range: bytes=7-\r\n");
    assert!(head.contains("content-range: bytes 7-9/10"), "{head}");
    assert_eq!(body, "789");
    assert!(
        get(&server, "/a", "Range: bytes=10-\r\n")
            .0
            .contains(" 416 ")
    );
    assert!(get(&server, "/b", "").0.contains(" 404 "));
    server.assert_requests("/a", 3);
    let requests = server.requests();
    let statuses: Vec<u16> = requests.iter().map(|request| request.status).collect();
    assert_eq!(statuses, [200, 206, 416, 404]);
    assert_eq!(requests[1].header("range"), Some("bytes=7-"));
    assert_eq!(requests[1].sent, 3);
}

#[test]
fn faults_come_in_their_order_and_as_often_as_planned() {
    let server = HttpFixture::start();
    server
        .file("/a", "content")
        .fault_times("/a", 2, HttpFault::Status(503))
        .fault_times("/a", 1, HttpFault::Truncated { after: 3 });
    assert!(get(&server, "/a", "").0.contains(" 503 "));
    assert!(get(&server, "/a", "").0.contains(" 503 "));
    assert_eq!(get(&server, "/a", "").1, "con");
    assert_eq!(get(&server, "/a", "").1, "content");
}

#[test]
fn each_fault_is_what_its_name_says() {
    let server = HttpFixture::start();
    server.file("/a", "content");
    let answer = |fault: HttpFault, headers: &str| {
        server.fault_times("/a", 1, fault);
        get(&server, "/a", headers)
    };
    assert_ne!(answer(HttpFault::WrongBytes, "").1, "content");
    let (head, body) = answer(HttpFault::WrongLength { announced: 3 }, "");
    assert!(head.contains("content-length: 3") && body == "content");
    let (head, body) = answer(HttpFault::TruncatedUnnoticed { after: 3 }, "");
    assert!(!head.contains("content-length") && body == "con");
    assert_eq!(
        answer(HttpFault::NoRanges, "Range: bytes=3-\r\n").1,
        "content"
    );
    let (head, _) = answer(HttpFault::WrongRange, "Range: bytes=3-\r\n");
    assert!(head.contains("content-range: bytes 0-6/7"), "{head}");
    assert!(
        answer(HttpFault::RedirectLoop, "")
            .0
            .contains("location: /a")
    );
    assert!(
        answer(HttpFault::Redirect("/b".into()), "")
            .0
            .contains("location: /b")
    );
    assert!(
        answer(HttpFault::Unavailable { retry_after: 7 }, "")
            .0
            .contains("retry-after: 7")
    );
    assert_eq!(answer(HttpFault::HangUp, "").0, "");
    assert!(answer(HttpFault::Garbage, "").0.starts_with("250 ready"));
    let slow = HttpFault::Slow {
        piece: 3,
        pause: Duration::from_millis(5),
    };
    let started = Instant::now();
    assert_eq!(answer(slow, "").1, "content");
    assert!(started.elapsed() >= Duration::from_millis(15));
}

#[test]
fn a_stalled_answer_goes_on_when_it_is_released() {
    let server = HttpFixture::start();
    server
        .file("/a", "content")
        .fault_times("/a", 1, HttpFault::Stall { after: 3 });
    let mut stream = connect(&server, "/a", "");
    server.wait_until_sent("/a", 3, LIMIT);
    assert_eq!(server.requests()[0].sent, 3);
    server.release();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("content"), "{answer}");
}

#[test]
fn the_end_of_the_fixture_cuts_what_stalls() {
    let server = HttpFixture::start();
    server
        .file("/a", "content")
        .fault("/a", HttpFault::Stall { after: 3 });
    let mut stream = connect(&server, "/a", "");
    server.wait_until_sent("/a", 3, LIMIT);
    drop(server);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok();
    assert!(!answer.ends_with("content"), "{answer}");
}

#[test]
fn a_fault_that_never_happens_fails_the_test() {
    let server = HttpFixture::start();
    server
        .file("/a", "")
        .fault_times("/a", 2, HttpFault::Status(503));
    get(&server, "/a", "");
    let panic = catch_unwind(AssertUnwindSafe(|| drop(server))).unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("`/a`: Status(503)"), "{text}");
}
