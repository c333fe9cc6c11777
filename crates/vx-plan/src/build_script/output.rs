//! What a build script printed, parsed as cargo 1.95 does it.
//!
//! It knows neither where the script ran nor who uses the result. Error texts are cargo's own, since
//! users search for them.

use crate::build_script::directive::{self, Directive};
use crate::error::OutputError;

/// The parsed standard output of one build script run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildOutput {
    /// Arguments for `-L`, possibly with a kind (`native=/dir`).
    pub library_paths: Vec<String>,
    /// Arguments for `-l`.
    pub library_links: Vec<String>,
    /// Linker arguments, and for which targets they are.
    pub link_args: Vec<(LinkArgTarget, String)>,
    /// Arguments for `--cfg`.
    pub cfgs: Vec<String>,
    /// Arguments for `--check-cfg`.
    pub check_cfgs: Vec<String>,
    /// Variables for the compilation of the package's own targets.
    pub env: Vec<(String, String)>,
    /// `DEP_<LINKS>_<KEY>` of the dependents' build scripts.
    pub metadata: Vec<(String, String)>,
    /// Declared paths, as printed: relative to the package's directory, or virtual.
    pub rerun_if_changed: Vec<String>,
    /// Declared variables.
    pub rerun_if_env_changed: Vec<String>,
    /// Warnings for the user; cargo shows those of members only, or all if the script failed.
    pub warnings: Vec<String>,
    /// `cargo::error` lines: the run counts as failed if there is any.
    pub errors: Vec<String>,
}

/// Which targets of the package a linker argument is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkArgTarget {
    /// All.
    All,
    /// C dynamic libraries; also those of dependents.
    Cdylib,
    /// All binaries.
    Bin,
    /// One binary.
    SingleBin(String),
    /// Integration tests.
    Test,
    /// Benchmarks.
    Bench,
    /// Examples.
    Example,
}

/// What the parser must know of the package.
#[derive(Debug, Clone, Default)]
pub(crate) struct PackageShape {
    /// As cargo describes it: `name v1.2.3` or `name v1.2.3 (/path)`.
    pub(crate) description: String,
    /// `(name, kinds)` of its targets.
    pub(crate) targets: Vec<(String, Vec<String>)>,
    /// Whether the user has set `RUSTC_BOOTSTRAP` for this package.
    pub(crate) bootstrap_allowed: bool,
}

impl PackageShape {
    fn has(&self, kind: &str) -> bool {
        self.targets
            .iter()
            .any(|(_, kinds)| kinds.iter().any(|own| own == kind))
    }

    fn has_bin(&self, name: &str) -> bool {
        self.targets
            .iter()
            .any(|(own, kinds)| own == name && kinds.iter().any(|kind| kind == "bin"))
    }
}

/// Parses the standard output of a build script.
///
/// Lines that are not UTF-8 are passed over as cargo does; if such a line looks like a directive, a
/// warning says so.
pub(crate) fn parse_build_output(
    stdout: &[u8],
    shape: &PackageShape,
) -> Result<BuildOutput, OutputError> {
    let mut output = BuildOutput::default();
    let whence = format!("build script of `{}`", shape.description);
    for bytes in stdout.split(|byte| *byte == b'\n') {
        let Ok(line) = std::str::from_utf8(bytes) else {
            if bytes.starts_with(b"cargo:") {
                output.warnings.push(format!(
                    "ignored a line that is not UTF-8: `{}`",
                    String::from_utf8_lossy(bytes).trim()
                ));
            }
            continue;
        };
        if let Some(found) = directive::split(line.trim(), &whence)? {
            output.take(found, shape, &whence)?;
        }
    }
    Ok(output)
}

