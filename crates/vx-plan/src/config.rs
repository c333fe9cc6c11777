//! cargo's merged configuration: rustflags, linker, `[env]`, profiles.
//!
//! The text comes from `cargo config get --format json`, which leaves out `CARGO_*` variables that
//! override it; those are looked up here.

use std::collections::BTreeMap;

use cargo_platform::Cfg;
use serde_json::Value;

use crate::cfg;
use crate::error::PlanError;

/// The configuration and the environment that may override it.
#[derive(Debug)]
pub(crate) struct Config<'a> {
    root: Value,
    env: &'a BTreeMap<String, String>,
}

/// One entry of `[env]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EnvEntry {
    pub(crate) name: String,
    pub(crate) value: String,
    /// Wins over the client's own variable.
    pub(crate) force: bool,
    /// The value is a path relative to the directory that holds `.cargo`.
    pub(crate) relative: bool,
}

impl<'a> Config<'a> {
    pub(crate) fn parse(text: &str, env: &'a BTreeMap<String, String>) -> Result<Self, PlanError> {
        let root = if text.trim().is_empty() {
            Value::Null
        } else {
            serde_json::from_str(text).map_err(|source| PlanError::Json {
                what: "cargo configuration",
                source,
            })?
        };
        Ok(Self { root, env })
    }

    /// Flags for rustc, by cargo's precedence: two variables, then `target.*`, then `build`.
    ///
    /// `for_host` means a build script or procedural macro; with `--target` these get none.
    pub(crate) fn rustflags(
        &self,
        triple: &str,
        facts: &[Cfg],
        for_host: bool,
        targets_given: bool,
    ) -> Result<Vec<String>, PlanError> {
        if for_host && targets_given {
            return Ok(Vec::new());
        }
        if let Some(encoded) = self.env.get("CARGO_ENCODED_RUSTFLAGS") {
            if encoded.is_empty() {
                return Ok(Vec::new());
            }
            return Ok(encoded.split('\x1f').map(str::to_owned).collect());
        }
        if let Some(flags) = self.env.get("RUSTFLAGS") {
            return Ok(words(flags));
        }
        let mut flags = Vec::new();
        if let Some(value) = self.target_value(triple, "rustflags") {
            flags.extend(list_of(&value, || format!("target.{triple}.rustflags"))?);
        }
        for (key, table) in self.targets() {
            if key.starts_with("cfg(")
                && let Some(value) = table.get("rustflags")
                && cfg::applies(key, triple, facts)?
            {
                flags.extend(list_of(value, || format!("target.{key}.rustflags"))?);
            }
        }
        if !flags.is_empty() {
            return Ok(flags);
        }
        if let Some(text) = self.env.get("CARGO_BUILD_RUSTFLAGS") {
            return Ok(words(text));
        }
        match self
            .root
            .get("build")
            .and_then(|build| build.get("rustflags"))
        {
            Some(value) => list_of(value, || "build.rustflags".to_owned()),
            None => Ok(Vec::new()),
        }
    }

    /// The linker of a platform, as written.
    pub(crate) fn linker(&self, triple: &str, facts: &[Cfg]) -> Result<Option<String>, PlanError> {
        if let Some(value) = self.target_value(triple, "linker") {
            return Ok(value.as_str().map(str::to_owned));
        }
        for (key, table) in self.targets() {
            if key.starts_with("cfg(")
                && let Some(linker) = table.get("linker").and_then(Value::as_str)
                && cfg::applies(key, triple, facts)?
            {
                return Ok(Some(linker.to_owned()));
            }
        }
        Ok(None)
    }

    /// The `[env]` table.
    pub(crate) fn env_entries(&self) -> Result<Vec<EnvEntry>, PlanError> {
        let Some(Value::Object(table)) = self.root.get("env") else {
            return Ok(Vec::new());
        };
        table
            .iter()
            .map(|(name, value)| {
                let (text, options) = match value {
                    Value::String(text) => (Some(text.as_str()), None),
                    Value::Object(options) => {
                        (options.get("value").and_then(Value::as_str), Some(options))
                    }
                    _ => (None, None),
                };
                let is_set = |option: &str| {
                    options
                        .and_then(|options| options.get(option))
                        .and_then(Value::as_bool)
                        .unwrap_or(false)
                };
                let value = text.ok_or_else(|| PlanError::Config {
                    key: format!("env.{name}"),
                    why: "must be a string or a table with a string `value`",
                })?;
                Ok(EnvEntry {
                    name: name.clone(),
                    value: value.to_owned(),
                    force: is_set("force"),
                    relative: is_set("relative"),
                })
            })
            .collect()
    }

