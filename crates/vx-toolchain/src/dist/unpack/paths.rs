//! Which paths and links an archive may have.

/// Bytes of a path, and of a record that holds one.
pub(super) const LONGEST_PATH: u64 = 4096;

/// The parts of a path that leads down and nowhere else.
pub(super) fn safe_parts(path: &[u8]) -> Result<Vec<&str>, &'static str> {
    if path.len() as u64 > LONGEST_PATH {
        return Err("has a path that is too long");
    }
    let text = std::str::from_utf8(path).map_err(|_| "has a path that is no text")?;
    if text.starts_with('/') {
        return Err("has an absolute path");
    }
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err("has `..` in its path"),
            part if part
                .bytes()
                .any(|byte| byte < b' ' || byte == b'\\' || byte == 0x7f) =>
            {
                return Err("has a path with control characters or backslashes");
            }
            part => parts.push(part),
        }
    }
    Ok(parts)
}

/// Whether a link in the directory `parent` that leads to `link` stays below the root, taken word for word.
pub(super) fn stays_inside(parent: &[&str], link: &str) -> bool {
    let mut depth = parent.len();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return false,
            },
            _ => depth += 1,
        }
    }
    !link.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_down() {
        assert_eq!(safe_parts(b"a/./b//c/"), Ok(vec!["a", "b", "c"]));
        for path in ["/a", "a/../b", "..", "a\\b", "a\tb"] {
            assert!(safe_parts(path.as_bytes()).is_err(), "{path:?}");
        }
        assert!(safe_parts(&[b'a'; 5000]).is_err());
        assert!(safe_parts(&[0xff]).is_err());
    }

    #[test]
    fn links_stay_inside() {
        for (link, stays) in [("x", true), ("../x", true), ("../../x", false), ("", false)] {
            assert_eq!(stays_inside(&["lib"], link), stays, "{link:?}");
        }
    }
}
