//! The way from handlers to the plane and back.

use core::time::Duration;

use pinion_admin_api::limits::{ASKS_MAX, WATCH_AHEAD};
use pinion_admin_api::{PlaneHandle, front};
use pinion_metadata::command::{CreateTenant, UpdateTenant};
use pinion_metadata::tenant::TenantQuotas;
use pinion_metadata::{
    Command, Expect, MetaCode, MetaVersion, Metadata, ObjectKey, ResnapshotRequired,
};
use pinion_plane::{
    Answer, AuditQuery, AuditResult, Caller, Consistency, Denied, PlaneError, Query, QueryValue,
    WatchError,
};

use crate::host::{CLUSTER, PATIENCE, beside};

pub(crate) fn ana() -> Caller {
    Caller {
        principal: "p:ana".into(),
        request: 0,
        remote: None,
    }
}

fn create_tenant(name: &str) -> Command {
    Command::CreateTenant(CreateTenant {
        name: name.into(),
        display_name: Box::default(),
        description: Box::default(),
        quotas: TenantQuotas::default(),
        encryption: None,
    })
}

fn describe(name: &str, description: &str) -> Command {
    Command::UpdateTenant(UpdateTenant {
        name: name.into(),
        display_name: None,
        description: Some(description.into()),
        quotas: None,
        encryption: None,
    })
}

async fn write(plane: &PlaneHandle, command: Command) -> Answer {
    plane.write(ana(), Expect::Any, command, PATIENCE).await
}

async fn written(plane: &PlaneHandle, command: Command) -> MetaVersion {
    match write(plane, command).await {
        Answer::Written { version, .. } => version,
        answer => panic!("{answer:?}"),
    }
}

#[test]
fn what_is_written_is_read_and_has_a_row() {
    let host = beside(|plane| async move {
        let version = written(&plane, create_tenant("acme")).await;
        let again = write(&plane, create_tenant("acme")).await;
        assert!(
            matches!(&again, Answer::Refused(PlaneError::Meta(error)) if error.code() == MetaCode::Exists),
            "{again:?}"
        );
        let get = Query::Get(ObjectKey::tenant("acme"));
        let found = plane.read(get, Consistency::Linearizable, PATIENCE).await;
        let Answer::Read {
            version: at,
            stale: false,
            value: QueryValue::Object(Some(object)),
        } = found
        else {
            panic!("{found:?}");
        };
        assert_eq!(object.meta.version, version);
        assert!(at >= version);
        let denied = Denied {
            caller: ana(),
            tenant: "acme".into(),
            operation: "GET /v1/raft".into(),
            target: Box::default(),
            status: 403,
        };
        assert_eq!(plane.denied(denied).await, Ok(()));
        // A row is durable some time after what it tells of.
        let rows = loop {
            let query = AuditQuery {
                tenant: Some("acme".into()),
                limit: 10,
                ..AuditQuery::default()
            };
            match plane.audit(query, PATIENCE).await {
                Answer::Audit(page) if page.rows.len() == 3 => break page.rows,
                Answer::Audit(_) => tokio::task::yield_now().await,
                answer => panic!("{answer:?}"),
            }
        };
        let results: Vec<AuditResult> = rows.iter().map(|(_, row)| row.result).collect();
        let exists = MetaCode::Exists as u16;
        assert_eq!(
            results,
            [
                AuditResult::Done,
                AuditResult::Refused(exists),
                AuditResult::Denied(403)
            ]
        );
        let looked = plane.look(Metadata::version).await;
        assert_eq!(looked, Ok(Some(version)), "a refusal changes nothing");
        assert!(plane.status().await.unwrap().ready);
    });
    assert!(host.metadata().get(&ObjectKey::tenant("acme")).is_some());
}

