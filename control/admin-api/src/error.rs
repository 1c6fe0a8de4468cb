//! What a request that was not done is answered with.
//!
//! Every refusal is a status, a stable word, a sentence for people and the facts as
//! fields: `{code, message, details, request_id}`, which are problem details (RFC 9457) with
//! `{type, title, status, detail}`. The mapping from what the metadata and the plane say is
//! here and nowhere else; [`codes`] has the words.

pub(crate) mod codes;

use core::fmt;
use core::time::Duration;
use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use pinion_auth::AuthError;
use pinion_metadata::{MetaCode, MetaError};
use pinion_plane::{PlaneError, WatchError};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

/// Why a request has no other answer.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    /// Stable; never reused for something else.
    pub(crate) code: Cow<'static, str>,
    pub(crate) message: String,
    pub(crate) details: Map<String, Value>,
    /// When it is of use to ask again.
    pub(crate) retry: Option<Duration>,
    /// It was refused for who asked, before the plane heard of it: it gets a row in the
    /// audit log, with this status.
    pub(crate) denied: Option<StatusCode>,
}

/// The media type of every refusal.
pub(crate) const PROBLEM: &str = "application/problem+json";

/// The body of every refusal: problem details (RFC 9457), and the same as fields of our own.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct ErrorBody {
    /// Where `code` is explained, on the node itself.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference")]
    kind: String,
    /// What `code` means; the same whenever it is said.
    title: &'static str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// The same as `message`.
    detail: String,
    /// A stable word.
    code: String,
    /// For people; may change.
    message: String,
    /// Facts.
    #[schema(value_type = Object)]
    details: Map<String, Value>,
    /// To be found in logs by.
    request_id: String,
}

