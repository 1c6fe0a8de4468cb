//! What is done from the dashboard: each action is a request of one route, shown first.
//!
//! A confirm page shows what an [`Operation`] comes to, as [`plan`] finds it. Its number
//! counts once, in the session it was made in; what is then done is what it showed, unless
//! the target has changed meanwhile: then it is shown again.

mod access;
mod cluster;
mod data;
mod resources;
mod steps;
mod tenants;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use pinion_admin_ui::links::Place;
use pinion_admin_ui::model::{
    AuditPreview, Confirm, ConfirmProblem, Fact, Flash, Input, Kind, Level, Operation, Quantity,
};
use pinion_metadata::{MetaCode, MetaVersion};
use sha2::{Digest, Sha256};

use super::context::PageContext;
use super::form::Fields;
use super::session::Asked;
use super::{Frame, Logged, Visit, html, places, redirect, unrendered};
use crate::call::{Wanted, ask};
use crate::error::Failure;
use crate::identity::random;
use crate::routes::{Route, Verb, routes};
use steps::Steps;

/// Longest query of a confirm page in bytes: it is kept with the session until it is used.
const ASKED_BYTES_MAX: usize = 2_048;

/// What an action comes to.
pub(super) struct Plan {
    /// The target as it is now, and what that is worth.
    pub(super) preview: Vec<Fact>,
    pub(super) kind: Kind,
    /// What will happen, one sentence each.
    pub(super) consequences: Vec<String>,
    /// What is left to fill in.
    pub(super) inputs: Vec<Input>,
    /// Where to go instead, and afterwards.
    pub(super) back: Place,
    /// Of the target.
    pub(super) version: Option<MetaVersion>,
    /// What the audit log says: the operation and its target.
    pub(super) row: (&'static str, String),
    /// What is asked, of which route.
    pub(super) route: (Verb, &'static str),
    pub(super) wanted: Wanted,
    /// Where it is not one request of the route: those that it is, each with a row of its own
    /// and none of them in `row` and `wanted`.
    steps: Option<Steps>,
    /// What is said when it is done; where it is done in steps, what was done is.
    pub(super) done: String,
}

/// Why there is no plan.
pub(super) enum Unplanned {
    /// What was filled in is not understood.
    BadInput,
    Failure(Failure),
}

impl From<Failure> for Unplanned {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

type Planned = Result<Plan, Unplanned>;

pub(super) use access::{prefix_text, rows_of};

/// What an operation comes to now. `filled` is what somebody wrote into its inputs; nothing
/// where they were not asked yet.
async fn plan(context: &PageContext, asked: &Asked, filled: &Fields) -> Planned {
    match asked.operation {
        Operation::DeleteTenant => tenants::delete(context, asked, filled).await,
        Operation::DeleteNamespace => tenants::delete_namespace(context, asked, filled).await,
        Operation::RestoreTenant => tenants::restore(context, asked).await,
        Operation::RestoreNamespace => tenants::restore_namespace(context, asked).await,
        Operation::DeleteStream | Operation::DeleteQueue | Operation::DeleteCache => {
            resources::delete(context, asked, filled).await
        }
        Operation::RestoreStream | Operation::RestoreQueue | Operation::RestoreCache => {
            resources::restore(context, asked).await
        }
        Operation::RebalanceStream => resources::rebalance(context, asked, filled).await,
        Operation::TransferLeadership => resources::transfer(context, asked, filled).await,
        Operation::DrainBroker => cluster::drain(context, asked, true).await,
        Operation::ActivateBroker => cluster::drain(context, asked, false).await,
        Operation::TransferRaftLeader => cluster::transfer(context, asked).await,
        Operation::AddPolicy => access::add_policy(context, asked).await,
        Operation::RemovePolicy => access::remove_policy(context, asked).await,
        Operation::RemoveGrouping => access::remove_grouping(context, asked).await,
        Operation::RemoveProvider => access::remove_provider(context, asked).await,
        Operation::RotateSigningKeys => access::rotate(context, asked).await,
        Operation::RevokeApiKey => access::revoke(context, asked).await,
        Operation::ReplayDeadLetter | Operation::PurgeDeadLetter => {
            data::letter(context, asked).await
        }
        Operation::RedriveDeadLetters => data::redrive(context, asked, filled).await,
        Operation::CloseSession => data::close(context, asked).await,
        Operation::DeleteCursor => Err(places::unknown().into()),
    }
}

impl Plan {
    fn route(&self) -> Result<&'static Route, Failure> {
        let (method, path) = self.route;
        let found = routes().find(|route| route.method == method && route.path == path);
        found.ok_or_else(places::unknown)
    }

    /// What its rows of the audit log say of its target, in the order in which they come.
    fn targets(&self) -> Vec<&str> {
        match &self.steps {
            None => vec![&self.row.1],
            Some(steps) => steps.targets().collect(),
        }
    }

    /// Tells whether it is the plan that was shown.
    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for target in self.targets() {
            digest.update(target);
            // No name has this.
            digest.update([0]);
        }
        digest.finalize().into()
    }
}

impl Frame {
    /// `/ui/confirm`
    pub(super) async fn confirm(
        &self,
        head: &Parts,
        visit: &Visit,
        logged: &Logged,
    ) -> Result<Response, Failure> {
        let query = head.uri.query().unwrap_or_default();
        if query.len() > ASKED_BYTES_MAX {
            let status = StatusCode::URI_TOO_LONG;
            return Err(Failure::new(
                status,
                "path_too_long",
                "The address is too long.",
            ));
        }
        let asked = read_asked(&Fields::parse(query)?)?;
        self.show_plan(visit, logged, asked, (None, &Fields::default()))
            .await
    }

