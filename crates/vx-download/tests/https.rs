//! Over TLS as without: what is right gets in, and servers that are not who they
//! should be are told apart, at once.
//!
//! Each fetch runs in a process of its own, since whom a process trusts is in its
//! environment (`SSL_CERT_FILE`).

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

mod fetcher;
mod support;

use fetcher::fetcher;
use support::Scene;
use vx_testkit::{CertificateAuthority, HttpFault, HttpFixture, Run, TestEnv};

/// A scene whose server speaks TLS.
fn scene(authority: &CertificateAuthority) -> Scene {
    served(HttpFixture::start_https(
        &authority.certificate_for(["127.0.0.1"]),
    ))
}

fn served(server: HttpFixture) -> Scene {
    let mut scene = Scene::new();
    server.file("/file", &scene.content);
    scene.server = server;
    scene
}

/// Fetches the file as a process that trusts this authority and nobody else.
fn fetch(scene: &Scene, trusted: &CertificateAuthority) -> Run {
    let env = TestEnv::builder().build();
    let roots = env.work_dir().join("roots.pem");
    std::fs::write(&roots, trusted.pem()).unwrap();
    let run = fetcher(&env, scene).env("SSL_CERT_FILE", &roots).run();
    env.finish();
    run
}

fn assert_fetched(run: &Run, scene: &Scene) {
    assert_eq!(run.code(), Some(0), "{run}");
    let text = format!("fetch: downloaded {} bytes", scene.content.len());
    assert!(run.stdout().contains(&text), "{}", run.stdout());
    assert!(std::fs::read(scene.entry_path()).unwrap() == scene.content);
}

fn assert_refused(run: &Run, scene: &Scene, texts: &[&str]) {
    assert_eq!(run.code(), Some(101), "{run}");
    for text in texts {
        assert!(run.stdout().contains(text), "{text}: {}", run.stdout());
    }
    assert!(!scene.entry_path().exists());
    let left = std::fs::metadata(scene.partial_path()).map_or(0, |file| file.len());
    assert_eq!(left, 0, "bytes were kept");
}

#[test]
fn a_file_comes_over_tls_and_goes_on_where_it_broke_off() {
    let authority = CertificateAuthority::new();
    let scene = scene(&authority);
    scene
        .server
        .fault_times("/file", 1, HttpFault::Truncated { after: 100_000 });
    assert_fetched(&fetch(&scene, &authority), &scene);
    assert_eq!(scene.ranges(), [None, Some("bytes=100000-".to_owned())]);
}

#[test]
fn wrong_bytes_do_not_get_in_over_tls_either() {
    let authority = CertificateAuthority::new();
    let scene = scene(&authority);
    scene.server.fault("/file", HttpFault::WrongBytes);
    let run = fetch(&scene, &authority);
    assert_refused(&run, &scene, &["fetch: other:", "has the digest"]);
}

#[test]
fn a_server_that_nobody_vouches_for_is_refused_at_once() {
    let (trusted, other) = (CertificateAuthority::new(), CertificateAuthority::new());
    let scene = scene(&other);
    let run = fetch(&scene, &trusted);
    assert_refused(&run, &scene, &["fetch: certificate:", "UnknownIssuer"]);
    // Not even the request was sent.
    scene.server.assert_requests("/file", 0);
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let authority = CertificateAuthority::new();
    let certificate = authority.certificate_for(["example.org"]);
    let scene = served(HttpFixture::start_https(&certificate));
    let run = fetch(&scene, &authority);
    assert_refused(&run, &scene, &["fetch: certificate:", "example.org"]);
}

#[test]
fn an_expired_certificate_is_refused() {
    let authority = CertificateAuthority::new();
    let certificate = authority.expired_certificate_for(["127.0.0.1"]);
    let scene = served(HttpFixture::start_https(&certificate));
    let run = fetch(&scene, &authority);
    assert_refused(&run, &scene, &["fetch: certificate:", "expired"]);
}

#[test]
fn a_redirect_out_of_tls_is_not_followed() {
    let authority = CertificateAuthority::new();
    let (scene, plain) = (scene(&authority), HttpFixture::start());
    plain.file("/file", &scene.content);
    scene
        .server
        .fault("/file", HttpFault::Redirect(plain.url("/file")));
    let run = fetch(&scene, &authority);
    assert_refused(&run, &scene, &["fetch: downgrade:", &plain.url("/file")]);
    plain.assert_requests("/file", 0);
}

#[test]
fn a_redirect_into_tls_is_followed() {
    let authority = CertificateAuthority::new();
    let secure = scene(&authority);
    let scene = Scene::new();
    scene
        .server
        .fault("/file", HttpFault::Redirect(secure.server.url("/file")));
    assert_fetched(&fetch(&scene, &authority), &scene);
}
