//! Asks how a partition is: its ends, its counts, and what it holds in memory.

use pinion_types::ResourceKind;
use pinion_wire::message::{QueueInfo, Reply, Request, StreamInfo};

use super::super::client::Client;
use super::super::truth::Truth;
use super::{Place, ResourcePlan};
use crate::{Violation, promise};

/// What may lie in memory beyond the bound of a partition: what awaits the disk,
/// or what is read ahead of the consumers, and one batch.
const BEYOND_RING_MAX: u64 = (4 << 20) + (1 << 20);

/// What it was told last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// How many answers there were; the others are the last one's.
    pub(crate) answers: u64,
    /// First offset, and the end or the next id.
    pub(crate) first: u64,
    pub(crate) end: u64,
    /// Messages of a queue that some group has not finished, dead letters of all
    /// groups, and messages that wait in one.
    pub(crate) messages: u64,
    pub(crate) dead: u64,
    pub(crate) waiting: u64,
    /// Bytes of the messages, and bytes in memory.
    pub(crate) bytes: u64,
    pub(crate) resident: u64,
}

/// Asks again and again.
#[derive(Debug)]
pub(crate) struct Inspector {
    kind: ResourceKind,
    /// With what was known of the end when it was asked.
    asked: Option<(u32, u64)>,
    pub(crate) report: Report,
}

impl Inspector {
    pub(crate) fn new(kind: ResourceKind) -> Self {
        Self {
            kind,
            asked: None,
            report: Report::default(),
        }
    }

    /// Its connection is gone.
    pub(super) fn lost(&mut self) {
        self.asked = None;
    }

    pub(super) fn act(&mut self, client: &mut Client, place: Place, truth: &mut Truth) {
        if self.asked.is_some() {
            return;
        }
        let (handle, partition) = (place.handle, place.partition);
        self.asked = Some(if self.kind == ResourceKind::Stream {
            let end = truth.stream(place.key).end();
            let info = Request::StreamInfo(StreamInfo { handle, partition });
            (client.send(&info), end)
        } else {
            let next = truth.queue(place.key).next_id();
            let info = Request::QueueInfo(QueueInfo { handle, partition });
            (client.send(&info), next)
        });
    }

    pub(super) fn answered(
        &mut self,
        number: u32,
        reply: &Reply<'_>,
        key: (usize, u16),
        plan: &ResourcePlan,
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        let Some((_, known)) = self.asked.take_if(|(asked, _)| *asked == number) else {
            return Err(Violation::new(format!("{reply:?} to nothing")));
        };
        let mut report = Report {
            answers: self.report.answers + 1,
            ..Report::default()
        };
        match reply {
            Reply::StreamStatus(status) => {
                (report.first, report.end) = (status.first_available.0, status.end.0);
                report.resident = status.bytes;
                let stream = truth.stream(key);
                stream.told_end(report.end)?;
                stream.begins_at(report.first)?;
                promise!(
                    report.first <= report.end,
                    "a partition from {} to {}",
                    report.first,
                    report.end
                );
            }
            Reply::QueueStatus(status) => {
                report.end = status.next_id;
                report.messages = status.messages;
                (report.bytes, report.resident) = (status.bytes, status.resident_bytes);
                for group in status.groups.iter() {
                    report.dead += group.dead;
                    report.waiting += group.ready + group.delayed + group.in_flight;
                    promise!(
                        group.dead <= status.messages,
                        "{} dead letters of {} messages",
                        group.dead,
                        status.messages
                    );
                }
            }
            _ => return Ok(()),
        }
        promise!(
            report.end >= known || truth.lossy,
            "the end is {}, somebody knew of {known} before",
            report.end
        );
        let bound = plan.spec.ring_bytes + BEYOND_RING_MAX;
        promise!(
            report.resident <= bound,
            "{} bytes in memory, the bound is {bound}",
            report.resident
        );
        truth.counts.inspected += 1;
        self.report = report;
        Ok(())
    }
}
