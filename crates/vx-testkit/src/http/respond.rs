//! One connection: a request, and an answer that is right or wrong as planned.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use super::wire::Wire;
use super::{HttpFault, Planned, Recorded, Shared, State};

/// A stalled answer waits for its release, or for the end of the fixture.
const FOREVER: Duration = Duration::from_secs(24 * 3600);
/// What is written at once where nothing else is said.
const PIECE: usize = 1 << 16;

pub(super) fn serve(mut stream: Wire, shared: &Shared) -> io::Result<()> {
    let mut request = Recorded::read(&mut stream)?;
    let (index, content) = {
        let mut state = shared.state();
        request.fault = next_fault(&mut state, &request.path);
        let content = state.files.get(&request.path).map(Arc::clone);
        state.requests.push(request.clone());
        (state.requests.len() - 1, content)
    };
    let mut answer = Answer {
        stream: &mut stream,
        shared,
        index,
    };
    answer.give(&request, content.as_deref())?;
    let broken_off = matches!(
        request.fault,
        Some(HttpFault::HangUp | HttpFault::Truncated { .. })
    );
    stream.finish(broken_off)
}

fn next_fault(state: &mut State, path: &str) -> Option<HttpFault> {
    let planned = state.faults.get_mut(path)?;
    let due = |planned: &&mut Planned| planned.left != Some(0);
    let planned = planned.iter_mut().find(due)?;
    planned.fired += 1;
    planned.left = planned.left.map(|left| left - 1);
    Some(planned.fault.clone())
}

struct Answer<'a> {
    stream: &'a mut Wire,
    shared: &'a Shared,
    index: usize,
}

impl Answer<'_> {
    fn give(&mut self, request: &Recorded, content: Option<&[u8]>) -> io::Result<()> {
        match &request.fault {
            Some(HttpFault::HangUp) => return Ok(()),
            Some(HttpFault::Garbage) => {
                return self.stream.write_all(b"250 ready when you are\r\n");
            }
            Some(HttpFault::Status(status)) => {
                return self.head(*status, &[("content-length", "0")]);
            }
            Some(HttpFault::Unavailable { retry_after }) => {
                let seconds = retry_after.to_string();
                return self.head(503, &[("content-length", "0"), ("retry-after", &seconds)]);
            }
            Some(HttpFault::RedirectLoop) => return self.redirect(&request.path),
            Some(HttpFault::Redirect(target)) => return self.redirect(target),
            _ => {}
        }
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return self.head(405, &[("content-length", "0")]);
        }
        match content {
            Some(content) => self.file(request, content),
            None => self.head(404, &[("content-length", "0")]),
        }
    }

    fn redirect(&mut self, target: &str) -> io::Result<()> {
        self.head(302, &[("content-length", "0"), ("location", target)])
    }

    fn file(&mut self, request: &Recorded, content: &[u8]) -> io::Result<()> {
        let fault = request.fault.as_ref();
        let asked = match fault {
            Some(HttpFault::NoRanges) => None,
            _ => request.range_start(),
        };
        let total = content.len();
        let (status, start) = match asked {
            Some(start) if start >= total => {
                let range = format!("bytes */{total}");
                return self.head(416, &[("content-length", "0"), ("content-range", &range)]);
            }
            Some(_) if fault == Some(&HttpFault::WrongRange) => (206, 0),
            Some(start) => (206, start),
            None => (200, 0),
        };
        let wrong: Vec<u8>;
        let mut body = &content[start..];
        if fault == Some(&HttpFault::WrongBytes) {
            wrong = body.iter().map(|byte| !byte).collect();
            body = &wrong;
        }
        let length = match fault {
            Some(HttpFault::WrongLength { announced }) => *announced,
            _ => body.len() as u64,
        };
        let length = length.to_string();
        let range = format!("bytes {start}-{}/{total}", total.saturating_sub(1));
        let mut headers = vec![("accept-ranges", "bytes")];
        if !matches!(fault, Some(HttpFault::TruncatedUnnoticed { .. })) {
            headers.push(("content-length", &length));
        }
        if status == 206 {
            headers.push(("content-range", &range));
        }
        self.head(status, &headers)?;
        if request.method == "HEAD" {
            return Ok(());
        }
        match fault {
            Some(HttpFault::Truncated { after } | HttpFault::TruncatedUnnoticed { after }) => {
                self.send(&body[..body.len().min(*after)])
            }
            Some(HttpFault::Stall { after }) => {
                let (first, rest) = body.split_at(body.len().min(*after));
                // Before the client can see anything, so that no release is missed.
                let released = self.shared.state().released;
                self.send(first)?;
                let let_go = |state: &State| state.released > released;
                if !self.shared.wait(FOREVER, let_go) {
                    return Ok(());
                }
                self.send(rest)
            }
            Some(HttpFault::Slow { piece, pause }) => {
                for piece in body.chunks((*piece).max(1)) {
                    self.send(piece)?;
                    // Only the end of the fixture cuts the pause short.
                    self.shared.wait(*pause, |state| state.closing);
                }
                Ok(())
            }
            _ => self.send(body),
        }
    }

    fn head(&mut self, status: u16, headers: &[(&str, &str)]) -> io::Result<()> {
        let mut head = format!(
            "HTTP/1.1 {status} {}\r\nconnection: close\r\n",
            reason(status)
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        self.record(|request| request.status = status);
        self.stream.write_all(head.as_bytes())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE) {
            self.stream.write_all(piece)?;
            self.record(|request| request.sent += piece.len() as u64);
        }
        Ok(())
    }

    fn record(&self, change: impl FnOnce(&mut Recorded)) {
        if let Some(request) = self.shared.state().requests.get_mut(self.index) {
            change(request);
        }
        self.shared.changed.notify_all();
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        302 => "Found",
        404 => "Not Found",
        416 => "Range Not Satisfiable",
        503 => "Service Unavailable",
        _ => "Whatever",
    }
}
