//! Asks cargo what a build consists of.
//!
//! Cargo resolves features, profiles, targets and dependencies and fetches what is missing; it compiles nothing here.
//! The unit graph is an unstable output of cargo, which stable releases give with `RUSTC_BOOTSTRAP=1`; see <https://doc.rust-lang.org/cargo/reference/unstable.html#unit-graph>.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;
use vx_proto::command::{BuildEvent, BuildKind, BuildRequest, Selection};
use vx_toolchain::Toolchain;

use crate::cargo_home::CargoHome;
use crate::cargo_words::{Piece, Pieces};
use crate::crate_downloads::{CrateDownloads, PACE};
use crate::missing;
use crate::report::Reporter;
use crate::tether;

/// Output of cargo beyond this many bytes is not a unit graph of a real project.
const OUTPUT_LIMIT: u64 = 512 << 20;

/// Why cargo gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CargoError {
    /// It could not be started or read.
    #[error("cannot run `{}`", program.display())]
    Run {
        /// The cargo of the selected toolchain.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It refused; its own words have been shown already.
    #[error("cargo refused the request ({status})")]
    Refused {
        /// How it ended.
        status: ExitStatus,
        /// Its last words, for callers that did not show them.
        message: String,
    },
}

/// The three answers of cargo that a plan is made from, as it printed them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Answers {
    /// `cargo build --unit-graph`
    pub(crate) unit_graph: String,
    /// `cargo metadata`
    pub(crate) metadata: String,
    /// `cargo config get`
    pub(crate) config: String,
}

/// What of cargo's words a client is told.
#[derive(Clone, Copy)]
enum Told<'a> {
    /// All of them.
    All(&'a Reporter),
    /// What they say of downloads.
    Downloads(&'a Reporter),
    /// Nothing.
    Nothing,
}

impl<'a> Told<'a> {
    fn of_downloads(self) -> Option<&'a Reporter> {
        match self {
            Told::All(reporter) | Told::Downloads(reporter) => Some(reporter),
            Told::Nothing => None,
        }
    }
}

/// The cargo of one toolchain, in the directory and the environment of one request.
pub(crate) struct Cargo<'a> {
    pub(crate) toolchain: &'a Toolchain,
    pub(crate) request: &'a BuildRequest,
    pub(crate) home: &'a CargoHome,
}

