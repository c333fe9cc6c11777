//! A moment as it stands in JSON: whole seconds since 1970.
//!
//! What a clock says may be before 1970 and what a file says may be any number;
//! both are errors here, and never a panic of whoever converts later.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The last second of the year 9999, beyond which no common format of a date goes.
const LATEST: u64 = 253_402_300_799;

/// Seconds since 1970-01-01 00:00 UTC, at most those of the year 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i128", into = "u64")]
pub struct UnixTime(u64);

/// Why something is not a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// The clock, or whoever wrote the number, is before 1970.
    #[error("the time is before 1970")]
    BeforeEpoch,
    /// Later than the year 9999.
    #[error("the time is later than the year 9999")]
    OutOfRange,
}

impl UnixTime {
    /// The moment `seconds` after the beginning of 1970.
    ///
    /// # Errors
    /// [`TimeError::OutOfRange`] if that is later than the year 9999.
    pub fn from_secs(seconds: u64) -> Result<UnixTime, TimeError> {
        if seconds > LATEST {
            return Err(TimeError::OutOfRange);
        }
        Ok(UnixTime(seconds))
    }

    /// Seconds since the beginning of 1970.
    pub fn as_secs(self) -> u64 {
        self.0
    }
}

impl TryFrom<SystemTime> for UnixTime {
    type Error = TimeError;

    /// Rounds down to the second.
    fn try_from(time: SystemTime) -> Result<UnixTime, TimeError> {
        let since = time
            .duration_since(UNIX_EPOCH)
            .map_err(|_| TimeError::BeforeEpoch)?;
        UnixTime::from_secs(since.as_secs())
    }
}

impl TryFrom<UnixTime> for SystemTime {
    type Error = TimeError;

    /// Fails where the clock of the system does not go as far.
    fn try_from(time: UnixTime) -> Result<SystemTime, TimeError> {
        UNIX_EPOCH
            .checked_add(Duration::from_secs(time.0))
            .ok_or(TimeError::OutOfRange)
    }
}

impl TryFrom<i128> for UnixTime {
    type Error = TimeError;

    fn try_from(seconds: i128) -> Result<UnixTime, TimeError> {
        if seconds < 0 {
            return Err(TimeError::BeforeEpoch);
        }
        u64::try_from(seconds)
            .map_err(|_| TimeError::OutOfRange)
            .and_then(UnixTime::from_secs)
    }
}

impl From<UnixTime> for u64 {
    fn from(time: UnixTime) -> u64 {
        time.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_go_there_and_back() {
        let moment = UNIX_EPOCH + Duration::from_millis(1_700_000_000_900);
        let time = UnixTime::try_from(moment).unwrap();
        assert_eq!(time.as_secs(), 1_700_000_000);
        assert_eq!(
            SystemTime::try_from(time).unwrap(),
            UNIX_EPOCH + Duration::from_secs(1_700_000_000)
        );
        assert_eq!(serde_json::to_string(&time).unwrap(), "1700000000");
    }

    #[test]
    fn what_is_out_of_range_is_an_error_wherever_it_comes_from() {
        let before = UNIX_EPOCH - Duration::from_nanos(1);
        assert_eq!(UnixTime::try_from(before), Err(TimeError::BeforeEpoch));
        for (json, reason) in [
            ("-1", "before 1970"),
            ("-9223372036854775808", "before 1970"),
            ("253402300800", "later than the year 9999"),
            ("18446744073709551615", "later than the year 9999"),
        ] {
            let error = serde_json::from_str::<UnixTime>(json).unwrap_err();
            assert!(error.to_string().contains(reason), "{json}: {error}");
        }
        for json in ["1.5", "\"1\"", "null", "18446744073709551616"] {
            assert!(serde_json::from_str::<UnixTime>(json).is_err(), "{json}");
        }
        assert!(serde_json::from_str::<UnixTime>("253402300799").is_ok());
    }
}
