//! `vrift status`.

use serde_json::{Value, json};

use crate::commands::unwritten;
use crate::exit::Failure;
use crate::output::{Output, bytes, count};
use crate::target::Target;

pub(crate) fn run(target: &Target, output: &Output) -> Result<u8, Failure> {
    let status = target.status()?;
    if output.is_json() {
        let mut status = status;
        status["reason"] = json!("status");
        output.json(&status).map_err(unwritten)?;
        return Ok(0);
    }
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let mut lines = vec![
        format!("mode       {}", text(&status["mode"])),
        format!("version    {}", text(&status["version"])),
        format!("store      {}", text(&status["store"])),
        format!(
            "content    {}, {}",
            count(number(&status["blobs"]), "blob"),
            bytes(number(&status["bytes"]))
        ),
    ];
    if let Some(ratio) = status["dedup_ratio"].as_f64() {
        lines.push(format!(
            "dedup      {ratio:.2} ({} kept in {})",
            bytes(number(&status["logical_bytes"])),
            bytes(number(&status["kept_bytes"]))
        ));
    }
    if number(&status["quarantine"]) > 0 {
        lines.push(format!(
            "quarantine {}",
            count(number(&status["quarantine"]), "file")
        ));
    }
    for user in status["users"].as_array().into_iter().flatten() {
        let name = user_name(number(&user["uid"]));
        let mut line = format!(
            "user       {name}: {}, {}, {} ({} unique",
            count(number(&user["roots"]), "root"),
            count(number(&user["files"]), "file"),
            bytes(number(&user["bytes"])),
            bytes(number(&user["unique_bytes"])),
        );
        if let Some(quota) = user["quota"].as_u64() {
            line.push_str(&format!(" of {}", bytes(quota)));
        }
        line.push(')');
        lines.push(line);
    }
    for line in lines {
        output.line(&line).map_err(unwritten)?;
    }
    Ok(0)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn user_name(uid: u64) -> String {
    if uid == u64::from(rustix::process::getuid().as_raw()) {
        format!("{uid} (you)")
    } else {
        uid.to_string()
    }
}
