//! The way in by an identity provider (OpenID Connect Core 1.0 §3.1): out to it by a link, and
//! back with a code.
//!
//! What makes it somebody's own login: the state is a tag over the number in a cookie that
//! this browser alone has, and the login of that number is there once ([`super::departed`]).
//! What makes it the provider's word: the code is of use with the verifier alone, goes where
//! the browser was sent, and the token that comes for it is checked and turned into one of
//! ours as in every exchange. From there on it is a login with that token.

use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pinion_admin_ui::links::actions;
use pinion_admin_ui::model::{LoginProblem, OidcChoice, Welcome};
use pinion_auth::exchange::Issuer;
use pinion_auth::login::{Brought, NotLoggedIn, id_token, returned};
use pinion_auth::rights::Wanted;
use pinion_auth::upstream::LoginRules;

use super::cookie::Cookie;
use super::departed::Departed;
use super::form::Fields;
use super::login::{LOGIN, Refused};
use super::session::{Full, SessionDigest, cookie_text};
use super::{Failed, Frame, Visit, html, places, redirect, set_cookie, unrendered, wrong_method};
use crate::access::{self, Who};
use crate::error::Failure;
use crate::identity::random;
use crate::oidc::OidcLogin;
use crate::rest::tokens::Facts;

/// Longest query that a browser brings back: a code, and what else providers add to it.
const QUERY_BYTES_MAX: usize = 8_192;

/// What the tag of a state is for.
const STATE: &[u8] = b"oidc";

impl Frame {
    /// `/ui/login/oidc/{id}` and `/ui/login/oidc/callback`
    pub(super) async fn oidc(&self, head: &Parts, visit: &Visit) -> Result<Response, Failed> {
        if head.method != Method::GET {
            // Not even HEAD: it would begin or end a login that nobody sees.
            return Err((None, wrong_method("GET")));
        }
        let limited = self.api.rate_nobody(&Who::nobody(visit.remote));
        limited.map_err(|failure| (None, failure))?;
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        if path == actions::LOGIN_OIDC_CALLBACK {
            return self.come_back(head, query, visit).await;
        }
        let id = path.strip_prefix(actions::LOGIN_OIDC);
        let id = id.and_then(|rest| rest.strip_prefix('/'));
        let all = &self.api.logins;
        let at = all.iter().position(|one| id == Some(&*one.id));
        let Some(at) = at else {
            return Err((None, places::unknown()));
        };
        let fields = Fields::parse(query).map_err(|failure| (None, failure))?;
        self.send_away(head, at, fields.get("next"), visit).await
    }

    /// The buttons of the login page.
    pub(super) fn choices(&self) -> Vec<OidcChoice> {
        let choice = |one: &OidcLogin| OidcChoice {
            id: one.id.to_string(),
            label: one.label.to_string(),
        };
        self.api.logins.iter().map(choice).collect()
    }

    async fn send_away(
        &self,
        head: &Parts,
        at: usize,
        next: &str,
        visit: &Visit,
    ) -> Result<Response, Failed> {
        let site = head.headers.get("sec-fetch-site");
        if site.is_some_and(|site| site != "same-origin" && site != "none") {
            // Nobody is sent to log in by a page of somebody else.
            return Ok(redirect(actions::LOGIN));
        }
        let next = places::way_back(next);
        let provider = &self.api.logins[at];
        let found = async {
            let issuer = self.issuer_of(provider).await?;
            let exchanges = self.api.identity.exchanges()?;
            let endpoints = exchanges.way(&issuer).await;
            endpoints.map_err(|error| NotIn::Provider(error.to_string()))
        };
        let endpoints = match found.await {
            Ok(endpoints) => endpoints,
            Err(not) => return self.not_logged_in(visit, next, not).await,
        };
        let numbers = || -> Result<_, Failure> { Ok((random()?, random()?, random()?)) };
        let (number, verifier, nonce): ([u8; 32], [u8; 32], [u8; 32]) =
            numbers().map_err(|failure| (None, failure))?;
        let cookie = cookie_text(&number);
        let state = self.token_of(STATE, cookie.as_bytes());
        let (verifier, nonce) = (
            URL_SAFE_NO_PAD.encode(verifier),
            URL_SAFE_NO_PAD.encode(nonce),
        );
        let client = &provider.client;
        let url = client.authorization_url(&endpoints, &state, &nonce, &verifier);
        let now = self.now();
        let departed = Departed {
            provider: at,
            endpoints,
            verifier,
            nonce,
            next: next.to_owned(),
            session: visit.session,
            address: access::address(visit.remote),
            begun: now,
        };
        let begun = self
            .departures()
            .begin(now, SessionDigest::of(&number), departed);
        if begun == Err(Full) {
            let problem = Some(LoginProblem::Limited);
            return self.way_in(visit, next, problem, "").await;
        }
        let mut response = redirect(&url);
        set_cookie(&mut response, &Cookie::Oidc.set(visit.tls, &cookie));
        Ok(response)
    }

