//! What is gathered from the data cores, and how often they are asked for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pinion_admin_api::limits::{
    LOOKED_LATELY, PARTITIONS_NAMED_MAX, QUESTIONS_MAX, SNAPSHOT_ANEW, SNAPSHOT_EVERY,
};
use pinion_admin_api::observer::{Named, Observer, Sight, Told};
use pinion_admin_api::{NodeError, node_front};
use pinion_node::mail::CoreMail;
use pinion_node::views::{
    PARTITIONS_PER_PAGE, PartitionDetail, PartitionFacts, QUESTIONS_WAITING_MAX, Question,
    QueueFacts, View,
};
use pinion_types::{CoreId, PartitionId, ResourceId, ResourceKind};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cores::{Said, play, stream};
use crate::host::PATIENCE;

fn run(story: impl Future<Output = ()>) {
    run_for(PATIENCE, story);
}

fn run_for(patience: Duration, story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(patience, story).await.unwrap() });
}

const ONE: ResourceId = ResourceId(1);
const TWO: ResourceId = ResourceId(2);

#[test]
fn however_many_look_the_cores_are_asked_once() {
    let (cores, front) = node_front(2);
    let said = Said::default();
    said.set(vec![
        stream(ONE, 1, 1, 10),
        stream(ONE, 0, 2, 20),
        stream(TWO, 0, 0, 0),
    ]);
    run(async {
        tokio::spawn(play(front, said.clone()));
        let observer = Arc::new(Observer::new(cores));
        let mut looking = JoinSet::new();
        for _ in 0..50 {
            let observer = observer.clone();
            looking.spawn(async move { observer.snapshot().await });
        }
        let seen = looking.join_all().await;
        // Two pages of the first core, one of the second.
        assert_eq!(said.pages(), 3);
        let first = &seen[0];
        assert!(seen.iter().all(|one| one.taken_at == first.taken_at));
        assert_eq!((first.cores.len(), first.missing.len()), (2, 0));
        let of_one: Vec<PartitionId> = first
            .partitions(ONE)
            .iter()
            .map(|one| one.partition)
            .collect();
        assert_eq!(of_one, [PartitionId(0), PartitionId(1)], "in order");
        assert!(first.partitions(ResourceId(3)).is_empty());
        let sums = first.seen.load(ONE).unwrap();
        assert_eq!((sums.subscribers, sums.durable_bytes), (3, 30));
        assert_eq!((sums.records, sums.bytes), (6, 30));
        assert!(first.before.is_none() && first.per_second(9, 1).is_none());

        // When there is some time between two, there are rates.
        said.lose(CoreId(1));
        tokio::time::sleep(SNAPSHOT_EVERY).await;
        let rated = observer.snapshot().await;
        let seconds = rated.since_before().unwrap().as_secs_f64();
        let rate = rated.per_second(30, 10).unwrap();
        assert!((rate * seconds - 20.0).abs() < 0.01, "{rate} {seconds}");
        assert_eq!(rated.per_second(3, 9), Some(0.0), "begun anew");
        assert!(rated.before.as_ref().unwrap().before.is_none());
        // A core that does not answer is named, and the others are there.
        assert_eq!(rated.missing[..], [CoreId(1)]);
        assert_eq!(rated.partitions(ONE).iter().count(), 1);
    });
}

/// What somebody who named them is told of one resource: its partitions.
fn told(sight: &Sight, id: ResourceId) -> Vec<u16> {
    let parts = sight.told().partitions(id);
    parts.iter().map(|one| one.partition.0).collect()
}

