//! The preset for tests of vx: its variables, its endpoints, `vx kill` at the end.
//!
//! | variable | value |
//! |---|---|
//! | `VX_HOME` | a private directory |
//! | `VX_DAEMON`, `VX_CAS`, `VX_EXEC` | private endpoints `daemon`, `cas`, `exec` |
//! | `VX_DOWNLOAD_CACHE_DIR` | the caller's, else one that the tests of a target directory share |

use std::path::PathBuf;

use crate::builder::TestEnvBuilder;
use crate::endpoint::Flavour;
use crate::env::TestEnv;
use crate::programs;

impl TestEnv {
    /// An environment for vx, with Unix sockets as endpoints.
    ///
    /// # Panics
    /// If it cannot be made; most likely the binaries have not been built.
    #[track_caller]
    pub fn vx() -> TestEnv {
        TestEnv::vx_builder(Flavour::Unix).build()
    }

    /// As [`vx`](Self::vx), with TCP ports out of a leased block as endpoints:
    /// vx itself binds them when it starts its services.
    ///
    /// # Panics
    /// As [`vx`](Self::vx).
    #[track_caller]
    pub fn vx_tcp() -> TestEnv {
        TestEnv::vx_builder(Flavour::Leased).build()
    }

    /// The declarations of [`vx`](Self::vx), to be added to.
    pub fn vx_builder(flavour: Flavour) -> TestEnvBuilder {
        let mut builder = TestEnv::builder()
            .dir("vx-home", "VX_HOME")
            .endpoint("daemon", "VX_DAEMON", flavour)
            .endpoint("cas", "VX_CAS", flavour)
            .endpoint("exec", "VX_EXEC", flavour)
            .env("VX_DOWNLOAD_CACHE_DIR", download_cache())
            .teardown("vx", ["kill"]);
        for program in ["vx", "vx-daemon", "vx-casd", "vx-execd"] {
            builder = builder.requires(program).redact_version(program);
        }
        // The default home of vx is not a test's to make.
        if let Some(home) = std::env::home_dir() {
            builder = builder.watch(home.join(".local/share/vx"));
        }
        builder
    }
}

/// Content in it is checked by its hash, so tests may share it.
fn download_cache() -> PathBuf {
    if let Some(dir) = std::env::var_os("VX_DOWNLOAD_CACHE_DIR") {
        return dir.into();
    }
    programs::profile_dir()
        .and_then(|profile| Some(profile.parent()?.join("vx-downloads")))
        .unwrap_or_else(|| std::env::temp_dir().join("vx-downloads"))
}
