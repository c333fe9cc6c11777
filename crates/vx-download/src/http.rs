//! Asking a server for a file, or for the rest of one.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{self, HeaderMap};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use rustls::RootCertStore;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::sync::OnceCell;

use crate::error::Error;
use crate::options::Options;

/// The clients of a cache, made when they are needed.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    usual: OnceCell<Client>,
    /// Never asks a proxy: it would look for the server on its own machine.
    loopback: OnceCell<Client>,
}

impl Clients {
    async fn client(&self, url: &Url, options: &Options) -> Result<&Client, Error> {
        let is_loopback = match url.host_str() {
            Some(host) => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let address = host.parse::<std::net::IpAddr>();
                host == "localhost" || address.is_ok_and(|address| address.is_loopback())
            }
            None => false,
        };
        let cell = if is_loopback {
            &self.loopback
        } else {
            &self.usual
        };
        let needs_roots = url.scheme() == "https";
        cell.get_or_try_init(|| async {
            let options = options.clone();
            // Reads certificates from the disk.
            tokio::task::spawn_blocking(move || build(&options, is_loopback, needs_roots))
                .await
                .map_err(|_| Error::CutOff)?
        })
        .await
    }
}

fn build(options: &Options, is_loopback: bool, needs_roots: bool) -> Result<Client, Error> {
    let failed = |error: &dyn std::error::Error| Error::Client(error.to_string());
    // The provider is named, since a default for the whole process is not ours to set.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = || {
        rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
    };
    let verified = tls().and_then(BuilderVerifierExt::with_platform_verifier);
    let config = match verified {
        Ok(builder) => builder.with_no_client_auth(),
        // A machine without certificates can still fetch what needs none.
        Err(error) if needs_roots => return Err(failed(&error)),
        Err(_) => tls()
            .map_err(|error| failed(&error))?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth(),
    };
    let mut builder = Client::builder()
        .tls_backend_preconfigured(config)
        .connect_timeout(options.connect_timeout)
        .redirect(redirects(options.redirects))
        .user_agent(concat!("vx-download/", env!("CARGO_PKG_VERSION")))
        // Kept connections belong to the runtime that made them, which is gone
        // after a blocking fetch.
        .pool_max_idle_per_host(0)
        // Transient failures are ours to count.
        .retry(reqwest::retry::never());
    if is_loopback {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| failed(&error))
}

/// Where a redirect from TLS to plain text would go.
#[derive(Debug, thiserror::Error)]
#[error("it redirects to `{0}`")]
struct Downgrade(Url);

/// Follows so many redirects, but never out of TLS: some of what is read has no
/// other proof than who sent it.
fn redirects(limit: usize) -> redirect::Policy {
    let limited = redirect::Policy::limited(limit);
    redirect::Policy::custom(move |attempt| {
        let from = attempt.previous().last().map(Url::scheme);
        if from == Some("https") && attempt.url().scheme() != "https" {
            let to = attempt.url().clone();
            return attempt.error(Downgrade(to));
        }
        limited.redirect(attempt)
    })
}

/// An answer whose body is the file from some byte on.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    /// Where the body begins.
    pub(crate) from: u64,
    /// The size of the whole file, if it is told.
    pub(crate) total: Option<u64>,
}

/// What a server may say to the wish for the rest of a file.
#[derive(Debug)]
pub(crate) enum Reply {
    Answer(Answer),
    /// There is no such rest.
    NoSuchRange,
}

/// Asks for the file from byte `from` on. A server need not grant that.
pub(crate) async fn get(
    clients: &Clients,
    options: &Options,
    url: &Url,
    from: u64,
) -> Result<Reply, Error> {
    let client = clients.client(url, options).await?;
    let mut request = client
        .get(url.clone())
        // A digest is that of the file, not of a packed form of it.
        .header(header::ACCEPT_ENCODING, "identity");
    if from > 0 {
        request = request.header(header::RANGE, format!("bytes={from}-"));
    }
    let text = url.to_string();
    let sent = tokio::time::timeout(options.stall_timeout, request.send()).await;
    let response = match sent {
        Err(_) => {
            return Err(Error::Stalled {
                url: text,
                limit: options.stall_timeout,
                received: from,
            });
        }
        Ok(Err(error)) => return Err(classify(error, text, options, from)),
        Ok(Ok(response)) => response,
    };
    let status = response.status();
    if status == StatusCode::RANGE_NOT_SATISFIABLE && from > 0 {
        return Ok(Reply::NoSuchRange);
    }
    if status == StatusCode::PARTIAL_CONTENT {
        let range = response.headers().get(header::CONTENT_RANGE);
        let sent = range.and_then(|value| value.to_str().ok()).unwrap_or("");
        return match content_range(sent) {
            Some((first, total)) if first == from => Ok(Reply::Answer(Answer {
                from,
                total,
                response,
            })),
            _ => Err(Error::WrongRange {
                url: text,
                asked: from,
                sent: format!("`{sent}`"),
            }),
        };
    }
    if status != StatusCode::OK {
        return Err(Error::Status {
            url: text,
            status: status.as_u16(),
            retry_after: retry_after(response.headers()),
        });
    }
    Ok(Reply::Answer(Answer {
        from: 0,
        total: response.content_length(),
        response,
    }))
}

fn classify(error: reqwest::Error, url: String, options: &Options, received: u64) -> Error {
    // The address is in our own message already.
    let source = error.without_url();
    if let Some(Downgrade(to)) = caused_by(&source) {
        let to = to.to_string();
        Error::Downgrade { url, to }
    } else if let Some(rustls::Error::InvalidCertificate(reason)) = caused_by(&source) {
        let reason = reason.to_string();
        Error::Certificate { url, reason }
    } else if source.is_redirect() {
        Error::Redirects {
            url,
            limit: options.redirects,
        }
    } else if source.is_connect() || source.is_timeout() {
        Error::Connect { url, source }
    } else if broke_off(&source) {
        Error::Truncated {
            url,
            received,
            expected: None,
        }
    } else {
        Error::Protocol { url, source }
    }
}

/// The causes of an error, those included that an I/O error only wraps.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let mut next = std::error::Error::source(error);
    std::iter::from_fn(move || {
        let cause = next?;
        let wrapped = cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
        Some(cause)
    })
}

fn caused_by<E: std::error::Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// Whether the connection ended before the answer began.
fn broke_off(error: &reqwest::Error) -> bool {
    causes(error).any(|error| {
        let reset = error.downcast_ref::<std::io::Error>().is_some_and(|error| {
            use std::io::ErrorKind::{
                BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof,
            };
            matches!(
                error.kind(),
                BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
            )
        });
        // hyper keeps its error kinds to itself.
        reset || error.to_string().starts_with("connection closed before")
    })
}

/// The first byte and the size of the whole, of `bytes 5-9/10` or `bytes 5-9/*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse::<u64>().ok()?);
    let total = match total {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, total))
}

/// Seconds only; servers of files do not use dates here.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_strictly() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for wrong in [
            "",
            "bytes 5-9",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "lines 5-9/10",
            "bytes */10",
        ] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_client_for_https_can_be_made() {
        build(&Options::default(), false, false).unwrap();
    }
}