#[test]
fn who_names_what_they_look_at_waits_for_nothing_else() {
    let (cores, front) = node_front(2);
    let said = Said::default();
    let many = (10..4_010).map(|id| stream(ResourceId(id), 0, 1, 10));
    let few = [stream(ONE, 1, 1, 10), stream(ONE, 0, 2, 20)];
    said.set(few.into_iter().chain(many).collect());
    run(async {
        tokio::spawn(play(front, said.clone()));
        let observer = Observer::new(cores);
        // More than there are of it, and one that is nowhere.
        said.page_by(PARTITIONS_PER_PAGE);
        let sight = observer.look_at(&[(ONE, 3), (TWO, 1)]).await;
        assert!(matches!(sight, Sight::Part(_)));
        assert_eq!((said.pages(), said.named()), (0, 2), "each core once");
        assert_eq!(told(&sight, ONE), [0, 1], "in order");
        assert!(told(&sight, TWO).is_empty() && told(&sight, ResourceId(10)).is_empty());
        let load = sight.told().load(ONE).unwrap();
        assert_eq!((load.subscribers, load.durable_bytes), (3, 30));
        assert!(sight.told().before(ONE).is_none(), "nobody looked before");
        let nothing = observer.look_at(&[]).await;
        assert!(matches!(nothing, Sight::Part(_)));
        assert_eq!(said.named(), 2, "no core is asked for nothing");

        // As many as may be named, however short the answers are.
        let ids = 0..PARTITIONS_NAMED_MAX as u64;
        let named: Vec<Named> = ids.map(|id| (ResourceId(id + 10), 1)).collect();
        for per_page in [PARTITIONS_PER_PAGE, 100] {
            said.page_by(per_page);
            let sight = observer.look_at(&named).await;
            assert!(matches!(sight, Sight::Part(_)));
            assert!(named.iter().all(|(id, _)| told(&sight, *id) == [0]));
        }
        assert_eq!(said.pages(), 0);

        // For more everything is gathered; and what is there is told, whoever is named.
        said.page_by(PARTITIONS_PER_PAGE);
        let more: Vec<Named> = named.iter().copied().chain([(ONE, 2)]).collect();
        let sight = observer.look_at(&more).await;
        assert!(matches!(sight, Sight::Whole(_)) && told(&sight, ONE) == [0, 1]);
        let (pages, asked) = (said.pages(), said.named());
        assert_eq!(pages, 9, "4,001 of the one core and 1 of the other");
        let sight = observer.look_at(&[(ONE, 2)]).await;
        assert!(matches!(sight, Sight::Whole(_)) && told(&sight, ONE) == [0, 1]);
        assert_eq!((said.pages(), said.named()), (pages, asked));

        // Later its pace is that since then. What a core that is gone had is missing, and
        // nobody decides by that.
        tokio::time::sleep(SNAPSHOT_EVERY).await;
        said.lose(CoreId(1));
        let sight = observer.look_at(&[(ONE, 2)]).await;
        assert!(matches!(sight, Sight::Part(_)) && told(&sight, ONE) == [0]);
        let (before, span) = sight.told().before(ONE).unwrap();
        assert_eq!(before.iter().count(), 2);
        assert!(span >= SNAPSHOT_EVERY, "{span:?}");
        assert_eq!(observer.fresh((ONE, 2)).await.unwrap_err(), NodeError::Gone);
    });
}

#[test]
fn who_must_know_all_of_a_kind_waits_for_no_other() {
    let (cores, front) = node_front(2);
    let said = Said::default();
    let queue = |one: PartitionFacts| PartitionFacts {
        detail: PartitionDetail::Queue(QueueFacts::default()),
        ..one
    };
    let queues = (10..2_010).map(|id| queue(stream(ResourceId(id), 0, 1, 10)));
    let streams = (2_010..3_010).map(|id| stream(ResourceId(id), 0, 1, 10));
    said.set(
        queues
            .chain(streams)
            .chain([stream(ONE, 1, 2, 20)])
            .collect(),
    );
    said.page_by(PARTITIONS_PER_PAGE);
    run(async {
        tokio::spawn(play(front, said.clone()));
        let observer = Arc::new(Observer::new(cores));
        let sight = observer.look_at_all(ResourceKind::Stream).await;
        assert!(matches!(sight, Sight::Part(_)));
        let found = (2_010..3_010).filter(|id| told(&sight, ResourceId(*id)) == [0]);
        assert_eq!(found.count(), 1_000);
        assert_eq!(told(&sight, ONE), [1], "of the other core, too");
        assert!(told(&sight, ResourceId(10)).is_empty(), "a queue");
        assert!(sight.told().before(ONE).is_none(), "nobody looked before");
        let once = said.pages();

        // Of many who look at once one is told of the kind, and the others of everything
        // that is then there: it is gathered for all of them together.
        let mut looking = JoinSet::new();
        for _ in 0..10 {
            let observer = observer.clone();
            looking.spawn(async move { observer.look_at_all(ResourceKind::Stream).await });
        }
        let seen = looking.join_all().await;
        let part = |one: &&Sight| matches!(one, Sight::Part(_));
        assert_eq!(seen.iter().filter(part).count(), 1);
        assert!(seen.iter().all(|one| told(one, ONE) == [1]));
        assert_eq!(said.pages(), 3 * once, "as many places each time");

        // What is there is told, and nobody is asked.
        let sight = observer.look_at_all(ResourceKind::Queue).await;
        assert!(matches!(sight, Sight::Whole(_)) && told(&sight, ResourceId(10)) == [0]);
        assert_eq!(said.pages(), 3 * once);

        // Later its pace is that since then.
        tokio::time::sleep(SNAPSHOT_EVERY).await;
        let sight = observer.look_at_all(ResourceKind::Queue).await;
        assert!(matches!(sight, Sight::Part(_)) && told(&sight, ONE).is_empty());
        let (before, span) = sight.told().before(ResourceId(10)).unwrap();
        assert_eq!(before.iter().count(), 1);
        assert!(span >= SNAPSHOT_EVERY, "{span:?}");
    });
}

