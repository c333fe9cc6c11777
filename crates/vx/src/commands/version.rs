//! `vx version`: of this program and of the services that run.

use std::io::Write;

use vx_proto::PROTOCOL_VERSION;

use crate::context::Context;
use crate::exit::Failure;
use crate::services::{self, Answer};

/// Prints the versions.
pub(super) fn run(context: &Context) -> Result<u8, Failure> {
    let mut text = format!(
        "vx {} (protocol {PROTOCOL_VERSION})\n",
        env!("CARGO_PKG_VERSION")
    );
    for service in services::ask_all(&context.settings) {
        let line = match &service.answer {
            Answer::Ours(version) => format!("{version} at {}", service.endpoint),
            Answer::Silent => format!("{} not running ({})", service.name, service.endpoint),
            Answer::Problem(problem) => format!("{} problem: {problem}", service.name),
        };
        text.push_str(&line);
        text.push('\n');
    }
    context
        .colors
        .stdout()
        .write_all(text.as_bytes())
        .map_err(|error| super::output(&error))?;
    Ok(0)
}
