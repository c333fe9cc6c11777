//! Digests in the messages of the Remote Execution API.

use vx_digest::{Digest, DigestError, DigestFunction, hex};

use crate::reapi;

impl TryFrom<&reapi::Digest> for Digest {
    type Error = DigestError;

    fn try_from(digest: &reapi::Digest) -> Result<Self, DigestError> {
        Ok(Digest {
            hash: hex::decode(&digest.hash)
                .ok_or_else(|| DigestError::Hash(digest.hash.clone()))?,
            size: u64::try_from(digest.size_bytes)
                .map_err(|_| DigestError::Size(digest.size_bytes.to_string()))?,
        })
    }
}

/// The digest in the field of a message that needs one.
///
/// # Errors
/// [`DigestError::Missing`] where the field is not set, else what is wrong with it.
pub fn required(digest: Option<&reapi::Digest>) -> Result<Digest, DigestError> {
    digest.ok_or(DigestError::Missing)?.try_into()
}

/// The BLAKE3 digest of an encoded message.
pub fn of_message(message: &impl prost::Message) -> Digest {
    Digest::of(&message.encode_to_vec())
}

impl From<Digest> for reapi::Digest {
    fn from(digest: Digest) -> reapi::Digest {
        reapi::Digest {
            hash: digest.hex(),
            // No file reaches the sign bit.
            size_bytes: i64::try_from(digest.size).unwrap_or(i64::MAX),
        }
    }
}

impl From<&Digest> for reapi::Digest {
    fn from(digest: &Digest) -> reapi::Digest {
        (*digest).into()
    }
}

/// The number of a function in requests.
pub fn function_number(function: DigestFunction) -> i32 {
    match function {
        DigestFunction::Blake3 => reapi::digest_function::Value::Blake3 as i32,
        DigestFunction::Sha256 => reapi::digest_function::Value::Sha256 as i32,
    }
}

/// What a number in a request means.
///
/// 0 (not said) is SHA-256: the API wants every client with another function of
/// the same length to name it.
///
/// # Errors
/// [`DigestError::Function`] for functions that are not served.
pub fn function_of_number(number: i32) -> Result<DigestFunction, DigestError> {
    use reapi::digest_function::Value;
    match Value::try_from(number) {
        Ok(Value::Blake3) => Ok(DigestFunction::Blake3),
        Ok(Value::Sha256 | Value::Unknown) => Ok(DigestFunction::Sha256),
        Ok(other) => Err(DigestError::Function(other.as_str_name().to_owned())),
        Err(_) => Err(DigestError::Function(number.to_string())),
    }
}

/// What stands before the hash in a resource name; SHA-256 is never named.
pub(crate) fn resource_prefix(function: DigestFunction) -> &'static str {
    match function {
        DigestFunction::Blake3 => "blake3/",
        DigestFunction::Sha256 => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip() {
        let digest = Digest::of(b"round trip");
        let message: reapi::Digest = digest.into();
        assert_eq!(required(Some(&message)), Ok(digest));
        assert_eq!(required(None), Err(DigestError::Missing));
    }

    #[test]
    fn bad_messages_are_refused() {
        let negative = reapi::Digest {
            hash: "a".repeat(64),
            size_bytes: -1,
        };
        assert_eq!(
            Digest::try_from(&negative),
            Err(DigestError::Size("-1".into()))
        );
        let short = reapi::Digest {
            hash: "a".repeat(63),
            size_bytes: 1,
        };
        assert_eq!(
            Digest::try_from(&short),
            Err(DigestError::Hash("a".repeat(63)))
        );
    }

    #[test]
    fn functions_that_are_not_served_are_named() {
        assert_eq!(
            function_of_number(2),
            Err(DigestError::Function("SHA1".into()))
        );
        for function in [DigestFunction::Blake3, DigestFunction::Sha256] {
            assert_eq!(function_of_number(function_number(function)), Ok(function));
        }
    }
}
