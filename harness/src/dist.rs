//! Toolchains of a distribution server, for somebody who finds no other.

use std::fs;
use std::path::{Path, PathBuf};

use vx_testkit::{Command, RustDist, RustDistBuilder, TestEnv};

/// The host triple of this machine.
pub fn host() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// A release of programs that know their version and nothing else, and a component with a file of `size` bytes.
pub fn made_up(size: usize) -> RustDistBuilder {
    let rustc = format!(
        "#!/bin/sh\necho 'rustc 1.99.0'\necho 'host: {}'\necho 'release: 1.99.0'\n",
        host()
    );
    RustDist::builder("stable", "1.99.0", host())
        .component("rustc", [("bin/rustc", rustc)])
        .component("cargo", [("bin/cargo", "#!/bin/sh\necho 'cargo 1.99.0'\n")])
        .component("rust-std", [("lib/rustlib/big", vec![0_u8; size])])
}

/// `vx` where no other toolchain can be found, with a download cache at `cache`.
pub fn vx(env: &TestEnv, dist: &RustDist, cache: &Path) -> Command {
    env.command("vx")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("RUSTUP_HOME", env.home().join("no-rustup"))
        .env("CARGO_HOME", env.home().join("cargo"))
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("RUSTUP_DIST_SERVER", dist.root())
        .env("VX_DOWNLOAD_CACHE_DIR", cache)
}

/// What of toolchains is in a download cache; nothing of it may be half done.
///
/// # Panics
///
/// If it cannot be listed.
pub fn installed(cache: &Path) -> Vec<PathBuf> {
    let root = cache.join("toolchains/v1");
    ["installed", "channels"]
        .iter()
        .filter_map(|name| fs::read_dir(root.join(name)).ok())
        .flatten()
        .map(|entry| match entry {
            Ok(entry) => entry.path(),
            Err(error) => panic!("cannot list `{}`: {error}", root.display()),
        })
        .collect()
}
