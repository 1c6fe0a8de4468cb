//! Messages of a queue that somebody has, and those that nobody could finish: asked of the
//! partitions themselves, one after the other.

use pinion_node::views::{PartitionFacts, Question, View};
use pinion_types::limits::QUEUE_PAGE_MAX;
use pinion_wire::message::{
    DeadReason, DeadSelect, Handle, QueueDeadList, QueuePeek, Reply, Request, States,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{KIND, names, numbers, seats};
use crate::Api;
use crate::access::Who;
use crate::error::Failure;
use crate::limits::ROWS_MAX;
use crate::rest::resource_named;
use crate::views::sessions::SessionId;
use crate::views::sums::{Pace, QueueSum};
use crate::views::{Address, At, Gathered, Listed, Named, Paging, Pick, ask, object};

/// Messages of one queue that can be walked over by `offset`. Further ones are there for
/// who asks for one partition, or one group, at a time.
pub(crate) const WALK_MAX: usize = 10_000;

/// Bytes of messages that are read for showing their beginnings.
const PREVIEW_BYTES: u32 = 256 << 10;

/// A message that somebody has reserved.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct InFlightRow {
    /// In its partition.
    pub(crate) message_id: u64,
    /// The number of the partition.
    pub(crate) family: u16,
    #[serde(flatten)]
    pub(crate) named: Named,
    /// Empty is the default one.
    pub(crate) group: String,
    /// Always null: whoever knows it can finish the message.
    pub(crate) inflight_token: Option<String>,
    /// Who has it, as `sessions` names them; null of one whose end is on its way to the disk.
    #[schema(value_type = Option<String>)]
    pub(crate) session_id: Option<SessionId>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) expires_at: At,
    /// Deliveries that failed before this one.
    pub(crate) attempts: u16,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) enqueued_at: At,
    pub(crate) last_error: String,
    pub(crate) size_bytes: u64,
}

/// A dead letter.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterRow {
    /// In its partition.
    pub(crate) message_id: u64,
    /// The number of the partition.
    pub(crate) family: u16,
    #[serde(flatten)]
    pub(crate) named: Named,
    /// Empty is the default one.
    pub(crate) group: String,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) dead_lettered_at: At,
    /// Deliveries that failed.
    pub(crate) attempts: u16,
    /// `failed`, `lease_expired` or `expired`.
    pub(crate) reason: &'static str,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) enqueued_at: At,
    /// What the last consumer said.
    pub(crate) last_error: String,
    pub(crate) size_bytes: u64,
    /// The value, when it was asked for and is there.
    #[allow(dead_code, reason = "for pages")]
    #[serde(skip)]
    pub(crate) value: Option<Vec<u8>>,
}

/// Which messages of a queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Messages<'a> {
    /// Of this partition; otherwise of all.
    pub(crate) family: Option<u16>,
    /// Of this group; otherwise of all.
    pub(crate) group: Option<&'a str>,
    /// Only those whose last error begins so.
    pub(crate) error_prefix: &'a str,
    /// With what they hold.
    pub(crate) bodies: bool,
    pub(crate) paging: Paging,
}

/// How far a walk over messages goes.
struct Walk {
    skip: usize,
    want: usize,
    /// Met so far.
    met: usize,
}

impl Walk {
    fn new(paging: Paging) -> Result<Self, Failure> {
        if paging.offset > WALK_MAX {
            return Err(Failure::bad(
                "bad_parameter",
                format!("offset: at most {WALK_MAX} is expected; family and group reach further"),
            )
            .with("parameter", "offset"));
        }
        Ok(Self {
            skip: paging.offset,
            want: paging.limit.min(ROWS_MAX),
            met: 0,
        })
    }

    /// Whether the next one is on the page.
    fn take(&mut self) -> bool {
        self.met += 1;
        self.met > self.skip && self.met <= self.skip + self.want
    }

    fn is_over(&self) -> bool {
        self.met >= self.skip + self.want
    }

    /// Messages to be asked for at a time.
    fn page(&self) -> u32 {
        let left = (self.skip + self.want).saturating_sub(self.met);
        u32::try_from(left)
            .unwrap_or(u32::MAX)
            .clamp(1, QUEUE_PAGE_MAX)
    }

