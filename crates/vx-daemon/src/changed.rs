//! An archive that Cargo.lock does not mean: cargo refuses what a registry gives, or cannot unpack what it has, and says no more; here both checksums are told.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use vx_download::{Cache, Digest};
use vx_proto::command::{BuildEvent, BuildRequest};

use crate::cargo::CargoError;
use crate::cargo_home::CargoHome;
use crate::hints;
use crate::lock_file::{self, Locked};
use crate::missing::directories;
use crate::report::Reporter;
use crate::seed::{place_in_index, prefix_in_index};
use crate::state::State;
use crate::verify::{Immutable, sha256};

/// Words with which cargo begins to say that a registry gives another archive; a package follows.
const REFUSED: [&str; 2] = ["failed to verify the checksum of `", "checksum for `"];
/// The same for one that it has, and took without looking.
const DAMAGED: [&str; 1] = ["failed to unpack package `"];
/// An archive larger than this is not looked at again; crates.io takes 10 MiB.
const MOST_BYTES: u64 = 64 << 20;

/// Says more than cargo did, if it refused because of an archive.
pub(crate) async fn explain(
    state: &State,
    request: &BuildRequest,
    home: &CargoHome,
    error: &CargoError,
    reporter: &Reporter,
) {
    let CargoError::Refused { message, .. } = error else {
        return;
    };
    let mut signs = REFUSED.iter().chain(&DAMAGED);
    if !signs.any(|sign| message.contains(sign)) {
        return;
    }
    let request = request.clone();
    let locked = tokio::task::spawn_blocking(move || lock_file::of_request(&request)).await;
    let locked = locked.unwrap_or_default();
    if let Some(package) = complaint(message, &REFUSED, &locked) {
        // Without it less is told.
        let cache = state.toolchains.cache().await.ok();
        tell(package, home.downloads(), cache, reporter).await;
    } else if let Some(package) = complaint(message, &DAMAGED, &locked) {
        let (package, home) = (package.clone(), home.clone());
        let look = move || damaged(&package, &home);
        if let Ok(Some(event)) = tokio::task::spawn_blocking(look).await {
            reporter.event(event).await;
        }
    }
}

/// What is wrong with an archive that cargo has, removed where it is not the user's. Blocks.
fn damaged(package: &Locked, home: &CargoHome) -> Option<BuildEvent> {
    let expected = package.checksum.as_ref()?;
    let registries = directories(&home.downloads().join("registry/cache"));
    let wrong = registries.iter().find_map(|registry| {
        let file = registry.join(package.archive());
        let found = sha256(&file).ok().filter(|found| found != expected)?;
        Some((registry.file_name()?, file, found))
    });
    let (registry, file, found) = wrong?;
    let sources = home.downloads().join("registry/src").join(registry);
    let damaged = Immutable {
        name: package.name.clone(),
        version: package.version.clone(),
        identity: String::new(),
        root: sources.join(format!("{}-{}", package.name, package.version)),
        checksum: package.checksum.clone(),
    };
    let error = damaged.other_checksum(expected, found, &file);
    let hints = match home.is_shared() && damaged.discard().is_ok() {
        true => vec![hints::of_discarded()],
        false => error.hints(),
    };
    Some(BuildEvent::Error {
        message: error.to_string(),
        hints,
    })
}

/// The package of `locked` that follows one of `signs` in the words of cargo.
fn complaint<'a>(words: &str, signs: &[&str], locked: &'a [Locked]) -> Option<&'a Locked> {
    let rest = signs
        .iter()
        .find_map(|sign| words.split_once(sign))
        .map(|(_, rest)| rest)?;
    let mut parts = rest.split([' ', '`']);
    let (name, version) = (parts.next()?, parts.next()?.strip_prefix('v')?);
    locked.iter().find(|package| {
        package.name == name && package.version == version && package.checksum.is_some()
    })
}