#[test]
fn who_decides_by_it_is_told_nothing_of_before() {
    let (cores, front) = node_front(2);
    let said = Said::default();
    said.set(vec![stream(ONE, 0, 2, 20)]);
    run(async {
        tokio::spawn(play(front, said.clone()));
        let observer = Observer::new(cores);
        observer.look().await;
        said.set(vec![stream(ONE, 0, 3, 20)]);
        let subscribers = |told: Told<'_>| told.load(ONE).unwrap().subscribers;
        assert_eq!(subscribers(observer.look().await.told()), 2);
        assert_eq!(
            subscribers(observer.fresh((ONE, 1)).await.unwrap().told()),
            3
        );
        assert_eq!(subscribers(observer.look().await.told()), 3, "nor later");
    });
}

#[test]
fn where_a_core_is_asked_too_much_everybody_gets_the_same() {
    let (cores, front) = node_front(1);
    let said = Said::default();
    said.set(vec![stream(ONE, 0, 1, 10)]);
    run(async {
        let observer = Arc::new(Observer::new(cores));
        let mut looking = JoinSet::new();
        for _ in 0..2 * QUESTIONS_WAITING_MAX {
            let observer = observer.clone();
            looking.spawn(async move { observer.look_at(&[(ONE, 1)]).await });
        }
        // All of them ask before the core answers any.
        for _ in 0..4 * QUESTIONS_WAITING_MAX {
            tokio::task::yield_now().await;
        }
        tokio::spawn(play(front, said.clone()));
        let seen = looking.join_all().await;
        let whole = |one: &&Sight| matches!(one, Sight::Whole(_));
        assert_eq!(seen.iter().filter(whole).count(), QUESTIONS_WAITING_MAX);
        assert!(seen.iter().all(|one| told(one, ONE) == [0]));
        assert_eq!((said.pages(), said.named()), (1, QUESTIONS_WAITING_MAX));
    });
}

#[test]
fn every_partition_is_found_once_however_long_pages_are() {
    let of = |number: usize| stream(ResourceId(number as u64), 0, 1, 10);
    let full = PARTITIONS_PER_PAGE;
    // Pages as long as they may be, some that end before, and none that is full.
    for (partitions, per_page, asked) in [
        (0, full, 1),
        (1, full, 1),
        (full, full, 1),
        (full + 1, full, 2),
        (5 * full, full, 5),
        (5 * full + 7, full, 6),
        (3 * full, full - 1, 4),
        (2 * full, 100, 11),
    ] {
        let (cores, front) = node_front(1);
        let said = Said::default();
        said.set((0..partitions).map(of).collect());
        said.page_by(per_page);
        run(async {
            tokio::spawn(play(front, said.clone()));
            let seen = Observer::new(cores).snapshot().await.seen.clone();
            let once = |id: &u64| seen.partitions(ResourceId(*id)).iter().count() == 1;
            let found = (0..partitions as u64).filter(once).count();
            assert_eq!(
                (found, seen.len()),
                (partitions, partitions),
                "by {per_page}"
            );
            // What was guessed before the first wrong guess was met is all that is in vain.
            let in_vain = if per_page == full { 0 } else { 2 };
            let pages = said.pages();
            assert!(
                (asked..=asked + in_vain).contains(&pages),
                "{pages} pages for {partitions} by {per_page}"
            );
        });
    }
}

