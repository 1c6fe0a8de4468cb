//! What nodes say to each other to read each other's audit logs: `docs/peer-protocol.md` §8.

use pinion_raft_group::format::FormatError;
use pinion_raft_group::limits::PEER_BODY_MAX;
use pinion_types::WallMs;

use super::row::{AuditRow, ROW_BYTES_MAX, TEXT_BYTES_MAX, cut};
use super::search::{AuditPage, AuditQuery};
use crate::limits::{AUDIT_PAGE_MAX, AUDIT_SAID_BYTES_MAX};

/// Bytes of a question before its texts.
const ASK_HEAD: usize = 40;
/// Bytes of an answer before its rows.
const SAID_HEAD: usize = 24;

/// A question for rows that only the node that is asked has: [`AuditQuery::own`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditAsk {
    /// Names it among those of the sender.
    pub number: u64,
    /// Which rows. `before` is `None` and `own` true: nothing else can be asked.
    pub query: AuditQuery,
}

/// The answer to an [`AuditAsk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSaid {
    /// As in [`AuditAsk::number`].
    pub number: u64,
    /// What there is.
    pub said: Said,
}

/// What a node says to a question for its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Some rows, oldest first, each with its number.
    Rows {
        /// At most [`AUDIT_SAID_BYTES_MAX`] bytes of them; numbers grow.
        rows: Vec<(u64, AuditRow)>,
        /// The first row that was not looked at, or does not fit.
        at: u64,
        /// There are more to look at.
        more: bool,
    },
    /// As many queries as there may be are under way.
    Busy,
    /// They cannot be read.
    Unreadable,
}

impl Said {
    /// As much of a page as one message takes.
    pub(crate) fn of(page: AuditPage) -> Self {
        let (mut rows, mut at, mut more) = (page.rows, page.at, page.next.is_some());
        let (mut bytes, mut scratch) = (0, Vec::new());
        let fits = rows.iter().take_while(|(_, row)| {
            scratch.clear();
            row.encode(&mut scratch);
            bytes += 8 + scratch.len();
            bytes <= AUDIT_SAID_BYTES_MAX
        });
        let fits = fits.count();
        if let Some((number, _)) = rows.get(fits) {
            (at, more) = (*number, true);
            rows.truncate(fits);
        }
        Self::Rows { rows, at, more }
    }
}

fn field<T>(name: &'static str) -> Result<T, FormatError> {
    Err(FormatError::Field { name })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], FormatError> {
    let Some((first, after)) = rest.split_first_chunk::<N>() else {
        return field("length");
    };
    *rest = after;
    Ok(*first)
}

fn number(rest: &mut &[u8]) -> Result<u64, FormatError> {
    take(rest).map(u64::from_le_bytes)
}

fn take_zero<const N: usize>(rest: &mut &[u8]) -> Result<(), FormatError> {
    match take::<N>(rest)? {
        zero if zero == [0; N] => Ok(()),
        _ => field("zero"),
    }
}

fn take_text(rest: &mut &[u8]) -> Result<Box<str>, FormatError> {
    let length = usize::from(u16::from_le_bytes(take(rest)?));
    let text = rest.split_at_checked(length);
    let Some((text, after)) = text.filter(|_| length <= TEXT_BYTES_MAX) else {
        return field("text");
    };
    *rest = after;
    match core::str::from_utf8(text) {
        Ok(text) => Ok(text.into()),
        Err(_) => field("text"),
    }
}

