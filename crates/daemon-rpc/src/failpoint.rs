//! Named steps at which a test makes this process die or stop.
//!
//! Without the feature `testing` all of this is nothing at all. With it the variable
//! `DAEMON_RPC_FAIL` holds `<step>:<kill|stop>:<file>`: the first process that
//! reaches the step creates the file, so that it happens once, and the test sees
//! that it did.

/// `bytes` in two parts, with something to happen between them.
#[cfg(not(feature = "testing"))]
pub(crate) fn halves<'a>(_step: &str, bytes: &'a [u8]) -> [&'a [u8]; 2] {
    [bytes, &[]]
}

/// This is that step.
#[cfg(not(feature = "testing"))]
pub(crate) fn hit(_step: &str) {}

#[cfg(feature = "testing")]
pub(crate) use active::{halves, hit};

#[cfg(feature = "testing")]
mod active {
    use std::fs::OpenOptions;
    use std::sync::OnceLock;

    use signal_hook::consts::{SIGKILL, SIGSTOP};
    use signal_hook::low_level::raise;

    struct Fault {
        step: String,
        signal: i32,
        file: String,
    }

    fn fault() -> Option<&'static Fault> {
        static FAULT: OnceLock<Option<Fault>> = OnceLock::new();
        let read = || {
            let text = std::env::var("DAEMON_RPC_FAIL").ok()?;
            let (step, rest) = text.split_once(':')?;
            let (signal, file) = rest.split_once(':')?;
            Some(Fault {
                step: step.to_owned(),
                signal: match signal {
                    "stop" => SIGSTOP,
                    _ => SIGKILL,
                },
                file: file.to_owned(),
            })
        };
        FAULT.get_or_init(read).as_ref()
    }

    pub(crate) fn halves<'a>(step: &str, bytes: &'a [u8]) -> [&'a [u8]; 2] {
        match fault() {
            Some(fault) if fault.step == step => {
                let (first, second) = bytes.split_at(bytes.len() / 2);
                [first, second]
            }
            _ => [bytes, &[]],
        }
    }

    pub(crate) fn hit(step: &str) {
        let Some(fault) = fault().filter(|fault| fault.step == step) else {
            return;
        };
        let first = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&fault.file);
        if first.is_ok() {
            // To this thread, so that it does not take another step meanwhile.
            let _raised = raise(fault.signal);
        }
    }
}