    /// How many there are: as many as were met at the end, and what was counted before it.
    fn total(&self, counted: u64) -> usize {
        let counted = usize::try_from(counted).unwrap_or(usize::MAX);
        if self.is_over() {
            counted.max(self.met)
        } else {
            self.met
        }
    }
}

/// Messages that somebody has reserved at this moment, by partition, group and number.
///
/// # Errors
/// As [`groups`]; 400 when the page begins too far.
pub(crate) async fn in_flight(
    api: &Api,
    who: &Who,
    address: &Address,
    which: Messages<'_>,
) -> Result<Listed<InFlightRow>, Failure> {
    let mut walk = Walk::new(which.paging)?;
    let seats = seats(api, who, address, which.family).await?;
    let named = named(address);
    let mut rows = Vec::new();
    'all: for seat in seats {
        for group in names(api, seat, which.group).await? {
            let mut from = 0;
            loop {
                let asked = Request::QueuePeek(QueuePeek {
                    handle: Handle(0),
                    partition: seat.partition,
                    from,
                    max_items: walk.page(),
                    max_bytes: 0,
                    states: States::IN_FLIGHT,
                    bodies: false,
                    group: &group,
                });
                let answered = ask::request(api, seat, &asked).await?;
                let Reply::QueuePage(page) = answered.reply()? else {
                    return Err(ask::strange());
                };
                let first = rows.len();
                for item in page.items.iter() {
                    if walk.take() {
                        rows.push(InFlightRow {
                            message_id: item.id,
                            family: seat.partition.0,
                            named: named.clone(),
                            group: group.clone(),
                            inflight_token: None,
                            session_id: None,
                            expires_at: At(item.due),
                            attempts: item.attempts,
                            enqueued_at: At(item.enqueued),
                            last_error: item.last_error.to_owned(),
                            size_bytes: item.record_bytes.into(),
                        });
                    }
                }
                say_who(api, seat, &group, &mut rows[first..]).await?;
                if walk.is_over() {
                    break 'all;
                }
                if page.next == 0 {
                    break;
                }
                from = page.next;
            }
        }
    }
    let counted = counted(api, address, &which, |sum| sum.in_flight).await;
    Ok(Listed {
        total: walk.total(counted),
        rows,
        as_of: At(crate::wall()),
    })
}

/// Fills in who has the messages of one page. A message that went to somebody else since the
/// page was made is told to be theirs.
async fn say_who(
    api: &Api,
    seat: ask::Seat,
    group: &str,
    rows: &mut [InFlightRow],
) -> Result<(), Failure> {
    if rows.is_empty() {
        return Ok(());
    }
    let asked = Question::Holders {
        of: (seat.id, seat.partition),
        group: group.into(),
        ids: rows.iter().map(|row| row.message_id).collect(),
    };
    let View::Holders(holders) = ask::question(api, seat.core, asked).await? else {
        return Err(ask::strange());
    };
    for (row, holder) in rows.iter_mut().zip(holders) {
        row.session_id = holder.map(SessionId::of);
    }
    Ok(())
}

/// Messages that somebody has reserved at this moment, in all queues that somebody may see
/// and that had any when they were last counted.
///
/// # Errors
/// As [`list`]; 400 when the page begins too far.
pub(crate) async fn all_in_flight(
    api: &Api,
    who: &Who,
    realm: Option<&str>,
    paging: Paging,
) -> Result<Listed<InFlightRow>, Failure> {
    Walk::new(paging)?;
    let all = Gathered::of(api, who).await?;
    let pick = Pick {
        realm,
        ..Pick::default()
    };
    let (mut skip, mut rows, mut total) = (paging.offset, Vec::new(), 0);
    for object in all.of_kind(KIND, pick).iter() {
        let reserved = numbers(all.snapshot.told(), object, None).messages_inflight;
        let reserved = usize::try_from(reserved).unwrap_or(usize::MAX);
        total += reserved;
        let want = paging.limit - rows.len();
        if reserved == 0 || want == 0 {
            continue;
        }
        if skip >= reserved {
            skip -= reserved;
            continue;
        }
        let which = Messages {
            paging: Paging {
                limit: want,
                offset: core::mem::take(&mut skip),
            },
            ..Messages::default()
        };
        // One that is deleted or silent just now is left out.
        let address = Named::of(object).address();
        if let Ok(listed) = in_flight(api, who, &address, which).await {
            rows.extend(listed.rows);
        }
    }
    Ok(Listed {
        total: total.max(rows.len()),
        rows,
        as_of: all.as_of(),
    })
}

