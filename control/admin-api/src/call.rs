//! One request: from the bytes that HTTP gave to a handler, and its answer back.
//!
//! In this order: a request id, who asks, how often, whether they may, the query, the
//! body, the handler. Nothing of a body is read before it is known that whoever sends
//! it may.

mod read;

use core::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawPathParams, Request};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use pinion_auth::spiffe::SpiffeId;
use pinion_metadata::{
    Command, Expect, MetaCode, MetaVersion, Metadata, Object, ObjectKey, Outcome,
};
use pinion_plane::{Answer, Caller, Consistency, Denied, PlaneError, Query, QueryValue};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Api;
use crate::access::{Who, bearer};
use crate::error::Failure;
use crate::limits::{PLANE_WAIT, ROWS_MAX};
use crate::routes::{METRICS, Need, Route};
use crate::views::Paging;
pub(crate) use read::{
    bad_parameter, from_value, percent_decode, random_id, read_body, read_query, read_whole,
    request_id,
};
use read::{confirmed, if_match, parse_body};

/// The client's id of a request: on a write, what a repeat is known by.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// That somebody means it.
pub(crate) const X_CONFIRM: HeaderName = HeaderName::from_static("x-confirm");
/// The version of the metadata that an answer is of.
const X_VERSION: HeaderName = HeaderName::from_static("x-pinion-version");
/// On an answer that may be any time behind.
const X_STALE: HeaderName = HeaderName::from_static("x-pinion-stale");
/// On an answer to what was done before, under the same request id.
const X_REPEAT: HeaderName = HeaderName::from_static("x-pinion-repeat");

/// What a handler answers.
pub(crate) type Reply = Result<Response, Failure>;

/// The address that a request came from; its listener puts it there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote(pub(crate) SocketAddr);

/// Whether a request came over TLS; its listener puts it there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Secure(pub(crate) bool);

/// What the certificate says that the connection of a request was made with, after TLS has
/// checked who signed it; its listener puts it there.
#[derive(Clone, Debug)]
pub(crate) struct Certified(pub(crate) Arc<SpiffeId>);

/// Who asks, of a request that comes of a call: its gate let them in and counted them, and puts
/// it there. What comes over the wire has no such thing.
#[derive(Clone, Debug)]
pub(crate) struct LetIn(pub(crate) Who);

/// Who sent a request, as far as its connection says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    pub(crate) remote: Option<SocketAddr>,
    /// Who goes by it shows no other credential.
    pub(crate) workload: Option<Arc<SpiffeId>>,
}

impl Peer {
    pub(crate) fn of(extensions: &Extensions) -> Self {
        let workload = extensions.get::<Certified>();
        Self {
            remote: extensions.get::<Remote>().map(|remote| remote.0),
            workload: workload.map(|certified| certified.0.clone()),
        }
    }
}

/// One request that was let in.
pub(crate) struct Call {
    pub(crate) api: Arc<Api>,
    pub(crate) who: Who,
    pub(crate) peer: Peer,
    /// What the client calls it, or 0: a repeat under it is done once.
    pub(crate) number: u128,
    parts: Parts,
    query: Vec<(String, String)>,
    expect: Expect,
    pub(crate) headers: HeaderMap,
    body: Bytes,
}

/// The parts of a path, decoded.
struct Parts(Vec<(String, String)>);

/// What became of a write.
pub(crate) struct Written {
    pub(crate) version: MetaVersion,
    pub(crate) outcome: Outcome,
    pub(crate) repeat: bool,
}

/// Answers one request of a route.
pub(crate) async fn answer(
    api: Arc<Api>,
    route: &'static Route,
    parts: RawPathParams,
    request: Request,
) -> Response {
    let (number, id) = match request_id(request.headers()) {
        Ok(id) => id,
        Err(failure) => return failure.into_response(&random_id()),
    };
    let mut who = Who::nobody(Peer::of(request.extensions()).remote);
    let result = run(&api, route, parts, request, number, &mut who).await;
    let mut response = match result {
        Ok(response) => response,
        Err(failure) => refuse(&api, route, &who, number, failure)
            .await
            .into_response(&id),
    };
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(X_REQUEST_ID, id);
    }
    response
}

