//! Refusals as statuses of gRPC. The word of a refusal is the same as over HTTP, and is in
//! the trailer `pinion-error-code`; its facts are JSON in `pinion-error-details-bin`.

use axum::http::StatusCode;
use serde_json::Value;
use tonic::metadata::{BinaryMetadataValue, MetadataValue};
use tonic::{Code, Status};

use crate::error::Failure;

/// The trailer of a refusal's word.
pub const ERROR_CODE: &str = "pinion-error-code";

/// The trailer of its facts.
pub const ERROR_DETAILS: &str = "pinion-error-details-bin";

/// The trailer that says after how many milliseconds it is of use to ask again, as clients of
/// gRPC know it (gRFC A6).
pub const RETRY: &str = "grpc-retry-pushback-ms";

/// A refusal, of which `code` is the word.
pub(crate) fn status(http: StatusCode, code: &str, message: &str) -> Status {
    let mut status = Status::new(grpc_code(http, code), message);
    if let Ok(value) = MetadataValue::try_from(code) {
        status.metadata_mut().insert(ERROR_CODE, value);
    }
    status
}

/// The same with its facts, and when to ask again.
pub(crate) fn detailed(mut status: Status, details: &Value, retry_ms: Option<u64>) -> Status {
    let trailers = status.metadata_mut();
    if details.as_object().is_some_and(|facts| !facts.is_empty()) {
        let value = BinaryMetadataValue::from_bytes(details.to_string().as_bytes());
        trailers.insert_bin(ERROR_DETAILS, value);
    }
    if let Some(ms) = retry_ms {
        trailers.insert(RETRY, ms.into());
    }
    status
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let retry_ms = failure.retry.map(|retry| retry.as_millis());
        let retry_ms = retry_ms.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX));
        let status = status(failure.status, &failure.code, &failure.message);
        detailed(status, &Value::Object(failure.details), retry_ms)
    }
}

fn grpc_code(http: StatusCode, code: &str) -> Code {
    match (http.as_u16(), code) {
        (_, "resnapshot_required") => Code::FailedPrecondition,
        // Nobody knows whether it was done; under its request id it may be asked again.
        (_, "outcome_unknown") => Code::Unknown,
        (_, "timed_out") | (408, _) => Code::DeadlineExceeded,
        (409, "exists" | "already_initialized" | "member_exists") => Code::AlreadyExists,
        (401, _) => Code::Unauthenticated,
        (403, _) => Code::PermissionDenied,
        (404 | 405, _) => Code::NotFound,
        (409, _) => Code::Aborted,
        (410 | 412 | 421, _) => Code::FailedPrecondition,
        (413 | 429, _) => Code::ResourceExhausted,
        (503, _) => Code::Unavailable,
        (400 | 415, _) => Code::InvalidArgument,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_metadata::{MetaCode, MetaError};
    use pinion_plane::PlaneError;

    #[test]
    fn every_refusal_of_the_metadata_has_a_code_that_is_its_own_fault() {
        for code in MetaCode::ALL {
            let http = crate::error::status(*code);
            let found = grpc_code(http, code.text());
            let vague = matches!(found, Code::Internal | Code::Unknown | Code::Unavailable);
            assert!(!vague, "{code:?} is {found:?}");
        }
    }

    #[test]
    fn a_refusal_keeps_its_word_its_facts_and_its_time() {
        let status = Status::from(Failure::from(MetaError::HasData { bytes: 7 }));
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(
            status.metadata().get(ERROR_CODE).expect("a word"),
            "has_data"
        );
        let facts = status.metadata().get_bin(ERROR_DETAILS).expect("facts");
        let facts = facts.to_bytes().expect("bytes");
        assert_eq!(&*facts, br#"{"durable_bytes":7}"#);
        let busy = PlaneError::NoLeader {
            retry_after_ms: 500,
        };
        let status = Status::from(Failure::from(busy));
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.metadata().get(RETRY).expect("a time"), "500");
        let unknown = Status::from(Failure::from(PlaneError::Unknown));
        assert_eq!(unknown.code(), Code::Unknown);
    }
}
