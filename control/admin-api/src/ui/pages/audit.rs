//! What was asked of this node, newest first.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use pinion_admin_ui::model::{self, AuditRow as Row, Kind, Level, Pages, ROWS_MAX, Sort, State};
use pinion_metadata::MetaCode;
use pinion_plane::limits::AUDIT_PAGE_MAX;
use pinion_plane::{Answer, AuditPage, AuditQuery, AuditResult, AuditRow, PlaneError};
use pinion_types::WallMs;

use super::list::{listing, search};
use crate::error::Failure;
use crate::limits::PLANE_WAIT;
use crate::rest::audit::check;
use crate::ui::context::{PageContext, Shown};

/// How often one page looks further back for rows that match, each time at [`WIDER`] times as
/// many and never at more than [`AUDIT_PAGE_MAX`]. More finds rarer rows at once and makes the
/// page slower.
const LOOKS_MAX: u64 = 10;

/// The first look is at as many rows as a page has: without a search all of them are shown, and
/// those that are not need not be read.
const WIDER: usize = 4;

/// What a row's result can be asked for as.
const RESULTS: [&str; 5] = ["done", "repeated", "refused", "denied", "gap"];

pub(super) async fn page(context: &PageContext) -> Result<Shown, Failure> {
    check(&context.who, context.chosen_tenant())?;
    let mut problem = "";
    let mut day = |name: &str, last: bool| match read_day(context.param(name), last) {
        Ok(day) => day,
        Err(NoDay) => {
            problem = "a day is written as 2026-01-31";
            None
        }
    };
    let (from, to) = (day("from", false), day("to", true));
    let wanted = Wanted {
        target: search(context),
        result: context.param("result"),
    };
    let text = |name| Some(context.param(name)).filter(|text| !text.is_empty());
    let query = AuditQuery {
        tenant: context.chosen_tenant().map(Into::into),
        principal: text("principal").map(Into::into),
        operation: text("operation").map(Into::into),
        from,
        to,
        ..AuditQuery::default()
    };
    let newest = match context.param("page").parse() {
        Ok(before) => before,
        Err(_) => end(context).await?,
    };
    let found = read_back(context, &query, &wanted, newest).await?;
    let pages = Pages {
        from: u64::from(!found.rows.is_empty()),
        to: found.rows.len() as u64,
        total: None,
        previous: (!context.param("page").is_empty()).then(String::new),
        next: found.next.map(|row| row.to_string()),
    };
    Ok(model::Audit {
        list: listing(context, Sort::default(), pages),
        principal: context.param("principal").to_owned(),
        operation: context.param("operation").to_owned(),
        result: context.param("result").to_owned(),
        results: RESULTS.map(ToOwned::to_owned).to_vec(),
        from: context.param("from").to_owned(),
        to: context.param("to").to_owned(),
        problem: problem.to_owned(),
        rows: found.rows,
        fresh: context.fresh(Kind::Durable),
    }
    .into())
}

/// What the log itself does not search for.
struct Wanted<'a> {
    target: &'a str,
    result: &'a str,
}

struct Found {
    rows: Vec<Row>,
    /// Rows before this one were not looked at.
    next: Option<u64>,
}

/// Rows before `newest`, from there back.
async fn read_back(
    context: &PageContext,
    query: &AuditQuery,
    wanted: &Wanted<'_>,
    newest: u64,
) -> Result<Found, Failure> {
    let mut rows = Vec::new();
    let (mut before, mut limit) = (newest, ROWS_MAX.min(AUDIT_PAGE_MAX));
    for _ in 0..LOOKS_MAX {
        if before == 0 || rows.len() == ROWS_MAX {
            break;
        }
        let first = before.saturating_sub(limit as u64);
        let query = AuditQuery {
            first,
            before: Some(before),
            limit,
            ..query.clone()
        };
        let page = ask(context, query).await?;
        for (number, row) in page.rows.iter().rev() {
            if !wanted.matches(row) {
                continue;
            }
            if rows.len() == ROWS_MAX {
                return Ok(Found {
                    rows,
                    next: Some(number + 1),
                });
            }
            rows.push(shown(*number, row));
        }
        before = first;
        limit = (limit * WIDER).min(AUDIT_PAGE_MAX);
    }
    Ok(Found {
        rows,
        next: (before > 0).then_some(before),
    })
}

