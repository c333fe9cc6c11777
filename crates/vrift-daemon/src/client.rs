//! Calls the daemon.

use std::io::{self, ErrorKind};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::wire::Channel;

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody can be reached there.
    #[error("could not connect to `{path}`")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("lost the connection to the daemon")]
    Lost {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What came is no answer.
    #[error("the daemon answered something else than JSON-RPC 2.0")]
    Garbled,
    /// The daemon refused.
    #[error("{message}")]
    Refused {
        /// Its code, as on the wire.
        code: i64,
        /// What it says.
        message: String,
        /// What else it says.
        data: Value,
    },
}

/// A connection to the daemon; one call at a time.
#[derive(Debug)]
pub struct Client {
    channel: Channel,
    next: u64,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there or the caller may not connect.
    pub fn connect(path: &Path) -> Result<Client, CallError> {
        let stream = UnixStream::connect(path).map_err(|source| CallError::Connect {
            path: path.to_owned(),
            source,
        })?;
        Ok(Client {
            channel: Channel::new(stream),
            next: 0,
        })
    }

    /// Calls a method with descriptors, and returns its result with those that came back.
    ///
    /// `params` is an object; the number of descriptors is added to it.
    ///
    /// # Errors
    /// The daemon's, or that the connection broke.
    pub fn call(
        &mut self,
        method: &str,
        params: Value,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Value, Vec<OwnedFd>), CallError> {
        let id = self.send(method, params, fds)?;
        self.receive(id)
    }

    /// Sends a call whose answer is received later; answers come in the order of the calls.
    ///
    /// Few may be under way: neither side reads while it writes.
    ///
    /// # Errors
    /// That the connection broke.
    pub fn send(
        &mut self,
        method: &str,
        mut params: Value,
        fds: &[BorrowedFd<'_>],
    ) -> Result<u64, CallError> {
        self.next += 1;
        if !fds.is_empty() {
            params["fds"] = json!(fds.len());
        }
        let request =
            json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params });
        match self.channel.send(request.to_string().as_bytes(), fds) {
            Ok(()) => Ok(self.next),
            Err(source) => Err(self.farewell(&source).unwrap_or(CallError::Lost { source })),
        }
    }

    /// What the daemon said before it closed the connection, such as why it takes nobody.
    fn farewell(&mut self, error: &io::Error) -> Option<CallError> {
        if !matches!(
            error.kind(),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
        ) {
            // It may still be there, and say nothing.
            return None;
        }
        let line = self.channel.receive().ok()??;
        let mut answer: Value = serde_json::from_slice(&line).ok()?;
        // An answer that has a number is one that was waited for.
        answer["id"].is_null().then(|| refusal(&mut answer))?
    }

    /// The answer to the call of this number, with the descriptors that came back.
    ///
    /// # Errors
    /// The daemon's, or that the connection broke.
    pub fn receive(&mut self, id: u64) -> Result<(Value, Vec<OwnedFd>), CallError> {
        let lost = |source| CallError::Lost { source };
        loop {
            let line = self
                .channel
                .receive()
                .map_err(lost)?
                .ok_or_else(|| lost(io::ErrorKind::UnexpectedEof.into()))?;
            let mut answer: Value =
                serde_json::from_slice(&line).map_err(|_| CallError::Garbled)?;
            if answer.get("method").is_some() {
                // A notification; nobody asked for it here.
                continue;
            }
            if let Some(refused) = refusal(&mut answer) {
                return Err(refused);
            }
            if answer["id"] != json!(id) {
                return Err(CallError::Garbled);
            }
            let result = answer["result"].take();
            let count = usize::try_from(result["fds"].as_u64().unwrap_or(0)).unwrap_or(0);
            let fds = self.channel.take_fds(count);
            if fds.len() != count {
                return Err(CallError::Garbled);
            }
            return Ok((result, fds));
        }
    }
}

/// The error in an answer, if it is one.
fn refusal(answer: &mut Value) -> Option<CallError> {
    let error = answer.get_mut("error")?;
    Some(CallError::Refused {
        code: error["code"].as_i64().unwrap_or(0),
        message: error["message"].as_str().unwrap_or_default().to_owned(),
        data: error["data"].take(),
    })
}