/// Dead letters, by partition, group and number.
///
/// # Errors
/// As [`in_flight`].
pub(crate) async fn dead_letters(
    api: &Api,
    who: &Who,
    address: &Address,
    which: Messages<'_>,
) -> Result<Listed<DeadLetterRow>, Failure> {
    let mut walk = Walk::new(which.paging)?;
    let seats = seats(api, who, address, which.family).await?;
    let named = named(address);
    let mut rows = Vec::new();
    'all: for seat in seats {
        for group in names(api, seat, which.group).await? {
            let mut from = 0;
            loop {
                let asked = Request::QueueDeadList(QueueDeadList {
                    handle: Handle(0),
                    partition: seat.partition,
                    from,
                    max_items: walk.page(),
                    max_bytes: PREVIEW_BYTES,
                    bodies: which.bodies,
                    select: DeadSelect {
                        reason: None,
                        error_prefix: which.error_prefix,
                    },
                    group: &group,
                });
                let answered = ask::request(api, seat, &asked).await?;
                let Reply::DeadPage(page) = answered.reply()? else {
                    return Err(ask::strange());
                };
                for item in page.items.iter() {
                    if walk.take() {
                        rows.push(DeadLetterRow {
                            message_id: item.id,
                            family: seat.partition.0,
                            named: named.clone(),
                            group: group.clone(),
                            dead_lettered_at: At(item.died),
                            attempts: item.attempts,
                            reason: reason(item.reason),
                            enqueued_at: At(item.enqueued),
                            last_error: item.last_error.to_owned(),
                            size_bytes: item.record_bytes.into(),
                            value: item.record.map(|record| record.value.to_vec()),
                        });
                    }
                }
                if walk.is_over() {
                    break 'all;
                }
                if page.next == 0 {
                    break;
                }
                from = page.next;
            }
        }
    }
    // Of those with such an error nobody keeps count.
    let counted = match which.error_prefix {
        "" => counted(api, address, &which, |sum| sum.dead).await,
        _ => 0,
    };
    Ok(Listed {
        total: walk.total(counted),
        rows,
        as_of: At(crate::wall()),
    })
}

/// What the snapshot counts, of all groups together; nothing when that is not known.
async fn counted(
    api: &Api,
    address: &Address,
    which: &Messages<'_>,
    count: impl Fn(&QueueSum) -> u64,
) -> u64 {
    if which.group.is_some() {
        return 0;
    }
    let Ok(object) = object(api, KIND, address).await else {
        return 0;
    };
    let Some(named) = resource_named(&object) else {
        return 0;
    };
    let sight = api.observer.look_at(&[named]).await;
    let only = |facts: &PartitionFacts| which.family.is_none_or(|one| facts.partition.0 == one);
    count(&Pace::<QueueSum>::of(sight.told(), named.0, only).now)
}

fn named(address: &Address) -> Named {
    Named {
        realm: address.tenant.to_string(),
        area: address.namespace.to_string(),
        resource: address.name.to_string(),
    }
}

const fn reason(reason: DeadReason) -> &'static str {
    match reason {
        DeadReason::Failed => "failed",
        DeadReason::LeaseExpired => "lease_expired",
        DeadReason::Expired => "expired",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_takes_its_page_and_ends() {
        let paging = Paging {
            limit: 2,
            offset: 3,
        };
        let mut walk = Walk::new(paging).expect("near enough");
        assert_eq!(walk.page(), 5);
        let taken: Vec<bool> = (0..4).map(|_| walk.take()).collect();
        assert_eq!(taken, [false, false, false, true]);
        assert!(!walk.is_over());
        assert_eq!(walk.total(9), 4, "the end was met");
        assert!(walk.take() && walk.is_over());
        assert_eq!(walk.total(9), 9);
        assert_eq!(walk.total(0), 5);
        let far = Paging {
            limit: 1,
            offset: WALK_MAX + 1,
        };
        assert!(Walk::new(far).is_err());
    }
}