    async fn come_back(
        &self,
        head: &Parts,
        query: &str,
        visit: &Visit,
    ) -> Result<Response, Failed> {
        if query.len() > QUERY_BYTES_MAX {
            let status = StatusCode::URI_TOO_LONG;
            let failure = Failure::new(status, "path_too_long", "The address is too long.");
            return Err((None, failure));
        }
        let fields = Fields::parse(query).map_err(|failure| (None, failure))?;
        let cookie = Cookie::Oidc.of(&head.headers, visit.tls);
        let cookie = cookie.unwrap_or_default();
        let ours = self.is_token_of(STATE, cookie.as_bytes(), fields.get("state"));
        let digest = SessionDigest::of_cookie(cookie);
        let departed = match (ours, digest) {
            (Ok(()), Some(digest)) => self.departures().take(self.now(), &digest),
            // Somebody else's browser, or nobody's: what it says is not shown, and a login
            // that is under way stays so.
            _ => None,
        };
        let Some(departed) = departed else {
            return self.way_in(visit, "", Some(LoginProblem::Stale), "").await;
        };
        let brought = Brought {
            code: fields.get("code"),
            issuer: fields.get("iss"),
            error: fields.get("error"),
            description: fields.get("error_description"),
        };
        let mut response = match self.enter_with(&departed, brought, visit).await {
            Ok(number) => {
                if let Some(before) = &departed.session {
                    self.sessions().end(before);
                }
                let mut response = self.welcome(visit, &departed.next).await?;
                let cookie = Cookie::Session.set(visit.tls, &cookie_text(&number));
                set_cookie(&mut response, &cookie);
                response
            }
            Err(not) => self.not_logged_in(visit, &departed.next, not).await?,
        };
        set_cookie(&mut response, &Cookie::Oidc.forget(visit.tls));
        Ok(response)
    }

    /// From what a browser brought to the number of a session.
    async fn enter_with(
        &self,
        departed: &Departed,
        brought: Brought<'_>,
        visit: &Visit,
    ) -> Result<[u8; 32], NotIn> {
        let provider = &self.api.logins[departed.provider];
        let code = returned(&provider.issuer, &departed.endpoints, brought)?;
        let issuer = self.issuer_of(provider).await?;
        let exchanges = self.api.identity.exchanges()?;
        let request = provider.client.token_request(code, &departed.verifier);
        let answer = exchanges.redeem(&departed.endpoints.token, request).await;
        let answer = answer.map_err(|why| NotIn::Provider(format!("the token endpoint: {why}")))?;
        let token = id_token(&answer)?;
        let rules = LoginRules {
            client: provider.client.id().into(),
            nonce: departed.nonce.as_str().into(),
        };
        let upstream = exchanges.login(token.as_bytes(), &issuer, rules).await;
        let upstream =
            upstream.map_err(|error| NotIn::Provider(format!("its ID token: {error}")))?;
        let facts = Facts::look(&self.api, &provider.tenant).await?;
        match facts.token(&self.api, &upstream, &Wanted::default()) {
            Ok(given) => self
                .let_in(&given.access_token, visit)
                .await
                .map_err(NotIn::Refused),
            // Nothing at all is less than admin:read.
            Err(failure) if failure.denied.is_some() => {
                let who = Who {
                    principal: access::bounded(format!(
                        "{}/p:{}",
                        provider.tenant, upstream.subject
                    )),
                    tenant: Some(provider.tenant.clone()),
                    ..Who::nobody(visit.remote)
                };
                self.note(&who, LOGIN, StatusCode::FORBIDDEN).await?;
                Err(NotIn::Refused(Refused::Problem(LoginProblem::NotPermitted)))
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// The issuer of a provider as its tenant has it now, if its keys may be fetched.
    async fn issuer_of(&self, provider: &OidcLogin) -> Result<Arc<Issuer>, NotIn> {
        let gone = || NotIn::Provider(format!("{} does not believe it", provider.tenant));
        let facts = Facts::look(&self.api, &provider.tenant).await;
        let facts = match facts {
            Err(failure) if failure.status == StatusCode::NOT_FOUND => return Err(gone()),
            facts => facts?,
        };
        let believed = facts.believed(self.api.identity.cleartext_issuers);
        let issuer = believed
            .into_iter()
            .find(|one| one.name() == &*provider.issuer);
        issuer.ok_or_else(gone)
    }

    /// The login page, and why it is shown again.
    async fn not_logged_in(
        &self,
        visit: &Visit,
        next: &str,
        not: NotIn,
    ) -> Result<Response, Failed> {
        let (problem, said) = match not {
            NotIn::Refused(Refused::Failure(failure)) => return Err((None, failure)),
            // It has its row.
            NotIn::Refused(Refused::Problem(problem)) => {
                return self.way_in(visit, next, Some(problem), "").await;
            }
            NotIn::Provider(said) => (LoginProblem::ProviderFailed, said),
            NotIn::Said(said) => (LoginProblem::ProviderRefused, said),
        };
        let stranger = Who::nobody(visit.remote);
        let noted = self.note(&stranger, LOGIN, StatusCode::UNAUTHORIZED);
        noted.await.map_err(|failure| (None, failure))?;
        self.way_in(visit, next, Some(problem), &said).await
    }

    /// The page between the provider and ours: it is the first one that is from here, and
    /// what follows from it has the cookie of the session.
    async fn welcome(&self, visit: &Visit, next: &str) -> Result<Response, Failed> {
        let mut shell = self.stranger(visit).await;
        shell.path = actions::LOGIN.to_owned();
        let page = Welcome {
            next: next.to_owned(),
        };
        let rendered = self.ui.render(&shell, &page);
        let rendered = rendered.map_err(|error| (None, unrendered(error)))?;
        Ok(html(StatusCode::OK, rendered))
    }
}

/// Why somebody whom a provider knows is not let in.
enum NotIn {
    /// As whoever shows a token.
    Refused(Refused),
    /// The provider did not do as it should; what, in words of ours.
    Provider(String),
    /// It let nobody in; in its own words.
    Said(String),
}

impl From<NotLoggedIn> for NotIn {
    fn from(not: NotLoggedIn) -> Self {
        match not {
            NotLoggedIn::Refused { said } => Self::Said(said.into()),
            other => Self::Provider(other.to_string()),
        }
    }
}

impl From<Failure> for NotIn {
    fn from(failure: Failure) -> Self {
        Self::Refused(Refused::Failure(failure))
    }
}