#[test]
fn who_looks_again_waits_for_no_core_and_where_nobody_looks_none_is_asked() {
    let (cores, front) = node_front(1);
    let said = Said::default();
    said.set(vec![stream(ONE, 0, 1, 10)]);
    run_for(3 * LOOKED_LATELY + 15 * SNAPSHOT_EVERY, async {
        tokio::spawn(play(front, said.clone()));
        let observer = Observer::new(cores);
        let (stop, stopping) = watch::channel(false);
        let looking = async {
            // A program that reads now and then is not somebody who looks.
            observer.snapshot().await;
            assert_eq!(said.pages(), 1);
            tokio::time::sleep(2 * SNAPSHOT_EVERY).await;
            assert_eq!(said.pages(), 1);

            let mut last = observer.look().await;
            let looked = Instant::now();
            // Without anybody who gathers before, each of these would wait for the core; one
            // may nevertheless, on a machine that stands still.
            let (mut found_there, mut looks) = (0, 0);
            while found_there < 3 {
                tokio::time::sleep(SNAPSHOT_EVERY).await;
                let pages = said.pages();
                let now = observer.look().await;
                assert!(!Arc::ptr_eq(&now, &last), "it is a second old");
                found_there += usize::from(said.pages() == pages);
                looks += 1;
                assert!(looks < 10, "{found_there} of {looks} waited for no core");
                last = now;
            }

            tokio::time::sleep(LOOKED_LATELY + SNAPSHOT_EVERY).await;
            let pages = said.pages();
            assert!(pages >= 4, "{pages}");
            let most = looked.elapsed().as_millis() / SNAPSHOT_ANEW.as_millis() + 3;
            assert!((pages as u128) <= most, "{pages} in {:?}", looked.elapsed());
            tokio::time::sleep(2 * SNAPSHOT_EVERY).await;
            assert_eq!(said.pages(), pages, "nobody looks");
            stop.send(true).unwrap();
        };
        tokio::join!(observer.refresh(stopping), looking);
    });
}

#[test]
fn the_cores_are_asked_how_they_are_whoever_looks() {
    let (cores, front) = node_front(3);
    let said = Said::default();
    said.lose(CoreId(2));
    run(async {
        tokio::spawn(play(front, said));
        let observer = Observer::new(cores);
        let (stop, stopping) = watch::channel(false);
        let looking = async {
            loop {
                let history = observer.history();
                let of: Vec<usize> = history.cores.iter().map(|core| core.len()).collect();
                if of[..2] == [2, 2] {
                    assert_eq!(of[2], 0);
                    stop.send(true).unwrap();
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::join!(observer.sample(stopping), looking);
    });
}

#[test]
fn a_question_is_answered_refused_or_late_and_never_forgotten() {
    run(async {
        let wait = Duration::from_millis(20);
        let (cores, mut front) = node_front(2);
        let ask = |core| cores.ask(CoreId(core), Question::Core, wait);
        assert_eq!(ask(2).await.unwrap_err(), NodeError::Gone);
        let began = Instant::now();
        assert_eq!(ask(0).await.unwrap_err(), NodeError::Late);
        assert!(began.elapsed() >= wait);
        // Whoever does not wait any more is not asked for.
        let mut told = 0;
        front.feed(|_, _| {
            told += 1;
            true
        });
        assert_eq!(told, 0);

        // More than may be on its way to a core, and more than may wait at all.
        let patient = Duration::from_secs(3);
        let mut asked = JoinSet::new();
        for at in 0..=QUESTIONS_MAX {
            let cores = cores.clone();
            let core = CoreId(u16::from(at == 7));
            asked.spawn(async move { (core, cores.ask(core, Question::Core, patient).await) });
        }
        // Until all of them have asked.
        for _ in 0..QUESTIONS_MAX {
            tokio::task::yield_now().await;
        }
        let mut told = Vec::new();
        front.feed(|core, mail| {
            let CoreMail::Question { id, .. } = mail else {
                panic!("{mail:?}")
            };
            told.push((core, id));
            true
        });
        assert_eq!(
            told.len(),
            QUESTIONS_WAITING_MAX + 1,
            "of one and the other"
        );
        for (core, id) in &told {
            if core.0 == 0 {
                front.handle_view(*core, *id, View::Done(true));
                // Nobody waits for it twice.
                front.handle_view(*core, *id, View::Done(true));
            }
        }
        front.core_gone(CoreId(1));
        let (mut good, mut busy, mut gone) = (0, 0, 0);
        for (_, answer) in asked.join_all().await {
            match answer {
                Ok(View::Done(true)) => good += 1,
                Err(NodeError::Busy { .. }) => busy += 1,
                Err(NodeError::Gone) => gone += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((good, gone), (QUESTIONS_WAITING_MAX, 1));
        assert_eq!(busy, QUESTIONS_MAX - QUESTIONS_WAITING_MAX);
        // There is room again; and a core that is not there is none.
        let (answer, ()) = tokio::join!(ask(1), async { front.feed(|_, _| false) });
        assert_eq!(answer.unwrap_err(), NodeError::Gone);
        drop(front);
        assert_eq!(ask(0).await.unwrap_err(), NodeError::Gone);
    });
}
