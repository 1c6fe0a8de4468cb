//! The dashboard on the administrators' port: who is logged in, which page they see, and
//! what is done from it.
//!
//! Pages are filled by [`pages`], drawn by `pinion_admin_ui`, and seen by whoever has
//! `admin:read`; one who has it on a tenant alone sees that tenant. What is done from a
//! confirm page is a request of a [route](crate::routes()) by whoever is logged in
//! ([`act`]): the dashboard gives nobody a right, and the audit log says the same of both.
//!
//! Start reading at [`Frame::answer`]. Sessions are in [`session`], what comes from a
//! browser is believed as far as [`form`] and [`cookie`] say.

mod act;
pub(crate) mod board;
mod context;
mod cookie;
pub(crate) mod data;
mod departed;
mod files;
mod form;
mod live;
mod login;
mod oidc;
mod pages;
mod places;
mod session;

use core::net::SocketAddr;
use core::sync::atomic::AtomicUsize;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER, SET_COOKIE, VARY,
};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use axum::routing::any;
use pinion_admin_ui::assets::SECURITY_HEADERS;
use pinion_admin_ui::links::{actions, query_string};
use pinion_admin_ui::live::LiveValues;
use pinion_admin_ui::model::{self, Flash, Shell, Theme, User};
use pinion_admin_ui::{RenderError, Ui};
use pinion_metadata::tenant::DEFAULT_TENANT;
use pinion_plane::PlaneError;
use pinion_types::Monotonic;
use ring::hmac;
use ring::rand::SystemRandom;

use crate::access::Who;
use crate::call::{Remote, Secure, random_id, record};
use crate::error::Failure;
use crate::rest::system::cluster_text;
use crate::{Api, wall};

use context::{Access, PageContext, Shown};
use cookie::Cookie;
use departed::Departures;
use form::Fields;
use places::{Found, PATH_BYTES_MAX, Way};

pub use places::dashboard_paths;
use session::{SessionDigest, Sessions};

/// How long the node worked on an answer, for the tools of browsers: milliseconds from the
/// request's head to the whole answer, without the network (W3C Server Timing).
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Adds the dashboard to the routes.
///
/// # Errors
/// The system gives no random bytes.
pub(crate) fn mount(router: Router, api: &Arc<Api>) -> io::Result<Router> {
    let frame = Arc::new(Frame::new(api)?);
    let handler = move |request: Request| {
        let frame = Arc::clone(&frame);
        async move { frame.answer(request).await }
    };
    let paths = ["/", "/ui", "/ui/", "/ui/{*rest}", "/assets/{*rest}"];
    Ok(paths.into_iter().fold(router, |router, path| {
        router.route(path, any(handler.clone()))
    }))
}

/// The dashboard of one node.
pub(crate) struct Frame {
    api: Arc<Api>,
    ui: Ui,
    sessions: Mutex<Sessions>,
    /// Who is with an identity provider.
    departures: Mutex<Departures>,
    /// What tokens of forms are made with. Those of another life of the node open nothing.
    secret: hmac::Key,
    /// Event streams there are.
    streams: AtomicUsize,
    /// The cluster's id as pages show it, once it is known.
    cluster: OnceLock<String>,
}

/// What came from a browser, besides what it is about.
struct Visit {
    remote: Option<SocketAddr>,
    tls: bool,
    theme: Theme,
    /// Path and query, as they came.
    path: String,
    session: Option<SessionDigest>,
    /// For logs and pages about errors.
    id: String,
}

/// Somebody who is logged in.
#[derive(Clone)]
struct Logged {
    digest: SessionDigest,
    who: Who,
    access: Access,
}

/// Why somebody is not.
enum NotIn {
    /// They have no session.
    Stranger,
    /// It is over, or its credential is.
    Over,
    /// It is there, and the right to see anything was taken away.
    NotPermitted(Box<Who>),
}

impl Frame {
    fn new(api: &Arc<Api>) -> io::Result<Self> {
        let secret = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Ok(Self {
            api: Arc::clone(api),
            ui: Ui::new().map_err(io::Error::other)?,
            sessions: Mutex::default(),
            departures: Mutex::default(),
            secret: secret.map_err(|_| io::Error::other("the system gives no random bytes"))?,
            streams: AtomicUsize::new(0),
            cluster: OnceLock::new(),
        })
    }

