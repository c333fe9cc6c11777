//! rustup itself, where there is one, installs from the distribution server.

use vx_testkit::{HttpFault, RustDist, TestEnv};

const TARGET: &str = "x86_64-unknown-linux-gnu";

fn dist() -> RustDist {
    let rustc = "#!/bin/sh\necho made-up rustc\n";
    RustDist::builder("stable", "1.2.3", TARGET)
        .component("rustc", [("bin/rustc", rustc)])
        .component("cargo", [("bin/cargo", "#!/bin/sh\n")])
        .component("rust-std", [("lib/rustlib/std.rlib", "library")])
        .start()
}

#[test]
fn the_manifest_names_each_tarball_with_its_hash() {
    let dist = dist();
    for component in ["rustc", "cargo", "rust-std"] {
        let url = dist.url(dist.tarball(component));
        let (_, rest) = dist
            .manifest()
            .split_once(&format!("url = \"{url}\"\n"))
            .unwrap();
        let hash = rest.lines().next().unwrap();
        assert_eq!(hash.len(), "hash = \"\"".len() + 64, "{hash}");
    }
    dist.server()
        .fault(dist.tarball("rustc"), HttpFault::Status(404));
    // A fault that is planned must happen.
    let mut stream = std::net::TcpStream::connect(dist.server().address()).unwrap();
    let request = format!("GET {} HTTP/1.1\r\n\r\n", dist.tarball("rustc"));
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[test]
fn files_of_a_toolchain_are_served_as_they_are() {
    let sysroot = tempfile::tempdir().unwrap();
    std::fs::create_dir(sysroot.path().join("bin")).unwrap();
    std::fs::write(sysroot.path().join("bin/rustc"), "real").unwrap();
    let dist = RustDist::builder("nightly", "1.2.3", TARGET)
        .component_from("rustc", sysroot.path(), ["bin/rustc"])
        .start();
    let made_up = RustDist::builder("nightly", "1.2.3", TARGET)
        .component("rustc", [("bin/rustc", "real")])
        .start();
    let hashes = |dist: &RustDist| -> Vec<String> {
        let lines = dist.manifest().lines();
        let hashes = lines.filter(|line| line.starts_with("hash"));
        hashes.map(str::to_owned).collect()
    };
    assert_eq!(hashes(&dist), hashes(&made_up));
    assert_eq!(hashes(&dist).len(), 2);
}

#[test]
fn rustup_installs_from_it() {
    let dist = dist();
    let env = TestEnv::builder().dir("rustup", "RUSTUP_HOME").build();
    let found = env
        .command("sh")
        .args(["-c", "command -v rustup || true"])
        .run();
    if found.stdout().trim().is_empty() {
        eprintln!("not checked: there is no rustup on this machine");
        return;
    }
    let rustup = |args: &[&str]| {
        let command = env.command("rustup").args(args);
        command
            .env_remove("RUSTUP_TOOLCHAIN")
            .env("RUSTUP_DIST_SERVER", dist.root())
            .env("CARGO_HOME", env.dir("rustup"))
            .run()
    };
    let toolchain = format!("stable-{TARGET}");
    rustup(&[
        "toolchain",
        "install",
        "--profile=minimal",
        "--no-self-update",
        &toolchain,
    ])
    .expect_success();
    let bin = env
        .dir("rustup")
        .join("toolchains")
        .join(toolchain)
        .join("bin/rustc");
    let run = env.command(bin.to_str().unwrap()).run().expect_success();
    assert_eq!(run.stdout(), "made-up rustc\n");
    dist.server().assert_requests(dist.tarball("rustc"), 1);
    env.finish();
}