impl Failure {
    pub(crate) fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code: code.into(),
            message: message.into(),
            details: Map::new(),
            retry: None,
            denied: None,
        }
    }

    /// The request is wrong.
    pub(crate) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.into(), value.into());
        self
    }

    /// There is no such object, or none that whoever asks may know of: both are one
    /// answer, so that names of others do not leak.
    pub(crate) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is no such object, or none that you may see",
        )
    }

    /// The same, of an object that whoever asks may not know of.
    pub(crate) fn hidden() -> Self {
        Self {
            denied: Some(StatusCode::FORBIDDEN),
            ..Self::not_found()
        }
    }

    /// It takes a right that whoever asks does not have.
    pub(crate) fn forbidden(action: &str, object: &impl fmt::Display) -> Self {
        let mut failure = Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            format!("this takes {action} on {object}"),
        )
        .with("action", action)
        .with("object", object.to_string());
        failure.denied = Some(failure.status);
        failure
    }

    /// A data core did not say what must be known.
    pub(crate) fn core_silent() -> Self {
        Self {
            retry: Some(Duration::from_secs(1)),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "core_silent",
                "a data core of this node did not answer in time",
            )
        }
    }

    pub(crate) fn too_often(retry: Duration, denied: bool) -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self {
            retry: Some(retry),
            denied: denied.then_some(status),
            ..Self::new(status, "rate_limited", "too many requests: wait and repeat")
        }
    }

    /// The answer, for the request of this id.
    pub(crate) fn into_response(self, request: &str) -> Response {
        let title = codes::title(&self.code);
        debug_assert!(title.is_some(), "{} has no title", self.code);
        let body = ErrorBody {
            kind: codes::type_of(&self.code),
            title: title.unwrap_or("Refused"),
            status: self.status.as_u16(),
            detail: self.message.clone(),
            code: self.code.into_owned(),
            message: self.message,
            details: self.details,
            request_id: request.to_owned(),
        };
        let bytes = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = Response::new(Body::from(bytes));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(retry) = self.retry {
            // Whole seconds, and never none (RFC 9110 §10.2.3).
            let seconds = retry.as_millis().div_ceil(1_000).max(1).to_string();
            if let Ok(value) = HeaderValue::try_from(seconds) {
                headers.insert(RETRY_AFTER, value);
            }
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<AuthError> for Failure {
    /// To whoever guesses, why the guess was wrong is of use: they are told one thing.
    fn from(error: AuthError) -> Self {
        let message = match error {
            AuthError::Missing => "a bearer token or an API key is needed",
            AuthError::Expired { .. } => "the credential is over: get a new one",
            AuthError::IssuerUnavailable { retry, .. } => {
                return Self {
                    retry: Some(retry),
                    ..Self::new(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "issuer_unavailable",
                        "the keys of the identity provider cannot be had now",
                    )
                };
            }
            _ => "the credential was refused",
        };
        let status = StatusCode::UNAUTHORIZED;
        Self {
            denied: Some(status),
            ..Self::new(status, "unauthenticated", message)
        }
    }
}

impl From<PlaneError> for Failure {
    fn from(error: PlaneError) -> Self {
        let message = error.to_string();
        let (code, retry_ms) = match error {
            PlaneError::Meta(error) => return error.into(),
            PlaneError::Malformed(_) => return Self::bad("malformed", message),
            PlaneError::NoLeader { retry_after_ms } => ("no_leader", Some(retry_after_ms)),
            // Under the same request id a repeat is done once at most.
            PlaneError::Unknown => ("outcome_unknown", Some(1_000)),
            PlaneError::TimedOut => ("timed_out", Some(1_000)),
            PlaneError::Busy { .. } => ("busy", Some(1_000)),
            PlaneError::ReadOnly => ("read_only", None),
            PlaneError::AuditUnavailable => ("audit_unavailable", None),
            PlaneError::NotReady => ("not_ready", Some(1_000)),
            PlaneError::Failed => ("failed", None),
        };
        Self {
            retry: retry_ms.map(|ms| Duration::from_millis(ms.into())),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
        }
    }
}

impl From<WatchError> for Failure {
    fn from(error: WatchError) -> Self {
        let message = error.to_string();
        match error {
            WatchError::Resnapshot(trimmed) => {
                Self::new(StatusCode::GONE, "resnapshot_required", message)
                    .with("oldest_version", trimmed.oldest.0)
                    .with("newest_version", trimmed.newest.0)
            }
            WatchError::TooMany { limit } => Self {
                retry: Some(Duration::from_secs(1)),
                ..Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "too_many_watchers",
                    message,
                )
            }
            .with("limit", limit),
            WatchError::NotReady | WatchError::Unknown => PlaneError::NotReady.into(),
        }
    }
}

impl From<MetaError> for Failure {
    fn from(error: MetaError) -> Self {
        let code = error.code();
        let mut failure = Self::new(status(code), code.text(), error.to_string());
        failure.details = facts(&error);
        if let MetaError::Batch { error, .. } = &error {
            // As whole as its part; which part is in the details.
            failure.status = status(error.code());
        }
        failure
    }
}

/// The status of a refusal of the metadata. Of a batch it is that of its part.
pub(crate) fn status(code: MetaCode) -> StatusCode {
    match code {
        MetaCode::OutsideScope => StatusCode::FORBIDDEN,
        MetaCode::BadName
        | MetaCode::BadSpec
        | MetaCode::BadAddress
        | MetaCode::BadUrl
        | MetaCode::OutsideTenant
        | MetaCode::QuotaAboveParent
        | MetaCode::BadAlgorithms
        | MetaCode::BadText
        | MetaCode::BrokerTwice
        | MetaCode::NotDeletable
        | MetaCode::BadBatch
        | MetaCode::LabelOrder
        | MetaCode::TooLarge
        | MetaCode::Batch => StatusCode::BAD_REQUEST,
        MetaCode::NotFound | MetaCode::NoPlan => StatusCode::NOT_FOUND,
        MetaCode::Exists
        | MetaCode::Deleting
        | MetaCode::NotDeleting
        | MetaCode::MemberExists
        | MetaCode::AlreadyInitialized
        | MetaCode::VersionConflict
        | MetaCode::SpecConflict
        | MetaCode::ImmutableField
        | MetaCode::PlanPending
        | MetaCode::RoleCycle
        | MetaCode::BrokerAlive
        | MetaCode::ParentDeleting
        | MetaCode::OtherIncarnation
        | MetaCode::LimitReached
        | MetaCode::NoMemory
        | MetaCode::QuotaBelowUse => StatusCode::CONFLICT,
        MetaCode::NoBroker
        | MetaCode::HasSubscribers
        | MetaCode::HasData
        | MetaCode::NotEmpty
        | MetaCode::GraceRequired
        | MetaCode::TooEarly
        | MetaCode::StillLeading
        | MetaCode::StillMember
        | MetaCode::LastVoter
        | MetaCode::BrokerUnavailable
        | MetaCode::NotAReplica
        | MetaCode::StillActive => StatusCode::PRECONDITION_FAILED,
        // No rate: waiting alone does not help, so there is no Retry-After.
        MetaCode::QuotaExceeded => StatusCode::TOO_MANY_REQUESTS,
    }
}

/// The facts of a refusal, as fields.
fn facts(error: &MetaError) -> Map<String, Value> {
    let facts = match error {
        MetaError::BadName { what, .. } => json!({ "what": what.to_string() }),
        MetaError::BadSpec {
            field,
            actual,
            min,
            max,
        } => json!({ "field": field, "actual": actual, "min": min, "max": max }),
        MetaError::BadText { field, position } => json!({ "field": field, "position": position }),
        MetaError::BrokerTwice(broker)
        | MetaError::NotAReplica(broker)
        | MetaError::MemberExists(broker)
        | MetaError::BrokerUnavailable(broker) => json!({ "broker_number": broker.0 }),
        MetaError::LastVoter(member) => json!({ "member": member.0 }),
        MetaError::BadAddress { address } => json!({ "address": address }),
        MetaError::LabelOrder { at } => json!({ "at": at }),
        MetaError::BadUrl { url } => json!({ "url": url }),
        MetaError::AlreadyInitialized { tenant } => json!({ "tenant": tenant }),
        MetaError::OutsideTenant { object } | MetaError::OutsideScope { object } => {
            json!({ "object": object.to_string() })
        }
        MetaError::RoleCycle { role, limit } => json!({ "role": role, "limit": limit }),
        MetaError::NotDeletable(key)
        | MetaError::NotFound(key)
        | MetaError::Exists(key)
        | MetaError::Deleting(key)
        | MetaError::NotDeleting(key)
        | MetaError::ParentDeleting(key)
        | MetaError::StillActive(key)
        | MetaError::NoPlan(key)
        | MetaError::PlanPending(key)
        | MetaError::StillMember(key)
        | MetaError::SpecConflict(key) => json!({ "key": key.to_string() }),
        MetaError::BadBatch { limit } => json!({ "limit": limit }),
        MetaError::QuotaAboveParent {
            quota,
            wanted,
            limit,
        } => json!({ "quota": quota.text(), "wanted": wanted, "limit": limit }),
        MetaError::BrokerAlive { incarnation } | MetaError::OtherIncarnation { incarnation } => {
            // Beyond what a number of JSON holds everywhere (RFC 8259 §6).
            json!({ "incarnation": incarnation.to_string() })
        }
        MetaError::StillLeading {
            leads,
            copies,
            arriving,
        } => json!({ "leads": leads, "copies": copies, "arriving": arriving }),
        MetaError::HasSubscribers { count } => json!({ "subscribers": count }),
        MetaError::HasData { bytes } => json!({ "durable_bytes": bytes }),
        MetaError::NotEmpty { inside } => json!({ "inside": inside }),
        MetaError::TooEarly { purge_at } => json!({ "purge_at_ms": purge_at.0 }),
        MetaError::Batch { at, error } => json!({
            "at": at,
            "code": error.code().text(),
            "details": facts(error),
        }),
        MetaError::VersionConflict { found, .. } => {
            json!({ "found": found.map(|version| version.0) })
        }
        MetaError::ImmutableField { field } => json!({ "field": field }),
        MetaError::LimitReached { what, limit } => json!({ "what": what, "limit": limit }),
        MetaError::NoMemory { bytes, broker } => {
            json!({ "partition_bytes": bytes, "broker_number": broker.map(|broker| broker.0) })
        }
        MetaError::QuotaExceeded { quota, limit, used } => {
            json!({ "quota": quota.text(), "limit": limit, "used": used })
        }
        MetaError::QuotaBelowUse {
            quota,
            wanted,
            used,
        } => json!({ "quota": quota.text(), "wanted": wanted, "used": used }),
        MetaError::TooLarge { bytes, limit } => json!({ "bytes": bytes, "limit": limit }),
        MetaError::BadAlgorithms | MetaError::NoBroker | MetaError::GraceRequired => json!({}),
    };
    match facts {
        Value::Object(facts) => facts,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the hundreds of the codes: 1xx the request, 2xx absence and presence, 3xx
    /// conflicts, 4xx safety, 5xx limits.
    #[test]
    fn every_code_of_the_metadata_has_a_status_that_fits_its_hundred() {
        for code in MetaCode::ALL {
            let allowed: &[u16] = match (*code as u16) / 100 {
                1 => &[400, 403],
                2 => &[404, 409, 412],
                3 => &[409],
                4 => &[412],
                _ => &[400, 409, 429],
            };
            let status = status(*code).as_u16();
            assert!(allowed.contains(&status), "{code:?} is {status}");
        }
    }

    #[test]
    fn a_refused_batch_has_the_status_of_its_part_and_says_which() {
        let error = MetaError::Batch {
            at: 3,
            error: Box::new(MetaError::HasData { bytes: 7 }),
        };
        let failure = Failure::from(error);
        assert_eq!(failure.status, StatusCode::PRECONDITION_FAILED);
        assert_eq!(failure.code, "batch");
        assert_eq!(
            Value::Object(failure.details),
            json!({ "at": 3, "code": "has_data", "details": { "durable_bytes": 7 } })
        );
    }

    #[test]
    fn what_may_pass_says_when_to_come_back() {
        for error in [
            PlaneError::NoLeader {
                retry_after_ms: 500,
            },
            PlaneError::Unknown,
            PlaneError::TimedOut,
            PlaneError::Busy { limit: 1 },
            PlaneError::NotReady,
        ] {
            let response = Failure::from(error).into_response("1");
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[RETRY_AFTER], "1");
        }
        for error in [
            PlaneError::ReadOnly,
            PlaneError::AuditUnavailable,
            PlaneError::Failed,
        ] {
            let response = Failure::from(error).into_response("1");
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(!response.headers().contains_key(RETRY_AFTER));
        }
    }
}
