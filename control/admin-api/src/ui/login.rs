//! The way in and the way out.

use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pinion_admin_ui::links::actions;
use pinion_admin_ui::model::{Login, LoginProblem};
use pinion_auth::AuthError;
use pinion_plane::{Caller, Denied};
use ring::hmac;

use super::context::Access;
use super::cookie::Cookie;
use super::form::{self, Fields};
use super::session::{Full, SessionDigest, cookie_text};
use super::{Failed, Frame, Logged, Visit, html, places, redirect, set_cookie, wrong_method};
use crate::access::Who;
use crate::error::Failure;
use crate::identity::random;
use crate::limits::BEARER_BYTES_MAX;

/// What the audit log calls it.
pub(super) const LOGIN: &str = "login";
const LOGOUT: &str = "logout";

impl Frame {
    /// `/ui/login`: the form, and what is sent from it.
    pub(super) async fn login(
        self: &Arc<Self>,
        head: &Parts,
        body: Body,
        visit: &Visit,
    ) -> Result<Response, Failed> {
        let stranger = Who::nobody(visit.remote);
        let limited = self.api.rate_nobody(&stranger);
        let method = &head.method;
        if *method == Method::POST {
            if limited.is_err() {
                // What is sent is not looked at: nobody learns how good a guess was.
                let problem = Some(LoginProblem::Limited);
                return self.way_in(visit, "", problem, "").await;
            }
            return self.enter(head, body, visit).await;
        }
        limited.map_err(|failure| (None, failure))?;
        if *method != Method::GET && *method != Method::HEAD {
            return Err((None, wrong_method("GET, HEAD, POST")));
        }
        let query = Fields::parse(head.uri.query().unwrap_or_default());
        let query = query.map_err(|failure| (None, failure))?;
        let problem = match query.get("problem") {
            "expired" => Some(LoginProblem::Expired),
            _ => None,
        };
        self.way_in(visit, query.get("next"), problem, "").await
    }

    /// The form. Its token belongs to a cookie of its own, so that nobody is logged in as
    /// somebody else by a page elsewhere. `said` is of an identity provider.
    pub(super) async fn way_in(
        &self,
        visit: &Visit,
        next: &str,
        problem: Option<LoginProblem>,
        said: &str,
    ) -> Result<Response, Failed> {
        let number: [u8; 32] = random().map_err(|failure| (None, failure))?;
        let cookie = cookie_text(&number);
        let mut shell = self.stranger(visit).await;
        shell.csrf = self.token_of(b"login", cookie.as_bytes());
        shell.path = actions::LOGIN.to_owned();
        let page = Login {
            providers: self.choices(),
            problem,
            said: said.to_owned(),
            next: match places::way_back(next) {
                "/" => String::new(),
                next => next.to_owned(),
            },
        };
        let status = match problem {
            None | Some(LoginProblem::Expired) => StatusCode::OK,
            Some(LoginProblem::Refused | LoginProblem::ProviderRefused) => StatusCode::UNAUTHORIZED,
            Some(LoginProblem::NotPermitted | LoginProblem::Stale) => StatusCode::FORBIDDEN,
            Some(LoginProblem::Limited) => StatusCode::TOO_MANY_REQUESTS,
            Some(LoginProblem::ProviderFailed) => StatusCode::BAD_GATEWAY,
        };
        let rendered = self.ui.render(&shell, &page);
        let rendered = rendered.map_err(|error| (None, super::unrendered(error)))?;
        let mut response = html(status, rendered);
        set_cookie(&mut response, &Cookie::Login.set(visit.tls, &cookie));
        Ok(response)
    }

    /// A token was sent.
    async fn enter(&self, head: &Parts, body: Body, visit: &Visit) -> Result<Response, Failed> {
        let fields = form::read(head, visit.tls, body).await;
        let fields = fields.map_err(|failure| (None, failure))?;
        let cookie = Cookie::Login.of(&head.headers, visit.tls);
        let cookie = cookie.unwrap_or_default().as_bytes();
        if self
            .is_token_of(b"login", cookie, fields.get("csrf"))
            .is_err()
        {
            // The page was open for long, or the cookie was lost: it is shown again.
            let problem = Some(LoginProblem::Expired);
            return self.way_in(visit, fields.get("next"), problem, "").await;
        }
        let next = fields.get("next");
        match self.let_in(fields.get("token").trim(), visit).await {
            Ok(number) => {
                let mut response = redirect(places::way_back(next));
                let cookie = Cookie::Session.set(visit.tls, &cookie_text(&number));
                set_cookie(&mut response, &cookie);
                set_cookie(&mut response, &Cookie::Login.forget(visit.tls));
                Ok(response)
            }
            Err(Refused::Problem(problem)) => self.way_in(visit, next, Some(problem), "").await,
            Err(Refused::Failure(failure)) => Err((None, failure)),
        }
    }