impl Cargo<'_> {
    /// Runs what a plan needs; what cargo says meanwhile goes to `reporter`.
    pub(crate) async fn answers(&self, reporter: &Reporter) -> Result<Answers, CargoError> {
        // The unit graph first: it may write Cargo.lock and download packages, which the other two then find.
        let unit_graph = match self.run(self.unit_graph(), Told::All(reporter)).await {
            Err(CargoError::Refused { status, message }) => {
                if missing::is_offline_failure(&message) {
                    self.tell_what_is_missing(reporter).await;
                }
                return Err(CargoError::Refused { status, message });
            }
            other => other?,
        };
        let (metadata, config) = tokio::join!(
            // It may want packages that no unit is of.
            self.run(self.metadata(), Told::Downloads(reporter)),
            self.run(self.config(), Told::Nothing)
        );
        Ok(Answers {
            unit_graph,
            metadata: metadata?,
            config: config?,
        })
    }

    /// Lists all packages that would have to be downloaded; cargo has named one of them.
    async fn tell_what_is_missing(&self, reporter: &Reporter) {
        let mut command = self.command("locate-project");
        command.args(["--workspace", "--message-format", "plain"]);
        if let Some(path) = &self.request.selection.manifest_path {
            command.arg("--manifest-path").arg(path);
        }
        // Without a lock file nobody knows what would be needed.
        let Ok(manifest) = self.run(command, Told::Nothing).await else {
            return;
        };
        let lock = Path::new(manifest.trim_end()).with_file_name("Cargo.lock");
        let home = self.home.downloads().to_owned();
        let listed = tokio::task::spawn_blocking(move || {
            let lock = std::fs::read_to_string(lock).ok()?;
            Some(missing::packages(&lock, &home))
        });
        if let Ok(Some(missing)) = listed.await
            && !missing.is_empty()
        {
            reporter
                .event(BuildEvent::Error {
                    message: format!(
                        "{} packages that Cargo.lock names are not on this machine (some may be for other platforms): {}",
                        missing.len(),
                        missing.join(", ")
                    ),
                    hints: vec!["build once without --offline or --frozen".to_owned()],
                })
                .await;
        }
    }

    fn unit_graph(&self) -> Command {
        let mut command = self.command(match self.request.kind {
            BuildKind::Build => "build",
            BuildKind::Check => "check",
        });
        command
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["--unit-graph", "-Zunstable-options"])
            .args(selection_arguments(&self.request.selection));
        if self.request.quiet {
            command.arg("--quiet");
        }
        command
    }

    fn metadata(&self) -> Command {
        let selection = &self.request.selection;
        let mut command = self.command("metadata");
        command.args(["--format-version", "1", "--filter-platform"]);
        command.arg(&self.toolchain.host);
        for target in &selection.target {
            command.arg("--filter-platform").arg(target);
        }
        if let Some(path) = &selection.manifest_path {
            command.arg("--manifest-path").arg(path);
        }
        // Without these, optional packages that the graph uses would not be listed.
        if selection.all_features {
            command.arg("--all-features");
        }
        if selection.no_default_features {
            command.arg("--no-default-features");
        }
        for features in &selection.features {
            command.arg("--features").arg(features);
        }
        command.args(lock_arguments(selection));
        command
    }

    fn config(&self) -> Command {
        let mut command = self.command("config");
        command.env("RUSTC_BOOTSTRAP", "1").args([
            "-Zunstable-options",
            "get",
            "--format",
            "json",
            "--merged",
            "yes",
        ]);
        command
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.toolchain.cargo);
        command
            .arg(subcommand)
            .env_clear()
            .envs(self.request.env.iter().map(|(n, v)| (n, v)))
            // Cargo asks the compiler for its version and cfg values; wrappers have no say in that.
            .env("RUSTC", &self.toolchain.rustc)
            .env("RUSTC_WRAPPER", "")
            .env("RUSTC_WORKSPACE_WRAPPER", "")
            .current_dir(&self.request.cwd)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if let Some(home) = self.home.variable() {
            command.env("CARGO_HOME", home);
        }
        if let Some(dir) = &self.request.selection.target_dir {
            command.env("CARGO_TARGET_DIR", dir);
        }
        command
    }

    async fn run(&self, mut command: Command, told: Told<'_>) -> Result<String, CargoError> {
        if told.of_downloads().is_some() {
            // Nothing else says how much is to come.
            command
                .env("CARGO_TERM_PROGRESS_WHEN", "always")
                .env("CARGO_TERM_PROGRESS_WIDTH", "120");
        }
        let failed = |source| CargoError::Run {
            program: self.toolchain.cargo.clone(),
            source,
        };
        tether::tie(&mut command);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (stdout, stderr) = match (child.stdout.take(), child.stderr.take()) {
            (Some(stdout), Some(stderr)) => (stdout, stderr),
            _ => return Err(failed(io::ErrorKind::BrokenPipe.into())),
        };
        let mut printed = Vec::new();
        let mut limited = stdout.take(OUTPUT_LIMIT);
        let (read, said) =
            tokio::join!(limited.read_to_end(&mut printed), self.relay(stderr, told));
        read.map_err(failed)?;
        let status = child.wait().await.map_err(failed)?;
        if !status.success() {
            return Err(CargoError::Refused {
                status,
                message: said,
            });
        }
        String::from_utf8(printed)
            .map(|printed| self.home.translate(printed))
            .map_err(|e| failed(io::Error::new(io::ErrorKind::InvalidData, e)))
    }

    /// Passes on what cargo says, line by line, and returns the last lines of it.
    async fn relay(&self, stderr: impl AsyncRead + Unpin, told: Told<'_>) -> String {
        const KEPT: usize = 16 << 10;
        let mut pieces = Pieces::new(stderr);
        let mut downloads = told
            .of_downloads()
            .map(|reporter| CrateDownloads::new(reporter, self.request, self.home.downloads()));
        let mut kept = String::new();
        loop {
            let piece = match &mut downloads {
                Some(downloads) if downloads.is_behind() => {
                    match timeout(PACE, pieces.next()).await {
                        Ok(piece) => piece,
                        Err(_) => {
                            downloads.catch_up();
                            continue;
                        }
                    }
                }
                _ => pieces.next().await,
            };
            let text = match piece {
                Ok(Some(Piece::Line(line))) => self.home.translate(line),
                Ok(Some(Piece::Bar(bar))) => {
                    if let Some(downloads) = &mut downloads {
                        downloads.bar(&bar);
                    }
                    continue;
                }
                Ok(None) | Err(_) => break,
            };
            let is_told = match &mut downloads {
                Some(downloads) => downloads.line(&text).await,
                None => true,
            };
            if let (false, Told::All(reporter)) = (is_told, told) {
                reporter.cargo_says(text.as_bytes()).await;
            }
            kept.push_str(&text);
            if kept.len() > KEPT {
                let cut = kept.len() - KEPT / 2;
                let cut = (cut..kept.len())
                    .find(|&i| kept.is_char_boundary(i))
                    .unwrap_or(0);
                kept.drain(..cut);
            }
        }
        if let Some(downloads) = &mut downloads {
            downloads.end().await;
        }
        kept
    }
}

