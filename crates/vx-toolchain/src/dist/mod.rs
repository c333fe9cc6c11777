//! Releases of Rust from a distribution server, installed once for all who share a download cache.
//!
//! ```text
//! channel ──► <server>/dist/channel-rust-<channel>.toml.sha256 ──► manifest ──► archives ──► checked files ──► installed
//!             not kept                                             by hash      by hash      unpacked aside    renamed into place
//! ```
//!
//! Everything but the hash of the manifest itself is fetched by its hash, through [`vx_download`].
//! That hash comes from the same server as the manifest: it tells damage from content.
//! An honest server is told from a dishonest one by the signature of the manifest, where there is one, else only as far as TLS does.
//!
//! What lies where on disk is told in `TOOLCHAINS.md`.

mod error;
mod install;
mod manifest;
mod openpgp;
mod record;
mod resolve;
mod signature;
mod store;
mod unpack;
mod work;

pub use error::DistError;
pub use install::{Dist, Event, Installed, Mode, Tell, Wanted};
pub use manifest::{Archive, Manifest};
pub use openpgp::{Fingerprint, KeyRing, SignatureError};
pub use record::{Receipt, Record};
pub use signature::Vouched;
pub use store::{Lease, Store, UNUSED};
pub use unpack::UnpackError;

/// Where releases come from unless the user says otherwise; manifests name their archives below it.
pub const DEFAULT_SERVER: &str = "https://static.rust-lang.org";
