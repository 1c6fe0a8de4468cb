//! What an administrator does to what runs, with a row in the audit log before and after.
//!
//! The row before is on the disk first: what cannot be recorded is not done. Both the routes
//! and the dashboard come through here, so that there is no way around the rows.

use pinion_metadata::Action;
use pinion_plane::{Caller, Denied};
use pinion_types::ResourceKind;
use pinion_wire::message::{
    DeadSelect, Handle, IdList, QueueDeadPurge, QueueDeadReplay, Reply, Request,
};

use super::sessions::{self, SessionId};
use super::{Address, ask, check};
use crate::Api;
use crate::access::Who;
use crate::error::Failure;
use crate::limits::PLANE_WAIT;

/// Status of the row that says that something is begun.
const BEGUN: u16 = 102;
/// Status of the row that says that it was done.
const DONE: u16 = 200;

/// On whose behalf something is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct By<'a> {
    pub(crate) who: &'a Who,
    /// The client's number of the request, or 0.
    pub(crate) request: u128,
    /// They said that they mean it.
    pub(crate) confirmed: bool,
}

/// Which dead letters of a partition.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Letters<'a> {
    /// Of this consumer group; empty is the default one.
    pub(crate) group: &'a str,
    /// Only those whose last error begins so.
    pub(crate) error_prefix: &'a str,
}

/// What is done, as its rows say it.
struct Deed {
    operation: &'static str,
    tenant: Box<str>,
    target: String,
}

/// What the row of something says of its target, and whether whoever did it said that they
/// mean it. Who shows the row before there is one asks here.
pub(crate) fn said(target: &str, confirmed: bool) -> String {
    let confirmed = if confirmed { " confirmed" } else { "" };
    format!("{target}{confirmed}")
}

fn row(by: By<'_>, deed: &Deed, status: u16) -> Denied {
    Denied {
        caller: Caller {
            principal: by.who.principal.clone(),
            request: by.request,
            remote: by.who.remote,
        },
        tenant: deed.tenant.clone(),
        operation: deed.operation.into(),
        target: said(&deed.target, by.confirmed).into(),
        status,
    }
}

/// Does something between its rows: not before the first of them is durable.
async fn recorded<T>(
    api: &Api,
    by: By<'_>,
    deed: Deed,
    act: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let begun = row(by, &deed, BEGUN);
    if let Err(error) = api.plane.record(begun, PLANE_WAIT).await {
        let failure = Failure::from(error);
        // The first row may be there, or come: this one says that nothing was done.
        let _ = api
            .plane
            .denied(row(by, &deed, failure.status.as_u16()))
            .await;
        return Err(failure);
    }
    let result = act.await;
    let status = result
        .as_ref()
        .map_or_else(|failure| failure.status.as_u16(), |_| DONE);
    // It is done or not by now: without this row the one before says that nobody knows.
    let _ = api.plane.denied(row(by, &deed, status)).await;
    result
}

/// How one dead letter is named in a row.
pub(crate) fn letter_target(queue: &Address, (family, group, id): (u16, &str, u64)) -> String {
    let which = Letters {
        group,
        ..Letters::default()
    };
    letters_text(queue, family, which, Some(id))
}