impl BuildOutput {
    fn take(
        &mut self,
        found: Directive<'_>,
        shape: &PackageShape,
        whence: &str,
    ) -> Result<(), OutputError> {
        let value = found.value.to_owned();
        match found.key {
            "rustc-flags" => self.take_flags(&value, whence)?,
            "rustc-link-lib" => self.library_links.push(value),
            "rustc-link-search" => self.library_paths.push(value),
            "rustc-link-arg" => self.link_args.push((LinkArgTarget::All, value)),
            "rustc-link-arg-cdylib" | "rustc-cdylib-link-arg" => {
                if !shape.has("cdylib") {
                    self.warnings.push(format!(
                        "{}{} was specified in the build script of {}, \
                         but that package does not contain a cdylib target\n\n\
                         Allowing this was an unintended change in the 1.50 release, and may become an \
                         error in the future. For more information, see \
                         <https://github.com/rust-lang/cargo/issues/9562>.",
                        found.prefix, found.key, shape.description
                    ));
                }
                self.link_args.push((LinkArgTarget::Cdylib, value));
            }
            "rustc-link-arg-bin" => self.take_single_bin(&found, shape, whence)?,
            "rustc-link-arg-bins" => {
                self.take_for(&found, shape, whence, "bin", "bin", LinkArgTarget::Bin)?
            }
            "rustc-link-arg-tests" => {
                self.take_for(&found, shape, whence, "test", "test", LinkArgTarget::Test)?
            }
            "rustc-link-arg-benches" => {
                self.take_for(
                    &found,
                    shape,
                    whence,
                    "bench",
                    "benchmark",
                    LinkArgTarget::Bench,
                )?;
            }
            "rustc-link-arg-examples" => {
                self.take_for(
                    &found,
                    shape,
                    whence,
                    "example",
                    "example",
                    LinkArgTarget::Example,
                )?;
            }
            "rustc-cfg" => self.cfgs.push(value),
            "rustc-check-cfg" => self.check_cfgs.push(value),
            "rustc-env" => self.take_env(&value, shape, whence)?,
            "warning" => self.warnings.push(value),
            "error" => self.errors.push(value),
            "rerun-if-changed" => self.rerun_if_changed.push(value),
            "rerun-if-env-changed" => self.rerun_if_env_changed.push(value),
            "metadata" => {
                let (key, value) = directive::metadata(&found, whence)?;
                self.metadata.push((key.to_owned(), value.to_owned()));
            }
            _ => return Err(directive::unknown_key(&found, whence)),
        }
        Ok(())
    }

    fn take_for(
        &mut self,
        found: &Directive<'_>,
        shape: &PackageShape,
        whence: &str,
        kind: &str,
        described: &str,
        target: LinkArgTarget,
    ) -> Result<(), OutputError> {
        if !shape.has(kind) {
            return Err(OutputError {
                message: format!(
                    "invalid instruction `{}{}` from {whence}\nThe package {} does not have a {described} target.",
                    found.prefix, found.key, shape.description
                ),
            });
        }
        self.link_args.push((target, found.value.to_owned()));
        Ok(())
    }

    fn take_single_bin(
        &mut self,
        found: &Directive<'_>,
        shape: &PackageShape,
        whence: &str,
    ) -> Result<(), OutputError> {
        let Directive {
            prefix, key, value, ..
        } = found;
        let Some((bin, argument)) = value.split_once('=') else {
            return Err(OutputError {
                message: format!(
                    "invalid instruction `{prefix}{key}={value}` from {whence}\n\
                     The instruction should have the form {prefix}{key}=BIN=ARG"
                ),
            });
        };
        if !shape.has_bin(bin) {
            return Err(OutputError {
                message: format!(
                    "invalid instruction `{prefix}{key}` from {whence}\n\
                     The package {} does not have a bin target with the name `{bin}`.",
                    shape.description
                ),
            });
        }
        self.link_args.push((
            LinkArgTarget::SingleBin(bin.to_owned()),
            argument.to_owned(),
        ));
        Ok(())
    }

    fn take_env(
        &mut self,
        value: &str,
        shape: &PackageShape,
        whence: &str,
    ) -> Result<(), OutputError> {
        let Some((name, value)) = value.split_once('=') else {
            return Err(OutputError {
                message: format!("Variable rustc-env has no value in {whence}: {value}"),
            });
        };
        if name != "RUSTC_BOOTSTRAP" {
            self.env.push((name.to_owned(), value.to_owned()));
            return Ok(());
        }
        // A crate must not switch off the stability rules on its own.
        let text = format!(
            "Cannot set `RUSTC_BOOTSTRAP={value}` from {whence}.\n\
             note: Crates cannot set `RUSTC_BOOTSTRAP` themselves, as doing so would subvert the \
             stability guarantees of Rust for your project."
        );
        if shape.bootstrap_allowed {
            self.warnings.push(text);
            return Ok(());
        }
        Err(OutputError {
            message: format!(
                "{text}\nhelp: If you're sure you want to do this in your project, set the environment \
                 variable `RUSTC_BOOTSTRAP={value}` before running cargo instead."
            ),
        })
    }