    /// The page before an action, with a number of its own: of what it comes to with what was
    /// `filled` in.
    async fn show_plan(
        &self,
        visit: &Visit,
        logged: &Logged,
        mut asked: Asked,
        (problem, filled): (Option<ConfirmProblem>, &Fields),
    ) -> Result<Response, Failure> {
        let mut context = self.nowhere(logged);
        if !asked.tenant.is_empty() {
            context.parts.push(("tenant", asked.tenant.clone()));
        }
        let refused = async |failure| {
            let operation = format!("GET {}", pinion_admin_ui::links::actions::CONFIRM);
            crate::call::record(&self.api, &context.who, 0, &operation, failure).await
        };
        let plan = match plan(&context, &asked, filled).await {
            Ok(plan) => plan,
            Err(Unplanned::Failure(failure)) => return Err(refused(failure).await),
            Err(Unplanned::BadInput) => {
                return Err(Failure::bad(
                    "bad_parameter",
                    "The action was not understood.",
                ));
            }
        };
        // Whoever may not do it is told before they have read what it would do.
        let route = plan.route()?;
        let parts = &plan.wanted.parts;
        let part = |name: &str| {
            let found = parts.iter().find(|(other, _)| *other == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        if let Err(failure) = context.who.check_need(route.need, part) {
            return Err(refused(failure).await);
        }
        asked.version = plan.version;
        asked.rows = plan.digest();
        let targets = plan.targets().into_iter().map(str::to_owned).collect();
        // Never none, which stands for no number.
        let number = u128::from_be_bytes(random()?) | 1;
        let page = Confirm {
            operation: asked.operation,
            target: asked.target.clone(),
            preview: plan.preview,
            fresh: context.fresh(plan.kind),
            consequences: plan.consequences,
            inputs: plan.inputs,
            audit: AuditPreview {
                principal: context.who.principal.to_string(),
                remote: visit
                    .remote
                    .map_or_else(String::new, |remote| remote.to_string()),
                tenant: asked.tenant.clone(),
                operation: plan.row.0.to_owned(),
                targets,
            },
            request_id: format!("{number:032x}"),
            back: plan.back,
            problem,
        };
        self.sessions().ask(&logged.digest, number, asked);
        let mut shell = self.shell(visit, Some(logged), &context, None).await;
        if problem.is_some() {
            // A browser that comes back here asks by GET.
            shell.path = page.back.path();
        }
        let page = self.ui.render(&shell, &page).map_err(unrendered)?;
        let status = match problem {
            None | Some(ConfirmProblem::Otherwise) => StatusCode::OK,
            Some(ConfirmProblem::Changed) => StatusCode::CONFLICT,
            Some(ConfirmProblem::WrongWord | ConfirmProblem::BadInput) => StatusCode::BAD_REQUEST,
        };
        Ok(html(status, page))
    }

    /// `/ui/do`
    pub(super) async fn perform(
        &self,
        head: &Parts,
        body: Body,
        visit: &Visit,
        logged: &Logged,
    ) -> Result<Response, Failure> {
        let fields = self.form(head, body, visit, logged).await?;
        let (number, asked) = self.confirmed(logged, &fields)?;
        let none = Fields::default();
        let again = |problem| {
            let filled = match problem {
                ConfirmProblem::Otherwise => &fields,
                _ => &none,
            };
            self.show_plan(visit, logged, asked.clone(), (Some(problem), filled))
        };
        let typed = fields.get("typed").trim();
        if asked.operation.is_destructive() && typed != asked.target {
            return again(ConfirmProblem::WrongWord).await;
        }
        let context = self.nowhere(logged);
        let plan = match plan(&context, &asked, &fields).await {
            Ok(plan) => plan,
            Err(Unplanned::BadInput) => return again(ConfirmProblem::BadInput).await,
            Err(Unplanned::Failure(failure)) => return Err(failure),
        };
        if plan.version != asked.version {
            return again(ConfirmProblem::Changed).await;
        }
        // Nothing is done whose rows were not shown.
        if plan.digest() != asked.rows {
            return again(ConfirmProblem::Otherwise).await;
        }
        let route = plan.route()?;
        let back = plan.back.path();
        if let Some(steps) = plan.steps {
            let of = (&*asked.target, number);
            let flash = steps.perform(&self.api, route, &context.who, of).await;
            self.sessions().tell(&logged.digest, flash);
            return Ok(redirect(&back));
        }
        let flash = match ask(&self.api, route, &context.who, number, plan.wanted).await {
            Ok(_) => Flash {
                level: Level::Ok,
                text: plan.done,
            },
            Err(failure) if failure.code == MetaCode::VersionConflict.text() => {
                return again(ConfirmProblem::Changed).await;
            }
            Err(failure) => not_done(&failure),
        };
        self.sessions().tell(&logged.digest, flash);
        Ok(redirect(&back))
    }

    /// What the page was for that this form is of, once.
    fn confirmed(&self, logged: &Logged, fields: &Fields) -> Result<(u128, Asked), Failure> {
        let number = u128::from_str_radix(fields.get("request_id"), 16).ok();
        let found = number.and_then(|number| {
            let asked = self.sessions().confirmed(&logged.digest, number)?;
            Some((number, asked))
        });
        let same = found.filter(|(_, asked)| {
            asked.operation.word() == fields.get("operation")
                && asked.target == fields.get("target")
        });
        same.ok_or_else(|| {
            Failure::new(
                StatusCode::CONFLICT,
                "used_before",
                "The form was sent before, or its page is too old. Nothing was done now; \
                 what was done before is in the audit log.",
            )
        })
    }
}

/// What is said of something that was refused, or of which nobody knows.
fn not_done(failure: &Failure) -> Flash {
    let unknown = failure.code == "outcome_unknown" || failure.code == "timed_out";
    let (level, begin) = if unknown {
        (Level::Warn, "It is not known whether it was done")
    } else {
        (Level::Bad, "Nothing was done")
    };
    Flash {
        level,
        text: format!("{begin}: {}", failure.message),
    }
}

/// Reads what the query of a confirm page asks for.
fn read_asked(query: &Fields) -> Result<Asked, Failure> {
    let asked = Operation::asked_for(query.iter());
    let (operation, target) =
        asked.ok_or_else(|| Failure::bad("bad_parameter", "There is no such action."))?;
    let more = query.iter().filter(|(name, _)| {
        !matches!(*name, "operation" | "target" | "tenant") && Operation::of_word(name).is_none()
    });
    let more = more.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ok(Asked {
        operation,
        target: target.to_owned(),
        tenant: query.get("tenant").to_owned(),
        more: more.collect(),
        version: None,
        rows: [0; 32],
    })
}

impl Asked {
    /// What else the query said.
    fn more(&self, name: &str) -> &str {
        let found = self.more.iter().find(|(other, _)| other == name);
        found.map_or("", |(_, value)| value)
    }
}

// ------------------------------------------------------------------------------ pieces

fn fact(name: &str, value: Quantity) -> Fact {
    Fact {
        name: name.to_owned(),
        value,
        kind: None,
    }
}

/// The same, in a preview that holds what is durable and what is live.
fn fact_of(name: &str, value: Quantity, kind: Kind) -> Fact {
    Fact {
        kind: Some(kind),
        ..fact(name, value)
    }
}

fn code(text: &(impl ToString + ?Sized)) -> Quantity {
    Quantity::Code(text.to_string())
}

/// Something to fill in, with what it is as long as nothing was.
fn input(name: &str, label: &str, value: &str, hint: &str) -> Input {
    Input {
        name: name.to_owned(),
        label: label.to_owned(),
        value: value.to_owned(),
        hint: hint.to_owned(),
        visible: true,
    }
}

/// `force=true` where somebody wrote `yes`.
fn force(filled: &Fields) -> Result<Vec<(&'static str, String)>, Unplanned> {
    match filled.get("force").trim() {
        "" | "no" => Ok(Vec::new()),
        "yes" => Ok(vec![("force", "true".to_owned())]),
        _ => Err(Unplanned::BadInput),
    }
}

fn force_input(what: &str) -> Input {
    let label = format!("Although it has {what}");
    input(
        "force",
        &label,
        "no",
        "yes deletes it all the same; no refuses then",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_is_asked_and_what_belongs_to_it() {
        let read = |text| read_asked(&Fields::parse(text).expect("a query")).ok();
        let asked = read("operation=remove_policy&target=g:ops&tenant=acme&action=*&object=o");
        let asked = asked.expect("an action");
        assert_eq!(asked.operation, Operation::RemovePolicy);
        assert_eq!((&*asked.target, &*asked.tenant), ("g:ops", "acme"));
        assert_eq!((asked.more("action"), asked.more("object")), ("*", "o"));
        assert_eq!(asked.more("target"), "");
        let asked = read("tenant=acme&close_session=2.7").expect("an action");
        assert_eq!(
            (asked.operation, &*asked.target),
            (Operation::CloseSession, "2.7")
        );
        assert!(asked.more.is_empty());
        assert!(read("operation=drop_everything&target=x").is_none());
    }

    #[test]
    fn what_nobody_knows_is_not_called_undone() {
        let told = |code: &'static str| {
            let failure = Failure::new(StatusCode::SERVICE_UNAVAILABLE, code, "why");
            not_done(&failure).text
        };
        assert_eq!(
            told("outcome_unknown"),
            "It is not known whether it was done: why"
        );
        assert_eq!(told("no_leader"), "Nothing was done: why");
    }
}
