//! `vrift link`.

use serde_json::json;
use vrift_store::{How, LinkOptions, link};

use crate::cli::{HowOption, Link};
use crate::commands::{load_manifest, unwritten};
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output::{Output, bytes, count};
use crate::progress::Bar;
use crate::target::Target;

pub(crate) fn run(
    options: &Link,
    target: &Target,
    output: &Output,
    interrupt: Interrupt,
) -> Result<u8, Failure> {
    let manifest = load_manifest(&options.source)?;
    let bar = Bar::new(output, "Linking", interrupt);
    let how = LinkOptions {
        how: options.how.map(|how| match how {
            HowOption::Symlink => How::Symlink,
            HowOption::Reflink => How::Reflink,
            HowOption::Copy => How::Copy,
        }),
    };
    let linked = link(&manifest, target.blobs(), &options.dest, &how, &bar)?;
    bar.clear();
    let what = match linked.how {
        How::Symlink => "symbolic links",
        How::Reflink => "clones",
        How::Copy => "copies",
    };
    output.status(
        "Linked",
        &format!(
            "{}, {} to {} as {what} ({}) in {:.2}s",
            count(linked.files, "file"),
            bytes(linked.bytes),
            options.dest.display(),
            linked.why,
            linked.elapsed.as_secs_f64()
        ),
    );
    output
        .json(&json!({
            "reason": "link",
            "dest": options.dest,
            "how": match linked.how {
                How::Symlink => "symlink",
                How::Reflink => "reflink",
                How::Copy => "copy",
            },
            "why": linked.why,
            "files": linked.files,
            "bytes": linked.bytes,
            "seconds": linked.elapsed.as_secs_f64(),
        }))
        .map_err(unwritten)?;
    Ok(0)
}
