//! The server of daemon-rpc.

use daemon_rpc_peers::{block_on, ours, socket_of_this_server};

fn main() {
    let socket = socket_of_this_server();
    block_on(ours::serve_at(&socket));
}
