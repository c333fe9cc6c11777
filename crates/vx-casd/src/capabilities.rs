//! What this store can do, for clients that ask before they use it.

use tonic::{Request, Response, Status};
use vx_proto::reapi::capabilities_server::Capabilities;
use vx_proto::reapi::{self, symlink_absolute_path_strategy};
use vx_proto::semver::SemVer;
use vx_proto::{DigestFunction, MAX_BATCH_BYTES};

/// The answer is always the same.
pub(crate) struct Fixed;

#[tonic::async_trait]
impl Capabilities for Fixed {
    async fn get_capabilities(
        &self,
        _: Request<reapi::GetCapabilitiesRequest>,
    ) -> Result<Response<reapi::ServerCapabilities>, Status> {
        let version = |minor| {
            Some(SemVer {
                major: 2,
                minor,
                ..SemVer::default()
            })
        };
        Ok(Response::new(reapi::ServerCapabilities {
            cache_capabilities: Some(reapi::CacheCapabilities {
                // The first is the one we would choose.
                digest_functions: vec![
                    vx_proto::digest::function_number(DigestFunction::Blake3),
                    vx_proto::digest::function_number(DigestFunction::Sha256),
                ],
                action_cache_update_capabilities: Some(reapi::ActionCacheUpdateCapabilities {
                    update_enabled: true,
                }),
                cache_priority_capabilities: None,
                max_batch_total_size_bytes: MAX_BATCH_BYTES as i64,
                // Targets are stored as they are; who makes the links decides.
                symlink_absolute_path_strategy: symlink_absolute_path_strategy::Value::Allowed
                    as i32,
                supported_compressors: Vec::new(),
                supported_batch_update_compressors: Vec::new(),
            }),
            execution_capabilities: None,
            deprecated_api_version: None,
            low_api_version: version(0),
            high_api_version: version(3),
        }))
    }
}
