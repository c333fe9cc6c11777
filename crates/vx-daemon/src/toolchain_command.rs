//! `vx toolchain`: says which toolchains there are, and installs, updates and removes releases.

use std::path::PathBuf;
use std::sync::Arc;

use vx_proto::command::BuildEvent;
use vx_proto::toolchain::{ToolchainAction, ToolchainInfo, ToolchainRequest};
use vx_toolchain::dist::{Dist, Mode, Record, Vouched, Wanted};
use vx_toolchain::{Channel, Choice, Found, Selection, Toolchain, ToolchainName, host_triple};

use crate::fetching::teller;
use crate::report::Reporter;
use crate::state::State;
use crate::toolchains::{Chosen, Client, ToolchainError, Toolchains};

/// Carries out a request; what it is about is told to `reporter`.
pub(crate) async fn run(
    state: &Arc<State>,
    request: &ToolchainRequest,
    reporter: &Reporter,
) -> Result<(), ToolchainError> {
    let client = Client {
        cwd: request.cwd.clone(),
        env: request.env.clone(),
        channel: request.toolchain.clone(),
    };
    let command = ToolchainCommand {
        toolchains: &state.toolchains,
        client,
        reporter,
    };
    match &request.action {
        ToolchainAction::Show => {
            let chosen = command.toolchains.chosen(&command.client).await?;
            let info = command.chosen(chosen).await?;
            command.tell(info).await;
            Ok(())
        }
        ToolchainAction::List => command.list().await,
        ToolchainAction::Install {
            names,
            profile,
            components,
            targets,
            offline,
        } => {
            let mut wanted = command.wanted(names).await?;
            for wanted in &mut wanted {
                wanted.profile = profile.clone().or(wanted.profile.take());
                wanted.components.extend(components.iter().cloned());
                wanted.targets.extend(targets.iter().cloned());
            }
            let mode = if *offline { Mode::Offline } else { Mode::Known };
            command.obtain(wanted, mode).await
        }
        ToolchainAction::Update { names } => {
            let wanted = command.to_update(names).await?;
            if wanted.is_empty() {
                let text = "no channel that moves was installed by vx";
                reporter.note("Unchanged", text).await;
            }
            command.obtain(wanted, Mode::Newest).await
        }
        ToolchainAction::Remove { names } => {
            for name in names {
                command.remove(name).await?;
            }
            Ok(())
        }
    }
}

struct ToolchainCommand<'a> {
    toolchains: &'a Toolchains,
    client: Client,
    reporter: &'a Reporter,
}

impl ToolchainCommand<'_> {
    async fn tell(&self, info: ToolchainInfo) {
        self.reporter
            .event(BuildEvent::Toolchain(Box::new(info)))
            .await;
    }

    /// The toolchain that a build would use, as it is now.
    async fn chosen(&self, chosen: Chosen) -> Result<ToolchainInfo, ToolchainError> {
        let Chosen {
            selection,
            found,
            rustup,
        } = chosen;
        let reason = Some(selection.reason.to_string());
        match found {
            Found::Here(toolchain, source) => {
                let name = name_of(&selection, &toolchain);
                let mut info = describe(name, source, *toolchain).await?;
                (info.active, info.reason) = (true, reason);
                Ok(info)
            }
            Found::Absent { lacks } => {
                let Choice::Named(ToolchainName::Channel(channel)) = &selection.choice else {
                    return Err(ToolchainError::NoRelease(format!("{:?}", selection.choice)));
                };
                let dist = self.toolchains.dist(&self.client).await?;
                let mut info = match record(&dist, channel).await? {
                    Some(record) => {
                        let lacks = missing_in(&selection, &record);
                        ToolchainInfo {
                            lacks,
                            ..installed(&dist, record).await?
                        }
                    }
                    None => ToolchainInfo {
                        name: channel.dated_name(),
                        source: "dist".to_owned(),
                        server: Some(dist.server),
                        is_forbidden: self.client.forbids_installing(&rustup),
                        components: selection.components,
                        targets: selection.targets,
                        lacks,
                        ..ToolchainInfo::default()
                    },
                };
                (info.active, info.reason) = (true, reason);
                Ok(info)
            }
        }
    }

    async fn list(&self) -> Result<(), ToolchainError> {
        let dist = self.toolchains.dist(&self.client).await?;
        let chosen = self.toolchains.chosen(&self.client).await?;
        let rustup = chosen.rustup.clone();
        // One that cannot be used does not keep the others from being listed.
        let active = self.chosen(chosen).await.ok();
        let store = dist.store.clone();
        let records = tokio::task::spawn_blocking(move || store.records()).await?;
        let mut all = Vec::new();
        for record in records {
            all.push(installed(&dist, record).await?);
        }
        for (name, sysroot) in rustup.list() {
            all.push(match at(sysroot.clone()).await? {
                Ok(toolchain) => describe(name, "rustup", toolchain).await?,
                Err(error) => ToolchainInfo {
                    name,
                    source: "rustup".to_owned(),
                    sysroot: Some(sysroot),
                    lacks: vec![error],
                    ..ToolchainInfo::default()
                },
            });
        }
        if let Some(active) = active {
            match all
                .iter_mut()
                .find(|info| info.sysroot.is_some() && info.sysroot == active.sysroot)
            {
                Some(info) => (info.active, info.reason) = (true, active.reason),
                None => all.push(active),
            }
        }
        for info in all {
            self.tell(info).await;
        }
        Ok(())
    }

    /// What to install: these, or what a build here would use.
    async fn wanted(&self, names: &[String]) -> Result<Vec<Wanted>, ToolchainError> {
        if names.is_empty() {
            let Chosen { selection, .. } = self.toolchains.chosen(&self.client).await?;
            let Choice::Named(ToolchainName::Channel(channel)) = selection.choice else {
                let name = match selection.choice {
                    Choice::Named(name) => name.to_string(),
                    Choice::Program(path) => path.display().to_string(),
                };
                return Err(ToolchainError::NoRelease(name));
            };
            return Ok(vec![Wanted {
                channel,
                profile: selection.profile,
                components: selection.components.into_iter().collect(),
                targets: selection.targets.into_iter().collect(),
            }]);
        }
        names.iter().map(|name| bare(channel(name)?)).collect()
    }

    /// What to ask the server about: these, or all moving channels that came from there.
    async fn to_update(&self, names: &[String]) -> Result<Vec<Wanted>, ToolchainError> {
        let dist = self.toolchains.dist(&self.client).await?;
        if names.is_empty() {
            let store = dist.store.clone();
            let records = tokio::task::spawn_blocking(move || store.records()).await?;
            return records
                .into_iter()
                .filter(|record| record.server == dist.server && record.channel.is_moving())
                .map(|record| bare(record.channel))
                .collect();
        }
        let mut wanted = Vec::new();
        for name in names {
            let channel = channel(name)?;
            if record(&dist, &channel).await?.is_none() {
                return Err(ToolchainError::NotOurs(name.clone()));
            }
            wanted.push(bare(channel)?);
        }
        Ok(wanted)
    }

    async fn obtain(&self, all: Vec<Wanted>, mode: Mode) -> Result<(), ToolchainError> {
        let dist = self.toolchains.dist(&self.client).await?;
        for wanted in all {
            let tell = teller(self.reporter, Some(format!("from {}", dist.server)));
            let record = dist.obtain(&wanted, mode, &tell).await?.record;
            self.tell(installed(&dist, record).await?).await;
        }
        Ok(())
    }

    async fn remove(&self, name: &str) -> Result<(), ToolchainError> {
        let dist = self.toolchains.dist(&self.client).await?;
        let found = record(&dist, &channel(name)?).await?;
        let record = found.ok_or_else(|| ToolchainError::NotOurs(name.to_owned()))?;
        let release = record.release.clone();
        Dist::remove(&dist.store, record).await?;
        let text = format!("toolchain `{name}`: Rust {release}");
        self.reporter.note("Removed", text).await;
        Ok(())
    }
}

