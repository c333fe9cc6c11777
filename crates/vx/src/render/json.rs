//! Events as programs read them: cargo's JSON messages, one object a line.
//!
//! The format is that of <https://doc.rust-lang.org/cargo/reference/external-tools.html#json-messages>.

use serde::Serialize;
use serde_json::{Value, json};
use vx_proto::command::{ArtifactProfile, BuildEvent, UnitName};
use vx_proto::toolchain::{Download, DownloadState};

use super::short;

/// What the field `rendered` of a compiler's message holds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rendered {
    /// The message without colours.
    Plain,
    /// The message with colours.
    Ansi,
    /// One line.
    Short,
    /// The messages are for people and are left out here.
    Nowhere,
}

/// Renders for programs.
#[derive(Debug)]
pub(crate) struct Json {
    rendered: Rendered,
    begun: bool,
    ended: bool,
}

impl Json {
    /// A new stream of lines.
    pub(crate) fn new(rendered: Rendered) -> Json {
        Json {
            rendered,
            begun: false,
            ended: false,
        }
    }

    /// The line of an event, when it has one.
    pub(crate) fn line(&mut self, event: &BuildEvent) -> Option<String> {
        match event {
            BuildEvent::Planned { .. } => {
                self.begun = true;
                None
            }
            BuildEvent::Diagnostic { name, json, .. } => self.diagnostic(name, json),
            BuildEvent::Artifact {
                name,
                profile,
                features,
                filenames,
                executable,
                fresh,
            } => line(&Artifact {
                reason: "compiler-artifact",
                package_id: &name.package_id,
                manifest_path: name.manifest_path.to_string_lossy().into_owned(),
                target: Target::of(name),
                profile: Profile::of(profile),
                features,
                filenames: filenames
                    .iter()
                    .map(|path| path.to_string_lossy().into_owned())
                    .collect(),
                executable: executable
                    .as_ref()
                    .map(|path| path.to_string_lossy().into_owned()),
                fresh: *fresh,
            }),
            BuildEvent::BuildScript {
                name,
                linked_libs,
                linked_paths,
                cfgs,
                env,
                out_dir,
            } => line(&BuildScript {
                reason: "build-script-executed",
                package_id: &name.package_id,
                linked_libs,
                linked_paths,
                cfgs,
                env,
                out_dir: out_dir.to_string_lossy().into_owned(),
            }),
            BuildEvent::Summary { success, .. } => {
                self.ended = true;
                line(&Finished {
                    reason: "build-finished",
                    success: *success,
                })
            }
            BuildEvent::Download(download) => line(&progress(download)),
            _ => None,
        }
    }

    /// The last line of a build that began and had no proper end.
    pub(crate) fn end(&mut self) -> Option<String> {
        if !self.begun || self.ended {
            return None;
        }
        self.ended = true;
        line(&Finished {
            reason: "build-finished",
            success: false,
        })
    }

    fn diagnostic(&self, name: &UnitName, object: &str) -> Option<String> {
        if self.rendered == Rendered::Nowhere {
            return None;
        }
        let mut message: Value = serde_json::from_str(object).ok()?;
        let rendered = match self.rendered {
            Rendered::Short => Some(short::line(object).unwrap_or_default()),
            Rendered::Plain => message
                .get("rendered")
                .and_then(Value::as_str)
                .map(|text| anstream::adapter::strip_str(text).to_string()),
            Rendered::Ansi | Rendered::Nowhere => None,
        };
        if let (Some(text), Some(fields)) = (rendered, message.as_object_mut()) {
            fields.insert("rendered".to_owned(), Value::String(text));
        }
        line(&CompilerMessage {
            reason: "compiler-message",
            package_id: &name.package_id,
            manifest_path: name.manifest_path.to_string_lossy().into_owned(),
            target: Target::of(name),
            message,
        })
    }
}

/// How far a download is; cargo has no message for that.
fn progress(download: &Download) -> Value {
    let (state, rest) = match &download.state {
        DownloadState::Waiting => ("waiting", json!({})),
        DownloadState::Running { bytes, total } => {
            ("running", json!({ "bytes": bytes, "total": total }))
        }
        DownloadState::Retrying { attempt, reason } => {
            ("retrying", json!({ "attempt": attempt, "message": reason }))
        }
        DownloadState::Done {
            bytes,
            millis: Some(millis),
        } => ("done", json!({ "bytes": bytes, "millis": millis })),
        DownloadState::Done {
            bytes,
            millis: None,
        } => ("done", json!({ "bytes": bytes })),
    };
    let mut message = json!({
        "reason": "download",
        "file": download.file,
        "url": download.url,
        "state": state,
    });
    if let (Some(message), Value::Object(rest)) = (message.as_object_mut(), rest) {
        message.extend(rest);
    }
    message
}

/// Serialising these types to a string cannot fail: they have text keys only.
fn line(message: &impl Serialize) -> Option<String> {
    let mut line = serde_json::to_string(message).ok()?;
    line.push('\n');
    Some(line)
}

#[derive(Serialize)]
struct CompilerMessage<'a> {
    reason: &'static str,
    package_id: &'a str,
    manifest_path: String,
    target: Target<'a>,
    message: Value,
}

#[derive(Serialize)]
struct Artifact<'a> {
    reason: &'static str,
    package_id: &'a str,
    manifest_path: String,
    target: Target<'a>,
    profile: Profile<'a>,
    features: &'a [String],
    filenames: Vec<String>,
    executable: Option<String>,
    fresh: bool,
}

#[derive(Serialize)]
struct BuildScript<'a> {
    reason: &'static str,
    package_id: &'a str,
    linked_libs: &'a [String],
    linked_paths: &'a [String],
    cfgs: &'a [String],
    env: &'a [(String, String)],
    out_dir: String,
}

#[derive(Serialize)]
struct Finished {
    reason: &'static str,
    success: bool,
}

#[derive(Serialize)]
struct Target<'a> {
    kind: &'a [String],
    crate_types: &'a [String],
    name: &'a str,
    src_path: String,
    edition: &'a str,
    doc: bool,
    doctest: bool,
    test: bool,
}

impl Target<'_> {
    /// `doc`, `doctest` and `test` are what cargo takes for a target of this kind
    /// when the manifest does not say otherwise; they matter to no build.
    fn of(name: &UnitName) -> Target<'_> {
        let is = |kind: &str| name.target_kind.iter().any(|have| have == kind);
        let other = ["bin", "example", "test", "bench", "custom-build"];
        let library = !other.iter().any(|kind| is(kind));
        Target {
            kind: &name.target_kind,
            crate_types: &name.crate_types,
            name: &name.target,
            src_path: name.src_path.to_string_lossy().into_owned(),
            edition: &name.edition,
            doc: library || is("bin"),
            doctest: library
                && name
                    .crate_types
                    .iter()
                    .any(|kind| kind != "cdylib" && kind != "staticlib"),
            test: library || is("bin") || is("test"),
        }
    }
}

#[derive(Serialize)]
struct Profile<'a> {
    opt_level: &'a str,
    debuginfo: Value,
    debug_assertions: bool,
    overflow_checks: bool,
    test: bool,
}

impl Profile<'_> {
    fn of(profile: &ArtifactProfile) -> Profile<'_> {
        let debuginfo = match &profile.debuginfo {
            None => json!(0),
            Some(level) => level
                .parse::<u8>()
                .map_or_else(|_| json!(level), |level| json!(level)),
        };
        Profile {
            opt_level: &profile.opt_level,
            debuginfo,
            debug_assertions: profile.debug_assertions,
            overflow_checks: profile.overflow_checks,
            test: profile.test,
        }
    }
}