/// The arguments of `cargo build` for a selection, as the user gave them to vx.
pub(crate) fn selection_arguments(selection: &Selection) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut flag = |name: &str, on: bool| {
        if on {
            arguments.push(name.into());
        }
    };
    flag("--workspace", selection.workspace);
    flag("--lib", selection.lib);
    flag("--bins", selection.bins);
    flag("--examples", selection.examples);
    flag("--tests", selection.tests);
    flag("--benches", selection.benches);
    flag("--all-targets", selection.all_targets);
    flag("--all-features", selection.all_features);
    flag("--no-default-features", selection.no_default_features);
    flag("--release", selection.release);
    let mut option = |name: &str, value: &str| {
        arguments.push(name.into());
        arguments.push(value.into());
    };
    for (name, values) in [
        ("--package", &selection.packages),
        ("--exclude", &selection.exclude),
        ("--bin", &selection.bin),
        ("--example", &selection.example),
        ("--test", &selection.test),
        ("--bench", &selection.bench),
        ("--features", &selection.features),
        ("--target", &selection.target),
    ] {
        for value in values {
            option(name, value);
        }
    }
    if let Some(profile) = &selection.profile {
        option("--profile", profile);
    }
    if let Some(path) = &selection.manifest_path {
        arguments.push("--manifest-path".into());
        arguments.push(path.into());
    }
    arguments.extend(lock_arguments(selection));
    arguments
}

fn lock_arguments(selection: &Selection) -> Vec<OsString> {
    [
        ("--locked", selection.locked),
        ("--offline", selection.offline),
        ("--frozen", selection.frozen),
    ]
    .into_iter()
    .filter(|(_, on)| *on)
    .map(|(name, _)| name.into())
    .collect()
}

/// The compiler's facts about a platform, as `cargo` itself asks for them.
///
/// `flags` are the rustflags that apply to the platform: target features show up among the cfg values.
pub(crate) async fn print_cfg(
    toolchain: &Toolchain,
    target: &str,
    flags: &[String],
    directory: &Path,
) -> Result<String, CargoError> {
    let mut command = Command::new(&toolchain.rustc);
    command
        .args(["--print", "cfg", "--target", target])
        .args(flags)
        .env_clear()
        .current_dir(directory)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let failed = |source| CargoError::Run {
        program: toolchain.rustc.clone(),
        source,
    };
    tether::tie(&mut command);
    let output = command.output().await.map_err(failed)?;
    if !output.status.success() {
        return Err(CargoError::Refused {
            status: output.status,
            message: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    String::from_utf8(output.stdout)
        .map_err(|e| failed(io::Error::new(io::ErrorKind::InvalidData, e)))
}
