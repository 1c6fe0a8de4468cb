//! The administrators' way into the control plane: HTTP in, requests of the plane out.
//!
//! Everything here runs on tokio, on the control thread, and only carries: what is
//! decided is decided by [`pinion_plane::Plane`], what somebody may do by
//! `pinion_auth`. It keeps no state of its own but connections, rates and what the data
//! cores last said; it asks them by mail, and waits for none.
//!
//! Start reading at [`routes()`], which says all that can be asked, then `call.rs`: what
//! happens to one request. [`front()`] is how handlers reach the plane of the thread
//! they run on, [`serve`] what a node runs. For people it is `docs/admin-api.md`.

#![forbid(unsafe_code)]

mod access;
mod backup;
mod call;
mod cores;
mod error;
mod frames;
mod front;
pub mod grpc;
mod host;
mod identity;
pub mod idp;
pub mod limits;
mod listener;
mod metrics;
mod model;
pub mod observer;
mod oidc;
mod openapi;
mod prefix;
mod rates;
mod repeats;
mod rest;
mod routes;
mod seen;
mod still;
mod ui;
mod views;

use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request};
use axum::http::header::ALLOW;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::on;
use pinion_auth::AuthError;
use pinion_auth::access::{AccessTable, Caller, TokenDigest};
use pinion_auth::compile::{CredentialTable, Credentials};
use pinion_types::{Monotonic, WallMs};
use tokio::sync::{Notify, watch};

use crate::access::Who;
use crate::call::{Peer, answer, random_id};
use crate::error::Failure;
use crate::listener::{Door, listen};
use crate::observer::Observer;
use crate::rates::Rates;
use crate::repeats::Repeats;

pub use backup::{BackupAsk, BackupFront, BackupHandle, BackupRefused, BackupStream, backup_front};
pub use cores::{NodeError, NodeFront, NodeHandle, node_front};
pub use front::{Front, PlaneHandle, WatchStream, front};
pub use identity::{Identity, ROTATE_EVERY_MS_DEFAULT};
pub use listener::Cleartext;
pub use metrics::{Host, HostFacts};
pub use model::SpecDefaults;
pub use oidc::{LOGIN_NAME_BYTES_MAX, LOGINS_MAX, OidcLogin, redirect_at};
pub use rates::Rate;
pub use routes::{Need, ObjectOf, Route, Verb, first_day_routes, routes};
pub use seen::{Parts, ResourceLoad, Seen};
pub use ui::dashboard_paths;

/// What a node serves its administrators with.
#[derive(Debug)]
pub struct ApiConfig {
    /// Bound by the owner, so that a port in use is told before anything starts.
    pub listener: std::net::TcpListener,
    /// The node's certificate, and whose certificates of clients count. Without one nobody
    /// speaks TLS, and only [`Cleartext`] lets anybody in. A session that is resumed must not
    /// bring a client's certificate along: nobody would look at it again.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// When that certificate ends, in RFC 3339, where it is known: people are told before.
    pub certificate_until: Option<Box<str>>,
    /// Who may speak without TLS.
    pub cleartext: Cleartext,
    /// The node's name.
    pub node: Box<str>,
    /// What resources get where a request says nothing.
    pub defaults: SpecDefaults,
    /// Reads of one principal.
    pub reads: Rate,
    /// Writes of one principal.
    pub writes: Rate,
    /// Readings of the metrics by one principal; they count for nothing else.
    pub scrapes: Rate,
    /// Requests without a credential that counts, of one address.
    pub strangers: Rate,
    /// The machine under the node.
    pub host: Host,
    /// The data cores of this node.
    pub cores: NodeHandle,
    /// What credentials are issued with.
    pub identity: Identity,
    /// Whom people log in to the dashboard with, besides tokens; at most [`LOGINS_MAX`].
    pub logins: Box<[OidcLogin]>,
    /// Where tenants have their first day; off where there is none.
    pub bootstrap: Option<Bootstrap>,
    /// Who makes backups; nobody where nothing is said.
    pub backup: BackupHandle,
}