/// The row that is to be written next.
pub(super) async fn end(context: &PageContext) -> Result<u64, Failure> {
    let query = AuditQuery {
        before: Some(0),
        limit: 1,
        ..AuditQuery::default()
    };
    Ok(ask(context, query).await?.end)
}

pub(super) async fn ask(context: &PageContext, query: AuditQuery) -> Result<AuditPage, Failure> {
    match context.api.plane.audit(query, PLANE_WAIT).await {
        Answer::Audit(page) => Ok(page),
        Answer::Refused(error) => Err(error.into()),
        _ => Err(PlaneError::Failed.into()),
    }
}

impl Wanted<'_> {
    fn matches(&self, row: &AuditRow) -> bool {
        row.target.contains(self.target)
            && (self.result.is_empty() || word(row.result) == self.result)
    }
}

fn word(result: AuditResult) -> &'static str {
    match result {
        // What was let through, and is no command.
        AuditResult::Done | AuditResult::Denied(200..300) => "done",
        AuditResult::Repeated => "repeated",
        AuditResult::Refused(_) => "refused",
        AuditResult::Denied(_) => "denied",
        AuditResult::Gap { .. } => "gap",
    }
}

fn shown(number: u64, row: &AuditRow) -> Row {
    let word = word(row.result);
    let (level, text) = match row.result {
        AuditResult::Done | AuditResult::Denied(200..300) => (Level::Ok, word.to_owned()),
        AuditResult::Repeated => (Level::Info, word.to_owned()),
        AuditResult::Refused(code) => {
            let known = MetaCode::ALL.iter().find(|known| **known as u16 == code);
            let why = known.map_or_else(|| code.to_string(), |code| code.text().to_owned());
            (Level::Warn, format!("{word}: {why}"))
        }
        AuditResult::Denied(status) => (Level::Warn, format!("{word}: {status}")),
        AuditResult::Gap { to } => (Level::Bad, format!("rows lost up to entry {to}")),
    };
    Row {
        row: number,
        at_unix_ms: row.at.0,
        principal: row.principal.to_string(),
        remote: row.remote.map_or_else(String::new, |at| at.to_string()),
        tenant: row.tenant.to_string(),
        operation: row.operation.to_string(),
        target: row.target.to_string(),
        result: State { level, text },
        version: row.version.0,
    }
}

/// What was written is no day.
struct NoDay;

/// The first moment of a day, or its last.
fn read_day(text: &str, last: bool) -> Result<Option<WallMs>, NoDay> {
    if text.is_empty() {
        return Ok(None);
    }
    let day: Date = text.parse().map_err(|_| NoDay)?;
    let begin = day.to_zoned(TimeZone::UTC).map_err(|_| NoDay)?;
    let begin = u64::try_from(begin.timestamp().as_millisecond()).unwrap_or(0);
    let length = if last { 24 * 3600 * 1000 - 1 } else { 0 };
    Ok(Some(WallMs(begin.saturating_add(length))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_a_first_and_a_last_moment() {
        let ms = |text, last| read_day(text, last).ok().flatten().map(|at| at.0);
        assert_eq!(ms("2026-01-31", false), Some(1_769_817_600_000));
        assert_eq!(ms("2026-01-31", true), Some(1_769_903_999_999));
        assert_eq!(ms("", true), None);
        assert!(read_day("31.1.2026", false).is_err());
        assert!(read_day("2026-02-30", false).is_err());
    }
}
