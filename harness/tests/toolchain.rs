//! The toolchain is an input like any other.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use std::path::{Path, PathBuf};

use harness::{Project, build};
use vx_testkit::TestEnv;

/// A toolchain of the test's own. Copied, since hard links would move the times of the files that all other tests use.
fn copy_of_toolchain(to: &Path) {
    let output = std::process::Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .unwrap();
    let sysroot = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    for part in ["bin", "lib"] {
        copy_all(&sysroot.join(part), &to.join(part));
    }
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy_all(&source, &copy);
        } else {
            std::fs::copy(&source, &copy).unwrap();
        }
    }
}

/// The compiler itself is a library that has far more bytes.
const LIBRARY: u64 = 32 << 20;

fn largest_file(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let sizes = entries.map(|entry| match entry.file_type().unwrap().is_dir() {
        true => largest_file(&entry.path()),
        false => entry.metadata().unwrap().len(),
    });
    sizes.max().unwrap_or(0)
}

#[test]
fn another_toolchain_rebuilds_everything_and_the_old_one_nothing() {
    let env = TestEnv::vx();
    let hello = Project::hello(&env, "hello", "hello");
    let own = env.work_dir().join("toolchain");
    copy_of_toolchain(&own);
    let built = || {
        let path = std::env::var("PATH").unwrap();
        let run = env
            .command("vx")
            .arg("build")
            .env("PATH", format!("{}:{path}", own.join("bin").display()))
            // It would choose one of rustup's.
            .env_remove("RUSTUP_TOOLCHAIN")
            .current_dir(hello.dir())
            .run()
            .expect_success();
        run.stderr().contains(", 1 built")
    };
    // The same files in another place are the same toolchain.
    assert_eq!(build(&hello, &[]).ran, ["hello build bin"]);
    assert!(!built());
    // One more file, as a component that is added leaves it.
    std::fs::write(own.join("lib/rustlib/extra"), "a component").unwrap();
    assert!(built());
    assert!(!built());
    std::fs::remove_file(own.join("lib/rustlib/extra")).unwrap();
    assert!(!built());
    assert!(build(&hello, &[]).ran.is_empty());
    // The executor is on the same machine, and uses each of them where it is.
    let largest = largest_file(&env.dir("vx-home").join("cas/blobs"));
    assert!((1..LIBRARY).contains(&largest), "{largest} bytes");
    env.finish();
}
