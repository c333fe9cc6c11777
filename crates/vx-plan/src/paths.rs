//! The virtual paths that every action sees: one layout for all machines and checkouts.
//!
//! Nothing here knows what is really mounted there; the executor's input root has the same names.

/// The Rust sysroot (`bin`, `lib`), read-only.
pub const TOOLCHAIN: &str = "/vx/toolchain";
/// `rustc` of the sysroot.
pub const RUSTC: &str = "/vx/toolchain/bin/rustc";
/// `cargo` of the sysroot.
pub const CARGO: &str = "/vx/toolchain/bin/cargo";
/// `rustdoc` of the sysroot.
pub const RUSTDOC: &str = "/vx/toolchain/bin/rustdoc";
/// The workspace root with all members.
pub const WORKSPACE: &str = "/vx/ws";
/// Parent of the registry and git packages.
pub const PACKAGES: &str = "/vx/pkg";
/// Parent of the path packages that lie outside of the workspace root.
pub const PATH_PACKAGES: &str = "/vx/path";
/// Libraries of the transitive closure of the unit.
pub const DEPS: &str = "/vx/deps";
/// Parent of the `OUT_DIR`s and of the compiled build scripts.
pub const BUILD: &str = "/vx/build";
/// `--out-dir` of rustc, writable.
pub const OUT: &str = "/vx/out";
/// Scratch space, private to the action; also its `HOME`.
pub const TMP: &str = "/tmp";
/// `PATH` of every action.
pub const PATH: &str = "/vx/toolchain/bin:/usr/local/bin:/usr/bin:/bin";