    /// Answers one request of a browser.
    async fn answer(self: &Arc<Self>, request: Request) -> Response {
        let begun = Instant::now();
        let (head, body) = request.into_parts();
        let visit = Visit::of(&head);
        let mut response = match self.route(&head, body, &visit).await {
            Ok(response) => response,
            Err((logged, failure)) => self.failed(&visit, logged.as_ref(), failure).await,
        };
        let headers = response.headers_mut();
        for (name, value) in SECURITY_HEADERS {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        // Whoever is refused learns nothing from how long that took.
        let took = begun.elapsed().as_secs_f64() * 1e3;
        let told = HeaderValue::from_str(&format!("page;dur={took:.3}"));
        if let (Ok(told), true) = (told, response.status().is_success()) {
            response.headers_mut().insert(SERVER_TIMING, told);
        }
        response
    }

    async fn route(
        self: &Arc<Self>,
        head: &Parts,
        body: Body,
        visit: &Visit,
    ) -> Result<Response, Failed> {
        let path = head.uri.path();
        if visit.path.len() > PATH_BYTES_MAX {
            let status = StatusCode::URI_TOO_LONG;
            let failure = Failure::new(status, "path_too_long", "The address is too long.");
            return Err((None, failure));
        }
        let (way, posts) = places::way(path);
        match way {
            Way::Login => return self.login(head, body, visit).await,
            Way::Oidc => return self.oidc(head, visit).await,
            _ => {}
        }
        let wanted = if posts {
            head.method == Method::POST
        } else {
            head.method == Method::GET || head.method == Method::HEAD
        };
        if !wanted {
            let allowed = if posts { "POST" } else { "GET, HEAD" };
            return Err((None, wrong_method(allowed)));
        }
        if way == Way::File {
            return files::file(self, head, visit).map_err(|failure| (None, failure));
        }
        let logged = match self.logged(visit, way != Way::Live) {
            Ok(logged) => logged,
            Err(not) => {
                return self.not_in(visit, not, posts || way == Way::Live).await;
            }
        };
        let of = |failure| (Some(logged.clone()), failure);
        self.api.rate(&logged.who, posts).map_err(of)?;
        match way {
            Way::Logout => self.logout(head, body, visit, &logged).await,
            Way::Theme => self.theme(head, body, visit, &logged).await,
            Way::Perform => self.perform(head, body, visit, &logged).await,
            Way::Confirm => self.confirm(head, visit, &logged).await,
            Way::Live => self.live(head, visit, &logged),
            // Those of everybody were answered above.
            Way::Login | Way::Oidc | Way::File | Way::Page => self.page(head, visit, &logged).await,
        }
        .map_err(of)
    }

    // -------------------------------------------------------------------------- pages

    async fn page(
        &self,
        head: &Parts,
        visit: &Visit,
        logged: &Logged,
    ) -> Result<Response, Failure> {
        let (context, found) = self.context(head.uri.path(), head.uri.query(), logged)?;
        let shown = self.filled(logged, &context, &found).await?;
        let live = shown.live;
        let flash = self.sessions().told(&logged.digest);
        let shell = self.shell(visit, Some(logged), &context, flash).await;
        let page = shown.render(&self.ui, &shell).map_err(unrendered)?;
        if live {
            let values = LiveValues::of(&page);
            self.sessions().show(&logged.digest, &visit.path, values);
        }
        Ok(html(StatusCode::OK, page))
    }

    /// A page for whoever may see it. What was refused for who asked has a row in the audit
    /// log, as on every route.
    async fn filled(
        &self,
        logged: &Logged,
        context: &PageContext,
        found: &Found,
    ) -> Result<Shown, Failure> {
        let filled = match pages::check(context, found.name) {
            Ok(()) => (found.handler)(context).await,
            Err(failure) => Err(failure),
        };
        match filled {
            Ok(shown) => Ok(shown),
            Err(failure) => {
                let operation = format!("GET {}", found.route);
                Err(record(&self.api, &logged.who, 0, &operation, failure).await)
            }
        }
    }

    /// What the page of a path is made with.
    fn context(
        &self,
        path: &str,
        query: Option<&str>,
        logged: &Logged,
    ) -> Result<(PageContext, Found), Failure> {
        let found = places::find(path)?;
        let mut context = self.nowhere(logged);
        context.parts.clone_from(&found.parts);
        context.query = Fields::parse(query.unwrap_or_default())?;
        Ok((context, found))
    }

    /// The same of what is no page of its own.
    fn nowhere(&self, logged: &Logged) -> PageContext {
        PageContext {
            api: Arc::clone(&self.api),
            who: logged.who.clone(),
            access: logged.access.clone(),
            parts: Vec::new(),
            query: Fields::default(),
            now: wall(),
        }
    }

    /// What is around a page.
    async fn shell(
        &self,
        visit: &Visit,
        logged: Option<&Logged>,
        context: &PageContext,
        flash: Option<Flash>,
    ) -> Shell {
        let tenant = match context.part("tenant") {
            "" => context.access.tenant().unwrap_or(DEFAULT_TENANT),
            tenant => tenant,
        };
        let mut shell = self.stranger(visit).await;
        let Some(logged) = logged else {
            return shell;
        };
        shell.user = Some(User {
            principal: logged.who.principal.to_string(),
            tenant: logged.access.tenant().map(ToOwned::to_owned),
            may_write: logged.access.may_write(),
        });
        shell.tenant = tenant.to_owned();
        shell.csrf = self.token(logged);
        shell.issues = pages::issues(context).await;
        shell.flash = flash;
        shell
    }

    /// What is around a page that somebody sees who is not logged in.
    async fn stranger(&self, visit: &Visit) -> Shell {
        Shell {
            cluster: self.cluster().await,
            node: self.api.node.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            theme: visit.theme,
            user: None,
            tenant: String::new(),
            csrf: String::new(),
            path: visit.path.clone(),
            issues: 0,
            now_unix_ms: wall().0,
            flash: None,
        }
    }

    /// The first digits of the cluster's id, which is all the name it has.
    async fn cluster(&self) -> String {
        if let Some(known) = self.cluster.get() {
            return known.clone();
        }
        let looked = self.api.plane.look(|metadata| metadata.cluster()).await;
        match looked {
            Ok(Some(id)) => self
                .cluster
                .get_or_init(|| cluster_text(id).chars().take(8).collect())
                .clone(),
            _ => "unknown".to_owned(),
        }
    }

    // ----------------------------------------------------------------------- refusals

    /// A page about what cannot be shown.
    async fn failed(&self, visit: &Visit, logged: Option<&Logged>, failure: Failure) -> Response {
        let retry_ms = failure
            .retry
            .map(|retry| u64::try_from(retry.as_millis()).unwrap_or(u64::MAX));
        let page = model::Failure {
            status: failure.status.as_u16(),
            detail: failure.message,
            retry_after_ms: retry_ms,
            request_id: visit.id.clone(),
        };
        let shell = match logged {
            Some(logged) => {
                let context = self.nowhere(logged);
                self.shell(visit, Some(logged), &context, None).await
            }
            None => self.stranger(visit).await,
        };
        let mut response = match self.ui.render(&shell, &page) {
            Ok(page) => html(failure.status, page),
            // Where not even this renders, the refusals of the routes do.
            Err(error) => return unrendered(error).into_response(&visit.id),
        };
        let headers = response.headers_mut();
        if let Some(ms) = retry_ms {
            // Whole seconds, and never none (RFC 9110 §10.2.3).
            headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000).max(1)));
        }
        if let Some(allowed) = failure.details.get("allow").and_then(|text| text.as_str())
            && let Ok(allowed) = HeaderValue::try_from(allowed)
        {
            headers.insert(ALLOW, allowed);
        }
        response
    }

    /// What somebody gets who is not logged in: the way in, or where nobody would see that
    /// (`silent`), that they are not.
    async fn not_in(&self, visit: &Visit, not: NotIn, silent: bool) -> Result<Response, Failed> {
        if let NotIn::NotPermitted(who) = not {
            let failure = Failure::forbidden("admin:read", &pinion_metadata::PolicyObject::Cluster);
            let failure = record(&self.api, &who, 0, "GET /", failure).await;
            return Err((None, failure));
        }
        let over = matches!(not, NotIn::Over);
        self.api
            .rate_nobody(&Who::nobody(visit.remote))
            .map_err(|failure| (None, failure))?;
        if silent {
            let status = StatusCode::UNAUTHORIZED;
            return Err((None, Failure::new(status, "not_logged_in", "")));
        }
        let next = if visit.path == "/" { "" } else { &visit.path };
        let over = if over { "expired" } else { "" };
        let query = query_string([("next", next), ("problem", over)]);
        let query = if query == "?" { "" } else { &query };
        let mut response = redirect(&format!("{}{query}", actions::LOGIN));
        if !over.is_empty() {
            set_cookie(&mut response, &Cookie::Session.forget(visit.tls));
        }
        Ok(response)
    }

    // ----------------------------------------------------------------------- sessions

    /// Whose session the cookie names, by the newest table; `used` when it is somebody who
    /// asks, and not a page that follows.
    fn logged(&self, visit: &Visit, used: bool) -> Result<Logged, NotIn> {
        let digest = visit.session.ok_or(NotIn::Stranger)?;
        self.is_in(digest, visit.remote, used)
    }

    fn is_in(
        &self,
        digest: SessionDigest,
        remote: Option<SocketAddr>,
        used: bool,
    ) -> Result<Logged, NotIn> {
        let now = self.now();
        let caller = self.sessions().caller(now, &digest, used);
        let mut caller = caller.ok_or(NotIn::Over)?;
        let Ok(who) = self.api.still(&mut caller, remote) else {
            self.sessions().end(&digest);
            return Err(NotIn::Over);
        };
        self.sessions().renew(&digest, caller);
        match Access::of(&who) {
            Some(access) => Ok(Logged {
                digest,
                who,
                access,
            }),
            None => Err(NotIn::NotPermitted(Box::new(who))),
        }
    }

    /// The token that forms of a session carry. Only who has the session's cookie sees a
    /// page with it, and it tells nothing of the cookie.
    fn token(&self, logged: &Logged) -> String {
        self.token_of(b"session", logged.digest.bytes())
    }

    fn is_token(&self, logged: &Logged, shown: &str) -> Result<(), Failure> {
        self.is_token_of(b"session", logged.digest.bytes(), shown)
    }

    fn now(&self) -> Monotonic {
        Monotonic::ZERO + self.api.uptime()
    }

    fn departures(&self) -> MutexGuard<'_, Departures> {
        self.departures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A refusal, and who is told it if they are logged in.
