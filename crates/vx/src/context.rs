//! What every command needs to know of its surroundings, read once.

use std::path::PathBuf;

use vx_proto::env::Settings;

use crate::exit::{Failure, Kind};
use crate::options::OutputOptions;
use crate::render::{Format, Human, Json, Progress, Renderer, Verbosity};
use crate::terminal::{self, Colors};

/// The surroundings of one run of `vx`.
#[derive(Debug)]
pub(crate) struct Context {
    /// Endpoints and directories.
    pub(crate) settings: Settings,
    /// When to use colours.
    pub(crate) colors: Colors,
    /// How much to say.
    pub(crate) verbosity: Verbosity,
    /// What was asked for as `+toolchain`.
    pub(crate) toolchain: Option<String>,
}

/// The renderer that commands use.
pub(crate) type ToTerminal =
    Renderer<anstream::AutoStream<std::io::Stderr>, anstream::AutoStream<std::io::Stdout>>;

impl Context {
    /// Reads the environment.
    pub(crate) fn new(
        output: &OutputOptions,
        colors: Colors,
        toolchain: Option<String>,
    ) -> Result<Context, Failure> {
        Ok(Context {
            settings: Settings::from_env()?,
            colors,
            verbosity: Verbosity::of(output),
            toolchain,
        })
    }

    /// A renderer onto the two streams of this process.
    pub(crate) fn renderer(&self, format: Format) -> ToTerminal {
        let watched = self.verbosity > Verbosity::Quiet && terminal::is_watched();
        let human = Human::new(
            self.colors.stderr(),
            self.verbosity,
            format.messages,
            Progress::new(watched),
        );
        Renderer::new(human, format.json.map(Json::new), self.colors.stdout())
    }
}

/// The directory that relative paths refer to.
pub(crate) fn current_directory() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| {
        Failure::new(Kind::Usage, "the current directory cannot be used").because(error.to_string())
    })
}

/// The whole environment, for cargo. Variables that are not text cannot be sent;
/// cargo itself refuses most of them.
pub(crate) fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