/// Who asks a route, by the head of what they send: `who` is known from then on, and counted.
pub(crate) fn let_in(
    api: &Api,
    route: &Route,
    headers: &HeaderMap,
    peer: &Peer,
    who: &mut Who,
) -> Result<(), Failure> {
    if route.need == Need::Public {
        return api.rate_nobody(who);
    }
    match api.admit(headers, peer) {
        Ok(known) => *who = known,
        Err(error) => {
            api.rate_nobody(who)?;
            return Err(error.into());
        }
    }
    if route.path == METRICS {
        api.rate_scrape(who)
    } else {
        api.rate(who, route.is_write())
    }
}

async fn run(
    api: &Arc<Api>,
    route: &'static Route,
    parts: RawPathParams,
    request: Request,
    number: u128,
    who: &mut Who,
) -> Reply {
    let (head, body) = request.into_parts();
    let peer = Peer::of(&head.extensions);
    match head.extensions.get::<LetIn>() {
        Some(LetIn(known)) => *who = known.clone(),
        None => let_in(api, route, &head.headers, &peer, who)?,
    }
    let parts = Parts(
        parts
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    );
    who.check_need(route.need, |name| parts.get(name))?;
    if route.confirm {
        confirmed(&head.headers)?;
    }
    let query = read_query(head.uri.query().unwrap_or(""), route.query)?;
    let expect = if_match(&head.headers)?;
    let body = match route.body {
        Some(_) => read_body(&head.headers, body, route.body_max).await?,
        None => Bytes::new(),
    };
    let call = Call {
        api: api.clone(),
        who: who.clone(),
        peer,
        number,
        parts,
        query,
        expect,
        headers: head.headers,
        body,
    };
    (route.handler)(call).await
}

/// What was refused for who asked has a row first, or is counted where they were refused so
/// before: what cannot be recorded is answered as that.
pub(crate) async fn refuse(
    api: &Api,
    route: &Route,
    who: &Who,
    number: u128,
    failure: Failure,
) -> Failure {
    let operation = format!("{} {}", route.method.text(), route.path);
    record(api, who, number, &operation, failure).await
}

/// The same of what is no route.
pub(crate) async fn record(
    api: &Api,
    who: &Who,
    number: u128,
    operation: &str,
    failure: Failure,
) -> Failure {
    let Some(status) = failure.denied else {
        return failure;
    };
    let denied = Denied {
        caller: Caller {
            principal: who.principal.clone(),
            request: number,
            remote: who.remote,
        },
        tenant: who.tenant.clone().unwrap_or_default(),
        operation: operation.into(),
        target: failure
            .details
            .get("object")
            .and_then(|object| object.as_str())
            .unwrap_or_default()
            .into(),
        status: status.as_u16(),
    };
    match api.refused(who, denied).await {
        Ok(()) => failure,
        Err(error) => error.into(),
    }
}

