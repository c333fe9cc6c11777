//! Errors as one line of text.

use std::error::Error;

/// An error with everything that caused it, in one line: `what failed: why: why that`.
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        let status = cause.downcast_ref::<Box<tonic::Status>>().map(Box::as_ref);
        if let Some(status) = status.or_else(|| cause.downcast_ref()) {
            // It shows itself with all that caused it, each once more and in the words of a debugger.
            text.push_str(status.message());
            break;
        }
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot {task}")]
    struct Failed<E: Error + 'static> {
        task: &'static str,
        source: E,
    }

    #[test]
    fn each_cause_is_told_once() {
        let inner = Failed {
            task: "read",
            source: io::Error::other("no such luck"),
        };
        let outer = Failed {
            task: "start",
            source: inner,
        };
        assert_eq!(causes(&outer), "cannot start: cannot read: no such luck");
    }

    #[test]
    fn the_answer_of_a_service_is_its_message() {
        let refused = Failed {
            task: "fetch",
            source: Box::new(tonic::Status::not_found("no blob")),
        };
        assert_eq!(causes(&refused), "cannot fetch: no blob");
    }
}
