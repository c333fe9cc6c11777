//! Certificates for one test: an authority that nobody else trusts, and what it signs.

use std::fmt;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate authority that lives as long as the test.
///
/// ```
/// use vx_testkit::{CertificateAuthority, HttpFixture};
///
/// let authority = CertificateAuthority::new();
/// let server = HttpFixture::start_https(&authority.certificate_for(["127.0.0.1"]));
/// server.file("/tool.tar", "content");
/// assert!(server.url("/tool.tar").starts_with("https://127.0.0.1:"));
/// // … write `authority.pem()` to a file, and name it in `SSL_CERT_FILE` …
/// # assert!(authority.pem().starts_with("-----BEGIN CERTIFICATE-----"));
/// ```
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// The certificate of a server, with its key.
pub struct ServerCertificate {
    chain: CertificateDer<'static>,
    key: KeyPair,
}

impl CertificateAuthority {
    /// An authority with a new key.
    ///
    /// # Panics
    /// If the system gives no random numbers.
    #[must_use]
    #[track_caller]
    pub fn new() -> CertificateAuthority {
        made(CertificateAuthority::try_new())
    }

    fn try_new() -> Result<CertificateAuthority, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        // Two authorities of one name would be told apart by their signatures only.
        let id: String = key.public_key_raw().iter().rev().take(8).map(hex).collect();
        let name = format!("vx-testkit, for one test ({id})");
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key)?.pem();
        Ok(CertificateAuthority {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    /// The authority's own certificate, as programs that are to trust it read it.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for a server with these names or addresses.
    ///
    /// # Panics
    /// If one of them is neither.
    #[must_use]
    #[track_caller]
    pub fn certificate_for<N: Into<String>>(
        &self,
        names: impl IntoIterator<Item = N>,
    ) -> ServerCertificate {
        made(self.sign(names.into_iter().map(Into::into).collect(), false))
    }

    /// As [`certificate_for`](Self::certificate_for), but its time is over.
    ///
    /// # Panics
    /// If one of the names is neither a name nor an address.
    #[must_use]
    #[track_caller]
    pub fn expired_certificate_for<N: Into<String>>(
        &self,
        names: impl IntoIterator<Item = N>,
    ) -> ServerCertificate {
        made(self.sign(names.into_iter().map(Into::into).collect(), true))
    }

    fn sign(&self, names: Vec<String>, expired: bool) -> Result<ServerCertificate, rcgen::Error> {
        let mut params = CertificateParams::new(names)?;
        if expired {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(ServerCertificate {
            chain: certificate.der().clone(),
            key,
        })
    }
}

impl Default for CertificateAuthority {
    fn default() -> CertificateAuthority {
        CertificateAuthority::new()
    }
}

impl ServerCertificate {
    #[track_caller]
    pub(super) fn config(&self) -> Arc<rustls::ServerConfig> {
        // The provider is named, since a default for the whole process is not ours to set.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                let builder = builder.with_no_client_auth();
                builder.with_single_cert(vec![self.chain.clone()], key)
            });
        Arc::new(made(config))
    }
}

// Keys are not for logs.
impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority")
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").finish_non_exhaustive()
    }
}

fn hex(byte: &u8) -> String {
    format!("{byte:02x}")
}

#[track_caller]
fn made<T, E: fmt::Display>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("failed to make a certificate: {error}"),
    }
}
