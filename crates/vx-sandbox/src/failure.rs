//! Turning the system's answers into a [`SetupFailure`] that says what was tried on what.

use std::fmt::Display;
use std::io;

use crate::error::SetupFailure;

/// Adds the step and its subject to a failed call.
pub(crate) trait Step<T> {
    /// `step` is a verb ("mount"), `subject` what it was done to.
    fn step(self, step: &str, subject: impl Display) -> Result<T, SetupFailure>;
}

impl<T> Step<T> for Result<T, rustix::io::Errno> {
    fn step(self, step: &str, subject: impl Display) -> Result<T, SetupFailure> {
        self.map_err(|errno| failure(step, subject, errno.raw_os_error()))
    }
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, step: &str, subject: impl Display) -> Result<T, SetupFailure> {
        self.map_err(|error| failure(step, subject, error.raw_os_error().unwrap_or(libc::EIO)))
    }
}

/// A failure that is not the system's: what came is not what was agreed.
pub(crate) fn invalid(step: &str, subject: impl Display) -> SetupFailure {
    failure(step, subject, libc::EINVAL)
}

pub(crate) fn failure(step: &str, subject: impl Display, errno: i32) -> SetupFailure {
    SetupFailure {
        step: step.to_owned(),
        subject: subject.to_string(),
        errno,
    }
}
