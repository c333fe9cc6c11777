//! Counts words in a daemon: `wordcount FILE...`, or the words of its input.
//! The first run starts the daemon; `wordcount --status` and `--stop` are about it.

use std::io::Result;
use std::process::ExitCode;

use daemon_rpc::{App, CancellationToken, CommandHandler, EndStatus, IncomingCommand, OutputSink};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt};

struct WordCount;

impl CommandHandler for WordCount {
    type Payload = Vec<String>;

    async fn handle(
        &self,
        mut command: IncomingCommand<Vec<String>>,
        out: OutputSink,
        _cancel: CancellationToken,
    ) -> EndStatus {
        let counted = count(&mut command, &out).await;
        counted.map_or_else(EndStatus::failed, |()| EndStatus::Exit(0))
    }
}

async fn count(command: &mut IncomingCommand<Vec<String>>, out: &OutputSink) -> Result<()> {
    for name in &command.payload {
        let count = words(File::open(command.resolve(name)).await?).await?;
        out.stdout(format!("{count} {name}\n")).await?;
    }
    if command.payload.is_empty() {
        let count = words(&mut command.stdin).await?;
        out.stdout(format!("{count}\n")).await?;
    }
    Ok(())
}

async fn words(mut text: impl AsyncRead + Unpin) -> Result<u64> {
    let (mut buffer, mut inside, mut count) = (vec![0; 64 << 10], false, 0);
    while let length @ 1.. = text.read(&mut buffer).await? {
        for byte in &buffer[..length] {
            count += u64::from(!inside && !byte.is_ascii_whitespace());
            inside = !byte.is_ascii_whitespace();
        }
    }
    Ok(count)
}

fn main() -> ExitCode {
    let app = App::new("wordcount", env!("CARGO_PKG_VERSION"), 1);
    let files: Vec<String> = std::env::args().skip(1).collect();
    match files.first().map(String::as_str) {
        Some("--status") => app.print_status(),
        Some("--stop") => app.print_stop(),
        _ => app.main(WordCount, "count", &files),
    }
}
