//! A release is what somebody who may has signed, where a server has signatures.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

mod server;

use server::signer::{self, Signer};
use server::{Scene, programs, wanted, whole};
use vx_testkit::HttpFault;
use vx_toolchain::dist::{Dist, DistError, Event, Installed, KeyRing, Mode, Vouched};

const DATE: &str = "2020-01-02";
const MANIFEST: &str = "/dist/channel-rust-stable.toml";
const SIGNATURE: &str = "/dist/channel-rust-stable.toml.asc";

/// As one who was told to trust `signer`.
fn trusting(scene: &Scene, signer: &Signer) -> Dist {
    Dist {
        keys: Some(KeyRing::parse(&signer.key()).unwrap()),
        ..scene.dist()
    }
}

async fn obtain(scene: &Scene, dist: &Dist, mode: Mode) -> Result<Installed, DistError> {
    dist.obtain(&wanted(&[]), mode, &scene.tell()).await
}

/// What was told of who signed the last release that was told about.
fn told(scene: &Scene) -> Option<Vouched> {
    let events = scene.events.lock().unwrap();
    events.iter().rev().find_map(|event| match event {
        Event::Resolved { vouched, .. } => Some(vouched.clone()),
        _ => None,
    })
}

#[tokio::test]
async fn a_manifest_that_is_signed_is_accepted_and_by_whom_is_remembered() {
    let (scene, signer) = (Scene::new(), Signer::new(1));
    scene.sign(&signer);
    let dist = trusting(&scene, &signer);
    let installed = obtain(&scene, &dist, Mode::Known).await.unwrap();
    let by = installed.record.signed_by.clone().unwrap();
    assert_eq!(by.len(), 40);
    assert_eq!(told(&scene), Some(Vouched::By(by.clone())));
    // Components that are added later do not change who signed.
    drop(installed);
    let mut more = wanted(&[]);
    more.components.insert("cargo".to_owned());
    let tell = scene.tell();
    let again = dist.obtain(&more, Mode::Known, &tell).await.unwrap();
    assert_eq!(again.record.signed_by, Some(by));
}

#[tokio::test]
async fn a_server_without_signatures_is_told_about_unless_keys_were_given() {
    let scene = Scene::new();
    let dist = trusting(&scene, &Signer::new(1));
    let error = obtain(&scene, &dist, Mode::Known).await.unwrap_err();
    let says = format!("there is no `{}`", scene.server.url(SIGNATURE));
    assert!(whole(&error).contains(&says), "{error}");
    assert_eq!(scene.left().len(), 0);
    let installed = obtain(&scene, &scene.dist(), Mode::Known).await.unwrap();
    assert_eq!(installed.record.signed_by, None);
    let why = "the server offers no signature".to_owned();
    assert_eq!(installed.record.unsigned.as_ref(), Some(&why));
    assert_eq!(told(&scene), Some(Vouched::Nobody(why)));
}

#[tokio::test]
async fn a_signature_that_proves_nothing_is_none_unless_keys_were_given() {
    let (scene, signer) = (Scene::new(), Signer::new(1));
    let keys = KeyRing::parse(&signer.key()).unwrap();
    let dist = Dist {
        keys: Some(keys),
        ..scene.dist()
    };
    scene.server.file(SIGNATURE, signer.weak());
    let error = whole(&obtain(&scene, &dist, Mode::Known).await.unwrap_err());
    assert!(error.contains("made over SHA-1, which proves"), "{error}");
    assert_eq!(scene.left().len(), 0);
    // By the key that is asked for where nobody gave one.
    let rust = [0x85, 0xab, 0x96, 0xe6, 0xfa, 0x1b, 0xe5, 0xfe];
    scene.server.file(SIGNATURE, signer::weak(&rust));
    let installed = obtain(&scene, &scene.dist(), Mode::Known).await.unwrap();
    assert_eq!(installed.record.signed_by, None);
    let why = installed.record.unsigned.clone().unwrap();
    assert!(why.contains("made over SHA-1, which proves"), "{why}");
    assert_eq!(told(&scene), Some(Vouched::Nobody(why.clone())));
    drop(installed);
    // It is remembered when something is added.
    let mut more = wanted(&[]);
    more.components.insert("cargo".to_owned());
    let again = scene.dist();
    let again = again.obtain(&more, Mode::Known, &scene.tell()).await;
    assert_eq!(again.unwrap().record.unsigned, Some(why));
}