/// How dead letters that are given back at a rate are named in a row.
pub(crate) fn redrive_target(
    queue: &Address,
    (family, which, rate): (u16, Letters<'_>, u32),
) -> String {
    let mut text = letters_text(queue, family, which, None);
    if rate > 0 {
        text.push_str(&format!(" rate={rate}"));
    }
    text
}

/// How a connection is named in a row.
pub(crate) fn session_target(id: SessionId, principal: &str) -> String {
    format!("session:{id} principal={principal}")
}

/// How a dead letter, or some of them, are named in a row.
fn letters_text(queue: &Address, family: u16, which: Letters<'_>, id: Option<u64>) -> String {
    let mut text = format!("queue:{queue} family={family}");
    for (name, value) in [("group", which.group), ("error", which.error_prefix)] {
        if !value.is_empty() {
            text.push_str(&format!(" {name}={value}"));
        }
    }
    if let Some(id) = id {
        text.push_str(&format!(" message={id}"));
    }
    text
}

/// One dead letter is ready again, its attempts forgotten.
///
/// # Errors
/// 404 when there is no such letter; what stands against asking the partition.
pub(crate) async fn replay(
    api: &Api,
    by: By<'_>,
    queue: &Address,
    (family, group, id): (u16, &str, u64),
) -> Result<(), Failure> {
    let which = Letters {
        group,
        ..Letters::default()
    };
    let text = letter_target(queue, (family, group, id));
    let deed = by.about("queue.replay", queue, text)?;
    let moved = async {
        let moved = dead(api, queue, family, Move::Replay(0), which, Some(id)).await?;
        found(moved)
    };
    recorded(api, by, deed, moved).await
}

/// One dead letter is gone.
///
/// # Errors
/// As [`replay`].
pub(crate) async fn delete_letter(
    api: &Api,
    by: By<'_>,
    queue: &Address,
    (family, group, id): (u16, &str, u64),
) -> Result<(), Failure> {
    let which = Letters {
        group,
        ..Letters::default()
    };
    let text = letter_target(queue, (family, group, id));
    let deed = by.about("queue.delete_letter", queue, text)?;
    let moved = async {
        let moved = dead(api, queue, family, Move::Purge, which, Some(id)).await?;
        found(moved)
    };
    recorded(api, by, deed, moved).await
}

/// The dead letters of a partition that match are made ready again, at most `rate` of them
/// in a second; 0 is all at once. It goes on after this is answered. How many there are.
///
/// # Errors
/// What stands against asking the partition.
pub(crate) async fn redrive(
    api: &Api,
    by: By<'_>,
    queue: &Address,
    (family, which, rate): (u16, Letters<'_>, u32),
) -> Result<u64, Failure> {
    let text = redrive_target(queue, (family, which, rate));
    let deed = by.about("queue.redrive", queue, text)?;
    let moved = dead(api, queue, family, Move::Replay(rate), which, None);
    recorded(api, by, deed, moved).await
}

/// The dead letters of a partition that match are gone. It goes on after this is answered.
/// How many there are.
///
/// # Errors
/// As [`redrive`].
pub(crate) async fn purge(
    api: &Api,
    by: By<'_>,
    queue: &Address,
    (family, which): (u16, Letters<'_>),
) -> Result<u64, Failure> {
    let text = letters_text(queue, family, which, None);
    let deed = by.about("queue.purge", queue, text)?;
    let moved = dead(api, queue, family, Move::Purge, which, None);
    recorded(api, by, deed, moved).await
}

/// Where dead letters go.
#[derive(Clone, Copy)]
enum Move {
    /// Ready again, so many in a second.
    Replay(u32),
    /// Nowhere.
    Purge,
}

async fn dead(
    api: &Api,
    queue: &Address,
    family: u16,
    to: Move,
    which: Letters<'_>,
    id: Option<u64>,
) -> Result<u64, Failure> {
    let seat = ask::seat(api, ResourceKind::Queue, queue, family).await?;
    let (handle, partition, group) = (Handle(0), seat.partition, which.group);
    let select = DeadSelect {
        reason: None,
        error_prefix: which.error_prefix,
    };
    let mut scratch = Vec::new();
    let ids = IdList::build(&mut scratch, id).map_err(|_| ask::strange())?;
    let request = match to {
        Move::Replay(rate_per_s) => Request::QueueDeadReplay(QueueDeadReplay {
            handle,
            partition,
            rate_per_s,
            select,
            group,
            ids,
        }),
        Move::Purge => Request::QueueDeadPurge(QueueDeadPurge {
            handle,
            partition,
            select,
            group,
            ids,
        }),
    };
    let answered = ask::request(api, seat, &request).await?;
    match answered.reply()? {
        Reply::Moved(moved) => Ok(moved.messages),
        _ => Err(ask::strange()),
    }
}

fn found(moved: u64) -> Result<(), Failure> {
    if moved == 0 {
        return Err(Failure::not_found());
    }
    Ok(())
}

/// A connection is ended: its subscriptions say END, then it is closed with a code that
/// says who wanted it.
///
/// # Errors
/// 404 when there is none, or none within reach.
pub(crate) async fn close_session(api: &Api, by: By<'_>, id: SessionId) -> Result<(), Failure> {
    let deed = by.session(api, "session.close", id, String::new()).await?;
    recorded(api, by, deed, sessions::close(api, id)).await
}

/// A subscription of a connection is ended.
///
/// # Errors
/// 404 when there is none, or none within reach.
pub(crate) async fn end_subscription(
    api: &Api,
    by: By<'_>,
    (id, subscription): (SessionId, u32),
) -> Result<(), Failure> {
    let more = format!(" subscription={subscription}");
    let deed = by.session(api, "subscription.end", id, more).await?;
    recorded(api, by, deed, sessions::end(api, id, subscription)).await
}

impl By<'_> {
    /// A deed on something of a tenant, if they may do it.
    fn about(self, operation: &'static str, of: &Address, target: String) -> Result<Deed, Failure> {
        check(self.who, Action::AdminWrite, &of.tenant)?;
        Ok(Deed {
            operation,
            tenant: of.tenant.clone(),
            target,
        })
    }

    /// A deed on a connection, if there is one that they may do it to.
    async fn session(
        self,
        api: &Api,
        operation: &'static str,
        id: SessionId,
        more: String,
    ) -> Result<Deed, Failure> {
        let reach = self.who.reach(Action::AdminWrite)?;
        let (row, tenant) = sessions::one(api, &reach, id).await?;
        Ok(Deed {
            operation,
            tenant: tenant.unwrap_or_default(),
            target: session_target(id, &row.principal) + &more,
        })
    }
}