fn channel(name: &str) -> Result<Channel, ToolchainError> {
    match name.parse() {
        Ok(ToolchainName::Channel(channel)) => Ok(channel),
        _ => Err(ToolchainError::NoRelease(name.to_owned())),
    }
}

fn bare(channel: Channel) -> Result<Wanted, ToolchainError> {
    Ok(Wanted {
        channel,
        profile: None,
        components: Default::default(),
        targets: Default::default(),
    })
}

async fn record(dist: &Dist, channel: &Channel) -> Result<Option<Record>, ToolchainError> {
    let (store, server, channel) = (dist.store.clone(), dist.server.clone(), channel.clone());
    let find = move || store.record(&server, &host_triple(), &channel);
    Ok(tokio::task::spawn_blocking(find).await?)
}

/// What the project wants and the installed release does not have; the next build adds it.
fn missing_in(selection: &Selection, record: &Record) -> Vec<String> {
    let targets = selection.targets.iter();
    let targets = targets.filter(|name| **name != record.host && !record.targets.contains(*name));
    let components = selection.components.iter();
    let components = components.filter(|name| !record.components.contains(*name));
    targets
        .map(|name| format!("target `{name}`"))
        .chain(components.map(|name| format!("component `{name}`")))
        .collect()
}

/// A release that came from a server.
async fn installed(dist: &Dist, record: Record) -> Result<ToolchainInfo, ToolchainError> {
    let (store, id) = (dist.store.clone(), record.id.clone());
    let receipt = tokio::task::spawn_blocking(move || store.receipt(&id)).await?;
    let vouched = Vouched::of(&record);
    Ok(ToolchainInfo {
        name: record.channel.dated_name(),
        source: "dist".to_owned(),
        sysroot: receipt.as_ref().map(|_| dist.store.sysroot(&record.id)),
        rustc: Some(format!("rustc {}", record.release)),
        cargo: receipt.map(|receipt| receipt.cargo),
        server: Some(record.server),
        date: Some(record.date),
        signed_by: vouched.by().map(str::to_owned),
        unsigned: vouched.why_not().map(str::to_owned),
        resolved: Some(record.resolved),
        components: record.components.into_iter().collect(),
        targets: record.targets.into_iter().collect(),
        ..ToolchainInfo::default()
    })
}

/// What a toolchain is called where it was chosen by a path.
fn name_of(selection: &Selection, toolchain: &Toolchain) -> String {
    match &selection.choice {
        Choice::Named(name) => name.to_string(),
        Choice::Program(_) => toolchain.sysroot.display().to_string(),
    }
}

/// A toolchain of others.
async fn describe(
    name: String,
    source: &str,
    toolchain: Toolchain,
) -> Result<ToolchainInfo, ToolchainError> {
    let asked = toolchain.clone();
    let cargo = tokio::task::spawn_blocking(move || asked.cargo_release()).await?;
    Ok(ToolchainInfo {
        name,
        source: source.to_owned(),
        rustc: Some(toolchain.release().to_owned()),
        cargo: cargo.ok(),
        sysroot: Some(toolchain.sysroot),
        ..ToolchainInfo::default()
    })
}

/// The toolchain at a sysroot, or why it cannot be used.
async fn at(sysroot: PathBuf) -> Result<Result<Toolchain, String>, ToolchainError> {
    let look = move || Toolchain::at(&sysroot).map_err(|error| error.to_string());
    Ok(tokio::task::spawn_blocking(look).await?)
}
