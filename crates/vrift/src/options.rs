//! Options that several commands have, and the values that they take.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

/// How output looks.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputOptions {
    /// Do not print status lines
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// How results are printed
    #[arg(long, global = true, value_name = "FMT", default_value = "human")]
    pub(crate) message_format: MessageFormat,
    /// When to use colours [possible values: auto, always, never]
    #[arg(long, global = true, value_name = "WHEN", hide_possible_values = true)]
    pub(crate) color: Option<When>,
}

/// What results look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MessageFormat {
    /// For people.
    Human,
    /// One JSON object a line, on standard output.
    Json,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Which store is meant.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Store")]
pub(crate) struct StoreOptions {
    /// Use the store in this directory, without a daemon
    #[arg(long, global = true, value_name = "DIR", env = "VRIFT_STORE")]
    pub(crate) store: Option<PathBuf>,
    /// Use the store in ~/.vrift, even if there is a daemon
    #[arg(long, global = true, conflicts_with = "store")]
    pub(crate) direct: bool,
    /// Where the daemon listens
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "VRIFT_SOCKET",
        default_value = vrift_daemon::DEFAULT_SOCKET
    )]
    pub(crate) socket: PathBuf,
}

/// A size such as `500M`, `2G`, `1.5TiB` or `4096`, in bytes; powers of 1024.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_lowercase();
    let shift = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(format!("`{unit}` is no unit; use K, M, G or T")),
    };
    let number: f64 = digits
        .parse()
        .map_err(|_| format!("`{digits}` is no number"))?;
    if !(0.0..1e15).contains(&number) {
        return Err(format!("`{digits}` is out of range"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the number was checked, and a fraction of a byte does not matter"
    )]
    Ok((number * (1u64 << shift) as f64) as u64)
}

/// A time such as `30s`, `10m`, `2h`, `7d` or `0`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86400,
        "w" => 7 * 86400,
        unit => return Err(format!("`{unit}` is no unit; use s, m, h, d or w")),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("`{digits}` is no whole number"))?;
    Ok(Duration::from_secs(number.saturating_mul(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_as_people_write_them() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("2G"), Ok(2 << 30));
        assert_eq!(size("1.5KiB"), Ok(1536));
        assert_eq!(size("10mb"), Ok(10 << 20));
        for bad in ["", "G", "-1", "1x", "NaN", "1e99"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86400)));
        for bad in ["", "d", "-1s", "1.5h", "3y"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
