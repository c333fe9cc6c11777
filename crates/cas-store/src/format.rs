//! The file `format` at a store's root: what kind of store it is, for ever.
//!
//! The number of directory levels is decided when the store is made and read from here afterwards.

/// What the format file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) levels: u8,
}

impl Format {
    /// The file's text.
    pub(crate) fn to_text(self) -> String {
        format!("cas-store 1\nhash blake3\nlevels {}\n", self.levels)
    }

    /// Reads the file's text; the error is the first line that is not understood.
    pub(crate) fn parse(text: &str) -> Result<Format, String> {
        for levels in [1, 2] {
            let format = Format { levels };
            if text == format.to_text() {
                return Ok(format);
            }
        }
        let known = ["cas-store 1", "hash blake3", "levels 1", "levels 2"];
        Err(text.lines().find(|line| !known.contains(line)).map_or_else(
            || "it is cut short".to_owned(),
            |line| format!("line `{line}`"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_depths_read_back() {
        for levels in [1, 2] {
            let format = Format { levels };
            assert_eq!(Format::parse(&format.to_text()), Ok(format));
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        assert_eq!(
            Format::parse("cas-store 2\nhash blake3\nlevels 1\n"),
            Err("line `cas-store 2`".to_owned())
        );
        assert_eq!(
            Format::parse("cas-store 1\n"),
            Err("it is cut short".to_owned())
        );
        assert_eq!(Format::parse(""), Err("it is cut short".to_owned()));
    }
}
