//! Everything the cluster knows, at one version, and every change after one.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Frame;
use pinion_metadata::{Change, MetaVersion, Object, ObjectKey};
use pinion_plane::{Form, Query, WatchError};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::system::cluster_text;
use crate::WatchStream;
use crate::call::{Call, Reply};
use crate::error::Failure;
use crate::limits::{PIECE_BYTES, PIECES_AHEAD, WATCH_COMMENT_EVERY};
use crate::model::{Event, ObjectView};
use crate::still::Still;

/// `GET /v1/metadata/snapshot`
pub(crate) async fn snapshot(call: Call) -> Reply {
    // What is looked at next holds everything that was answered before this was asked.
    let (read, _) = call.read(Query::Get(ObjectKey::Settings)).await?;
    let looked = call.look(|metadata| {
        let objects: Vec<Arc<Object>> = metadata.objects().cloned().collect();
        (metadata.cluster(), metadata.version(), objects)
    });
    let (cluster, version, objects) = looked.await?;
    let (pieces, body) = long_body();
    tokio::spawn(write_snapshot(pieces, cluster, version, objects));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let read = crate::call::Read { version, ..read };
    Ok(read.mark(response))
}

/// Piece by piece, as its client takes them: a snapshot is many times what one answer
/// should hold in memory, and other tasks run in between.
async fn write_snapshot(
    pieces: mpsc::Sender<Bytes>,
    cluster: [u8; 16],
    version: MetaVersion,
    objects: Vec<Arc<Object>>,
) {
    let cluster = cluster_text(cluster);
    let mut piece = format!(
        "{{\"cluster_id\":\"{cluster}\",\"version\":{version},\"objects\":[",
        version = version.0
    )
    .into_bytes();
    for (at, object) in objects.into_iter().enumerate() {
        if at > 0 {
            piece.push(b',');
        }
        // A view of an object is always JSON: its keys are text.
        let _ = serde_json::to_writer(&mut piece, &ObjectView::of(&object));
        if piece.len() >= PIECE_BYTES {
            let full = Bytes::from(core::mem::take(&mut piece));
            if pieces.send(full).await.is_err() {
                return;
            }
        }
    }
    piece.extend_from_slice(b"]}");
    let _ = pieces.send(piece.into()).await;
}

/// `GET /v1/metadata/watch`
pub(crate) async fn watch(call: Call) -> Reply {
    let from = call.number_param("from_version")?.ok_or_else(|| {
        Failure::bad(
            "bad_parameter",
            "from_version: the version of a snapshot is expected",
        )
        .with("parameter", "from_version")
    })?;
    let cluster = call.param("cluster_id").map(parse_cluster).transpose()?;
    let (pieces, body) = long_body();
    match call.api.plane.watch(cluster, MetaVersion(from)).await {
        Ok(changes) => {
            let stopping = call.api.stopping.clone();
            let still = Still::new(&call.api, "WatchUpdates", call.headers, call.peer);
            tokio::spawn(follow(pieces, changes, still, stopping));
        }
        // Said in the stream, as it is when it happens later.
        Err(WatchError::Resnapshot(trimmed)) => {
            let _ = pieces.try_send(resnapshot(&WatchError::Resnapshot(trimmed)));
        }
        Err(error) => return Err(error.into()),
    }
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn parse_cluster(text: &str) -> Result<[u8; 16], Failure> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok().filter(|_| digits);
    number.map(u128::to_be_bytes).ok_or_else(|| {
        Failure::bad(
            "bad_parameter",
            "cluster_id: 32 hexadecimal digits are expected",
        )
        .with("parameter", "cluster_id")
    })
}

/// Writes events until the client goes, its credential or the watch ends, or the API does.
async fn follow(
    pieces: mpsc::Sender<Bytes>,
    mut changes: WatchStream,
    mut still: Still,
    stopping: watch::Receiver<bool>,
) {
    let stopped = async || {
        let mut stopping = stopping.clone();
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    // Headers go out with the first piece: a client knows at once that it follows.
    let mut piece = comment();
    loop {
        tokio::select! {
            sent = pieces.send(piece) => if sent.is_err() { return },
            () = stopped() => return,
        }
        let silent = Instant::now() + WATCH_COMMENT_EVERY;
        piece = tokio::select! {
            next = changes.next() => match next {
                Some(Ok(watched)) => watched.encoded(Form::Json, event).clone(),
                Some(Err(error)) => {
                    let _ = pieces.send(resnapshot(&error)).await;
                    return;
                }
                None => return,
            },
            failure = still.over() => {
                let _ = pieces.send(refused(&failure)).await;
                return;
            }
            () = sleep_until(silent) => comment(),
            () = pieces.closed() => return,
            () = stopped() => return,
        };
    }
}

fn comment() -> Bytes {
    Bytes::from_static(b":\n\n")
}

/// One change as an event (HTML Living Standard §9.2). Its JSON has no line break.
fn event(change: &Change) -> Bytes {
    let data = serde_json::to_string(&Event::of(change)).unwrap_or_default();
    format!("event: change\nid: {}\ndata: {data}\n\n", change.version.0).into()
}

fn resnapshot(error: &WatchError) -> Bytes {
    let data = match error {
        WatchError::Resnapshot(trimmed) => json!({
            "oldest_version": trimmed.oldest.0,
            "newest_version": trimmed.newest.0,
        }),
        _ => json!({}),
    };
    format!("event: resnapshot_required\ndata: {data}\n\n").into()
}

/// The last event of a watch whose holder may not follow any more.
fn refused(failure: &Failure) -> Bytes {
    let data = json!({ "code": failure.code, "message": failure.message });
    format!("event: refused\ndata: {data}\n\n").into()
}

/// A body of pieces that are made while it is sent, some ahead of what its client took.
pub(crate) fn long_body() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    (sender, Body::new(Pieces(pieces)))
}

struct Pieces(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = core::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = self.0.poll_recv(context);
        piece.map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}
