//! Any bytes as a client of a server.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    daemon_rpc::fuzzing::server(data);
});
