//! The compiler's messages in one line each, as `--message-format short` has them.
//!
//! Made from the compiler's own JSON: the store keeps each message once, in its
//! full form.

use serde::Deserialize;

#[derive(Deserialize)]
struct Message {
    message: String,
    level: String,
    code: Option<Code>,
    #[serde(default)]
    spans: Vec<Span>,
}

#[derive(Deserialize)]
struct Code {
    code: String,
}

#[derive(Deserialize)]
struct Span {
    file_name: String,
    line_start: usize,
    column_start: usize,
    is_primary: bool,
    label: Option<String>,
}

/// `file:line:column: level[code]: message: label`, or nothing for remarks that
/// the short form leaves out.
pub(crate) fn line(json: &str) -> Option<String> {
    let message: Message = serde_json::from_str(json).ok()?;
    if message.level == "failure-note" {
        return None;
    }
    // Errors have codes of their own; the code of a lint is its name and stays out.
    let code = message
        .code
        .filter(|code| {
            code.code
                .strip_prefix('E')
                .is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
        })
        .map(|code| format!("[{}]", code.code))
        .unwrap_or_default();
    let said = format!("{}{code}: {}", message.level, message.message);
    Some(match message.spans.iter().find(|span| span.is_primary) {
        Some(span) => {
            let label = span
                .label
                .as_deref()
                .filter(|label| !label.is_empty())
                .map(|label| format!(": {label}"))
                .unwrap_or_default();
            format!(
                "{}:{}:{}: {said}{label}\n",
                span.file_name, span.line_start, span.column_start
            )
        }
        None => format!("{said}\n"),
    })
}
