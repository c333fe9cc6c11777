//! Directories go into a store and come out of it as they were.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

mod batch;
mod collect;
mod ingest;
mod link;
mod phantom;
mod site;
mod verify;