/// A request of a route that did not come over the wire.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Parts of the path, decoded.
    pub(crate) parts: Vec<(&'static str, String)>,
    pub(crate) query: Vec<(&'static str, String)>,
    /// What the target must be like.
    pub(crate) expect: Option<MetaVersion>,
    pub(crate) body: Option<Value>,
}

/// Asks a route on behalf of somebody who is known, was counted, and has said that they
/// mean it: with the same rights,
/// the same checks and the same rows as when they ask it themselves.
pub(crate) async fn ask(
    api: &Arc<Api>,
    route: &'static Route,
    who: &Who,
    number: u128,
    wanted: Wanted,
) -> Reply {
    let owned = |pairs: Vec<(&'static str, String)>| {
        let pairs = pairs.into_iter();
        pairs
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    };
    let parts = Parts(owned(wanted.parts));
    let body = wanted.body.map(|body| body.to_string());
    let call = Call {
        api: Arc::clone(api),
        who: who.clone(),
        number,
        peer: Peer {
            remote: who.remote,
            workload: None,
        },
        parts,
        query: owned(wanted.query),
        expect: wanted.expect.map_or(Expect::Any, Expect::Version),
        headers: HeaderMap::from_iter([(X_CONFIRM, HeaderValue::from_static("true"))]),
        body: body.unwrap_or_default().into(),
    };
    let may = who.check_need(route.need, |name| call.parts.get(name));
    let reply = match may {
        Ok(()) => (route.handler)(call).await,
        Err(failure) => Err(failure),
    };
    match reply {
        Ok(response) => Ok(response),
        Err(failure) => Err(refuse(api, route, who, number, failure).await),
    }
}

impl Call {
    /// A part of the path.
    pub(crate) fn part(&self, name: &str) -> &str {
        self.parts.get(name)
    }

    /// A parameter of the query.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A parameter that is a number.
    pub(crate) fn number_param(&self, name: &'static str) -> Result<Option<u64>, Failure> {
        let parse = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|_| digits);
            number.ok_or_else(|| bad_parameter(name, "a number is expected"))
        };
        self.param(name).map(parse).transpose()
    }

    /// A parameter that is `true` or `false`, or stands alone.
    pub(crate) fn flag(&self, name: &'static str) -> Result<bool, Failure> {
        match self.param(name) {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(_) => Err(bad_parameter(name, "true or false is expected")),
        }
    }

    /// Which rows of a list, by `limit` and `offset`.
    pub(crate) fn paging(&self) -> Result<Paging, Failure> {
        let usual = Paging::default();
        let limit = match self.number_param("limit")? {
            None => usual.limit,
            Some(limit) => usize::try_from(limit)
                .ok()
                .filter(|limit| (1..=ROWS_MAX).contains(limit))
                .ok_or_else(|| bad_parameter("limit", &format!("1 to {ROWS_MAX} is expected")))?,
        };
        let offset = self.number_param("offset")?.unwrap_or(0);
        // Beyond what there can be there is nothing.
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(Paging { limit, offset })
    }

    pub(crate) fn consistency(&self) -> Result<Consistency, Failure> {
        match self.param("consistency") {
            None | Some("linearizable") => Ok(Consistency::Linearizable),
            Some("stale") => Ok(Consistency::Stale),
            Some(_) => Err(bad_parameter(
                "consistency",
                "linearizable or stale is expected",
            )),
        }
    }

    /// The bearer, of a route that takes whatever it is.
    pub(crate) fn bearer(&self) -> Result<&[u8], Failure> {
        Ok(bearer(&self.headers)?)
    }

    /// A header, if it is there once.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&[u8]> {
        let mut all = self.headers.get_all(name).iter();
        let value = all.next()?;
        all.next().is_none().then(|| value.as_bytes())
    }

    /// A header that is a list, however often it is there (RFC 9110 §5.3). What is no text
    /// is left out.
    pub(crate) fn header_list(&self, name: &HeaderName) -> String {
        let all = self.headers.get_all(name).iter();
        let texts: Vec<&str> = all.filter_map(|value| value.to_str().ok()).collect();
        texts.join(",")
    }

    /// Whether whoever asks says that they mean it.
    pub(crate) fn is_confirmed(&self) -> bool {
        confirmed(&self.headers).is_ok()
    }

    /// What the target must be like, by the headers.
    pub(crate) fn expect(&self) -> Expect {
        self.expect
    }

    /// The body.
    pub(crate) fn body<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        parse_body(&self.body)
    }

    /// Asks the plane for a change, on behalf of who asks.
    pub(crate) async fn write(&self, expect: Expect, command: Command) -> Result<Written, Failure> {
        let written = self.try_write(expect, command).await;
        written.map_err(|error| self.refused(error))
    }

    /// The same, for who knows what to do about a refusal.
    pub(crate) async fn try_write(
        &self,
        expect: Expect,
        command: Command,
    ) -> Result<Written, PlaneError> {
        let caller = Caller {
            principal: self.who.principal.clone(),
            request: self.number,
            remote: self.who.remote,
        };
        let answer = self.api.plane.write(caller, expect, command, PLANE_WAIT);
        match answer.await {
            Answer::Written {
                version,
                outcome,
                repeat,
            } => Ok(Written {
                version,
                outcome,
                repeat,
            }),
            Answer::Refused(error) => Err(error),
            _ => Err(PlaneError::Failed),
        }
    }

    /// What a refusal of the plane is answered with.
    pub(crate) fn refused(&self, error: PlaneError) -> Failure {
        let conflict =
            matches!(&error, PlaneError::Meta(error) if error.code() == MetaCode::VersionConflict);
        let mut failure = Failure::from(error);
        // A condition of the request failed (RFC 9110 §13.1.1).
        if conflict && matches!(self.expect, Expect::Version(_)) {
            failure.status = StatusCode::PRECONDITION_FAILED;
        }
        failure
    }

    /// Reads what is asked for, as new as the request wants it.
    pub(crate) async fn read(&self, query: Query) -> Result<(Read, QueryValue), Failure> {
        let consistency = self.consistency()?;
        self.read_as(query, consistency).await
    }

    /// Reads what is asked for, as new as this.
    pub(crate) async fn read_as(
        &self,
        query: Query,
        consistency: Consistency,
    ) -> Result<(Read, QueryValue), Failure> {
        match self.api.plane.read(query, consistency, PLANE_WAIT).await {
            Answer::Read {
                version,
                stale,
                value,
            } => Ok((Read { version, stale }, value)),
            Answer::Refused(error) => Err(error.into()),
            _ => Err(PlaneError::Failed.into()),
        }
    }

    /// One object.
    pub(crate) async fn get(&self, key: ObjectKey) -> Result<(Read, Arc<Object>), Failure> {
        match self.read(Query::Get(key)).await? {
            (read, QueryValue::Object(Some(object))) => Ok((read, object)),
            _ => Err(Failure::not_found()),
        }
    }

    /// Looks at the metadata as this node has it.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Metadata) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let looked = self.api.plane.look(look).await?;
        looked.ok_or_else(|| PlaneError::NotReady.into())
    }
}

