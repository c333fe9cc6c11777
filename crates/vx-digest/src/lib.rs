//! The name of a blob: the hash of its bytes, and their number.
//!
//! BLAKE3 is the default, SHA-256 is there for peers that know nothing else.
//! Both have 32 bytes, so a [`Digest`] does not say which function made it.
//!
//! This crate knows neither stores nor messages: how a digest travels is up to
//! who sends it.

mod digest;
mod function;
pub mod hex;

pub use digest::{Digest, DigestError};
pub use function::{DigestFunction, Hasher};