impl AuditAsk {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let query = &self.query;
        let texts = [&query.tenant, &query.principal, &query.operation];
        let given = |at: usize| u8::from(texts[at].is_some()) << at;
        let limit = query.limit.clamp(1, AUDIT_PAGE_MAX);
        let limit = u16::try_from(limit).expect("AUDIT_PAGE_MAX is less");
        out.extend(self.number.to_le_bytes());
        out.extend(query.first.to_le_bytes());
        out.extend(query.from.unwrap_or(WallMs(0)).0.to_le_bytes());
        out.extend(query.to.unwrap_or(WallMs(u64::MAX)).0.to_le_bytes());
        out.extend(limit.to_le_bytes());
        out.extend([given(0) | given(1) | given(2), 0, 0, 0, 0, 0]);
        for text in texts.into_iter().flatten() {
            // Rows have no longer ones, and theirs were cut at the same place.
            let text = cut(text);
            let length = u16::try_from(text.len()).expect("it was cut");
            out.extend(length.to_le_bytes());
            out.extend(text.as_bytes());
        }
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, FormatError> {
        if body.len() < ASK_HEAD {
            return field("length");
        }
        let mut rest = body;
        let rest = &mut rest;
        let (ask, first) = (number(rest)?, number(rest)?);
        let (from, to) = (number(rest)?, number(rest)?);
        let limit = usize::from(u16::from_le_bytes(take(rest)?));
        if !(1..=AUDIT_PAGE_MAX).contains(&limit) {
            return field("limit");
        }
        let [given] = take(rest)?;
        if given > 0b111 {
            return field("given");
        }
        take_zero::<5>(rest)?;
        let mut text = |bit: u8| -> Result<Option<Box<str>>, FormatError> {
            let is_given = given & (1 << bit) != 0;
            is_given.then(|| take_text(rest)).transpose()
        };
        let query = AuditQuery {
            tenant: text(0)?,
            principal: text(1)?,
            operation: text(2)?,
            from: (from != 0).then_some(WallMs(from)),
            to: (to != u64::MAX).then_some(WallMs(to)),
            limit,
            first,
            before: None,
            own: true,
        };
        if !rest.is_empty() {
            return field("length");
        }
        Ok(Self { number: ask, query })
    }
}

impl AuditSaid {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let none: &[(u64, AuditRow)] = &[];
        let (state, at, rows) = match &self.said {
            Said::Rows { rows, at, more } => (u8::from(*more), *at, &rows[..]),
            Said::Busy => (2, 0, none),
            Said::Unreadable => (3, 0, none),
        };
        let count = u16::try_from(rows.len()).expect("at most AUDIT_PAGE_MAX rows");
        out.extend(self.number.to_le_bytes());
        out.extend(at.to_le_bytes());
        out.extend([state, 0]);
        out.extend(count.to_le_bytes());
        out.extend([0; 4]);
        for (number, row) in rows {
            out.extend(number.to_le_bytes());
            row.encode(out);
        }
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, FormatError> {
        if body.len() < SAID_HEAD {
            return field("length");
        }
        let mut rest = body;
        let (ask, at) = (number(&mut rest)?, number(&mut rest)?);
        let [state] = take(&mut rest)?;
        take_zero::<1>(&mut rest)?;
        let count = usize::from(u16::from_le_bytes(take(&mut rest)?));
        take_zero::<4>(&mut rest)?;
        if count > AUDIT_PAGE_MAX || rest.len() > AUDIT_SAID_BYTES_MAX {
            return field("rows");
        }
        if state > 1 && (at, count) != (0, 0) {
            return field("state");
        }
        let mut rows: Vec<(u64, AuditRow)> = Vec::new();
        for _ in 0..count {
            let number = number(&mut rest)?;
            let (row, after) =
                AuditRow::decode(rest).map_err(|error| FormatError::Field { name: error.field })?;
            rest = after;
            let grows = rows.last().is_none_or(|(before, _)| *before < number);
            if !grows || number >= at {
                return field("order");
            }
            rows.push((number, row));
        }
        if !rest.is_empty() {
            return field("length");
        }
        let said = match state {
            0 | 1 => Said::Rows {
                rows,
                at,
                more: state == 1,
            },
            2 => Said::Busy,
            3 => Said::Unreadable,
            _ => return field("state"),
        };
        Ok(Self { number: ask, said })
    }
}

// An answer is a frame, and the longest row is one.
const _: () = assert!(SAID_HEAD + AUDIT_SAID_BYTES_MAX <= PEER_BODY_MAX);
const _: () = assert!(8 + ROW_BYTES_MAX <= AUDIT_SAID_BYTES_MAX);
const _: () = assert!(AUDIT_PAGE_MAX <= u16::MAX as usize);
