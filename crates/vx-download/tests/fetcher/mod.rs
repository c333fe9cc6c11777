//! Another process that fetches the file of a scene: the test program once more, with one test that fetches.

use std::time::Duration;

use vx_download::{Cache, Error, Options, Request};
use vx_testkit::{Command, TestEnv};

use crate::support::{LIMIT, Scene};

/// The process; it says what became of the file, and fails if it did not get it.
pub(crate) fn fetcher(env: &TestEnv, scene: &Scene) -> Command {
    let me = std::env::current_exe().unwrap();
    let test = "fetcher::fetch_in_a_process_of_its_own";
    env.command(me.to_str().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("FETCH_CACHE", scene.dir.path())
        .env("FETCH_URL", scene.server.url("/file"))
        .env("FETCH_DIGEST", scene.digest().to_string())
        .timeout(LIMIT)
}

/// The other side of [`fetcher`]; an empty test when run as one.
#[test]
fn fetch_in_a_process_of_its_own() {
    let Ok(dir) = std::env::var("FETCH_CACHE") else {
        return;
    };
    let digest = std::env::var("FETCH_DIGEST").unwrap().parse().unwrap();
    let request = Request::new(std::env::var("FETCH_URL").unwrap(), digest);
    let mut options = Options::default();
    options.retries.first_pause = Duration::ZERO;
    let cache = Cache::open(dir, options).unwrap();
    match cache.fetch_blocking(&request) {
        Ok(entry) => {
            let how = match entry.was_downloaded() {
                true => "downloaded",
                false => "found",
            };
            println!("fetch: {how} {} bytes", entry.size());
        }
        Err(error) => {
            let kind = match &error {
                Error::Certificate { .. } => "certificate",
                Error::Downgrade { .. } => "downgrade",
                _ => "other",
            };
            println!("fetch: {kind}: {error}");
            panic!("the file is not there");
        }
    }
}
