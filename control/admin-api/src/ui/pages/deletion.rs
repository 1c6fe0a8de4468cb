//! What is known of a deletion that can be taken back: when it was, by whom, and when what
//! was deleted goes for good.

use pinion_admin_ui::links::Place;
use pinion_admin_ui::model::{Deletion, Fact, Quantity, Within};
use pinion_metadata::{Deleting, Metadata, ObjectKey};
use pinion_plane::AuditQuery;
use pinion_plane::limits::AUDIT_PAGE_MAX;
use pinion_types::WallMs;

use super::audit;
use crate::error::Failure;
use crate::rest::audit::check;
use crate::ui::context::PageContext;

/// How often the audit log is looked at further back for who deleted something: so many
/// times [`AUDIT_PAGE_MAX`] rows. What is older is shown without a name.
const LOOKS_MAX: u64 = 8;

/// That an object of a tenant is deleted, if it is.
pub(super) async fn of(
    context: &PageContext,
    tenant: &str,
    key: ObjectKey,
) -> Result<Option<Deletion>, Failure> {
    let (of, looked) = (tenant.to_owned(), key.clone());
    let found = context.look(move |metadata| {
        let deleting = metadata.get(&looked)?.meta.deleting?;
        Some((deleting, within(metadata, of, &looked)))
    });
    let Some((deleting, within)) = found.await? else {
        return Ok(None);
    };
    let row = match check(&context.who, Some(tenant)) {
        // A page about what was deleted is there also when nobody can say by whom.
        Ok(()) => match by(context, tenant, deleting).await {
            Ok(Some(row)) => Told::By(row),
            Ok(None) | Err(_) => Told::NotThere,
        },
        // Who asked for it is told to whom the audit log tells it.
        Err(_) => Told::NotYours,
    };
    Ok(Some(Deletion {
        facts: facts(context.now, &key, deleting, row),
        within,
    }))
}

/// What it is in, if that is deleted as well.
fn within(metadata: &Metadata, tenant: String, key: &ObjectKey) -> Option<Within> {
    let parent = key.parent()?;
    metadata.get(&parent)?.meta.deleting?;
    Some(Within {
        name: parent.to_string(),
        // Both are taken back there, the tenant first.
        place: Place::Namespaces(tenant),
    })
}

/// Who asked for a deletion, and of what: of this, or of something that it was in.
struct By {
    principal: String,
    target: String,
}

/// What whoever looks is told of that.
enum Told {
    By(By),
    /// The newest rows do not have it.
    NotThere,
    /// It is in rows that they may not see.
    NotYours,
}

/// Its row in the audit log, if it is among the newest: the one of the entry that is its
/// cause.
async fn by(
    context: &PageContext,
    tenant: &str,
    deleting: Deleting,
) -> Result<Option<By>, Failure> {
    let mut before = audit::end(context).await?;
    for _ in 0..LOOKS_MAX {
        if before == 0 {
            break;
        }
        let first = before.saturating_sub(AUDIT_PAGE_MAX as u64);
        let query = AuditQuery {
            tenant: Some(tenant.into()),
            operation: Some("delete".into()),
            // A command's row has the time of its stamp, which is that of the deletion.
            from: Some(deleting.since),
            to: Some(deleting.since),
            first,
            before: Some(before),
            limit: AUDIT_PAGE_MAX,
            ..AuditQuery::default()
        };
        let page = audit::ask(context, query).await?;
        let mut rows = page.rows.iter();
        if let Some((_, row)) = rows.find(|(_, row)| row.index == deleting.cause) {
            return Ok(Some(By {
                principal: row.principal.to_string(),
                target: row.target.to_string(),
            }));
        }
        before = first;
    }
    Ok(None)
}

fn facts(now: WallMs, key: &ObjectKey, deleting: Deleting, by: Told) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut add = |name: &str, value| {
        facts.push(Fact {
            name: name.to_owned(),
            value,
            kind: None,
        });
    };
    let text = |text: &str| Quantity::Text(text.to_owned());
    add("Deleted", Quantity::UnixMs(deleting.since.0));
    match by {
        Told::By(By { principal, target }) => {
            add("By", Quantity::Code(principal));
            if target != key.to_string() {
                add("With", Quantity::Code(target));
            }
        }
        Told::NotThere => add("By", text("not in the newest rows of the audit log")),
        Told::NotYours => {}
    }
    if deleting.forced {
        add("Although", text("there was something in it, or in use"));
    }
    add("Data goes from", Quantity::UnixMs(deleting.purge_at.0));
    match purge_in_ms(now, deleting) {
        0 => add("That is", text("now, as soon as nothing is in it")),
        left => add("That is in", Quantity::SpanMs(left)),
    }
    facts
}

/// Time until what was deleted may go; 0 once it may.
pub(super) fn purge_in_ms(now: WallMs, deleting: Deleting) -> u64 {
    deleting.purge_at.0.saturating_sub(now.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_says_when_by_whom_and_with_what() {
        let key = ObjectKey::namespace("acme", "pay");
        let deleting = |forced| Deleting {
            since: WallMs(1_000),
            purge_at: WallMs(9_000),
            cause: 7,
            forced,
        };
        let by = |target: &str| {
            Told::By(By {
                principal: "p:ana".into(),
                target: target.into(),
            })
        };
        let told = |now, forced, by| {
            let facts = facts(WallMs(now), &key, deleting(forced), by);
            let names: Vec<String> = facts.into_iter().map(|fact| fact.name).collect();
            names.join(", ")
        };
        let own = key.to_string();
        assert_eq!(
            told(2_000, false, by(&own)),
            "Deleted, By, Data goes from, That is in"
        );
        assert_eq!(
            told(2_000, true, by("tenant/acme")),
            "Deleted, By, With, Although, Data goes from, That is in"
        );
        assert_eq!(
            told(9_000, false, Told::NotThere),
            "Deleted, By, Data goes from, That is"
        );
        assert_eq!(
            told(9_000, false, Told::NotYours),
            "Deleted, Data goes from, That is"
        );
    }
}
