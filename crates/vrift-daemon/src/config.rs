//! What the administrator decides.

use std::path::PathBuf;

use clap::Parser;

use crate::platform;

/// One deduplicating store for all users of this machine.
#[derive(Clone, Debug, Parser)]
#[command(name = "vrift-daemon", version, max_term_width = 100)]
pub struct Config {
    /// Where blobs and roots are kept
    #[arg(long, value_name = "DIR", default_value = platform::DEFAULT_HOME)]
    pub home: PathBuf,
    /// Where to listen, unless a service manager hands a socket over
    #[arg(long, value_name = "PATH", default_value = platform::DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// Bytes of distinct content that a user may keep, e.g. 50G; no limit unless given
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub quota: Option<u64>,
    /// Bytes that stay free on the disk
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "256M")]
    pub min_free: u64,
    /// Bytes of the largest file that is taken
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "64G")]
    pub max_blob: u64,
    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub max_connections: usize,
    /// Connections of one user at once
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub max_connections_per_user: usize,
    /// Users besides root who may collect and verify everything
    #[arg(long, value_name = "UID")]
    pub admin: Vec<u32>,
    /// Give content to everybody who knows its digest, not only to those who proved that they have it
    #[arg(long)]
    pub public_digests: bool,
    /// Offer metrics for Prometheus on this Unix socket, which only the daemon's user can reach
    #[arg(long, value_name = "PATH")]
    pub metrics: Option<PathBuf>,
    /// Only this user may connect; the socket's directory is made private
    #[arg(long)]
    pub private: bool,
}

/// A size such as `500M`, `2G` or `4096`, in bytes; powers of 1024.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        unit => return Err(format!("`{unit}` is no unit; use K, M, G or T")),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("`{digits}` is no whole number"))?;
    number
        .checked_shl(shift)
        .filter(|shifted| shifted >> shift == number)
        .ok_or_else(|| format!("`{text}` is out of range"))
}
