//! The command line: names, help texts, and nothing of what the commands do.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::Styles;
use clap::builder::styling::{AnsiColor, Effects};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::exit;
use crate::options::{OutputOptions, StoreOptions, duration, size};

/// The colours of cargo's help.
const STYLES: Styles = Styles::styled()
    .header(AnsiColor::BrightGreen.on_default().effects(Effects::BOLD))
    .usage(AnsiColor::BrightGreen.on_default().effects(Effects::BOLD))
    .literal(AnsiColor::BrightCyan.on_default().effects(Effects::BOLD))
    .placeholder(AnsiColor::Cyan.on_default())
    .error(AnsiColor::BrightRed.on_default().effects(Effects::BOLD));

const EXAMPLES: &str = "\
Examples:
  vrift ingest node_modules                  Store a directory; its files stay as they are
  vrift link node_modules ../other/modules   Make the same directory somewhere else
  vrift ingest --mode phantom old-project    Store it and replace its files by links
  vrift restore old-project                  Make files of the links again
  vrift status                               How much is stored, and what it saves
  vrift gc --dry-run                         What could be removed

With a daemon the store is that of all users of this machine; without one it is ~/.vrift/the_source.
More: `vrift help COMMAND`";

/// Keeps directories in a store that has each content once.
#[derive(Parser, Debug)]
#[command(
    name = "vrift",
    version,
    styles = STYLES,
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit::table()),
    max_term_width = 100,
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) output: OutputOptions,
    #[command(flatten)]
    pub(crate) store: StoreOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Store the content of a directory
    Ingest(Ingest),
    /// Make a stored directory somewhere else
    Link(Link),
    /// Make files again of what `ingest --mode phantom` replaced
    Restore {
        /// The directory
        #[arg(default_value = ".")]
        path: PathBuf,
    },
    /// Show which store is used, how much is in it, and for whom
    Status,
    /// Remove what nobody keeps
    Gc(Gc),
    /// Check every blob and find what is missing
    Verify(Verify),
    /// Write a blob to standard output or a file
    Fetch {
        /// `HASH/SIZE` or `HASH_SIZE`, as `vrift manifest` shows it
        digest: String,
        /// Write to this file, which must not exist
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Show what a manifest contains
    Manifest {
        /// A directory that was ingested, or a manifest
        #[arg(default_value = ".")]
        path: PathBuf,
    },
    /// Stop keeping the content of a directory
    Forget {
        /// The directory, which may be gone
        path: PathBuf,
    },
    /// Look for what keeps vrift from working
    Doctor,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Options of `ingest`.
#[derive(Args, Debug)]
pub(crate) struct Ingest {
    /// The directory
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// What becomes of the files
    #[arg(long, default_value = "solid")]
    pub(crate) mode: Mode,
    /// What kind of content it is; both are stored alike, and the daemon's log tells them apart
    #[arg(long, default_value = "tier2")]
    pub(crate) tier: Tier,
    /// Read every file, even those that have not changed since the last ingest
    #[arg(long)]
    pub(crate) no_cache: bool,
}

/// What becomes of files that are ingested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// They stay as they are.
    Solid,
    /// They are replaced by symbolic links into the store; `vrift restore` undoes it.
    Phantom,
}

/// What kind of content it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// Does not change, e.g. installed packages.
    Tier1,
    /// Changes, e.g. sources.
    Tier2,
}

/// Options of `link`.
#[derive(Args, Debug)]
pub(crate) struct Link {
    /// A directory that was ingested, or a manifest
    #[arg(value_name = "MANIFEST|PATH")]
    pub(crate) source: PathBuf,
    /// Where to make it; new or empty
    pub(crate) dest: PathBuf,
    /// What the files are; clones where the file system has them and copies elsewhere unless given
    #[arg(long)]
    pub(crate) how: Option<HowOption>,
}

/// What the files of a linked directory are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HowOption {
    /// Symbolic links into the store, read-only.
    Symlink,
    /// Files that share space with the store until they are written to.
    Reflink,
    /// Files.
    Copy,
}

/// Options of `gc`.
#[derive(Args, Debug)]
pub(crate) struct Gc {
    /// Only say what would be removed
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Stop when the store takes no more than this, e.g. 20G
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_size: Option<u64>,
    /// Leave alone what was used more recently, e.g. 7d
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1h")]
    pub(crate) older_than: Duration,
}

/// Options of `verify`.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// Store again what is missing, from the directories that were ingested
    #[arg(long)]
    pub(crate) repair: bool,
    /// Another directory that may have what is missing
    #[arg(long, value_name = "DIR", requires = "repair")]
    pub(crate) from: Vec<PathBuf>,
}
