//! Waits on a condition, with a deadline, and tells its last status when the
//! time is up.
//!
//! The only place of the kit that looks again after a pause. Tests need no pause
//! of their own.

use std::time::{Duration, Instant};

/// The first pause between two looks; each is twice the one before.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// The longest pause between two looks.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_millis(25);

/// The time is up, and the condition does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{what}` did not come true within {:.1} s; last status: {last}", limit.as_secs_f32())]
pub struct WaitError {
    /// What was waited for.
    pub what: String,
    /// The time it had.
    pub limit: Duration,
    /// What the condition said last.
    pub last: String,
}

/// Looks at the condition until it returns `Ok`, at least once.
///
/// # Errors
/// If it does not within the limit.
pub fn try_wait_until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<T, String>,
) -> Result<T, WaitError> {
    let deadline = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    loop {
        let last = match condition() {
            Ok(value) => return Ok(value),
            Err(last) => last,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(WaitError {
                what: what.to_owned(),
                limit,
                last,
            });
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Looks at the condition until it returns `Ok`, at least once.
///
/// # Panics
/// If it does not within the limit; the message has its last status.
#[track_caller]
pub fn wait_until<T>(
    what: &str,
    limit: Duration,
    condition: impl FnMut() -> Result<T, String>,
) -> T {
    match try_wait_until(what, limit, condition) {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_status_is_told_when_the_time_is_up() {
        let mut looks = 0;
        let error = try_wait_until("three", Duration::from_millis(5), || -> Result<(), _> {
            looks += 1;
            Err(format!("look {looks}"))
        })
        .unwrap_err();
        assert_eq!(error.last, format!("look {looks}"));
        assert!(looks > 1);
    }

    #[test]
    fn a_condition_that_holds_is_looked_at_once_even_without_time() {
        assert_eq!(wait_until("now", Duration::ZERO, || Ok(7)), 7);
    }
}
