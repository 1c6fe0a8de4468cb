//! One query of the audit log: what it looks for, and how far it is.

use pinion_commitlog::{ReadError, StreamChunk};
use pinion_types::WallMs;

use super::AuditAsker;
use super::row::{AuditResult, AuditRow};
use crate::limits::{AUDIT_PAGE_MAX, AUDIT_READ_BYTES, AUDIT_SCAN_BYTES_MAX};

/// Which rows; each condition that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// About this tenant.
    pub tenant: Option<Box<str>>,
    /// Asked by this principal.
    pub principal: Option<Box<str>>,
    /// This operation.
    pub operation: Option<Box<str>>,
    /// Not before.
    pub from: Option<WallMs>,
    /// Not after.
    pub to: Option<WallMs>,
    /// Most rows of the page; between 1 and [`AUDIT_PAGE_MAX`], or taken for the nearer.
    pub limit: usize,
    /// The row to begin with: [`AuditPage::next`] of the page before, or 0.
    pub first: u64,
    /// Only rows before this one, for whoever reads from the end.
    pub before: Option<u64>,
    /// Only rows that say what no other node's log does: of what never became a command, of
    /// rows that are missing here, and of commands with the address that they came from.
    pub own: bool,
}

/// Some rows, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditPage {
    /// Each with its number, which is dense and never used again.
    pub rows: Vec<(u64, AuditRow)>,
    /// Where to go on, if there may be more. A page may be short, or even empty, and not
    /// the last: a query does not read more than so much at a time.
    pub next: Option<u64>,
    /// The first row that was not looked at.
    pub at: u64,
    /// The row that was to be written next when it was asked.
    pub end: u64,
}

/// What comes of what was read.
pub(crate) enum Step {
    /// Read on.
    More,
    /// It is answered.
    Done(AuditPage),
    /// Rows cannot be read.
    Lost,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) asker: AuditAsker,
    query: AuditQuery,
    page: AuditPage,
    /// The row to look at next.
    at: u64,
    /// The row that was to be written next when the query came.
    end: u64,
    /// Bytes looked at.
    scanned: u64,
}

impl Search {
    pub(crate) fn new(asker: AuditAsker, query: AuditQuery, end: u64) -> Self {
        let page = AuditPage {
            end,
            ..AuditPage::default()
        };
        Self {
            asker,
            at: query.first,
            end: query.before.map_or(end, |before| before.min(end)),
            query,
            page,
            scanned: 0,
        }
    }

    /// Where to read, and how many bytes.
    pub(crate) fn wants(&self) -> (u64, u32) {
        (self.at, AUDIT_READ_BYTES)
    }

    pub(crate) fn handle_read(&mut self, result: Result<StreamChunk, ReadError>) -> Step {
        match result {
            Ok(chunk) => self.handle_rows(&chunk),
            // What was asked for is gone; what there is begins later.
            Err(ReadError::Trimmed { first }) if first.0 > self.at && first.0 < self.end => {
                self.at = first.0;
                Step::More
            }
            Err(ReadError::Trimmed { .. }) => self.end(None),
            Err(ReadError::Damaged { .. } | ReadError::Disk(_)) => Step::Lost,
        }
    }

    fn handle_rows(&mut self, chunk: &StreamChunk) -> Step {
        let mut bytes = &chunk.bytes[..];
        self.scanned += bytes.len() as u64;
        let before = self.at;
        for number in chunk.first.0..chunk.end.0 {
            let Ok((row, rest)) = AuditRow::decode(bytes) else {
                return Step::Lost;
            };
            bytes = rest;
            if number < self.at {
                continue;
            }
            if number >= self.end {
                return self.end(None);
            }
            self.at = number + 1;
            if !self.query.matches(&row) {
                continue;
            }
            self.page.rows.push((number, row));
            if self.page.rows.len() >= self.query.limit.clamp(1, AUDIT_PAGE_MAX) {
                let more = self.at < self.end;
                return self.end(more.then_some(self.at));
            }
        }
        if self.at >= self.end || self.at == before {
            // All of it, or the rest is not durable yet.
            return self.end(None);
        }
        if self.scanned >= AUDIT_SCAN_BYTES_MAX {
            return self.end(Some(self.at));
        }
        Step::More
    }

    fn end(&mut self, next: Option<u64>) -> Step {
        (self.page.next, self.page.at) = (next, self.at);
        Step::Done(core::mem::take(&mut self.page))
    }
}

impl AuditRow {
    /// As [`AuditQuery::own`] has it.
    fn is_own(&self) -> bool {
        let missing = matches!(self.result, AuditResult::Gap { .. });
        // The address is known where it was asked, and only there.
        self.index == 0 || missing || self.remote.is_some()
    }
}

impl AuditQuery {
    fn matches(&self, row: &AuditRow) -> bool {
        let is = |wanted: &Option<Box<str>>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| **wanted == *found)
        };
        is(&self.tenant, &row.tenant)
            && is(&self.principal, &row.principal)
            && is(&self.operation, &row.operation)
            && self.from.is_none_or(|from| row.at >= from)
            && self.to.is_none_or(|to| row.at <= to)
            && (!self.own || row.is_own())
    }
}
