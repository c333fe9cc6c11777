//! Logs: one JSON object a line on standard error, which the service manager keeps.
//!
//! Every write has an audit line: who, what, and how it ended.

use std::io::Write;

use serde_json::{Value, json};

use crate::caller::Caller;

/// Notes a write.
pub(crate) fn write(caller: &Caller, method: &str, detail: Value, outcome: Result<(), i64>) {
    let mut line = json!({
        "audit": method,
        "uid": caller.uid,
        "pid": caller.pid,
        "detail": detail,
    });
    match outcome {
        Ok(()) => line["ok"] = json!(true),
        Err(code) => {
            line["ok"] = json!(false);
            line["error"] = json!(code);
        }
    }
    note(&line);
}

/// Notes anything.
pub(crate) fn note(line: &Value) {
    // One write, so that lines of several threads do not mix.
    let text = format!("{line}\n");
    let _gone = std::io::stderr().write_all(text.as_bytes());
}
