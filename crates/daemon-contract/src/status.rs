//! Asking whether a daemon runs, and the answer.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The question whether a daemon runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StatusRequest {
    /// Which daemon.
    pub id: String,
    /// The job on whose behalf it is asked, for logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
}

impl StatusRequest {
    /// Asks for the daemon `id`.
    pub fn new(id: impl Into<String>) -> StatusRequest {
        StatusRequest {
            id: id.into(),
            job_id: None,
        }
    }
}

/// The answer to a [`StatusRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StatusResponse {
    /// Which daemon; the `id` of the request.
    pub id: String,
    /// Whether its process runs, whether or not it answers.
    pub is_running: bool,
    /// How it is, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_status: Option<HealthStatus>,
    /// Further facts; each daemon documents its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

impl StatusResponse {
    /// Says whether the daemon `id` runs, and nothing else.
    pub fn new(id: impl Into<String>, is_running: bool) -> StatusResponse {
        StatusResponse {
            id: id.into(),
            is_running,
            health_status: None,
            metadata: None,
        }
    }
}

/// How a daemon is. A word that this version does not know is kept as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum HealthStatus {
    /// `starting`: it runs and does not serve yet.
    Starting,
    /// `healthy`: it serves.
    Healthy,
    /// `draining`: it finishes what it has and takes nothing new.
    Draining,
    /// `unhealthy`: it says itself that something is wrong.
    Unhealthy,
    /// `unresponsive`: it runs and does not answer.
    Unresponsive,
    /// Another word.
    Other(String),
}

/// The words, each with what it means.
const WORDS: [(&str, HealthStatus); 5] = [
    ("starting", HealthStatus::Starting),
    ("healthy", HealthStatus::Healthy),
    ("draining", HealthStatus::Draining),
    ("unhealthy", HealthStatus::Unhealthy),
    ("unresponsive", HealthStatus::Unresponsive),
];

impl From<String> for HealthStatus {
    fn from(text: String) -> HealthStatus {
        WORDS
            .into_iter()
            .find(|(word, _)| *word == text)
            .map_or(HealthStatus::Other(text), |(_, status)| status)
    }
}

impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Draining => "draining",
            HealthStatus::Unhealthy => "unhealthy",
            HealthStatus::Unresponsive => "unresponsive",
            HealthStatus::Other(text) => text,
        })
    }
}

impl From<HealthStatus> for String {
    fn from(status: HealthStatus) -> String {
        status.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_json() {
        let mut request = StatusRequest::new("indexer");
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"id":"indexer"}"#
        );
        request.job_id = Some("job-7".into());
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"id":"indexer","job_id":"job-7"}"#
        );
        let mut response = StatusResponse::new("indexer", true);
        assert_eq!(
            serde_json::to_string(&response).unwrap(),
            r#"{"id":"indexer","is_running":true}"#
        );
        response.health_status = Some(HealthStatus::Draining);
        response.metadata = Some([("queue".to_owned(), 3.into())].into_iter().collect());
        let json = r#"{"id":"indexer","is_running":true,"health_status":"draining","metadata":{"queue":3}}"#;
        assert_eq!(serde_json::to_string(&response).unwrap(), json);
        assert_eq!(
            serde_json::from_str::<StatusResponse>(json).unwrap(),
            response
        );
    }

    #[test]
    fn every_word_is_kept() {
        for (word, status) in WORDS {
            assert_eq!(status.to_string(), word);
            assert_eq!(HealthStatus::from(word.to_owned()), status);
        }
        let newer = r#"{"id":"a","is_running":true,"health_status":"hibernating","since":5}"#;
        let read: StatusResponse = serde_json::from_str(newer).unwrap();
        assert_eq!(
            read.health_status,
            Some(HealthStatus::Other("hibernating".into()))
        );
        let again = serde_json::to_string(&read).unwrap();
        assert!(again.contains("\"hibernating\""), "{again}");
    }

    #[test]
    fn an_old_reader_takes_new_data() {
        #[derive(Deserialize)]
        struct Old {
            id: String,
            is_running: bool,
        }
        let mut new = StatusResponse::new("a", true);
        new.health_status = Some(HealthStatus::Healthy);
        let old: Old = serde_json::from_str(&serde_json::to_string(&new).unwrap()).unwrap();
        assert_eq!((old.id.as_str(), old.is_running), ("a", true));
        let request: StatusRequest =
            serde_json::from_str(r#"{"id":"a","deep":true,"priority":[1]}"#).unwrap();
        assert_eq!(request, StatusRequest::new("a"));
    }
}
