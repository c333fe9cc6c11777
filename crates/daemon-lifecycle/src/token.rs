//! The secret of an instance on a TCP port, which everybody with an account can
//! reach: whoever shows the token can read the folder of the instance.
//!
//! How it travels, and that it is compared in constant time, is up to the protocol.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::Instance;
use crate::instance::hex;
use crate::socket_path::{SocketPathError, make_folder};

/// Bytes of a token.
const LENGTH: usize = 32;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The folder is not this user's alone.
    #[error("refused to keep a token in the folder of `{name}`")]
    Folder {
        /// The daemon.
        name: String,
        /// What is wrong with it.
        #[source]
        source: SocketPathError,
    },
    /// The file is not one that keeps a secret.
    #[error("the token in `{path}` {what}; remove it, and end the daemon that uses it")]
    Strange {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes for a token")]
    Random(#[source] getrandom::Error),
    /// The system refused.
    #[error("could not {action} the token in `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl Instance {
    /// The token of this instance, 32 random bytes; made when there is none. Many
    /// processes may call this at once, and all get the same.
    ///
    /// It is kept in the folder, as 64 hexadecimal digits in a file of mode 0600.
    ///
    /// # Errors
    /// If others can enter the folder or read the file, or it contains no token.
    pub fn token(&self) -> Result<[u8; LENGTH], TokenError> {
        make_folder(self.folder(), 0o077).map_err(|source| TokenError::Folder {
            name: self.name().to_owned(),
            source,
        })?;
        let path = self.folder().join("token");
        // It is never removed by us, so that the second look finds it.
        if let Some(token) = read(&path)? {
            return Ok(token);
        }
        create(&path)?;
        read(&path)?.ok_or_else(|| TokenError::Io {
            action: "read",
            path,
            source: ErrorKind::NotFound.into(),
        })
    }
}

fn read(path: &Path) -> Result<Option<[u8; LENGTH]>, TokenError> {
    let failed = |source| TokenError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let strange = |what| TokenError::Strange {
        path: path.to_owned(),
        what,
    };
    let file = File::options()
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path);
    let file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(strange("is not a regular file"));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(strange("belongs to another user"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(strange("can be read by other users"));
    }
    let mut text = Vec::new();
    file.take(2 * LENGTH as u64 + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    parse(&text)
        .map(Some)
        .ok_or_else(|| strange("is not 64 hexadecimal digits"))
}

fn parse(text: &[u8]) -> Option<[u8; LENGTH]> {
    let mut token = [0; LENGTH];
    if text.len() != 2 * LENGTH || !text.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, digits) in token.iter_mut().zip(text.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(token)
}

/// Makes a token unless there is one: a link is made to a complete file or not at all.
fn create(path: &Path) -> Result<(), TokenError> {
    let mut random = [0; LENGTH + 8];
    getrandom::fill(&mut random).map_err(TokenError::Random)?;
    let (token, suffix) = random.split_at(LENGTH);
    let own = path.with_file_name(format!(".token.{}", hex(suffix)));
    let made = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&own)
        .and_then(|mut file| {
            file.write_all(hex(token).as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| match fs::hard_link(&own, path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    drop(fs::remove_file(&own));
    made.map_err(|source| TokenError::Io {
        action: "make",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn instance(root: &Path) -> Instance {
        let endpoint = "127.0.0.1:1".parse().unwrap();
        Instance::new("echo", endpoint, root.join("run")).unwrap()
    }

    #[test]
    fn all_who_ask_at_once_get_the_same_token() {
        let root = tempfile::tempdir().unwrap();
        let instance = instance(root.path());
        let tokens: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| instance.token().unwrap()))
                .collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(tokens.iter().all(|token| *token == tokens[0]));
        assert_ne!(tokens[0], [0; LENGTH]);
        let names: Vec<_> = fs::read_dir(instance.folder()).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let other = tempfile::tempdir().unwrap();
        assert_ne!(
            super::tests::instance(other.path()).token().unwrap(),
            tokens[0]
        );
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let instance = instance(root.path());
        instance.token().unwrap();
        let file = instance.folder().join("token");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        let error = instance.token().unwrap_err().to_string();
        assert!(error.contains("can be read by other users"), "{error}");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        for text in ["", "00", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64)] {
            fs::write(&file, text).unwrap();
            let error = instance.token().unwrap_err().to_string();
            assert!(error.contains("is not 64 hexadecimal digits"), "{error}");
        }
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &file).unwrap();
        assert!(instance.token().is_err());
        fs::set_permissions(instance.folder(), Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(
            instance.token().unwrap_err(),
            TokenError::Folder { .. }
        ));
    }
}
