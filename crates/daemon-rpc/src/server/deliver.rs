//! From the queue of a command to its client, up to and including the End.

use std::io;

use tokio::sync::mpsc::{self, error::TryRecvError};

use super::executor::yield_now;
use super::output::{BUDGET, Queued};
use super::running::Running;
use super::socket::Socket;
use super::stdin::StdinFeed;
use crate::failpoint;
use crate::frame::{Kind, put};
use crate::message::{Counts, End, EndStatus, clip_to, encode};

/// The longest message of a failure: the End fits into every client's frame.
const MAX_MESSAGE: usize = 2048;

/// Delivers all that the command produces, then the End.
///
/// Whatever is queued goes out in one write, so that small frames are cheap and
/// the first one does not wait.
pub(super) async fn deliver(
    socket: &Socket,
    mut queue: mpsc::Receiver<Queued>,
    stdin: &StdinFeed,
    task: &mut Running,
) -> io::Result<()> {
    let mut counts = Counts::default();
    let mut out = Vec::new();
    let mut status = None;
    // The command may drop its sink long before it ends.
    let mut open = true;
    loop {
        // In no fixed order: neither a flood of output nor its end starves the other.
        tokio::select! {
            frame = queue.recv(), if open => match frame {
                Some(frame) => append(&mut out, frame, &mut counts),
                None => open = false,
            },
            credit = stdin.credit(), if status.is_none() => {
                put(&mut out, Kind::StdinCredit, &credit.to_be_bytes());
            }
            ended = task.ended(), if status.is_none() => status = Some(ended),
        }
        // What there is besides goes out in the same write.
        status = status.or_else(|| task.try_ended());
        if status.is_some() {
            // What is queued still goes out; whoever kept a sink has lost it.
            queue.close();
        }
        while open && out.len() < BUDGET {
            match queue.try_recv() {
                Ok(frame) => append(&mut out, frame, &mut counts),
                Err(TryRecvError::Disconnected) => open = false,
                Err(TryRecvError::Empty) => break,
            }
        }
        if !open && status.is_some() {
            break;
        }
        if !out.is_empty() {
            socket.write_all(&out, "server-inside-chunk").await?;
            failpoint::hit("server-after-chunk");
            out.clear();
            if !queue.is_empty() {
                // More than enough is not sent while others wait.
                yield_now().await;
            }
        }
    }
    let mut status = status.unwrap_or(EndStatus::Cancelled);
    if let EndStatus::Failed { message } = &mut status {
        *message = clip_to(message, MAX_MESSAGE);
    }
    put(&mut out, Kind::End, &encode(&End { status, counts }));
    failpoint::hit("server-before-end");
    socket.write_all(&out, "server-inside-end").await?;
    failpoint::hit("server-after-end");
    Ok(())
}

fn append(out: &mut Vec<u8>, frame: Queued, counts: &mut Counts) {
    let length = frame.payload.len() as u64;
    match frame.kind {
        Kind::Stdout => counts.stdout += length,
        Kind::Stderr => counts.stderr += length,
        _ => counts.events += length,
    }
    put(out, frame.kind, &frame.payload);
}
