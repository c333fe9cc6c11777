//! The command line: names, help texts, and nothing of what the commands do.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::builder::Styles;
use clap::builder::styling::{AnsiColor, Effects};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::exit;
use crate::options::{
    CompileOptions, MessageFormat, OutputOptions, PackageOptions, ProjectOptions, RunTargetOptions,
    TargetOptions,
};

/// The colours of cargo's help.
const STYLES: Styles = Styles::styled()
    .header(AnsiColor::BrightGreen.on_default().effects(Effects::BOLD))
    .usage(AnsiColor::BrightGreen.on_default().effects(Effects::BOLD))
    .literal(AnsiColor::BrightCyan.on_default().effects(Effects::BOLD))
    .placeholder(AnsiColor::Cyan.on_default())
    .error(AnsiColor::BrightRed.on_default().effects(Effects::BOLD))
    .valid(AnsiColor::BrightCyan.on_default().effects(Effects::BOLD))
    .invalid(AnsiColor::Yellow.on_default().effects(Effects::BOLD));

const EXAMPLES: &str = "\
Examples:
  vx build                     Build the package in this directory
  vx build --release -p tool   Build one package of a workspace, optimized
  vx +nightly check            Find errors, with another toolchain
  vx run --bin tool -- --help  Build a program and run it
  vx explain                   Say why units were rebuilt in the last build
  vx kill                      End vx-daemon and all that it started

Services are started when they are needed, and answer at once from then on.
More: `vx help COMMAND`, `vx help environment`, `vx help exit-codes`";

/// Builds Rust projects hermetically, with the commands of cargo.
///
/// vx asks the toolchain's own cargo what to build, runs every compiler and
/// build script in a sandbox that sees its declared inputs only, and never runs
/// one twice for the same inputs, whichever checkout they come from.
#[derive(Parser, Debug)]
#[command(
    name = "vx",
    version,
    styles = STYLES,
    override_usage = "vx [+toolchain] [OPTIONS] <COMMAND>",
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{}\n\n{}", exit::table(), environment_table()),
    disable_help_subcommand = true,
    max_term_width = 100,
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) output: OutputOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What vx can do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Compile the selected packages and all of their dependencies
    #[command(
        visible_alias = "b",
        after_help = "\
Examples:
  vx build --release
  vx build --workspace --all-targets
  vx build -p tool --features tls,color
  vx build --message-format json | jq .reason"
    )]
    Build(BuildArgs),
    /// Find errors without making programs
    #[command(
        visible_alias = "c",
        after_help = "\
Examples:
  vx check
  vx check --workspace --all-targets --keep-going"
    )]
    Check(BuildArgs),
    /// Build a program and run it
    #[command(
        visible_alias = "r",
        after_help = "\
The exit code is that of the program.

Examples:
  vx run
  vx run --release --bin tool -- --its-own-option file"
    )]
    Run(RunArgs),
    /// Say why units were rebuilt in the last build
    #[command(after_help = "\
Examples:
  vx explain
  vx explain serde --release")]
    Explain(ExplainArgs),
    /// Remove what vx left in the target directory
    #[command(after_help = "\
What is in the store stays there: the next build only lays it out again.

Examples:
  vx clean
  vx clean --release")]
    Clean(CleanArgs),
    /// Show, install, update and remove toolchains
    #[command(after_help = "\
A build uses the toolchain that rustup would use: +toolchain, RUSTUP_TOOLCHAIN,
rust-toolchain.toml, rustup's overrides and default. One that is not on this
machine is fetched from the distribution server and kept in the download cache.

Examples:
  vx toolchain show                       Which one a build here uses, and why
  vx toolchain install nightly --component rust-src
  vx toolchain install 1.90.0 --target wasm32-unknown-unknown
  vx toolchain update                     Ask what `stable` is now
  vx toolchain remove nightly")]
    Toolchain(ToolchainArgs),
    /// Show what runs; starts nothing
    Status,
    /// End vx-daemon and all that it started
    #[command(
        after_help = "Services that were started by hand go on. Nothing running is a success."
    )]
    Kill,
    /// Show the versions of vx and of its services; starts nothing
    Version,
    /// Say what is wrong with this machine's setup and how to mend it
    Doctor,
    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  vx completions bash > ~/.local/share/bash-completion/completions/vx
  vx completions zsh > ~/.zfunc/_vx
  vx completions fish > ~/.config/fish/completions/vx.fish")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print this message, the help of a command, or of a topic
    Help {
        /// A command, `environment` or `exit-codes`
        topic: Option<String>,
    },
}

/// `vx build` and `vx check`.
#[derive(Args, Debug)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    pub(crate) packages: PackageOptions,
    #[command(flatten)]
    pub(crate) targets: TargetOptions,
    #[command(flatten)]
    pub(crate) compile: CompileOptions,
}

/// `vx run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Arguments for the program
    #[arg(value_name = "ARGS", trailing_var_arg = true)]
    pub(crate) args: Vec<OsString>,
    #[command(flatten)]
    pub(crate) target: RunTargetOptions,
    #[command(flatten)]
    pub(crate) compile: CompileOptions,
}

/// `vx explain`.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// Only units of this package or target
    #[arg(value_name = "UNIT")]
    pub(crate) unit: Option<String>,
    #[command(flatten)]
    pub(crate) project: ProjectOptions,
}

