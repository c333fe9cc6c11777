//! The daemon's store: files are opened here, with the user's own rights, and their descriptors sent.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use vrift_daemon::{CallError, Client, Code, MAX_FDS};
use vrift_store::{Blobs, Error, Projection, Put, RootRequest, Sources};
use vx_digest::Digest;

use crate::platform;

/// Messages with files that are sent before the first is answered.
const UNDER_WAY: usize = 3;

/// A connection to the daemon.
pub(crate) struct Remote {
    client: Mutex<Client>,
    id: [u8; 16],
    name: String,
}

impl Remote {
    /// Connects, and asks which store it is.
    pub(crate) fn connect(socket: &Path) -> Result<Remote, CallError> {
        let mut client = Client::connect(socket)?;
        let (version, _) = client.call("version", json!({}), &[])?;
        let id = version["store_id"].as_str().and_then(id_of);
        let (Some(id), Some(1)) = (id, version["protocol"].as_u64()) else {
            return Err(CallError::Garbled);
        };
        Ok(Remote {
            client: Mutex::new(client),
            id,
            name: version["store"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// Calls a method.
    pub(crate) fn call(&self, method: &str, params: Value) -> Result<Value, Error> {
        self.call_with(method, params, &[])
            .map(|(result, _)| result)
    }

    fn call_with(
        &self,
        method: &str,
        params: Value,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Value, Vec<OwnedFd>), Error> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.call(method, params, fds).map_err(explain)
    }

    /// Stores files whose descriptors are sent in one message.
    fn put_fds(&self, files: &[File]) -> Result<Vec<io::Result<Put>>, Error> {
        let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        let (result, _) = self.call_with("put", json!({}), &fds)?;
        puts(&result, files.len())
    }
}

/// What the daemon says became of so many files.
fn puts(result: &Value, count: usize) -> Result<Vec<io::Result<Put>>, Error> {
    let answers = result["blobs"].as_array().ok_or_else(garbled)?;
    if answers.len() != count {
        return Err(garbled());
    }
    answers
        .iter()
        .map(|answer| match answer["error"].as_str() {
            Some(error) => Ok(Err(io::Error::other(error.to_owned()))),
            None => Ok(Ok(Put {
                digest: digest(&answer["digest"])?,
                new: answer["new"] == json!(true),
            })),
        })
        .collect()
}

fn id_of(hex: &str) -> Option<[u8; 16]> {
    u128::from_str_radix(hex, 16)
        .ok()
        .filter(|_| hex.len() == 32)
        .map(u128::to_be_bytes)
}

fn digest(value: &Value) -> Result<Digest, Error> {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(garbled)
}

fn garbled() -> Error {
    Error::Remote {
        message: CallError::Garbled.to_string(),
        source: None,
    }
}

/// What the daemon says, as if the store were here.
fn explain(error: CallError) -> Error {
    let CallError::Refused {
        code,
        message,
        data,
    } = &error
    else {
        return Error::Remote {
            message: error.to_string(),
            source: Some(Box::new(error)),
        };
    };
    if *code == Code::Absent.number()
        && let Some(missing) = data["missing"].as_array()
    {
        let digests = missing.iter().filter_map(|value| digest(value).ok());
        return Error::Missing(digests.collect());
    }
    if *code == Code::Quota.number() {
        return Error::Quota(message.clone());
    }
    if *code == Code::Params.number() || *code == Code::Absent.number() {
        return Error::Refused(message.clone());
    }
    Error::Remote {
        message: message.clone(),
        source: None,
    }
}

/// Bytes as a file that nobody else has.
fn as_file(bytes: &[u8]) -> io::Result<File> {
    let mut file = platform::unnamed_file()?;
    file.write_all(bytes)?;
    Ok(file)
}

/// A path as JSON can say it.
fn text(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| {
        Error::Refused(format!(
            "`{}` is not text, and the daemon keeps directories by names that are",
            path.display()
        ))
    })
}

impl Blobs for Remote {
    fn id(&self) -> [u8; 16] {
        self.id
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn put(&self, files: &dyn Sources) -> Result<Vec<io::Result<Put>>, Error> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answers: Vec<Option<io::Result<Put>>> = Vec::new();
        let mut under_way = VecDeque::new();
        let mut next = 0;
        while next < files.count() || !under_way.is_empty() {
            // While the daemon reads what it has, the next files are opened.
            if next < files.count() && under_way.len() < UNDER_WAY {
                let mut opened = Vec::new();
                let mut places = Vec::new();
                while next < files.count() && opened.len() < MAX_FDS {
                    match files.open(next) {
                        Ok(source) => {
                            places.push(next);
                            opened.push(source.file);
                            answers.push(None);
                        }
                        Err(error) => answers.push(Some(Err(error))),
                    }
                    next += 1;
                }
                if !opened.is_empty() {
                    let fds: Vec<_> = opened.iter().map(AsFd::as_fd).collect();
                    let id = client.send("put", json!({}), &fds).map_err(explain)?;
                    under_way.push_back((id, places));
                }
            } else if let Some((id, places)) = under_way.pop_front() {
                let (result, _) = client.receive(id).map_err(explain)?;
                for (place, put) in places.iter().zip(puts(&result, places.len())?) {
                    answers[*place] = Some(put);
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    fn put_bytes(&self, bytes: &[u8]) -> Result<Put, Error> {
        let file = as_file(bytes).map_err(|source| Error::Io {
            task: "send",
            path: "the manifest".into(),
            source,
        })?;
        match self.put_fds(&[file])?.pop() {
            Some(Ok(put)) => Ok(put),
            Some(Err(source)) => Err(Error::Io {
                task: "store",
                path: "the manifest".into(),
                source,
            }),
            None => Err(garbled()),
        }
    }

    fn register(&self, request: &RootRequest) -> Result<(), Error> {
        let params = json!({
            "path": text(&request.path)?,
            "manifest": request.manifest.to_string(),
            "device": request.device,
            "phantom": request.phantom,
        });
        self.call("register", params).map(drop)
    }

    fn has_root(&self, path: &Path, manifest: &Digest) -> Result<bool, Error> {
        let root = self.call("root", json!({ "path": text(path)? }))?;
        Ok(root["manifest"] == json!(manifest.to_string()) && root["whole"] == json!(true))
    }

    fn root_manifest(&self, path: &Path) -> Result<Option<Digest>, Error> {
        let root = self.call("root", json!({ "path": text(path)? }))?;
        match &root["manifest"] {
            Value::Null => Ok(None),
            value => digest(value).map(Some),
        }
    }

    fn open(&self, digests: &[Digest]) -> Result<Vec<Option<File>>, Error> {
        let mut opened = Vec::with_capacity(digests.len());
        for chunk in digests.chunks(MAX_FDS) {
            let names: Vec<String> = chunk.iter().map(Digest::to_string).collect();
            let (result, fds) = self.call_with("fetch", json!({ "digests": names }), &[])?;
            let found = result["found"].as_array().ok_or_else(garbled)?;
            let mut fds = fds.into_iter();
            for found in found {
                let fd = (*found == json!(true)).then(|| fds.next()).flatten();
                opened.push(fd.map(File::from));
            }
        }
        if opened.len() == digests.len() {
            Ok(opened)
        } else {
            Err(garbled())
        }
    }

    fn projection(&self) -> Projection {
        Projection::Refused {
            why: "the daemon's store is closed to everybody, so that content stays private"
                .to_owned(),
        }
    }

    fn blob_path(&self, _digest: &Digest, _executable: bool) -> Result<Option<PathBuf>, Error> {
        Ok(None)
    }

    fn digest_of(&self, _target: &Path) -> Option<(Digest, bool)> {
        None
    }
}