    fn take_flags(&mut self, value: &str, whence: &str) -> Result<(), OutputError> {
        let refuse = || OutputError {
            message: format!("Only `-l` and `-L` flags are allowed in {whence}: `{value}`"),
        };
        let mut words = value.split_whitespace();
        while let Some(word) = words.next() {
            let (list, glued) = if let Some(rest) = word.strip_prefix("-l") {
                (&mut self.library_links, rest)
            } else if let Some(rest) = word.strip_prefix("-L") {
                (&mut self.library_paths, rest)
            } else {
                return Err(refuse());
            };
            if !glued.is_empty() {
                list.push(glued.to_owned());
            } else if let Some(next) = words.next() {
                list.push(next.to_owned());
            } else {
                return Err(OutputError {
                    message: format!("Flag in rustc-flags has no value in {whence}: `{value}`"),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> PackageShape {
        PackageShape {
            description: "a v1.0.0".to_owned(),
            targets: vec![("tool".to_owned(), vec!["bin".to_owned()])],
            bootstrap_allowed: false,
        }
    }

    fn parse(text: &str) -> Result<BuildOutput, OutputError> {
        parse_build_output(text.as_bytes(), &shape())
    }

    #[test]
    fn both_syntaxes_give_the_same() {
        let old = parse("noise\ncargo:rustc-cfg=x\ncargo:rustc-link-lib=z\n cargo:include=/i \ncargo:rustc-env=A=b=c").unwrap();
        let new = parse("cargo::rustc-cfg=x\ncargo::rustc-link-lib=z\ncargo::metadata=include=/i\ncargo::rustc-env=A=b=c").unwrap();
        assert_eq!(old, new);
        assert_eq!(old.metadata, [("include".to_owned(), "/i".to_owned())]);
        assert_eq!(old.env, [("A".to_owned(), "b=c".to_owned())]);
    }

    #[test]
    fn an_unknown_key_is_an_error_in_the_new_syntax_and_metadata_in_the_old() {
        assert_eq!(parse("cargo:rustc-xyz=1").unwrap().metadata.len(), 1);
        let message = parse("cargo::rustc-xyz=1").unwrap_err().message;
        assert!(message.starts_with("unsupported output in build script of `a v1.0.0`: `cargo::rustc-xyz=1`\nUnknown key: `rustc-xyz`."), "{message}");
    }

    #[test]
    fn a_line_without_value_is_refused() {
        let message = parse("cargo::rustc-cfg").unwrap_err().message;
        assert!(
            message.contains(
                "Expected a line with `cargo::KEY=VALUE` with an `=` character, but none was found."
            ),
            "{message}"
        );
        assert!(parse("cargo:hello").is_err());
    }

    #[test]
    fn link_arguments_need_a_target() {
        assert_eq!(
            parse("cargo::rustc-link-arg-bin=tool=-s")
                .unwrap()
                .link_args,
            [(LinkArgTarget::SingleBin("tool".to_owned()), "-s".to_owned())]
        );
        assert!(parse("cargo::rustc-link-arg-bin=other=-s").is_err());
        assert!(
            parse("cargo::rustc-link-arg-tests=-s")
                .unwrap_err()
                .message
                .contains("does not have a test target")
        );
        assert_eq!(
            parse("cargo::rustc-link-arg-cdylib=-s")
                .unwrap()
                .warnings
                .len(),
            1
        );
    }

    #[test]
    fn flags_may_be_glued_or_apart() {
        let output = parse("cargo:rustc-flags=-l z -L/dir -Lnative=/e").unwrap();
        assert_eq!(output.library_links, ["z"]);
        assert_eq!(output.library_paths, ["/dir", "native=/e"]);
        assert!(parse("cargo:rustc-flags=-O").is_err());
        assert!(parse("cargo:rustc-flags=-l").is_err());
    }

    #[test]
    fn bootstrap_is_refused_unless_the_user_allows_it() {
        assert!(parse("cargo:rustc-env=RUSTC_BOOTSTRAP=1").is_err());
        let allowed = PackageShape {
            bootstrap_allowed: true,
            ..shape()
        };
        let output = parse_build_output(b"cargo:rustc-env=RUSTC_BOOTSTRAP=1", &allowed).unwrap();
        assert!(output.env.is_empty());
        assert_eq!(output.warnings.len(), 1);
    }

    #[test]
    fn a_directive_that_is_not_utf8_is_noted() {
        let output =
            parse_build_output(b"\xff\xfe\ncargo:warning=\xff\ncargo:warning=ok", &shape())
                .unwrap();
        assert_eq!(output.warnings.len(), 2);
        assert!(output.warnings[0].starts_with("ignored a line"));
    }
}