#[tokio::test]
async fn keys_that_are_given_later_have_to_fit_what_is_installed() {
    let (scene, signer) = (Scene::new(), Signer::new(1));
    let unsigned = obtain(&scene, &scene.dist(), Mode::Known).await.unwrap();
    let dist = trusting(&scene, &signer);
    for mode in [Mode::Known, Mode::Offline] {
        let error = obtain(&scene, &dist, mode).await.unwrap_err();
        assert!(matches!(error, DistError::Unsigned { .. }), "{error}");
    }
    scene.sign(&signer);
    let vouched = obtain(&scene, &dist, Mode::Known).await.unwrap();
    assert!(!vouched.is_new);
    assert_eq!(vouched.record.id, unsigned.record.id);
    assert!(vouched.record.signed_by.is_some());
    obtain(&scene, &dist, Mode::Offline).await.unwrap();
    // Another key is another question.
    let other = trusting(&scene, &Signer::new(2));
    let error = obtain(&scene, &other, Mode::Known).await.unwrap_err();
    assert!(matches!(error, DistError::Signature { .. }), "{error}");
}

#[tokio::test]
async fn a_manifest_with_a_wrong_signature_is_refused_and_nothing_is_installed() {
    let (scene, signer, other) = (Scene::new(), Signer::new(1), Signer::new(2));
    let dist = trusting(&scene, &signer);
    for (signature, says) in [
        (other.sign(&scene.manifest()), "which is not among those"),
        (signer.sign(b"something else"), "not a signature of this"),
        ("not found".to_owned(), "is no OpenPGP SIGNATURE"),
    ] {
        scene.server.file(SIGNATURE, &signature);
        // Also where nobody asked for a signature: one that is there has to be right.
        for dist in [&dist, &scene.dist()] {
            let error = whole(&obtain(&scene, dist, Mode::Known).await.unwrap_err());
            assert!(error.contains(&scene.server.url(SIGNATURE)), "{error}");
            if dist.keys.is_some() {
                assert!(error.contains(says), "{error}");
            }
            assert_eq!(scene.left().len(), 0);
        }
    }
    scene.sign(&signer);
    obtain(&scene, &dist, Mode::Known).await.unwrap();
    // An update is checked as well, and what is there stays.
    scene.release("1.99.1", "2020-02-13", programs("1.99.1").to_vec());
    let error = obtain(&scene, &dist, Mode::Newest).await.unwrap_err();
    assert!(matches!(error, DistError::Signature { .. }), "{error}");
    let same = obtain(&scene, &dist, Mode::Offline).await.unwrap();
    assert_eq!(same.record.date, DATE);
    drop(same);
    scene.sign(&signer);
    let new = obtain(&scene, &dist, Mode::Newest).await.unwrap();
    assert_eq!(new.record.date, "2020-02-13");
}

#[tokio::test]
async fn a_channel_that_moves_between_its_files_is_read_again() {
    let (scene, signer) = (Scene::new(), Signer::new(1));
    scene.sign(&signer);
    // The signature that comes first is that of the release before.
    scene
        .server
        .file("/old.asc", signer.sign(b"the release before"));
    let old = HttpFault::Redirect(scene.server.url("/old.asc"));
    scene.server.fault_times(SIGNATURE, 1, old);
    let dist = trusting(&scene, &signer);
    obtain(&scene, &dist, Mode::Known).await.unwrap();
    // The manifest was there already.
    scene.server.assert_requests(MANIFEST, 1);
    scene.server.assert_requests(SIGNATURE, 2);
}

#[tokio::test]
async fn a_server_that_cannot_give_its_signature_now_is_not_taken_for_one_without() {
    let mut scene = Scene::new();
    scene.options.retries.attempts = 2;
    scene
        .server
        .fault_times(SIGNATURE, 2, HttpFault::Status(503));
    let error = obtain(&scene, &scene.dist(), Mode::Known)
        .await
        .unwrap_err();
    assert!(whole(&error).contains("answered 503"), "{error}");
    assert_eq!(scene.left().len(), 0);
}
