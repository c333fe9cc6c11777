//! The store of vx as a service: blobs and action results of a [`cas_store`] for
//! everybody who speaks the Remote Execution API v2.
//!
//! It knows nothing of builds and nothing of who runs actions. The store may
//! block, so every use of it happens on threads that may; streams are never held
//! as a whole, and no thread waits for a client.
//!
//! Instance names are accepted and ignored: one process serves one store.

mod actions;
mod blobs;
mod capabilities;
mod complete;
mod failure;
mod resource;
mod storage;
mod streams;
mod trees;

use cas_store::Store;
use tonic::service::Routes;
use vx_proto::MAX_MESSAGE_BYTES;
use vx_proto::bytestream::byte_stream_server::ByteStreamServer;
use vx_proto::reapi::action_cache_server::ActionCacheServer;
use vx_proto::reapi::capabilities_server::CapabilitiesServer;
use vx_proto::reapi::content_addressable_storage_server::ContentAddressableStorageServer;

use crate::storage::Storage;

/// The name that the service answers with.
pub const SERVICE: &str = "vx-casd";

/// Every service over a store; what is to be served beside the question for the
/// version.
pub fn routes(store: Store) -> Routes {
    let storage = Storage::new(store);
    Routes::new(
        ContentAddressableStorageServer::new(blobs::Blobs::new(storage.clone()))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES),
    )
    .add_service(
        ByteStreamServer::new(streams::Streams::new(storage.clone()))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES),
    )
    .add_service(
        ActionCacheServer::new(actions::Actions::new(storage))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES),
    )
    .add_service(CapabilitiesServer::new(capabilities::Fixed))
}
