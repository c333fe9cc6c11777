//! What `build.rs` made of `proto/`, as nested modules that follow the package
//! names. The rest of the crate gives these modules short names.

#![allow(
    missing_docs,
    unreachable_pub,
    let_underscore_drop,
    unused_lifetimes,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "the code is generated; its documentation is the comments in `proto/`"
)]

include!(concat!(env!("OUT_DIR"), "/generated.rs"));