    /// `profile.<name>.inherits`.
    pub(crate) fn inherits(&self, profile: &str) -> Option<&str> {
        self.root
            .get("profile")?
            .get(profile)?
            .get("inherits")?
            .as_str()
    }

    fn targets(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.root
            .get("target")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    }

    /// A value of `target.<triple>`, or the variable that overrides it.
    fn target_value(&self, triple: &str, name: &str) -> Option<Value> {
        let variable = format!("CARGO_TARGET_{}_{}", triple, name)
            .to_uppercase()
            .replace(['-', '.'], "_");
        if let Some(text) = self.env.get(&variable) {
            return Some(Value::String(text.clone()));
        }
        self.root.get("target")?.get(triple)?.get(name).cloned()
    }
}

/// The flags with which `rustc --print cfg` must be asked for a platform, so that
/// `target-feature` and the like show.
///
/// `cfg_text` is rustc's answer *without* flags; it is needed for `target.'cfg(..)'` keys.
pub fn rustflags_of(
    config: &str,
    env: &BTreeMap<String, String>,
    triple: &str,
    for_host: bool,
    targets_given: bool,
    cfg_text: &str,
) -> Result<Vec<String>, PlanError> {
    Config::parse(config, env)?.rustflags(triple, &cfg::parse(cfg_text)?, for_host, targets_given)
}

fn words(text: &str) -> Vec<String> {
    text.split(' ')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn list_of(value: &Value, key: impl Fn() -> String) -> Result<Vec<String>, PlanError> {
    let wrong = || PlanError::Config {
        key: key(),
        why: "must be a string or a list of strings",
    };
    match value {
        Value::String(text) => Ok(words(text)),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong))
            .collect(),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"build":{"rustflags":["--cfg","b"]},
        "target":{"cfg(unix)":{"rustflags":"--cfg u","linker":"ld-u"},"t-1":{"rustflags":["--cfg","t"]}},
        "env":{"A":"1","B":{"value":"x","force":true,"relative":true}}}"#;

    fn flags(
        env: &[(&str, &str)],
        triple: &str,
        unix: bool,
        for_host: bool,
        given: bool,
    ) -> String {
        let env = env
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let cfg = if unix { "unix\n" } else { "" };
        rustflags_of(TEXT, &env, triple, for_host, given, cfg)
            .unwrap()
            .join(" ")
    }

    #[test]
    fn precedence_is_cargos() {
        assert_eq!(flags(&[], "t-1", true, false, false), "--cfg t --cfg u");
        assert_eq!(flags(&[], "t-2", false, false, false), "--cfg b");
        assert_eq!(
            flags(&[("RUSTFLAGS", " -A  x ")], "t-1", true, false, false),
            "-A x"
        );
        let both = [
            ("RUSTFLAGS", "-A x"),
            ("CARGO_ENCODED_RUSTFLAGS", "-A\x1fy z"),
        ];
        assert_eq!(flags(&both, "t-1", true, false, false), "-A y z");
        assert_eq!(
            flags(
                &[("CARGO_TARGET_T_1_RUSTFLAGS", "-B")],
                "t-1",
                false,
                false,
                false
            ),
            "-B"
        );
    }

    #[test]
    fn host_units_get_none_once_a_target_is_given() {
        assert_eq!(flags(&[("RUSTFLAGS", "-A x")], "t-1", true, true, true), "");
        assert_eq!(
            flags(&[("RUSTFLAGS", "-A x")], "t-1", true, true, false),
            "-A x"
        );
    }

    #[test]
    fn env_entries_have_their_options() {
        let env = BTreeMap::new();
        let entries = Config::parse(TEXT, &env).unwrap().env_entries().unwrap();
        assert_eq!(entries.len(), 2);
        assert!(entries[1].force && entries[1].relative && !entries[0].force);
    }
}
