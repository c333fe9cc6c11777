//! Reads `/proc`: who descends from whom, who carries a mark, who listens where.
//!
//! Processes come and go while it reads, so every failed read means "gone" or
//! "not ours" and is skipped. It signals nobody.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// One line of the process table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// Ended, but not yet collected by its parent.
    pub(crate) zombie: bool,
    /// When it was made, in clock ticks since the machine was started.
    pub(crate) start: u64,
}

/// All processes that can be seen.
pub(crate) fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(process)
        .collect()
}

/// One line of the table; `None` when there is no such process.
pub(crate) fn process(pid: u32) -> Option<Process> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    let stat = String::from_utf8_lossy(&stat);
    // The name in parentheses may itself hold parentheses and spaces.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    Some(Process {
        pid,
        parent,
        zombie: matches!(state, "Z" | "X"),
        // The 22nd field of proc_pid_stat(5).
        start: fields.nth(17)?.parse().ok()?,
    })
}

/// Reads a file of `/proc` with few calls: its size is unknown beforehand, and
/// the standard library feels its way with small reads.
fn read(path: &str) -> Option<Vec<u8>> {
    let mut file = File::open(path).ok()?;
    let mut bytes = vec![0; 4096];
    let mut length = 0;
    loop {
        match file.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
        if length == bytes.len() {
            bytes.resize(length * 4, 0);
        }
    }
    bytes.truncate(length);
    Some(bytes)
}

/// Ids of `ancestor`'s descendants, itself not included.
pub(crate) fn descendants(table: &[Process], ancestor: u32) -> HashSet<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for process in table {
        children
            .entry(process.parent)
            .or_default()
            .push(process.pid);
    }
    let mut found = HashSet::new();
    let mut open = vec![ancestor];
    while let Some(pid) = open.pop() {
        for &child in children.get(&pid).into_iter().flatten() {
            if found.insert(child) {
                open.push(child);
            }
        }
    }
    found
}

/// Whether the process was started with `name=value` in its environment.
pub(crate) fn carries(pid: u32, name: &str, value: &str) -> bool {
    carries_where(pid, name, |found| found == value.as_bytes())
}

/// Whether the process was started with that variable in its environment.
pub(crate) fn carries_any(pid: u32, name: &str) -> bool {
    carries_where(pid, name, |_| true)
}

fn carries_where(pid: u32, name: &str, matches: impl Fn(&[u8]) -> bool) -> bool {
    let Some(environ) = read(&format!("/proc/{pid}/environ")) else {
        return false;
    };
    environ.split(|&byte| byte == 0).any(|entry| {
        entry
            .strip_prefix(name.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"="))
            .is_some_and(&matches)
    })
}

/// The command line for people; the kernel's short name in brackets when there
/// is none.
pub(crate) fn command_line(pid: u32) -> String {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = raw
        .split(|&byte| byte == 0)
        .filter(|argument| !argument.is_empty())
        .map(String::from_utf8_lossy)
        .collect::<Vec<_>>()
        .join(" ");
    if line.is_empty() {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        return format!("[{}]", name.trim());
    }
    line
}

/// Sockets on which the processes listen: `127.0.0.1:9001`, or the path.
pub(crate) fn listeners(pids: impl IntoIterator<Item = u32>) -> HashMap<u32, Vec<String>> {
    // The tables are those of a network namespace, and long.
    let mut networks: HashMap<_, HashMap<u64, String>> = HashMap::new();
    pids.into_iter()
        .map(|pid| {
            let network = fs::read_link(format!("/proc/{pid}/ns/net")).ok();
            let names = networks
                .entry(network)
                .or_insert_with(|| listening_sockets(pid));
            let mut found: Vec<String> = socket_inodes(pid)
                .filter_map(|inode| names.get(&inode).cloned())
                .collect();
            found.sort();
            found.dedup();
            (pid, found)
        })
        .collect()
}

