//! `vx build` and `vx check`.

use vx_proto::command::{BuildKind, BuildRequest, Command, Selection};

use crate::cli::BuildArgs;
use crate::context::{Context, current_directory, environment};
use crate::exit::Failure;
use crate::options::{CompileOptions, selection};
use crate::render::{Format, Verbosity};
use crate::session;

/// Builds what is selected.
pub(super) fn run(context: &Context, args: &BuildArgs, kind: BuildKind) -> Result<u8, Failure> {
    let format = Format::of(&args.compile.message_format);
    let selection = selection(&args.packages, &args.targets, &args.compile);
    let mut request = request(context, &args.compile, selection, kind)?;
    request.fresh_json = format.json.is_some() || context.verbosity == Verbosity::Verbose;
    session::run(
        context,
        &Command::Build(Box::new(request)),
        format,
        &mut |_| {},
    )
}

/// A request with all that the environment decides.
pub(super) fn request(
    context: &Context,
    compile: &CompileOptions,
    selection: Selection,
    kind: BuildKind,
) -> Result<BuildRequest, Failure> {
    Ok(BuildRequest {
        cwd: current_directory()?,
        kind,
        selection,
        env: environment(),
        jobs: compile.jobs,
        keep_going: compile.keep_going,
        toolchain: context.toolchain.clone(),
        action_timeout_secs: compile.action_timeout,
        fresh_json: false,
        verbose: context.verbosity == Verbosity::Verbose,
        quiet: context.verbosity == Verbosity::Quiet,
    })
}
