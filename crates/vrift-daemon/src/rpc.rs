//! JSON-RPC 2.0: requests, notifications, batches. Knows no method.

use serde_json::{Map, Value, json};

use crate::fault::{Code, Fault};

/// Requests in one batch.
pub(crate) const MAX_BATCH: usize = 256;

/// A request that is well formed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    /// `None` for a notification, which is not answered.
    pub(crate) id: Option<Value>,
    pub(crate) method: String,
    pub(crate) params: Map<String, Value>,
}

/// What a line contains.
#[derive(Debug)]
pub(crate) enum Incoming {
    One(Result<Request, Bad>),
    Batch(Vec<Result<Request, Bad>>),
    /// Nothing that could have requests in it.
    Nothing(Fault),
}

/// Something that is no request, with the id to answer to.
#[derive(Debug)]
pub(crate) struct Bad {
    pub(crate) id: Value,
    pub(crate) fault: Fault,
}

/// Reads a line.
pub(crate) fn parse(line: &[u8]) -> Incoming {
    // serde_json limits the depth to 128 by itself.
    let value: Value = match serde_json::from_slice(line) {
        Ok(value) => value,
        Err(error) => {
            return Incoming::Nothing(Fault::new(Code::Parse, format!("no JSON: {error}")));
        }
    };
    match value {
        Value::Array(items) if items.is_empty() => {
            Incoming::Nothing(Fault::new(Code::Request, "a batch of nothing"))
        }
        Value::Array(items) if items.len() > MAX_BATCH => Incoming::Nothing(Fault::new(
            Code::Request,
            format!("a batch of more than {MAX_BATCH} requests"),
        )),
        Value::Array(items) => Incoming::Batch(items.into_iter().map(request).collect()),
        value => Incoming::One(request(value)),
    }
}

fn request(value: Value) -> Result<Request, Bad> {
    let Value::Object(mut object) = value else {
        return Err(Bad {
            id: Value::Null,
            fault: Fault::new(Code::Request, "a request is an object"),
        });
    };
    let id = object.remove("id");
    let valid_id = id
        .as_ref()
        .is_none_or(|id| id.is_string() || id.is_number() || id.is_null());
    let bad = |why: &str| {
        Err(Bad {
            id: if valid_id {
                id.clone().unwrap_or(Value::Null)
            } else {
                Value::Null
            },
            fault: Fault::new(Code::Request, why),
        })
    };
    if !valid_id {
        return bad("`id` is neither text nor number");
    }
    if object.get("jsonrpc") != Some(&json!("2.0")) {
        return bad("`jsonrpc` is not \"2.0\"");
    }
    let Some(Value::String(method)) = object.remove("method") else {
        return bad("`method` is missing or no text");
    };
    let params = match object.remove("params") {
        None => Map::new(),
        Some(Value::Object(params)) => params,
        Some(Value::Array(params)) if params.is_empty() => Map::new(),
        Some(_) => {
            return Err(Bad {
                id: id.unwrap_or(Value::Null),
                fault: Fault::params("parameters are given by name"),
            });
        }
    };
    Ok(Request { id, method, params })
}

/// The answer to a request.
pub(crate) fn answer(id: &Value, outcome: Result<Value, Fault>) -> Value {
    match outcome {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(fault) => json!({ "jsonrpc": "2.0", "id": id, "error": fault.to_json() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(line: &str) -> i64 {
        match parse(line.as_bytes()) {
            Incoming::Nothing(fault) => fault.code.number(),
            Incoming::One(Err(bad)) => bad.fault.code.number(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_request_has_the_code_of_the_specification() {
        assert_eq!(code("{"), -32700);
        assert_eq!(code(""), -32700);
        assert_eq!(code("\u{0}"), -32700);
        assert_eq!(code(&"[".repeat(100_000)), -32700);
        assert_eq!(code("[]"), -32600);
        assert_eq!(code("1"), -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":1}"#), -32600);
        assert_eq!(
            code(r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[1]}"#),
            -32602
        );
    }

    #[test]
    fn a_request_without_id_is_a_notification() {
        let Incoming::One(Ok(request)) = parse(br#"{"jsonrpc":"2.0","method":"m"}"#) else {
            panic!();
        };
        assert_eq!(request.id, None);
        let Incoming::Batch(items) = parse(br#"[{"jsonrpc":"2.0","method":"m"},1]"#) else {
            panic!();
        };
        assert!(items[0].is_ok() && items[1].is_err());
    }
}
