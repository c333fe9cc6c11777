//! The server of tonic.

use daemon_rpc_peers::{block_on, grpc, socket_of_this_server};

fn main() {
    let socket = socket_of_this_server();
    block_on(grpc::serve_at(&socket));
}