/// Tells which checksum `package` should have, and which one the archive has that its registry gives now.
async fn tell(package: &Locked, downloads: &Path, cache: Option<Cache>, reporter: &Reporter) {
    let (owned, directory) = (package.clone(), downloads.to_owned());
    let addresses = tokio::task::spawn_blocking(move || addresses(&owned, &directory)).await;
    let mut given = None;
    for url in addresses.unwrap_or_default() {
        let Some(cache) = &cache else { break };
        // A registry that wants a token does not give it to us; what is expected is told all the same.
        let Ok(content) = cache.read(&url, MOST_BYTES).await else {
            continue;
        };
        let found = Digest::sha256(&content).hex();
        if Some(&found) != package.checksum.as_ref() {
            given = Some((url, found));
            break;
        }
    }
    let Locked { name, version, .. } = package;
    let expected = package.checksum.as_deref().unwrap_or_default();
    let message = match given {
        Some((url, found)) => format!(
            "`{name} {version}` has the checksum {found} at `{url}`, but Cargo.lock says {expected}"
        ),
        None => format!(
            "`{name} {version}` has the checksum {expected} in Cargo.lock, and another one in its registry"
        ),
    };
    let hint = "a version that was published does not change: nothing was used of it; ask those who run the registry, or the network between";
    reporter
        .event(BuildEvent::Error {
            message,
            hints: vec![hint.to_owned()],
        })
        .await;
}

/// Where registries that cargo has asked may have the archive of `package`. Blocks.
fn addresses(package: &Locked, downloads: &Path) -> Vec<String> {
    #[derive(Deserialize)]
    struct Settings {
        dl: String,
    }
    directories(&downloads.join("registry/index"))
        .iter()
        .filter(|index| index.join(place_in_index(&package.name)).is_file())
        .filter_map(|index| fs::read(index.join("config.json")).ok())
        .filter_map(|text| serde_json::from_slice::<Settings>(&text).ok())
        .map(|settings| address(&settings.dl, package))
        .collect()
}

/// The address of an archive; see `dl` in <https://doc.rust-lang.org/cargo/reference/registry-index.html#index-configuration>.
fn address(template: &str, package: &Locked) -> String {
    let values = [
        ("{crate}", package.name.clone()),
        ("{version}", package.version.clone()),
        ("{prefix}", prefix_in_index(&package.name)),
        (
            "{lowerprefix}",
            prefix_in_index(&package.name.to_lowercase()),
        ),
        (
            "{sha256-checksum}",
            package.checksum.clone().unwrap_or_default(),
        ),
    ];
    if !values.iter().any(|(marker, _)| template.contains(marker)) {
        return format!("{template}/{}/{}/download", package.name, package.version);
    }
    values
        .iter()
        .fold(template.to_owned(), |text, (marker, value)| {
            text.replace(marker, value)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seven() -> Locked {
        Locked {
            name: "seven".to_owned(),
            version: "1.0.0".to_owned(),
            source: "registry+r".to_owned(),
            checksum: Some("aa".to_owned()),
        }
    }

    #[test]
    fn the_package_is_the_one_that_cargo_names() {
        let locked = [seven()];
        for words in [
            "error: failed to verify the checksum of `seven v1.0.0`",
            "failed to verify the checksum of `seven v1.0.0 (registry `r`)`",
            "error: checksum for `seven v1.0.0` changed between lock files",
        ] {
            assert_eq!(
                complaint(words, &REFUSED, &locked),
                Some(&locked[0]),
                "{words}"
            );
        }
        for words in ["", "checksum for `seven v1.0.1` changed", "checksum for `x"] {
            assert_eq!(complaint(words, &REFUSED, &locked), None, "{words}");
        }
    }

    #[test]
    fn addresses_are_made_as_cargo_makes_them() {
        let address = |template: &str| address(template, &seven());
        assert_eq!(address("http://r"), "http://r/seven/1.0.0/download");
        assert_eq!(
            address("http://r/{prefix}/{crate}-{version}-{sha256-checksum}"),
            "http://r/se/ve/seven-1.0.0-aa"
        );
    }
}