/// `vx toolchain`.
#[derive(Args, Debug)]
pub(crate) struct ToolchainArgs {
    #[command(subcommand)]
    pub(crate) command: ToolchainCommand,
    /// In which form messages are printed
    #[arg(
        long,
        global = true,
        value_name = "FMT",
        value_delimiter = ',',
        help_heading = "Output Options"
    )]
    pub(crate) message_format: Vec<MessageFormat>,
}

/// What to do about toolchains.
#[derive(Subcommand, Debug)]
pub(crate) enum ToolchainCommand {
    /// Say which toolchain a build here uses, why, and where it comes from
    Show,
    /// List the toolchains of vx and of rustup; the one that a build here uses is marked
    List,
    /// Install releases of Rust from the distribution server, for vx only
    #[command(after_help = "\
The toolchain has rustc, cargo and the standard library for the host, and what
is asked for besides; documentation is never installed. What was asked for
before stays. rustup and its toolchains are left alone.")]
    Install(InstallArgs),
    /// Ask the distribution server what channels mean now; nothing else moves them
    Update {
        /// The channels, e.g. `stable`; all of them when absent
        #[arg(value_name = "CHANNEL")]
        names: Vec<String>,
    },
    /// Remove releases that vx installed
    #[command(visible_alias = "uninstall")]
    Remove {
        /// Their names
        #[arg(value_name = "TOOLCHAIN", required = true)]
        names: Vec<String>,
    },
}

/// `vx toolchain install`.
#[derive(Args, Debug)]
pub(crate) struct InstallArgs {
    /// The releases, e.g. `stable` or `nightly-2025-09-01`; the one that a build here uses when absent
    #[arg(value_name = "TOOLCHAIN")]
    pub(crate) names: Vec<String>,
    /// A component besides, e.g. `clippy`, `rustfmt` or `rust-src`
    #[arg(short, long, value_name = "COMPONENT", value_delimiter = ',')]
    pub(crate) component: Vec<String>,
    /// A target besides the host
    #[arg(short, long, value_name = "TRIPLE", value_delimiter = ',')]
    pub(crate) target: Vec<String>,
    /// `minimal`, `default` or `complete`
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Option<String>,
    /// Install from the download cache only
    #[arg(long)]
    pub(crate) offline: bool,
}

/// `vx clean`.
#[derive(Args, Debug)]
pub(crate) struct CleanArgs {
    #[command(flatten)]
    pub(crate) project: ProjectOptions,
}

/// The environment variables, for people.
pub(crate) fn environment_table() -> String {
    let mut table = "Environment:".to_owned();
    for variable in vx_proto::env::VARIABLES {
        // Writing to a string cannot fail.
        let _ok = write!(
            table,
            "\n  {} (default: {})\n      {}",
            variable.name, variable.default, variable.meaning
        );
    }
    table.push_str(
        "\n  NO_COLOR, CLICOLOR_FORCE, CARGO_TERM_COLOR\n      \
         Colours, when `--color` is not given.\n  \
         HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR\n      \
         How servers are reached, and whom to trust. For toolchains, vx-daemon goes by\n      \
         what was set when it was started; `vx kill` ends it.",
    );
    table
}

/// Takes `+toolchain` out of the arguments: only as the first one, as rustup does.
pub(crate) fn split_toolchain(
    args: impl IntoIterator<Item = OsString>,
) -> (Option<String>, Vec<OsString>) {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let toolchain = args
        .get(1)
        .and_then(|first| first.to_str())
        .and_then(|first| first.strip_prefix('+'))
        .filter(|name| !name.is_empty())
        .map(str::to_owned);
    if toolchain.is_some() {
        args.remove(1);
    }
    (toolchain, args)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn os(args: &[&str]) -> Vec<OsString> {
        args.iter().map(OsString::from).collect()
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn only_the_first_argument_names_a_toolchain() {
        let (toolchain, args) = split_toolchain(os(&["vx", "+nightly", "build"]));
        assert_eq!(toolchain.as_deref(), Some("nightly"));
        assert_eq!(args, os(&["vx", "build"]));
        for args in [&["vx", "run", "+x"][..], &["vx", "+"], &["vx"]] {
            assert_eq!(split_toolchain(os(args)), (None, os(args)));
        }
    }

    #[test]
    fn arguments_after_two_dashes_belong_to_the_program() {
        let cli = Cli::try_parse_from(["vx", "r", "--bin", "a", "--", "--release", "-v"]).unwrap();
        let Command::Run(run) = cli.command else {
            panic!("not run");
        };
        assert_eq!(run.args, os(&["--release", "-v"]));
        assert!(!run.compile.release);
        assert_eq!(cli.output.verbose, 0);
    }

    #[test]
    fn options_of_cargo_are_accepted() {
        for line in [
            "vx b -r -p a -p b --exclude c --all -j2",
            "vx -v c --all-targets --message-format=json,json-diagnostic-rendered-ansi -v",
            "vx build -F a,b --features c --target x86_64-unknown-linux-musl --frozen -q",
            "vx build --color never --lib --bins --bin x --examples --tests --benches --bench y",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for line in [
            "vx build --release --profile dev",
            "vx build --exclude a",
            "vx build -j0",
            "vx -q -v build",
        ] {
            Cli::try_parse_from(line.split(' ')).expect_err(line);
        }
    }
}
