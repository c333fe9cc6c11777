//! The secret that keeps other users of the machine out.
//!
//! A TCP port on the loopback interface can be reached by everybody who has an
//! account. So each `VX_HOME` has a random token in a file that only its owner
//! can read, every call carries it, and every service compares it.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};
use vx_digest::hex;

/// The file below `VX_HOME`.
pub const TOKEN_FILE: &str = "token";

/// 32 random bytes. Neither `Debug` nor an error ever shows them.
#[derive(Clone)]
pub struct Token([u8; 32]);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The directory cannot be made or looked at.
    #[error("cannot use `{}`", path.display())]
    Home {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others can change the directory, hence replace the token.
    #[error("`{}` can be changed by other users", path.display())]
    HomeIsOpen {
        /// The directory.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("cannot use the token in `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others can read the file, so the token is no secret.
    #[error("the token in `{}` can be read by other users", path.display())]
    FileIsOpen {
        /// The file.
        path: PathBuf,
    },
    /// The file or its directory belongs to somebody else.
    #[error("`{}` belongs to another user", path.display())]
    NotOurs {
        /// The file or directory.
        path: PathBuf,
    },
    /// The file has been damaged.
    #[error("`{}` does not contain a token of 64 hex digits", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random(#[source] getrandom::Error),
}

impl Token {
    /// A token of given bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Token {
        Token(bytes)
    }

    /// A new random token.
    pub fn random() -> Result<Token, TokenError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(TokenError::Random)?;
        Ok(Token(bytes))
    }

    /// The bytes, for protocols that carry them as they are.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The value of the `authorization` header.
    pub fn header(&self) -> String {
        format!("Bearer {}", hex::encode(&self.0))
    }

    /// Whether a header carries this token. The time this takes tells nothing
    /// about where a wrong one differs.
    pub fn matches_header(&self, header: &[u8]) -> bool {
        header.ct_eq(self.header().as_bytes()).into()
    }

    /// Whether two tokens are the same, in constant time.
    pub fn matches(&self, other: &[u8; 32]) -> bool {
        self.0.ct_eq(other).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Adds the token to every call of a client.
#[derive(Clone, Debug)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// Sends `token` with every call; `None` sends none, for services of others.
    pub fn new(token: Option<&Token>) -> Bearer {
        Bearer(token.and_then(|token| {
            let mut value = MetadataValue::try_from(token.header()).ok()?;
            // Keeps it out of logs of the HTTP library.
            value.set_sensitive(true);
            Some(value)
        }))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// The token of a `VX_HOME`; made when there is none. Many processes may call
/// this at once, and all get the same.
///
/// The directory is made with mode 0700. A token that others can read, or whose
/// directory others can write, is refused: it would protect nothing.
pub fn load_or_create(home: &Path) -> Result<Token, TokenError> {
    make_home(home)?;
    let path = home.join(TOKEN_FILE);
    loop {
        match read(&path) {
            Ok(token) => return Ok(token),
            Err(TokenError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(other) => return Err(other),
        }
        create(home, &path)?;
    }
}

/// The token of a `VX_HOME` that has one.
pub fn load(home: &Path) -> Result<Token, TokenError> {
    check_home(home)?;
    read(&home.join(TOKEN_FILE))
}

fn make_home(home: &Path) -> Result<(), TokenError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(home)
        .map_err(|source| TokenError::Home {
            path: home.to_owned(),
            source,
        })?;
    check_home(home)
}

fn check_home(home: &Path) -> Result<(), TokenError> {
    let metadata = fs::metadata(home).map_err(|source| TokenError::Home {
        path: home.to_owned(),
        source,
    })?;
    if metadata.uid() != our_uid() {
        return Err(TokenError::NotOurs {
            path: home.to_owned(),
        });
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(TokenError::HomeIsOpen {
            path: home.to_owned(),
        });
    }
    Ok(())
}

fn read(path: &Path) -> Result<Token, TokenError> {
    let fail = |source| TokenError::File {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if metadata.uid() != our_uid() {
        return Err(TokenError::NotOurs {
            path: path.to_owned(),
        });
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(TokenError::FileIsOpen {
            path: path.to_owned(),
        });
    }
    let mut text = String::new();
    file.take(128).read_to_string(&mut text).map_err(fail)?;
    hex::decode(text.trim_end())
        .map(Token)
        .ok_or_else(|| TokenError::Malformed {
            path: path.to_owned(),
        })
}

/// Writes a new token under a name of its own and links it to its place, which
/// fails when somebody else was faster: a reader never sees half a token.
fn create(home: &Path, path: &Path) -> Result<(), TokenError> {
    let fail = |source| TokenError::File {
        path: path.to_owned(),
        source,
    };
    let token = Token::random()?;
    let own = Token::random()?;
    let temporary = home.join(format!(".token-{}", hex::encode(&own.0[..8])));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(hex::encode(&token.0).as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()
        })
        .and_then(|()| match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        });
    let removed = fs::remove_file(&temporary);
    written.and(removed).map_err(fail)
}

fn our_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn all_who_come_at_once_get_the_same_token() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("deep/home");
        let tokens: Vec<Token> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| load_or_create(&home).unwrap()))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(
            tokens
                .iter()
                .all(|token| token.matches(tokens[0].as_bytes()))
        );
        assert!(load(&home).unwrap().matches(tokens[0].as_bytes()));
        let names: Vec<_> = fs::read_dir(&home)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, [TOKEN_FILE], "nothing else is left behind");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&home), 0o700);
        assert_eq!(mode(&home.join(TOKEN_FILE)), 0o600);
    }

    #[test]
    fn a_token_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        load_or_create(dir.path()).unwrap();
        let path = dir.path().join(TOKEN_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            load_or_create(dir.path()),
            Err(TokenError::FileIsOpen { .. })
        ));
    }

    #[test]
    fn a_home_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(
            load_or_create(dir.path()),
            Err(TokenError::HomeIsOpen { .. })
        ));
    }

    #[test]
    fn a_damaged_token_is_an_error_and_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TOKEN_FILE);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .unwrap();
        file.write_all(b"short").unwrap();
        assert!(matches!(
            load_or_create(dir.path()),
            Err(TokenError::Malformed { .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), b"short");
    }

    #[test]
    fn only_the_whole_header_matches() {
        let token = Token::from_bytes([0xab; 32]);
        let header = token.header();
        assert!(token.matches_header(header.as_bytes()));
        assert!(!token.matches_header(&header.as_bytes()[..header.len() - 1]));
        assert!(!token.matches_header(Token::from_bytes([0xac; 32]).header().as_bytes()));
        assert!(!token.matches_header(b""));
        assert_eq!(format!("{token:?}"), "Token(..)");
    }
}
