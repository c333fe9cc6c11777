//! Any bytes as frames and messages.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    daemon_rpc::fuzzing::frames(data);
});
