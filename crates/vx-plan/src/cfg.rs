//! `rustc --print cfg`: the facts of a platform, and expressions over them.

use std::str::FromStr;

use cargo_platform::{Cfg, Platform};

use crate::error::PlanError;

/// Parses the output of `rustc --print cfg`.
pub(crate) fn parse(text: &str) -> Result<Vec<Cfg>, PlanError> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            Cfg::from_str(line).map_err(|error| PlanError::Cfg {
                text: line.to_owned(),
                why: error.to_string(),
            })
        })
        .collect()
}

/// Whether a key of the `target` table (a triple or `cfg(..)`) applies to a platform.
pub(crate) fn applies(key: &str, triple: &str, facts: &[Cfg]) -> Result<bool, PlanError> {
    if !key.starts_with("cfg(") {
        return Ok(key == triple);
    }
    let platform = Platform::from_str(key).map_err(|error| PlanError::Cfg {
        text: key.to_owned(),
        why: error.to_string(),
    })?;
    Ok(platform.matches(triple, facts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_evaluated() {
        let facts = parse("unix\ntarget_os=\"linux\"\ntarget_feature=\"sse2\"\n").unwrap();
        assert!(applies("cfg(all(unix, target_os = \"linux\"))", "t", &facts).unwrap());
        assert!(!applies("cfg(windows)", "t", &facts).unwrap());
        assert!(applies("t", "t", &facts).unwrap());
        assert!(applies("cfg(all(", "t", &facts).is_err());
    }
}