/// A listener of its own for the first day of tenants, to be bound where only operators
/// reach it. It speaks what the other one does.
#[derive(Debug)]
pub struct Bootstrap {
    /// Bound by the owner.
    pub listener: std::net::TcpListener,
    /// The secret that a request shows in `X-Pinion-Bootstrap-Token`.
    pub secret: TokenDigest,
}

impl ApiConfig {
    /// With everything else as it is where nothing is said: nobody without TLS.
    #[must_use]
    pub fn new(listener: std::net::TcpListener) -> Self {
        let rate = |per_second, burst| Rate { per_second, burst };
        Self {
            listener,
            tls: None,
            certificate_until: None,
            cleartext: Cleartext::Never,
            node: "node".into(),
            defaults: SpecDefaults::default(),
            reads: rate(200, 400),
            writes: rate(100, 200),
            scrapes: rate(10, 20),
            strangers: rate(20, 40),
            host: Host::default(),
            cores: node_front(0).0,
            identity: Identity::default(),
            logins: Box::default(),
            bootstrap: None,
            backup: backup_front().0,
        }
    }
}

/// Serves until `stop` is over, then ends what is under way within
/// [`limits::DRAIN_WAIT`]. Its future is `Send`; it wants a tokio runtime with time and
/// network, of any kind.
///
/// # Errors
/// The socket cannot be used.
pub async fn serve(
    config: ApiConfig,
    plane: PlaneHandle,
    access: watch::Receiver<Arc<AccessTable>>,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    config.listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(config.listener)?;
    let (first_day, secret) = match config.bootstrap {
        Some(bootstrap) => {
            bootstrap.listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(bootstrap.listener)?;
            (Some(listener), Some(bootstrap.secret))
        }
        None => (None, None),
    };
    let (stopped, stopping) = watch::channel(false);
    let tls = config.tls.map(|tls| {
        let mut tls = (*tls).clone();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(tls)
    });
    let api = Arc::new(Api {
        plane,
        access,
        node: config.node,
        defaults: config.defaults,
        observer: Observer::new(config.cores),
        shelf: views::Shelf::default(),
        roster: views::Roster::default(),
        ledger: views::Ledger::default(),
        board: ui::board::Board::default(),
        certificate_ends: config.certificate_until.as_deref().and_then(moment),
        trails: ui::data::trail::Trails::default(),
        trouble: views::TroubleFound::default(),
        reads: Mutex::new(Rates::new(config.reads)),
        writes: Mutex::new(Rates::new(config.writes)),
        scrapes: Mutex::new(Rates::new(config.scrapes)),
        strangers: Mutex::new(Rates::new(config.strangers)),
        repeats: Mutex::default(),
        repeats_begun: Notify::new(),
        giving: tokio::sync::Mutex::default(),
        host: config.host,
        metrics: metrics::Kept::default(),
        started: OnceLock::new(),
        identity: config.identity,
        logins: config.logins,
        exchanged: idp::Tally::default(),
        bootstrap: secret,
        backup: config.backup,
        begun: Instant::now(),
        begun_at: wall(),
        stopping: stopping.clone(),
    });
    let door = Door {
        router: ui::mount(grpc::mount(&router(&api, routes()), &api), &api)?,
        tls,
        cleartext: config.cleartext,
    };
    let first_days = match first_day {
        Some(listener) => {
            let door = Door {
                router: router(&api, first_day_routes()),
                ..door.clone()
            };
            Some(listen(listener, door, stopping.clone()))
        }
        None => None,
    };
    let first_days = async {
        if let Some(listening) = first_days {
            listening.await;
        }
    };
    let stop = async {
        stop.await;
        let _ = stopped.send(true);
    };
    let sampling = api.observer.sample(stopping.clone());
    let refreshing = api.observer.refresh(stopping.clone());
    let gathering = api.write_repeats(stopping.clone());
    let starting = rest::probes::await_start(&api);
    let listening = listen(listener, door, stopping);
    tokio::join!(
        listening, first_days, sampling, refreshing, gathering, starting, stop
    );
    // What was under way when they were written, if the node has the time for it.
    api.write_last_repeats().await;
    Ok(())
}

