//! `vx` as users and scripts see it while no daemon runs.

mod place;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use place::Place;

#[test]
fn help_teaches() {
    insta::assert_snapshot!(Place::new().text(&["--help"]), @r"
    Builds Rust projects hermetically, with the commands of cargo.

    vx asks the toolchain's own cargo what to build, runs every compiler and build script in a sandbox
    that sees its declared inputs only, and never runs one twice for the same inputs, whichever checkout
    they come from.

    Usage: vx [+toolchain] [OPTIONS] <COMMAND>

    Commands:
      build        Compile the selected packages and all of their dependencies [alias: b]
      check        Find errors without making programs [alias: c]
      run          Build a program and run it [alias: r]
      explain      Say why units were rebuilt in the last build
      clean        Remove what vx left in the target directory
      toolchain    Show, install, update and remove toolchains
      status       Show what runs; starts nothing
      kill         End vx-daemon and all that it started
      version      Show the versions of vx and of its services; starts nothing
      doctor       Say what is wrong with this machine's setup and how to mend it
      completions  Print a completion script for a shell
      help         Print this message, the help of a command, or of a topic

    Options:
      -v, --verbose...
              Show what came from the store too, and each command that runs

      -q, --quiet
              Show only errors and the compiler's messages

          --color <WHEN>
              When to use colours
              
              [possible values: auto, always, never]

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Examples:
      vx build                     Build the package in this directory
      vx build --release -p tool   Build one package of a workspace, optimized
      vx +nightly check            Find errors, with another toolchain
      vx run --bin tool -- --help  Build a program and run it
      vx explain                   Say why units were rebuilt in the last build
      vx kill                      End vx-daemon and all that it started

    Services are started when they are needed, and answer at once from then on.
    More: `vx help COMMAND`, `vx help environment`, `vx help exit-codes`

    Exit codes:
        0  all went well
        1  the request cannot be carried out, e.g. there is nothing to run
        2  usage: wrong arguments or environment variables
        3  a service cannot be reached, is not ours, or is of another version
        4  internal error, or a service ended in the middle
      101  the build failed, or cargo refused the project, as with cargo
      130  interrupted by Ctrl+C
           `vx run` ends with the code of the program that it runs

    Environment:
      VX_HOME (default: `vx` in the platform's data directory)
          Holds the store, the token, logs and locks; each one has its own services.
      VX_DAEMON (default: 127.0.0.1:9001)
          Where vx-daemon listens: `host:port`, `tcp://host:port` or `unix:///path`.
      VX_CAS (default: 127.0.0.1:9002)
          Where vx-casd listens, or another store that speaks the Remote Execution API.
      VX_EXEC (default: 127.0.0.1:9003)
          Where vx-execd listens, or another executor that speaks the Remote Execution API.
      VX_EXEC_HOST_TRIPLE (default: asked from vx-execd)
          The host triple of the machine behind `VX_EXEC`, needed when it is another machine.
      VX_EXEC_SLOTS (default: the number of processors)
          How many actions vx-execd runs at a time.
      VX_EXEC_TREES (default: the toolchains that builds use)
          Directories, joined like `PATH`, that vx-execd shows to actions where they are equal to a tree
          in the store.
      VX_DOWNLOAD_CACHE_DIR (default: `download` in `VX_HOME`)
          The download cache with the toolchains and crates that were fetched, which several `VX_HOME`s
          may share.
      VX_DIST_SERVER (default: `RUSTUP_DIST_SERVER`, else static.rust-lang.org)
          The server that toolchains are fetched from, as an `https`, `http` or `file` URL.
      VX_DIST_KEY (default: the key of the Rust project)
          A file with OpenPGP keys, as `gpg --armor --export` writes it: channel manifests must be
          signed by one of them.
      NO_COLOR, CLICOLOR_FORCE, CARGO_TERM_COLOR
          Colours, when `--color` is not given.
      HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR
          How servers are reached, and whom to trust. For toolchains, vx-daemon goes by
          what was set when it was started; `vx kill` ends it.
    ");
}

#[test]
fn help_of_build_has_the_options_of_cargo() {
    insta::assert_snapshot!(Place::new().text(&["build", "-h"]), @r"
    Compile the selected packages and all of their dependencies

    Usage: vx build [OPTIONS]

    Options:
      -v, --verbose...    Show what came from the store too, and each command that runs
      -q, --quiet         Show only errors and the compiler's messages
          --color <WHEN>  When to use colours [possible values: auto, always, never]
      -h, --help          Print help (see more with '--help')

    Package Selection:
      -p, --package <SPEC>  Package to build (see `cargo help pkgid`)
          --workspace       Build all packages in the workspace
          --exclude <SPEC>  Exclude packages from the build

    Target Selection:
          --lib             Build only this package's library
          --bins            Build all binaries
          --bin <NAME>      Build only the specified binary
          --examples        Build all examples
          --example <NAME>  Build only the specified example
          --tests           Build all targets that have `test = true` set
          --test <NAME>     Build only the specified test target
          --benches         Build all targets that have `bench = true` set
          --bench <NAME>    Build only the specified bench target
          --all-targets     Build all targets

    Feature Selection:
      -F, --features <FEATURES>  Space or comma separated list of features to activate
          --all-features         Activate all available features
          --no-default-features  Do not activate the `default` feature

    Compilation Options:
      -r, --release                   Build artifacts in release mode, with optimizations
          --profile <PROFILE-NAME>    Build artifacts with the specified profile
      -j, --jobs <N>                  Number of parallel jobs, defaults to what the executor allows
          --keep-going                Do not abort the build as soon as there is an error
          --target <TRIPLE>           Build for the target triple
          --target-dir <DIRECTORY>    Directory for all generated artifacts
          --action-timeout <SECONDS>  End a compiler or build script that runs for longer than this

    Manifest Options:
          --manifest-path <PATH>  Path to Cargo.toml
          --locked                Assert that `Cargo.lock` will remain unchanged
          --offline               Run without accessing the network
          --frozen                Equivalent to specifying both --locked and --offline

    Output Options:
          --message-format <FMT>  In which form messages are printed [possible values: human, short,
                                  json, json-diagnostic-rendered-ansi, json-diagnostic-short,
                                  json-render-diagnostics]

    Examples:
      vx build --release
      vx build --workspace --all-targets
      vx build -p tool --features tls,color
      vx build --message-format json | jq .reason
    ");
}

#[test]
fn help_has_topics() {
    let place = Place::new();
    assert!(
        place
            .text(&["help", "exit-codes"])
            .contains("101  the build failed")
    );
    assert!(place.text(&["help", "environment"]).contains("VX_DAEMON"));
    let build = place.text(&["help", "build"]);
    assert!(build.contains("--all-targets"), "{build}");
    insta::assert_snapshot!(place.outcome(&["help", "nonsense"]), @r"
    error: there is no help about `nonsense`; there is about: build, check, run, explain, clean, toolchain, status, kill, version, doctor, completions, help, environment, exit-codes

    Usage: vx [+toolchain] [OPTIONS] <COMMAND>

    For more information, try '--help'.
    exit code 2
    ");
}

#[test]
fn wrong_usage_ends_with_2_and_suggests() {
    let place = Place::new();
    insta::assert_snapshot!(place.outcome(&["biuld"]), @r"
    error: unrecognized subcommand 'biuld'

      tip: some similar subcommands exist: 'b', 'build'

    Usage: vx [+toolchain] [OPTIONS] <COMMAND>

    For more information, try '--help'.
    exit code 2
    ");
    insta::assert_snapshot!(place.outcome(&["build", "--relase"]), @r"
    error: unexpected argument '--relase' found

      tip: a similar argument exists: '--release'

    Usage: vx build --release

    For more information, try '--help'.
    exit code 2
    ");
    insta::assert_snapshot!(place.outcome(&["build", "--exclude", "a"]), @r"
    error: the following required arguments were not provided:
      --workspace

    Usage: vx build --workspace --exclude <SPEC>

    For more information, try '--help'.
    exit code 2
    ");
    insta::assert_snapshot!(place.outcome(&["build", "-j", "0"]), @r"
    error: invalid value '0' for '--jobs <N>': 0 is not in 1..=1024

    For more information, try '--help'.
    exit code 2
    ");
}

#[test]
fn a_wrong_variable_is_named() {
    let mut place = Place::new();
    place.set("VX_DAEMON", "nowhere");
    insta::assert_snapshot!(place.outcome(&["status"]), @r"
    error: `VX_DAEMON` is set to something else than an endpoint
      caused by: `nowhere` is not an endpoint: no port (expected `host:port`, `tcp://host:port` or `unix:///path`)
    hint: `vx help environment` lists the variables and their forms
    exit code 2
    ");
}

#[test]
fn asking_starts_nothing_and_creates_nothing() {
    let place = Place::new();
    insta::assert_snapshot!(place.outcome(&["status"]), @r"
    vx-daemon is not running (unix://[place]/d)
    home [place]/home
    exit code 0
    ");
    insta::assert_snapshot!(place.outcome(&["kill"]), @r"
    vx-daemon is not running (unix://[place]/d)
    exit code 0
    ");
    insta::assert_snapshot!(place.outcome(&["version"]), @r"
    vx [version] (protocol 4)
    vx-daemon not running (unix://[place]/d)
    vx-casd not running (unix://[place]/c)
    vx-execd not running (unix://[place]/e)
    exit code 0
    ");
    assert!(!place.home().exists());
}

#[test]
fn a_remote_daemon_is_never_started() {
    let mut place = Place::new();
    // Reserved for documentation: never resolves.
    place.set("VX_DAEMON", "builder.invalid:9001");
    let shown = place.outcome(&["build"]);
    assert!(
        shown.contains("error: vx-daemon does not answer at builder.invalid:9001"),
        "{shown}"
    );
    assert!(
        shown.contains("hint: start it there with `VX_DAEMON=127.0.0.1:9001 vx-daemon`"),
        "{shown}"
    );
    assert!(shown.ends_with("exit code 3\n"), "{shown}");
    assert!(!place.home().join("log").exists());
}

#[test]
fn a_foreign_server_is_told_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends with the test process, which waits for nothing.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 16];
            if stream.read(&mut request).is_ok() {
                let _gone = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            }
        }
    });
    let mut place = Place::new();
    place.set("VX_DAEMON", &format!("127.0.0.1:{port}"));
    for command in [&["build"][..], &["status"], &["kill"]] {
        let shown = place.outcome(command);
        assert!(
            shown.contains(&format!(
                "error: 127.0.0.1:{port} answers, but is not vx-daemon"
            )),
            "{shown}"
        );
        assert!(
            shown.contains("hint: end that program, or set VX_DAEMON"),
            "{shown}"
        );
        assert!(shown.ends_with("exit code 3\n"), "{shown}");
    }
    let shown = place.outcome(&["version"]);
    assert!(shown.contains("problem: 127.0.0.1"), "{shown}");
    assert!(shown.ends_with("exit code 0\n"), "{shown}");
}

#[test]
fn a_daemon_that_dies_at_its_start_is_reported() {
    let place = Place::new();
    place.install_daemon("/bin/false");
    let shown = place.outcome(&["build"]);
    assert!(
        shown.contains("error: vx-daemon ended at its start"),
        "{shown}"
    );
    assert!(shown.contains("exit status: 1"), "{shown}");
    assert!(shown.ends_with("exit code 3\n"), "{shown}");
}

#[test]
fn a_missing_daemon_is_reported() {
    let place = Place::new();
    place.install_nothing();
    insta::assert_snapshot!(place.outcome(&["build"]), @r"
    error: `vx-daemon` is neither beside vx nor on PATH
    hint: install all programs of vx into one directory
    exit code 3
    ");
}

#[test]
fn doctor_says_how_to_mend() {
    let place = Place::new();
    place.install_nothing();
    let shown = place.outcome(&["doctor"]);
    assert!(
        shown.contains("fail program    `vx-daemon` is neither beside vx nor on PATH"),
        "{shown}"
    );
    assert!(
        shown.contains("hint: install all programs of vx into one directory"),
        "{shown}"
    );
    assert!(shown.contains("ok token      none yet"), "{shown}");
    assert!(shown.ends_with("exit code 1\n"), "{shown}");
    assert!(!place.home().exists());
}

#[test]
fn completions_are_made_for_each_shell() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.text(&["completions", shell]).contains("vx"));
    }
}

#[test]
fn a_reader_that_leaves_is_no_panic() {
    let place = Place::new();
    let mut child = place
        .command(&["completions", "zsh"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