type Failed = (Option<Logged>, Failure);

impl Visit {
    fn of(head: &Parts) -> Self {
        let tls = head
            .extensions
            .get::<Secure>()
            .is_some_and(|secure| secure.0);
        let session = Cookie::Session.of(&head.headers, tls);
        let path = match head.uri.path() {
            // What comes back from an identity provider is in no page.
            path @ actions::LOGIN_OIDC_CALLBACK => Some(path),
            _ => head.uri.path_and_query().map(|path| path.as_str()),
        };
        Self {
            remote: head.extensions.get::<Remote>().map(|remote| remote.0),
            tls,
            theme: cookie::theme(&head.headers, tls),
            path: path.unwrap_or("/").to_owned(),
            session: session.and_then(SessionDigest::of_cookie),
            id: random_id(),
        }
    }
}

/// A page, which nobody keeps.
fn html(status: StatusCode, page: String) -> Response {
    let mut response = Response::new(Body::from(page));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("cookie"));
    response
}

/// To another page, by GET (RFC 9110 §15.4.4).
fn redirect(to: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    // Paths of ours are ASCII; of any other the way is the first page.
    let to = HeaderValue::try_from(to).unwrap_or(HeaderValue::from_static("/"));
    headers.insert(LOCATION, to);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn set_cookie(response: &mut Response, line: &str) {
    if let Ok(line) = HeaderValue::try_from(line) {
        response.headers_mut().append(SET_COOKIE, line);
    }
}

fn wrong_method(allowed: &'static str) -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("This address takes {allowed}."),
    )
    .with("allow", allowed)
}

fn unrendered(_: RenderError) -> Failure {
    let mut failure = Failure::from(PlaneError::Failed);
    failure.status = StatusCode::INTERNAL_SERVER_ERROR;
    failure.message = "The page could not be drawn.".into();
    failure
}
