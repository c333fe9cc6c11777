//! The Directories service: directories that clients say are trees which their actions need.

use std::path::PathBuf;

use tonic::{Request, Response, Status};
use vx_proto::Digest;
use vx_proto::ext::directories_server::Directories;
use vx_proto::ext::{ProvideRequest, ProvideResponse};

use crate::provided::Provided;

/// The service.
pub(crate) struct Offers {
    pub(crate) provided: Provided,
}

#[tonic::async_trait]
impl Directories for Offers {
    async fn provide(
        &self,
        request: Request<ProvideRequest>,
    ) -> Result<Response<ProvideResponse>, Status> {
        let request = request.into_inner();
        let path = PathBuf::from(request.path);
        if !path.is_absolute() {
            return Err(Status::invalid_argument("the path has to be absolute"));
        }
        let tree = request.tree.as_ref().map(Digest::try_from);
        let Some(Ok(tree)) = tree else {
            return Err(Status::invalid_argument("there is no digest of a tree"));
        };
        let provided = self.provided.offer(path, tree).await;
        Ok(Response::new(ProvideResponse { provided }))
    }
}
