//! `vrift-daemon install --user`: a service of one person, without any privilege.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Writes the units of a service for the user whose home directory this is, and returns their paths.
///
/// On Linux these are a socket and a service of systemd, on macOS an agent of launchd; the store is `~/.vrift`.
///
/// # Errors
/// When a file cannot be written.
pub fn install_for_user(home: &Path, program: &Path) -> io::Result<Vec<PathBuf>> {
    let files = if cfg!(target_os = "macos") {
        let dir = home.join("Library/LaunchAgents");
        vec![(dir.join("org.vrift.daemon.plist"), agent(home, program))]
    } else {
        let dir = home.join(".config/systemd/user");
        vec![
            (dir.join("vrift.socket"), socket()),
            (dir.join("vrift.service"), service(program)),
        ]
    };
    let mut written = Vec::new();
    for (path, text) in files {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::write(&path, text)?;
        written.push(path);
    }
    Ok(written)
}

fn socket() -> String {
    "[Unit]\n\
     Description=Deduplicating store of this user, socket\n\n\
     [Socket]\n\
     ListenStream=%t/vrift/daemon.sock\n\
     SocketMode=0600\n\
     DirectoryMode=0700\n\
     RemoveOnStop=yes\n\n\
     [Install]\n\
     WantedBy=sockets.target\n"
        .to_owned()
}

fn service(program: &Path) -> String {
    // systemd reads `%` and `\` specially in commands.
    let program = program
        .display()
        .to_string()
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%");
    format!(
        "[Unit]\n\
         Description=Deduplicating store of this user\n\
         Requires=vrift.socket\n\n\
         [Service]\n\
         Type=notify\n\
         ExecStart=\"{program}\" --private --home %h/.vrift --socket %t/vrift/daemon.sock\n\
         UMask=0077\n\
         NoNewPrivileges=yes\n\
         RestrictAddressFamilies=AF_UNIX\n\
         Restart=on-failure\n"
    )
}

fn agent(home: &Path, program: &Path) -> String {
    let escape = |path: PathBuf| {
        path.display()
            .to_string()
            .replace('&', "&amp;")
            .replace('<', "&lt;")
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\"><dict>\n\
         <key>Label</key><string>org.vrift.daemon</string>\n\
         <key>ProgramArguments</key><array>\n\
         <string>{}</string><string>--private</string>\n\
         <string>--home</string><string>{}</string>\n\
         <string>--socket</string><string>{}</string>\n\
         </array>\n\
         <key>KeepAlive</key><true/>\n\
         <key>RunAtLoad</key><true/>\n\
         </dict></plist>\n",
        escape(program.to_owned()),
        escape(home.join(".vrift")),
        escape(home.join(".vrift/run/daemon.sock")),
    )
}