/// What every request of one listener shares.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) plane: PlaneHandle,
    access: watch::Receiver<Arc<AccessTable>>,
    pub(crate) node: Box<str>,
    pub(crate) defaults: SpecDefaults,
    /// The data cores of this node, and what they are like.
    pub(crate) observer: Observer,
    /// What there is, in order.
    pub(crate) shelf: views::Shelf,
    /// Who is connected.
    pub(crate) roster: views::Roster,
    /// What everything comes to together.
    pub(crate) ledger: views::Ledger,
    /// When the node's certificate ends.
    pub(crate) certificate_ends: Option<WallMs>,
    /// What asks for somebody.
    pub(crate) board: ui::board::Board,
    /// The recent past of resources that somebody looks at.
    pub(crate) trails: ui::data::trail::Trails,
    /// What is wrong.
    pub(crate) trouble: views::TroubleFound,
    reads: Mutex<Rates>,
    writes: Mutex<Rates>,
    scrapes: Mutex<Rates>,
    strangers: Mutex<Rates>,
    /// Rows of the audit log that are gathered.
    repeats: Mutex<Repeats>,
    /// Something new is in it.
    repeats_begun: Notify,
    /// One first row of a token at a time.
    giving: tokio::sync::Mutex<()>,
    /// The machine under the node.
    pub(crate) host: Host,
    pub(crate) metrics: metrics::Kept,
    /// How long it took until the node was ready for the first time.
    pub(crate) started: OnceLock<Duration>,
    pub(crate) identity: Identity,
    /// In the order of their buttons.
    pub(crate) logins: Box<[OidcLogin]>,
    /// How exchanges with identity providers went.
    pub(crate) exchanged: idp::Tally,
    /// Of the first day.
    pub(crate) bootstrap: Option<TokenDigest>,
    pub(crate) backup: BackupHandle,
    begun: Instant,
    /// The same by the wall clock.
    pub(crate) begun_at: WallMs,
    /// True when long answers are to end.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Api {
    /// Who shows these headers, on that connection.
    pub(crate) fn admit(&self, headers: &HeaderMap, peer: &Peer) -> Result<Who, AuthError> {
        let table = self.access.borrow().clone();
        Who::of(&table, headers, peer, wall())
    }

    /// Who holds this token or API key, for a session of theirs.
    pub(crate) fn admit_bearer(
        &self,
        bearer: &[u8],
        remote: Option<core::net::SocketAddr>,
    ) -> Result<(Caller, Who), AuthError> {
        let table = self.access.borrow().clone();
        let shown = Credentials {
            bearer,
            workload: None,
        };
        let caller = table.admit(wall(), shown)?;
        let who = Who::holding(&table, &caller, remote)?;
        Ok((caller, who))
    }

    /// Whether somebody who was let in is so still, and what they may do from here on.
    pub(crate) fn still(
        &self,
        caller: &mut Caller,
        remote: Option<core::net::SocketAddr>,
    ) -> Result<Who, AuthError> {
        let table = self.access.borrow().clone();
        table.still_valid(wall(), caller)?;
        Who::holding(&table, caller, remote)
    }

    /// Counts a request of somebody who is known.
    pub(crate) fn rate(&self, who: &Who, write: bool) -> Result<(), Failure> {
        let rates = if write { &self.writes } else { &self.reads };
        self.count(rates, &who.bucket())
    }

    /// Counts a reading of the metrics.
    pub(crate) fn rate_scrape(&self, who: &Who) -> Result<(), Failure> {
        self.count(&self.scrapes, &who.bucket())
    }

    /// Counts a request without a credential that counts.
    pub(crate) fn rate_nobody(&self, who: &Who) -> Result<(), Failure> {
        self.count(&self.strangers, &access::address(who.remote))
    }

    fn count(&self, rates: &Mutex<Rates>, who: &str) -> Result<(), Failure> {
        let now = self.now();
        let mut rates = rates.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = rates.take(who, now);
        taken.map_err(|often| Failure::too_often(often.retry, often.first))
    }

    /// Who may do what, as it changes.
    pub(crate) fn table(&self) -> watch::Receiver<Arc<AccessTable>> {
        self.access.clone()
    }

    /// What the cluster knows of credentials, if it is there yet.
    pub(crate) fn credentials(&self) -> Option<Arc<CredentialTable>> {
        self.access.borrow().credentials().cloned()
    }

    fn now(&self) -> Monotonic {
        Monotonic::ZERO + self.begun.elapsed()
    }

    /// Since when it serves.
    pub(crate) fn uptime(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// A moment that is written in RFC 3339; none before 1970.
fn moment(text: &str) -> Option<WallMs> {
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok().map(WallMs)
}

/// The wall clock.
pub(crate) fn wall() -> WallMs {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    WallMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn router(api: &Arc<Api>, routes: impl Iterator<Item = &'static Route>) -> Router {
    let mut router = Router::new();
    for route in routes {
        let api = api.clone();
        let handler = async move |parts: Result<RawPathParams, RawPathParamsRejection>,
                                  request: Request| match parts {
            Ok(parts) => answer(api.clone(), route, parts, request).await,
            Err(_) => Failure::bad("bad_path", "the path is not percent-encoded UTF-8")
                .into_response(&random_id()),
        };
        router = router.route(route.path, on(route.method.filter(), handler));
    }
    let (methods, paths) = (api.clone(), api.clone());
    router
        .method_not_allowed_fallback(move |request: Request| no_method(methods.clone(), request))
        .fallback(move |request: Request| no_path(paths.clone(), request))
}

fn stranger(api: &Api, request: &Request) -> Result<(), Failure> {
    let peer = Peer::of(request.extensions());
    api.rate_nobody(&Who::nobody(peer.remote))
}

async fn no_path(api: Arc<Api>, request: Request) -> Response {
    let failure = match stranger(&api, &request) {
        Ok(()) => Failure::new(
            StatusCode::NOT_FOUND,
            "unknown_path",
            "there is no such path",
        ),
        Err(failure) => failure,
    };
    failure.into_response(&random_id())
}

async fn no_method(api: Arc<Api>, request: Request) -> Response {
    if let Err(failure) = stranger(&api, &request) {
        return failure.into_response(&random_id());
    }
    let path = request.uri().path();
    let parts = |route: &&Route| route.path.matches('{').count();
    let found: Vec<&Route> = routes().filter(|route| is_of(path, route.path)).collect();
    // A path that is written out goes before one with a part to fill in.
    let fewest = found.iter().map(parts).min().unwrap_or(0);
    let allowed = found.iter().filter(|route| parts(route) == fewest);
    let allowed: Vec<&str> = allowed.map(|route| route.method.text()).collect();
    let allowed = allowed.join(", ");
    let failure = Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("this path takes {allowed}"),
    );
    let mut response = failure.into_response(&random_id());
    if let Ok(value) = HeaderValue::try_from(allowed) {
        response.headers_mut().insert(ALLOW, value);
    }
    response
}

/// Whether a path is one of a template.
fn is_of(path: &str, template: &str) -> bool {
    let (mut path, mut template) = (path.split('/'), template.split('/'));
    loop {
        match (path.next(), template.next()) {
            (None, None) => return true,
            (Some(part), Some(wanted)) if part == wanted || wanted.starts_with('{') => {}
            _ => return false,
        }
    }
}
