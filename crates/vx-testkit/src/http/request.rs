//! A request as it was received.

use std::io::{self, BufRead, BufReader, Read};

use super::HttpFault;

/// A request line with its headers is not longer than this.
const HEAD_MAX: u64 = 64 << 10;

/// A request that the fixture has received, and what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recorded {
    /// `GET`, `HEAD` or something else.
    pub method: String,
    /// The path, with its query.
    pub path: String,
    /// All headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The fault that it met.
    pub fault: Option<HttpFault>,
    /// The status it was answered with; 0 if it was not.
    pub status: u16,
    /// The bytes of content that were sent.
    pub sent: u64,
}

impl Recorded {
    /// The first header of this name, which is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The first byte of an open range (`bytes=5-`).
    pub(super) fn range_start(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }

    pub(super) fn read(stream: impl Read) -> io::Result<Recorded> {
        let mut lines = BufReader::new(stream.take(HEAD_MAX)).lines();
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not a request");
        let first = lines.next().ok_or_else(malformed)??;
        let mut words = first.split(' ');
        let (Some(method), Some(path)) = (words.next(), words.next()) else {
            return Err(malformed());
        };
        let mut request = Recorded {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            fault: None,
            status: 0,
            sent: 0,
        };
        for line in lines {
            let line = line?;
            if line.is_empty() {
                return Ok(request);
            }
            let (name, value) = line.split_once(':').ok_or_else(malformed)?;
            let header = (name.to_ascii_lowercase(), value.trim().to_owned());
            request.headers.push(header);
        }
        Err(malformed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_and_nonsense_is_refused() {
        let text = "GET /a?b=1 HTTP/1.1\r\nHost: x\r\nRANGE: bytes=7-\r\n\r\n";
        let request = Recorded::read(text.as_bytes()).unwrap();
        assert_eq!(
            (request.method.as_str(), request.path.as_str()),
            ("GET", "/a?b=1")
        );
        assert_eq!(request.header("host"), Some("x"));
        assert_eq!(request.range_start(), Some(7));
        for text in [
            "",
            "GET\r\n\r\n",
            "GET / HTTP/1.1\r\nHost\r\n\r\n",
            "GET / HTTP/1.1\r\n",
        ] {
            assert!(Recorded::read(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
