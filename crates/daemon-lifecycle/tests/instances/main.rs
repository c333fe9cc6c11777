//! Whole instances, with real processes on both sides: what is left and who serves
//! after a client or a daemon was killed or stopped at any step.
//!
//! The test program plays clients and daemons itself: it runs again with the one
//! test `roles::role` and a variable that says which part it has. Without the
//! variable that test does nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod faults_of_clients;
mod faults_of_daemons;
mod full_disk;
mod kit;
mod many_clients;
mod naive;
mod ordinary;
mod roles;
mod squatters;