#[test]
fn a_watcher_gets_every_change_once_however_slowly_it_reads() {
    beside(|plane| async move {
        let first = written(&plane, create_tenant("acme")).await;
        let mut slow = plane.watch(Some(CLUSTER), MetaVersion(0)).await.unwrap();
        let more = 3 * u64::from(WATCH_AHEAD);
        for at in 0..more {
            written(&plane, describe("acme", &at.to_string())).await;
        }
        for version in first.0..=first.0 + more {
            let watched = slow.next().await.unwrap().unwrap();
            assert_eq!(watched.change.version, MetaVersion(version));
        }
        // It waits for the next one, and sees it.
        let (next, last) = tokio::join!(slow.next(), written(&plane, describe("acme", "z")));
        assert_eq!(next.unwrap().unwrap().change.version, last);
        assert_eq!(plane.status().await.unwrap().watchers, 1);
        drop(slow);
        assert_eq!(plane.status().await.unwrap().watchers, 0, "nobody is left");
    });
}

#[test]
fn the_future_and_other_clusters_are_not_followed() {
    beside(|plane| async move {
        let newest = written(&plane, create_tenant("acme")).await;
        let refused = WatchError::Resnapshot(ResnapshotRequired {
            oldest: MetaVersion(0),
            newest,
        });
        let future = plane.watch(None, MetaVersion(newest.0 + 1)).await;
        assert_eq!(future.map(|_| ()), Err(refused));
        let other = plane.watch(Some([0; 16]), MetaVersion(0)).await;
        assert_eq!(other.map(|_| ()), Err(refused));
        assert_eq!(plane.status().await.unwrap().watchers, 0);
    });
}

#[test]
fn a_flood_is_told_to_come_back_and_those_who_left_are_forgotten() {
    beside(|plane| async move {
        let mut waiting = Vec::new();
        // Nothing is taken while this does not wait: the runtime has one thread.
        for _ in 0..ASKS_MAX {
            let plane = plane.clone();
            let mut one = Box::pin(async move { plane.status().await });
            assert!(poll_once(&mut one).await.is_none());
            waiting.push(one);
        }
        let busy = PlaneError::Busy {
            limit: ASKS_MAX as u64,
        };
        assert_eq!(plane.status().await, Err(busy.clone()));
        let refused = write(&plane, create_tenant("acme")).await;
        assert!(matches!(refused, Answer::Refused(error) if error == busy));
        let last = waiting.pop().unwrap();
        drop(waiting);
        assert!(last.await.is_ok());
        written(&plane, create_tenant("acme")).await;
    });
}

#[test]
fn without_an_owner_nothing_is_ready_and_what_was_asked_is_unknown() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (plane, mut owner) = front();
        let mut asked = Box::pin(write(&plane, create_tenant("acme")));
        assert!(poll_once(&mut asked).await.is_none());
        // What was met is not lost when somebody stops waiting for more.
        owner.ready().await;
        owner.ready().await;
        drop(owner);
        let answer = asked.await;
        assert!(
            matches!(answer, Answer::Refused(PlaneError::Unknown)),
            "{answer:?}"
        );
        let status = plane.status().await;
        assert_eq!(status, Err(PlaneError::NotReady));
        let watch = plane.watch(None, MetaVersion(0)).await;
        assert_eq!(watch.map(|_| ()), Err(WatchError::NotReady));
    });
}

#[test]
fn a_deadline_is_kept() {
    beside(|plane| async move {
        let late = plane.write(ana(), Expect::Any, create_tenant("acme"), Duration::ZERO);
        let late = late.await;
        assert!(
            matches!(late, Answer::Refused(PlaneError::TimedOut)),
            "{late:?}"
        );
    });
}

/// Polls once: what it gives at once, if it does.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    core::future::poll_fn(|context| {
        let polled = core::pin::Pin::new(&mut *future).poll(context);
        core::task::Poll::Ready(match polled {
            core::task::Poll::Ready(output) => Some(output),
            core::task::Poll::Pending => None,
        })
    })
    .await
}
