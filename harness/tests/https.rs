//! Toolchains over TLS: from a server this machine trusts, and from no other.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use harness::dist::{made_up, vx};
use vx_testkit::{CertificateAuthority, Command, HttpFixture, RustDist, TestEnv};

/// A distribution over TLS.
fn dist(authority: &CertificateAuthority) -> RustDist {
    let server = HttpFixture::start_https(&authority.certificate_for(["127.0.0.1"]));
    made_up(1).serve(server).unwrap()
}

/// Installs from the distribution as somebody who trusts this authority alone.
fn install(env: &TestEnv, dist: &RustDist, trusted: &CertificateAuthority) -> Command {
    let roots = env.work_dir().join("roots.pem");
    std::fs::write(&roots, trusted.pem()).unwrap();
    vx(env, dist, &env.home().join("cache"))
        .args(["toolchain", "install", "stable"])
        .env("SSL_CERT_FILE", roots)
}

#[test]
fn a_toolchain_comes_over_tls_from_a_server_that_is_trusted() {
    let env = TestEnv::vx();
    let authority = CertificateAuthority::new();
    let dist = dist(&authority);
    assert!(dist.root().starts_with("https://"));
    let run = install(&env, &dist, &authority).run().expect_success();
    let said = format!("{}{}", run.stdout(), run.stderr());
    assert!(said.contains("1.99.0"), "{said}");
    dist.server().assert_requests(dist.tarball("rustc"), 1);
    env.finish();
}

#[test]
fn nothing_is_installed_from_a_server_that_nobody_vouches_for() {
    let env = TestEnv::vx();
    let dist = dist(&CertificateAuthority::new());
    let stranger = CertificateAuthority::new();
    let run = install(&env, &dist, &stranger).run();
    assert_eq!(run.code(), Some(1), "{run}");
    let said = run.stderr();
    for text in ["certificate", &dist.root()] {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert!(dist.server().requests().is_empty());
    env.finish();
}
