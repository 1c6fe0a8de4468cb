//! Data cores that say what a test tells them to.

use std::sync::{Arc, Mutex};

use pinion_admin_api::NodeFront;
use pinion_node::facts::CoreFacts;
use pinion_node::mail::CoreMail;
use pinion_node::views::{
    PARTITIONS_PER_PAGE, PartitionDetail, PartitionFacts, PartitionPage, Question, Standing,
    StreamFacts, View,
};
use pinion_types::{CoreId, Offset, PartitionId, ResourceId};

/// What the cores say; shared with the test.
#[derive(Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    partitions: Vec<PartitionFacts>,
    lost: Vec<CoreId>,
    /// Of one page; 0 is one.
    per_page: usize,
    /// Questions of each kind that were answered.
    pages: usize,
    named: usize,
}

impl Said {
    pub(crate) fn set(&self, partitions: Vec<PartitionFacts>) {
        self.0.lock().unwrap().partitions = partitions;
    }

    /// Pages are of so many partitions.
    pub(crate) fn page_by(&self, partitions: usize) {
        self.0.lock().unwrap().per_page = partitions;
    }

    /// From now on this core is gone.
    pub(crate) fn lose(&self, core: CoreId) {
        self.0.lock().unwrap().lost.push(core);
    }

    /// Pages of partitions that were asked for.
    pub(crate) fn pages(&self) -> usize {
        self.0.lock().unwrap().pages
    }

    /// How often partitions were asked for by name.
    pub(crate) fn named(&self) -> usize {
        self.0.lock().unwrap().named
    }
}

/// A stream's partition with three records.
pub(crate) fn stream(
    resource: ResourceId,
    core: u16,
    subscriptions: u32,
    durable_bytes: u64,
) -> PartitionFacts {
    PartitionFacts {
        core: CoreId(core),
        resource,
        partition: PartitionId(core),
        log: None,
        standing: Standing::Served,
        fenced: false,
        read_only: false,
        bytes: 9,
        durable_bytes,
        detail: PartitionDetail::Stream(StreamFacts {
            first: Offset(2),
            end: Offset(5),
            appended_end: Offset(5),
            records_in: 5,
            records_out: 0,
            bytes_out: 0,
            subscriptions,
            lag_max: 0,
            append_sessions: 0,
            producers: 0,
        }),
    }
}

/// Answers for as long as anybody asks.
pub(crate) async fn play(mut front: NodeFront, said: Said) {
    loop {
        front.ready().await;
        let mut asked = Vec::new();
        front.feed(|core, mail| {
            let there = !said.0.lock().unwrap().lost.contains(&core);
            if there {
                asked.push((core, mail));
            }
            there
        });
        for (core, mail) in asked {
            let CoreMail::Question { id, question } = mail else {
                panic!("{mail:?}");
            };
            let view = said.answer(core, &question);
            front.handle_view(core, id, view);
        }
    }
}

impl Said {
    fn answer(&self, core: CoreId, question: &Question) -> View {
        let mut script = self.0.lock().unwrap();
        match question {
            Question::Core => View::Core(Box::new(CoreFacts {
                core,
                partitions: script
                    .partitions
                    .iter()
                    .filter(|one| one.core == core)
                    .count() as u64,
                ..CoreFacts::default()
            })),
            Question::Partitions { after, kind } => {
                script.pages += 1;
                let first = after.map_or(0, |after| after as usize + 1);
                let all = script.partitions.iter().filter(|one| one.core == core);
                let count = script.per_page.max(1);
                let last = u32::try_from(first + count - 1).unwrap();
                let more = all.clone().count() > first + count;
                let mut page = PartitionPage::new(core, count);
                let looked_at = all.skip(first).take(count);
                let is = |one: &&PartitionFacts| kind.is_none_or(|kind| one.detail.kind() == kind);
                looked_at.filter(is).for_each(|one| page.push(one));
                page.next = more.then_some(last);
                View::Partitions(page)
            }
            Question::PartitionsOf { keys } => {
                assert!(keys.len() <= PARTITIONS_PER_PAGE, "{}", keys.len());
                script.named += 1;
                let count = script.per_page.max(1);
                let mut page = PartitionPage::new(core, count);
                for key in keys.iter().take(count) {
                    let is = |one: &&PartitionFacts| (one.resource, one.partition) == *key;
                    let here = script.partitions.iter().filter(|one| one.core == core);
                    here.filter(is).for_each(|one| page.push(one));
                }
                let more = keys.len() > count;
                page.next = more.then(|| u32::try_from(count - 1).unwrap());
                View::Partitions(page)
            }
            other => panic!("{other:?}"),
        }
    }
}
