//! Draws a line as wide as the window, and again whenever the window changes:
//! `ruler`. What a command in a daemon knows of the terminal of its client.
//!
//! The first Ctrl+C asks the command to end. This one does not want to: the second
//! drops it, and the third would not even wait for that.

use std::process::ExitCode;

use daemon_rpc::{App, CancellationToken, CommandHandler, EndStatus, IncomingCommand, OutputSink};

struct Ruler;

impl CommandHandler for Ruler {
    type Payload = ();

    async fn handle(
        &self,
        mut command: IncomingCommand<()>,
        out: OutputSink,
        cancel: CancellationToken,
    ) -> EndStatus {
        tokio::spawn({
            let out = out.clone();
            async move {
                cancel.cancelled().await;
                let _gone = out.stderr("once more to end this\n").await;
            }
        });
        loop {
            let width = match *command.window.borrow_and_update() {
                Some(size) => usize::from(size.columns),
                None => return EndStatus::failed("there is no window"),
            };
            let line = format!("{:─<1$}\n", format!("{width} "), width);
            if out.stdout(line).await.is_err() || command.window.changed().await.is_err() {
                return EndStatus::Cancelled;
            }
        }
    }
}

fn main() -> ExitCode {
    App::new("ruler", env!("CARGO_PKG_VERSION"), 1).main(Ruler, "ruler", &())
}
