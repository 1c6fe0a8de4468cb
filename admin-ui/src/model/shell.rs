//! What is around every page, and the pages that are about nobody's data.

use serde::Serialize;

use super::{Fact, Fresh, Level, page};

/// Light, dark, or what the system says. Kept in a cookie by whoever serves the pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    /// What the system says.
    #[default]
    Auto,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

/// Who is looking.
#[derive(Clone, Debug, Serialize)]
pub struct User {
    /// As the audit log names them.
    pub principal: String,
    /// Whose resources they see; `None` for those of every tenant.
    pub tenant: Option<String>,
    /// Whether they may do more than look. Forms are shown to those who may; whether an
    /// action is allowed is decided when it is asked for.
    pub may_write: bool,
}

/// What became of the action before this page, shown once.
#[derive(Clone, Debug, Serialize)]
pub struct Flash {
    /// How it went.
    pub level: Level,
    /// What happened.
    pub text: String,
}

/// What every page has around it.
#[derive(Clone, Debug, Serialize)]
pub struct Shell {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the node that answers.
    pub node: String,
    /// Version of the node.
    pub version: String,
    /// Light or dark.
    pub theme: Theme,
    /// Who is looking; `None` before they logged in.
    pub user: Option<User>,
    /// Tenant that the pages about one tenant are for, while none is chosen.
    pub tenant: String,
    /// Goes into every form that changes something.
    pub csrf: String,
    /// Path and query of this page, for whatever comes back to it.
    pub path: String,
    /// Issues that ask for somebody, shown in the navigation.
    pub issues: u64,
    /// When the page was filled, milliseconds since 1970.
    pub now_unix_ms: u64,
    /// What became of the last action.
    pub flash: Option<Flash>,
}

/// An identity provider to log in with.
#[derive(Clone, Debug, Serialize)]
pub struct OidcChoice {
    /// Word it is asked for by.
    pub id: String,
    /// What people call it.
    pub label: String,
}

/// Why a login failed. Says nothing that helps to guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginProblem {
    /// The token opens nothing here.
    Refused,
    /// It is known but may not see this.
    NotPermitted,
    /// The session is over.
    Expired,
    /// Too many tries.
    Limited,
    /// The identity provider did not answer, or not as it should.
    ProviderFailed,
    /// The identity provider let nobody in.
    ProviderRefused,
    /// The login that came back was begun elsewhere, too long ago, or is over.
    Stale,
}

/// The way in.
#[derive(Clone, Debug, Serialize)]
pub struct Login {
    /// Identity providers; none is no row of buttons.
    pub providers: Vec<OidcChoice>,
    /// Why the last try failed.
    pub problem: Option<LoginProblem>,
    /// What went wrong with the identity provider, or what it says itself.
    pub said: String,
    /// Path to go to afterwards. Whoever serves the page checks it when it comes back.
    pub next: String,
}

page!(Login, "login.html", "", live: false, |_page| "Log in");

/// What is between an identity provider and the first page: a browser that comes from
/// elsewhere brings no `SameSite=Strict` cookie along, and goes on by itself from here with it.
#[derive(Clone, Debug, Serialize)]
pub struct Welcome {
    /// Path to go to; one of ours.
    pub next: String,
}

page!(Welcome, "welcome.html", "", live: false, |_page| "Logged in");

/// Something that cannot be shown.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// HTTP status: 400, 401, 403, 404, 405, 429, 503, or another.
    pub status: u16,
    /// What happened in this case, if more is to be said than the status does.
    pub detail: String,
    /// When to try again, milliseconds.
    pub retry_after_ms: Option<u64>,
    /// Number by which the log of the node knows it.
    pub request_id: String,
}

impl Failure {
    /// What the status means, in a few words.
    #[must_use]
    pub fn meaning(&self) -> &'static str {
        match self.status {
            400 => "Not understood",
            401 => "Not logged in",
            403 => "Not permitted",
            404 => "Not here",
            405 => "Not done this way",
            409 => "Changed meanwhile",
            412 => "Refused for safety",
            428 => "Not confirmed",
            429 => "Too many requests",
            503 => "Not ready",
            _ => "Something went wrong",
        }
    }
}

page!(Failure, "error.html", "", live: false, |page| page.meaning());

/// What this is.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    /// Build, machine, limits.
    pub facts: Vec<Fact>,
    /// What this node has and what it lacks, one line each.
    pub features: Vec<Fact>,
    /// What they are worth.
    pub fresh: Fresh,
}

page!(About, "about.html", "about", live: false, |_page| "About this node");