/// Whether the process listens on that TCP address; an unspecified address in
/// the table (`0.0.0.0`, `::`) covers every address of the port.
pub(crate) fn listens_on(pid: u32, address: SocketAddr) -> bool {
    let inodes: HashSet<u64> = tcp_listeners(pid)
        .into_iter()
        .filter(|(found, _)| {
            found.port() == address.port()
                && (found.ip() == address.ip() || found.ip().is_unspecified())
        })
        .map(|(_, inode)| inode)
        .collect();
    socket_inodes(pid).any(|inode| inodes.contains(&inode))
}

/// Whether the process listens on that Unix socket.
pub(crate) fn listens_at(pid: u32, path: &Path) -> bool {
    let inodes: HashSet<u64> = unix_listeners(pid)
        .into_iter()
        .filter(|(found, _)| Path::new(found) == path)
        .map(|(_, inode)| inode)
        .collect();
    socket_inodes(pid).any(|inode| inodes.contains(&inode))
}

fn socket_inodes(pid: u32) -> impl Iterator<Item = u64> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            let inode = target.to_str()?.strip_prefix("socket:[")?;
            inode.strip_suffix(']')?.parse().ok()
        })
}

fn listening_sockets(pid: u32) -> HashMap<u64, String> {
    tcp_listeners(pid)
        .into_iter()
        .map(|(address, inode)| (inode, address.to_string()))
        .chain(
            unix_listeners(pid)
                .into_iter()
                .map(|(path, inode)| (inode, path)),
        )
        .collect()
}

/// Those of the network that the process is in.
fn tcp_listeners(pid: u32) -> Vec<(SocketAddr, u64)> {
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        found.extend(text.lines().skip(1).filter_map(tcp_line));
    }
    found
}

/// `sl local_address rem_address st …  inode`; state `0A` is LISTEN.
fn tcp_line(line: &str) -> Option<(SocketAddr, u64)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != "0A" {
        return None;
    }
    let (ip, port) = fields.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((
        SocketAddr::new(table_ip(ip)?, port),
        fields.get(9)?.parse().ok()?,
    ))
}

/// The tables print each 32-bit word of an address in the machine's byte order.
fn table_ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok();
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?.to_ne_bytes()).into()),
        32 => {
            let mut bytes = [0; 16];
            for part in 0..4 {
                bytes[part * 4..][..4].copy_from_slice(&word(part * 8)?.to_ne_bytes());
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// `Num RefCount Protocol Flags Type St Inode Path`; flag `00010000` says that
/// the socket accepts connections.
fn unix_listeners(pid: u32) -> Vec<(String, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let flags = fields.nth(3)?;
            let inode = fields.nth(2)?.parse().ok()?;
            let path = fields.next()?;
            (flags == "00010000").then(|| (path.to_owned(), inode))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    #[test]
    fn own_listeners_are_found_by_address_and_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let _unix = UnixListener::bind(&path).unwrap();
        let me = std::process::id();
        let address = tcp.local_addr().unwrap();
        assert!(listens_on(me, address));
        assert!(listens_at(me, &path));
        assert!(!listens_at(me, &dir.path().join("t")));
        let found = listeners([me]).remove(&me).unwrap();
        assert!(found.contains(&address.to_string()));
        assert!(found.contains(&path.display().to_string()));
        drop(tcp);
        assert!(!listens_on(me, address));
    }

    #[test]
    fn descendants_include_grandchildren_only_of_the_ancestor() {
        let process = |pid, parent| Process {
            pid,
            parent,
            zombie: false,
            start: 0,
        };
        let table = [
            process(2, 1),
            process(3, 2),
            process(4, 3),
            process(5, 1),
            process(6, 5),
        ];
        assert_eq!(descendants(&table, 2), HashSet::from([3, 4]));
    }

    #[test]
    fn this_process_is_in_the_table() {
        let me = std::process::id();
        let own = processes().into_iter().find(|process| process.pid == me);
        assert!(own.is_some_and(|process| !process.zombie));
        assert!(!command_line(me).is_empty());
        assert!(!carries(me, "VX_TESTKIT_NO_SUCH", "x"));
    }
}
