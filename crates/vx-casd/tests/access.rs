//! What the service says about itself, and who learns it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serving::Serving;
use tonic::Code;
use vx_proto::cas::{Blob, CasClient, CasError};
use vx_proto::connect::{VERIFY_TIMEOUT, VerifyError, capabilities, verify};
use vx_proto::token::Token;
use vx_proto::{Digest, DigestFunction, reapi};

mod serving;

#[tokio::test]
async fn capabilities_name_what_is_served() {
    let serving = Serving::on_tcp();
    let (_, capabilities) = capabilities(&serving.endpoint, Some(&serving.token), VERIFY_TIMEOUT)
        .await
        .unwrap();
    let cache = capabilities.cache_capabilities.unwrap();
    assert_eq!(
        cache.digest_functions,
        [
            reapi::digest_function::Value::Blake3 as i32,
            reapi::digest_function::Value::Sha256 as i32
        ]
    );
    assert_eq!(cache.max_batch_total_size_bytes, 4 * 1024 * 1024);
    assert!(capabilities.execution_capabilities.is_none());
}

#[tokio::test]
async fn a_wrong_token_opens_nothing() {
    let serving = Serving::on_tcp();
    let wrong = Token::from_bytes([7; 32]);
    for token in [None, Some(&wrong)] {
        let client = CasClient::new(serving.channel(), token, DigestFunction::Blake3);
        let error = client.find_missing(&[Digest::of(b"x")]).await.unwrap_err();
        assert!(
            matches!(&error, CasError::Call { source, .. } if source.code() == Code::Unauthenticated),
            "{error}"
        );
        assert!(client.upload(vec![Blob::of("x")]).await.is_err());
        assert!(matches!(
            verify(&serving.endpoint, token, vx_casd::SERVICE, VERIFY_TIMEOUT).await,
            Err(VerifyError::Denied { .. })
        ));
    }
    let version = verify(
        &serving.endpoint,
        Some(&serving.token),
        vx_casd::SERVICE,
        VERIFY_TIMEOUT,
    );
    assert_eq!(version.await.unwrap().pid, std::process::id());
}