    /// A session for whoever holds a token; its number, which nobody else ever sees.
    pub(super) async fn let_in(&self, token: &str, visit: &Visit) -> Result<[u8; 32], Refused> {
        let stranger = Who::nobody(visit.remote);
        let admitted = if token.is_empty() || token.len() > BEARER_BYTES_MAX {
            Err(AuthError::Missing)
        } else {
            self.api.admit_bearer(token.as_bytes(), visit.remote)
        };
        let (caller, who) = match admitted {
            Ok(admitted) => admitted,
            Err(_) => {
                self.note(&stranger, LOGIN, StatusCode::UNAUTHORIZED)
                    .await?;
                return Err(Refused::Problem(LoginProblem::Refused));
            }
        };
        if Access::of(&who).is_none() {
            self.note(&who, LOGIN, StatusCode::FORBIDDEN).await?;
            return Err(Refused::Problem(LoginProblem::NotPermitted));
        }
        // Looking needs no row: a node whose audit log takes none shows why.
        let _ = self.note(&who, LOGIN, StatusCode::OK).await;
        let number: [u8; 32] = random()?;
        let digest = SessionDigest::of(&number);
        // Whoever was logged in here before is so no more.
        let mut sessions = self.sessions();
        if let Some(before) = &visit.session {
            sessions.end(before);
        }
        match sessions.begin(self.now(), digest, caller, &who.principal) {
            Ok(()) => Ok(number),
            Err(Full) => Err(Refused::Problem(LoginProblem::Limited)),
        }
    }

    /// `/ui/logout`
    pub(super) async fn logout(
        &self,
        head: &Parts,
        body: Body,
        visit: &Visit,
        logged: &Logged,
    ) -> Result<Response, Failure> {
        self.form(head, body, visit, logged).await?;
        self.sessions().end(&logged.digest);
        let _ = self.note(&logged.who, LOGOUT, StatusCode::OK).await;
        let mut response = redirect(actions::LOGIN);
        set_cookie(&mut response, &Cookie::Session.forget(visit.tls));
        Ok(response)
    }

    /// `/ui/theme`: light or dark is of the browser, not of the session.
    pub(super) async fn theme(
        &self,
        head: &Parts,
        body: Body,
        visit: &Visit,
        logged: &Logged,
    ) -> Result<Response, Failure> {
        let fields = self.form(head, body, visit, logged).await?;
        let mut response = redirect(places::way_back(fields.get("back")));
        let cookie = match fields.get("theme") {
            theme @ ("light" | "dark") => Cookie::Theme.set(visit.tls, theme),
            "auto" => Cookie::Theme.forget(visit.tls),
            _ => {
                return Err(Failure::bad(
                    "bad_form",
                    "The theme is auto, light or dark.",
                ));
            }
        };
        set_cookie(&mut response, &cookie);
        Ok(response)
    }

    /// The fields of a form of this session.
    pub(super) async fn form(
        &self,
        head: &Parts,
        body: Body,
        visit: &Visit,
        logged: &Logged,
    ) -> Result<Fields, Failure> {
        let fields = form::read(head, visit.tls, body).await?;
        self.is_token(logged, fields.get("csrf"))?;
        Ok(fields)
    }

    pub(super) fn token_of(&self, purpose: &[u8], of: &[u8]) -> String {
        let tag = hmac::sign(&self.secret, &purposed(purpose, of));
        URL_SAFE_NO_PAD.encode(tag)
    }

    /// Whether it is the token of a form of ours; the time that takes says nothing of how
    /// much of it is right.
    pub(super) fn is_token_of(
        &self,
        purpose: &[u8],
        of: &[u8],
        shown: &str,
    ) -> Result<(), Failure> {
        let tag = URL_SAFE_NO_PAD.decode(shown).unwrap_or_default();
        hmac::verify(&self.secret, &purposed(purpose, of), &tag).map_err(|_| {
            Failure::new(
                StatusCode::FORBIDDEN,
                "bad_form_token",
                "The form is of another session, or too old. Nothing was done: load the page again.",
            )
        })
    }

    /// A row of the audit log about a session, or what is repeated there is counted.
    pub(super) async fn note(
        &self,
        who: &Who,
        operation: &str,
        status: StatusCode,
    ) -> Result<(), Failure> {
        let row = Denied {
            caller: Caller {
                principal: who.principal.clone(),
                request: 0,
                remote: who.remote,
            },
            tenant: who.tenant.clone().unwrap_or_default(),
            operation: operation.into(),
            target: "dashboard".into(),
            status: status.as_u16(),
        };
        let noted = if status.is_success() {
            self.api.came(row).await
        } else {
            self.api.turned_away(who, row).await
        };
        Ok(noted?)
    }
}

/// Why somebody is not let in.
pub(super) enum Refused {
    /// The form says it.
    Problem(LoginProblem),
    Failure(Failure),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// What is signed: no two purposes have one text, as neither has this byte.
fn purposed(purpose: &[u8], of: &[u8]) -> Vec<u8> {
    [purpose, b"\n", of].concat()
}
