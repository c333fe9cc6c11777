//! Any bytes as a server of a client.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    daemon_rpc::fuzzing::client(data);
});
