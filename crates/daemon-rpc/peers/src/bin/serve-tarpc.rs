//! The server of tarpc.

use daemon_rpc_peers::{block_on, calls, socket_of_this_server};

fn main() {
    let socket = socket_of_this_server();
    block_on(calls::serve_at(&socket));
}
