//! Outputs that are complete while their command still runs.
//!
//! A compiler that writes elsewhere and renames into place says with the rename that the file is done.
//! It is stored and announced at that moment, so dependents start while code is still being generated.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use inotify::{Inotify, WatchDescriptor, WatchMask};
use tokio::io::unix::AsyncFd;
use vx_proto::Digest;
use vx_proto::reapi::OutputFile;

use crate::cache::Cache;
use crate::failure::Failure;
use crate::outputs::{Collected, Source};

/// Watches the directories of early outputs from before the command starts.
pub(crate) struct Watch {
    queue: AsyncFd<Inotify>,
    wanted: HashMap<(WatchDescriptor, OsString), Source>,
}

impl Watch {
    /// Starts to watch; `None` when there is nothing to watch for.
    pub(crate) fn start(outputs: &[Source]) -> Result<Option<Watch>, Failure> {
        if outputs.is_empty() {
            return Ok(None);
        }
        let fail = |path: &PathBuf| Failure::local("watch the output", path.clone());
        let queue = Inotify::init().map_err(fail(&outputs[0].path))?;
        let mut wanted = HashMap::new();
        for output in outputs {
            let (Some(folder), Some(name)) = (output.path.parent(), output.path.file_name()) else {
                continue;
            };
            let watch = queue
                .watches()
                .add(folder, WatchMask::MOVED_TO)
                .map_err(fail(&output.path))?;
            wanted.insert((watch, name.to_owned()), output.clone());
        }
        // SAFETY: an `Inotify` owns one descriptor, the same one as long as it lives.
        let queue = unsafe { AsyncFd::register(queue) }
            .map_err(io::Error::from)
            .map_err(fail(&outputs[0].path))?;
        Ok(Some(Watch { queue, wanted }))
    }

    /// Stores each output that appears and hands it to `announce`; goes on until it is dropped, an error occurs or all have come.
    pub(crate) async fn publish(
        &mut self,
        cache: &Cache,
        mut announce: impl FnMut(OutputFile),
    ) -> Result<(), Failure> {
        while !self.wanted.is_empty() {
            for output in self
                .next()
                .await
                .map_err(Failure::local("watch", "outputs"))?
            {
                let mut collected = Collected::of(cache, vec![output]).await?;
                collected.upload(cache).await?;
                for file in collected.files() {
                    announce(file.clone());
                }
            }
        }
        Ok(())
    }

    async fn next(&mut self) -> io::Result<Vec<Source>> {
        loop {
            let mut ready = self.queue.readable_mut().await?;
            let mut buffer = [0; 4096];
            let mut arrived = Vec::new();
            match ready.get_inner_mut().read_events(&mut buffer) {
                Ok(events) => {
                    for event in events {
                        let Some(name) = event.name else { continue };
                        arrived.extend(self.wanted.remove(&(event.wd, name.to_owned())));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Err(error),
            }
            if !arrived.is_empty() {
                return Ok(arrived);
            }
        }
    }
}

/// Refuses a result whose outputs are not those that were announced.
pub(crate) fn check(
    announced: &[OutputFile],
    digest_of: impl Fn(&str) -> Option<Digest>,
) -> Result<(), Failure> {
    for file in announced {
        if vx_proto::digest::required(file.digest.as_ref()).ok() != digest_of(&file.path) {
            return Err(Failure::ChangedEarly(file.path.clone()));
        }
    }
    Ok(())
}
