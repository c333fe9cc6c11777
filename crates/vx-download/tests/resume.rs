//! A transfer that broke off goes on where it was; what was left of another one, or by
//! nobody knows whom, never gets in.

mod support;

use support::Scene;
use vx_download::Error;
use vx_testkit::HttpFault;

#[test]
fn a_truncated_transfer_goes_on_where_it_broke_off() {
    let scene = Scene::new();
    scene
        .server
        .fault_times("/file", 1, HttpFault::Truncated { after: 1000 });
    scene.assert_fetched();
    assert_eq!(scene.ranges(), [None, Some("bytes=1000-".to_owned())]);
}

#[test]
fn a_transfer_that_always_breaks_off_says_how_far_it_came() {
    let scene = Scene::new();
    scene
        .server
        .fault("/file", HttpFault::Truncated { after: 1000 });
    let error = scene.fetch().unwrap_err();
    let Error::Truncated {
        received, expected, ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(received, 3000);
    assert_eq!(expected, Some(scene.content.len() as u64));
}

#[test]
fn an_unnoticed_truncation_is_noticed() {
    let scene = Scene::new();
    let fault = HttpFault::TruncatedUnnoticed { after: 1000 };
    scene.server.fault_times("/file", 1, fault.clone());
    let error = scene.fetch().unwrap_err();
    assert!(matches!(error, Error::WrongDigest { .. }), "{error}");
    // With the size known it is what it is, and is mended.
    scene.server.fault_times("/file", 1, fault);
    let request = scene.request().size(scene.content.len() as u64);
    scene.cache().fetch_blocking(&request).unwrap();
    assert_eq!(scene.ranges()[1..], [None, Some("bytes=1000-".to_owned())]);
}

#[test]
fn a_server_that_ignores_ranges_is_good_enough() {
    let scene = Scene::new();
    scene.leave_partial(&scene.content[..5000]);
    scene.server.fault("/file", HttpFault::NoRanges);
    scene.assert_fetched();
    scene.server.assert_requests("/file", 1);
}

#[test]
fn leftovers_that_do_not_belong_to_the_file_cost_one_more_request() {
    // Other bytes, and more bytes than the file has.
    for left in [vec![7; 5000], vec![7; 500_000]] {
        let scene = Scene::new();
        scene.leave_partial(&left);
        scene.assert_fetched();
        scene.server.assert_requests("/file", 2);
    }
}

#[test]
fn a_complete_leftover_needs_no_server() {
    let scene = Scene::new();
    scene.leave_partial(&scene.content);
    scene.assert_fetched();
    scene.server.assert_requests("/file", 0);
}

#[test]
fn the_wrong_range_is_found_out_and_asked_for_anew() {
    let scene = Scene::new();
    scene.leave_partial(&scene.content[..5000]);
    scene.server.fault_times("/file", 1, HttpFault::WrongRange);
    scene.assert_fetched();
    assert_eq!(scene.ranges(), [Some("bytes=5000-".to_owned()), None]);
}
