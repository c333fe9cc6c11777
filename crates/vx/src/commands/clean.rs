//! `vx clean`: removes what vx left in the target directory.
//!
//! The daemon does it, since it knows what lies there, and must know that it
//! does no longer.

use vx_proto::command::{CleanRequest, Command};

use crate::cli::CleanArgs;
use crate::context::{Context, current_directory};
use crate::exit::Failure;
use crate::render::Format;
use crate::session;

/// Cleans.
pub(super) fn run(context: &Context, args: &CleanArgs) -> Result<u8, Failure> {
    let request = CleanRequest {
        cwd: current_directory()?,
        manifest_path: args.project.manifest_path.clone(),
        target_dir: args.project.target_dir.clone(),
        profile: args.project.profile(),
    };
    session::run(
        context,
        &Command::Clean(request),
        Format::of(&[]),
        &mut |_| {},
    )
}