/// Of which state something was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    pub(crate) version: MetaVersion,
    pub(crate) stale: bool,
}

impl Read {
    /// Says so in the headers.
    pub(crate) fn mark(self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        let version = HeaderValue::from(self.version.0);
        headers.insert(X_VERSION, version);
        if self.stale
            && let Ok(value) = HeaderValue::try_from(format!("version={}", self.version.0))
        {
            headers.insert(X_STALE, value);
        }
        response
    }
}

impl Written {
    /// The object that it was about.
    pub(crate) fn object(&self) -> Result<&Arc<Object>, Failure> {
        match &self.outcome {
            Outcome::Object(object) => Ok(object),
            // A repeat of what made something that is gone since.
            _ => Err(Failure::not_found()),
        }
    }

    /// Says in the headers what is known of the write.
    pub(crate) fn mark(&self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        headers.insert(X_VERSION, HeaderValue::from(self.version.0));
        if self.repeat {
            headers.insert(X_REPEAT, HeaderValue::from_static("true"));
        }
        response
    }
}

impl Parts {
    fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }
}

// ------------------------------------------------------------------------- answers

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Reply {
    let bytes = serde_json::to_vec(body).map_err(|_| PlaneError::Failed)?;
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The same, of an object at a version that `If-Match` takes.
pub(crate) fn tagged(status: StatusCode, version: MetaVersion, body: &impl Serialize) -> Reply {
    let mut response = json(status, body)?;
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", version.0)) {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(response)
}

/// Nothing but that it was done.
pub(crate) fn no_content() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
