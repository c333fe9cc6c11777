//! Build scripts: what they are told, and what they answer.

mod directive;
mod env;
mod output;

pub(crate) use env::run_action;
pub use output::{BuildOutput, LinkArgTarget};
pub(crate) use output::{PackageShape, parse_build_output};
