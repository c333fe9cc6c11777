//! Asking services directly who they are.
//!
//! Only for `version` and `doctor`, which must work when there is no daemon to
//! ask. casd and execd speak gRPC, so this is the one place of the CLI with an
//! async runtime; commands that build never come here.

use daemon_contract::{Endpoint, ServiceVersion};
use vx_proto::connect::{VERIFY_TIMEOUT, VerifyError, verify};
use vx_proto::env::{Settings, VX_CAS, VX_DAEMON, VX_EXEC};
use vx_proto::token::{self, Token};

use crate::daemon;
use crate::exit::{Failure, one_line};

/// What is found at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The service that is expected there.
    Ours(ServiceVersion),
    /// Nobody listens.
    Silent,
    /// Something else, in words.
    Problem(String),
}

/// One of the three services.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// Its name.
    pub(crate) name: &'static str,
    /// The variable that names its endpoint.
    pub(crate) variable: &'static str,
    /// Where it should be.
    pub(crate) endpoint: Endpoint,
    /// What is there.
    pub(crate) answer: Answer,
}

/// Asks all three. Starts nothing and creates nothing.
pub(crate) fn ask_all(settings: &Settings) -> Vec<Service> {
    // Without a token nothing can be asked, but whether anybody answers.
    let token = token::load(&settings.home).ok();
    let daemon = Service {
        name: daemon::SERVICE,
        variable: VX_DAEMON,
        endpoint: settings.daemon.clone(),
        answer: ask_daemon(settings),
    };
    let others = [
        ("vx-casd", VX_CAS, &settings.cas),
        ("vx-execd", VX_EXEC, &settings.exec),
    ];
    std::iter::once(daemon)
        .chain(others.map(|(name, variable, endpoint)| Service {
            name,
            variable,
            endpoint: endpoint.clone(),
            answer: ask(name, endpoint, token.as_ref()),
        }))
        .collect()
}

fn ask_daemon(settings: &Settings) -> Answer {
    match daemon::connect_existing(settings) {
        Ok(Some(client)) => Answer::Ours(client.server_version().clone()),
        Ok(None) => Answer::Silent,
        Err(failure) => Answer::Problem(sentence(&failure)),
    }
}

fn sentence(failure: &Failure) -> String {
    std::iter::once(&failure.message)
        .chain(&failure.causes)
        .cloned()
        .collect::<Vec<_>>()
        .join(": ")
}

fn ask(name: &str, endpoint: &Endpoint, token: Option<&Token>) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let answer = match runtime {
        Ok(runtime) => runtime.block_on(verify(endpoint, token, name, VERIFY_TIMEOUT)),
        Err(error) => return Answer::Problem(error.to_string()),
    };
    match answer {
        Ok(version) => Answer::Ours(version.into()),
        Err(VerifyError::Unreachable { source, .. }) if daemon::nobody_listens(&source) => {
            Answer::Silent
        }
        Err(error @ VerifyError::Foreign { .. }) => Answer::Problem(error.to_string()),
        Err(error) => Answer::Problem(one_line(&error)),
    }
}
