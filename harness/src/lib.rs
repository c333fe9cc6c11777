//! What the system tests of vx have in common: projects to build, registries and distributions to fetch from, a way to say which units a build ran, and the processes behind it.
//!
//! The tests know vx by its programs only: whatever they assert is what a user could see.

mod ambush;
pub mod dist;
pub mod processes;
mod project;
pub mod registry;
mod units;
pub mod user;

pub use ambush::Ambush;
pub use project::{Project, application, layers};
pub use registry::Registry;
pub use units::{Build, build};
