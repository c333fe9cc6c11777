//! From virtual paths in rustc's messages back to what cargo would show.

use serde_json::Value;

/// Virtual path prefixes and the real paths behind them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathMap {
    pairs: Vec<(String, String)>,
}

impl PathMap {
    /// A map; longer prefixes win.
    pub fn new(mut pairs: Vec<(String, String)>) -> Self {
        pairs.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
        pairs.dedup();
        Self { pairs }
    }

    /// The pairs, longest virtual prefix first.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// Replaces every virtual prefix that ends at a path boundary. Works on rendered text and on
    /// JSON alike, since neither side has characters that JSON escapes on this platform.
    pub fn to_real(&self, text: &str) -> String {
        if !text.contains("/vx/") {
            return text.to_owned();
        }
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(position) = rest.find("/vx/") {
            let (before, candidate) = rest.split_at(position);
            result.push_str(before);
            // `/somewhere/vx/..` is another path.
            let starts_path = !without_colour(before)
                .ends_with(|c: char| c.is_alphanumeric() || "_-./".contains(c));
            let found = self.pairs.iter().find(|(prefix, _)| {
                starts_path
                    && candidate.starts_with(prefix.as_str())
                    && !candidate[prefix.len()..]
                        .starts_with(|c: char| c.is_alphanumeric() || "_-.+".contains(c))
            });
            match found {
                Some((prefix, real)) => {
                    result.push_str(real);
                    rest = &candidate[prefix.len()..];
                }
                None => {
                    result.push_str("/vx/");
                    rest = &candidate["/vx/".len()..];
                }
            }
        }
        result.push_str(rest);
        result
    }
}

/// Cuts one colour sequence (`ESC [ 1 ; 34 m`) off the end: in rendered messages it touches the path.
fn without_colour(text: &str) -> &str {
    let Some(body) = text.strip_suffix('m') else {
        return text;
    };
    let body = body.trim_end_matches(|c: char| c.is_ascii_digit() || c == ';');
    body.strip_suffix('[')
        .map_or(text, |rest| rest.trim_end_matches("\\u001b"))
}

/// The variable that `env!` did not find, if this JSON diagnostic of rustc says so.
///
/// Actions start with a cleared environment, so a variable that the user has set is only passed on
/// once a unit is known to read it. A failed `env!` leaves no dep-info that would tell.
pub fn undefined_env_name(diagnostic: &str) -> Option<String> {
    let value: Value = serde_json::from_str(diagnostic).ok()?;
    let message = value.get("message")?.as_str()?;
    let rest = message.strip_prefix("environment variable `")?;
    let (name, rest) = rest.split_once('`')?;
    rest.contains("not defined").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_replaced_at_path_boundaries_only() {
        let map = PathMap::new(vec![
            ("/vx/ws".to_owned(), "/home/me/app".to_owned()),
            ("/vx/pkg/a-1.0.0".to_owned(), "/reg/a-1.0.0".to_owned()),
        ]);
        assert_eq!(
            map.to_real("--> /vx/ws/src/x.rs:1:2"),
            "--> /home/me/app/src/x.rs:1:2"
        );
        assert_eq!(
            map.to_real("/vx/wsx /vx/pkg/a-1.0.01/b"),
            "/vx/wsx /vx/pkg/a-1.0.01/b"
        );
        assert_eq!(map.to_real("/data/vx/ws/src"), "/data/vx/ws/src");
        assert_eq!(
            map.to_real("\"/vx/pkg/a-1.0.0/b.rs\""),
            "\"/reg/a-1.0.0/b.rs\""
        );
        assert_eq!(map.to_real("at /vx/ws"), "at /home/me/app");
        assert_eq!(
            map.to_real("--> \u{1b}[0m/vx/ws/a.rs"),
            "--> \u{1b}[0m/home/me/app/a.rs"
        );
        assert_eq!(
            map.to_real(r"--> \u001b[0m/vx/ws/a.rs"),
            r"--> \u001b[0m/home/me/app/a.rs"
        );
    }

    #[test]
    fn an_undefined_variable_is_recognised() {
        let text =
            r#"{"message":"environment variable `DATABASE_URL` not defined at compile time"}"#;
        assert_eq!(undefined_env_name(text).as_deref(), Some("DATABASE_URL"));
        assert_eq!(
            undefined_env_name(r#"{"message":"unused variable: `x`"}"#),
            None
        );
    }
}
