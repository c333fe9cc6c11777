//! Port numbers for programs that can be told nothing but a number.
//!
//! Choosing a free port by binding port 0 and closing it again loses the port
//! to a neighbour now and then. Here a test leases a *block* of ports below the
//! range from which the system hands out ports by itself, so nobody gets one of
//! them by accident.
//!
//! The lease is an abstract Unix socket named after the block: it exists once
//! per network namespace, as the ports do (a lock file would exist once per
//! file system instead, and would need a directory that all users can write),
//! and the kernel releases it with its last descriptor. The helper keeps a copy
//! until the last process of the test is dead, so a straggler cannot meet the
//! next test on its port.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// Ports per block.
pub(crate) const BLOCK: u16 = 8;
/// Below are the ports of well-known services.
const FIRST: u16 = 16_384;
/// Where the system's own range starts if it does not say.
const DEFAULT_EPHEMERAL: u16 = 32_768;

/// A block of ports, or a single port that was merely free when looked at.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) ports: Vec<u16>,
    /// Holds the lease; absent for ports that could only be picked.
    pub(crate) lock: Option<UnixListener>,
}

/// Leases a block; where none can be had, picks free ports without a lease.
pub(crate) fn lease() -> io::Result<Lease> {
    let blocks = (ephemeral_start().saturating_sub(FIRST)) / BLOCK;
    let start = u32::from(hint()) % u32::from(blocks.max(1));
    for step in 0..u32::from(blocks) {
        let number = (start + step) % u32::from(blocks);
        let number = u16::try_from(number).map_err(io::Error::other)?;
        if let Some(lock) = lock(&format!("vx-testkit/ports/{number}"))? {
            let ports: Vec<u16> = (0..BLOCK).map(|i| FIRST + number * BLOCK + i).collect();
            // A stranger who uses one of the ports knows nothing of leases.
            if ports.iter().all(|&port| is_free(port)) {
                return Ok(Lease {
                    ports,
                    lock: Some(lock),
                });
            }
        }
    }
    let ports: Vec<u16> = (0..BLOCK)
        .filter_map(|_| portpicker::pick_unused_port())
        .collect();
    if ports.len() < usize::from(BLOCK) {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "no port is free"));
    }
    Ok(Lease { ports, lock: None })
}

/// Takes the lock of that name; `None` when somebody has it.
fn lock(name: &str) -> io::Result<Option<UnixListener>> {
    let name = SocketAddr::from_abstract_name(name)?;
    match UnixListener::bind_addr(&name) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The slot of the test runner spreads tests over the range so that they do not
/// all try the same blocks; it proves nothing, two runs have the same slots.
fn hint() -> u16 {
    let slot: u32 = std::env::var("NEXTEST_TEST_GLOBAL_SLOT")
        .ok()
        .and_then(|slot| slot.parse().ok())
        .unwrap_or(0);
    // Odd factors spread neighbouring numbers.
    let mixed = slot.wrapping_mul(67) ^ std::process::id().wrapping_mul(13);
    u16::try_from(mixed & 0xffff).unwrap_or(0)
}

fn ephemeral_start() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_ascii_whitespace().next()?.parse().ok())
        .filter(|&start| start > FIRST + BLOCK)
        .unwrap_or(DEFAULT_EPHEMERAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn leases_held_at_once_share_no_port() {
        let leases: Vec<Lease> = (0..32).map(|_| lease().unwrap()).collect();
        let ports: HashSet<u16> = leases
            .iter()
            .flat_map(|lease| lease.ports.clone())
            .collect();
        assert_eq!(ports.len(), 32 * usize::from(BLOCK));
        assert!(ports.iter().all(|&port| port < ephemeral_start()));
    }

    #[test]
    fn a_lock_is_free_again_with_its_last_descriptor() {
        let name = format!("vx-testkit/test/{}", std::process::id());
        let first = lock(&name).unwrap().unwrap();
        let copy = first.try_clone().unwrap();
        drop(first);
        assert!(lock(&name).unwrap().is_none());
        drop(copy);
        assert!(lock(&name).unwrap().is_some());
    }

    #[test]
    fn a_block_with_a_foreign_listener_is_passed_over() {
        let first = lease().unwrap();
        let port = first.ports[3];
        let _stranger = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        drop(first);
        assert!(!lease().unwrap().ports.contains(&port));
    }
}
