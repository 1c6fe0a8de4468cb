//! Pages that are looked at are told what has changed on them, as server-sent events
//! (HTML Living Standard §9.2).

use core::net::SocketAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::Arc;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use pinion_admin_ui::live::LiveValues;
use pinion_admin_ui::model::Theme;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::form::Fields;
use super::session::{Full, SessionDigest};
use super::{Frame, Logged, NotIn, Visit, places};
use crate::call::random_id;
use crate::error::Failure;
use crate::limits::{LIVE_EVERY, LIVE_STREAMS_MAX, WATCH_COMMENT_EVERY};
use crate::rest::metadata::long_body;

impl Frame {
    /// `/ui/live?path=`: what changes on that page, until the session or its credential is
    /// over, the page is gone, or nobody looks.
    pub(super) fn live(
        self: &Arc<Self>,
        head: &Parts,
        visit: &Visit,
        logged: &Logged,
    ) -> Result<Response, Failure> {
        let query = Fields::parse(head.uri.query().unwrap_or_default())?;
        let path = query.get("path").to_owned();
        // What is no page has nothing to follow.
        places::find(place(&path).0)?;
        let following = self.follow(path, visit, logged)?;
        let (pieces, body) = long_body();
        tokio::spawn(following.run(pieces));
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    fn follow(
        self: &Arc<Self>,
        path: String,
        visit: &Visit,
        logged: &Logged,
    ) -> Result<Following, Failure> {
        let seat = Seat::take(self).ok_or_else(too_many)?;
        let shown = self.sessions().follow(&logged.digest, &path);
        let shown = shown.map_err(|Full| too_many())?;
        Ok(Following {
            seat,
            digest: logged.digest,
            remote: visit.remote,
            tls: visit.tls,
            theme: visit.theme,
            path,
            shown,
        })
    }

    /// The page as it is now, for whoever sees it.
    async fn drawn(&self, visit: &Visit, logged: &Logged) -> Result<LiveValues, Failure> {
        let (path, query) = place(&visit.path);
        let (context, found) = self.context(path, query, logged)?;
        let shown = self.filled(logged, &context, &found).await?;
        let shell = self.shell(visit, Some(logged), &context, None).await;
        let page = shown.render(&self.ui, &shell).map_err(super::unrendered)?;
        Ok(LiveValues::of(&page))
    }
}

/// Somebody who looks at a page.
struct Following {
    seat: Seat,
    digest: SessionDigest,
    remote: Option<SocketAddr>,
    tls: bool,
    theme: Theme,
    path: String,
    /// What they see.
    shown: Option<LiveValues>,
}

impl Following {
    async fn run(mut self, pieces: mpsc::Sender<Bytes>) {
        let frame = Arc::clone(&self.seat.0);
        let mut stopping = frame.api.stopping.clone();
        let mut every = interval(LIVE_EVERY);
        // Somebody who was not told for long is told once.
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Headers go out with the first piece: a browser knows at once that it follows.
        let mut piece = Some(Bytes::from_static(b":\n\n"));
        let mut said = Instant::now();
        loop {
            if let Some(piece) = piece.take() {
                said = Instant::now();
                tokio::select! {
                    sent = pieces.send(piece) => if sent.is_err() { return },
                    _ = stopping.wait_for(|stop| *stop) => return,
                }
            }
            tokio::select! {
                _ = every.tick() => {}
                () = pieces.closed() => return,
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            piece = match self.look(&frame).await {
                Looked::Event(event) => Some(event.into()),
                Looked::Same if said.elapsed() >= WATCH_COMMENT_EVERY => {
                    Some(Bytes::from_static(b":\n\n"))
                }
                Looked::Same => None,
                Looked::Over => return,
            };
        }
    }

    async fn look(&mut self, frame: &Frame) -> Looked {
        let logged = match frame.is_in(self.digest, self.remote, false) {
            Ok(logged) => logged,
            Err(NotIn::Stranger | NotIn::Over | NotIn::NotPermitted(_)) => return Looked::Over,
        };
        let visit = Visit {
            remote: self.remote,
            tls: self.tls,
            theme: self.theme,
            path: self.path.clone(),
            session: Some(self.digest),
            id: random_id(),
        };
        let now = match frame.drawn(&visit, &logged).await {
            Ok(values) => values,
            // A node that cannot answer now may in a second; what is gone stays away.
            Err(failure) if failure.status == StatusCode::SERVICE_UNAVAILABLE => {
                return Looked::Same;
            }
            Err(_) => return Looked::Over,
        };
        let event = match &self.shown {
            Some(shown) => now.event_since(shown),
            None => None,
        };
        self.shown = Some(now);
        event.map_or(Looked::Same, Looked::Event)
    }
}

enum Looked {
    Event(String),
    Same,
    Over,
}

impl Drop for Following {
    fn drop(&mut self) {
        let shown = self.shown.take();
        let mut sessions = self.seat.0.sessions();
        sessions.unfollow(&self.digest, &self.path, shown);
    }
}

/// One of the streams that there may be.
struct Seat(Arc<Frame>);

impl Seat {
    fn take(frame: &Arc<Frame>) -> Option<Self> {
        let more = |count| (count < LIVE_STREAMS_MAX).then_some(count + 1);
        let streams: &AtomicUsize = &frame.streams;
        let taken = streams.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| Self(Arc::clone(frame)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

fn too_many() -> Failure {
    let retry = Duration::from_secs(10);
    Failure::too_often(retry, false)
}

/// A path and its query.
fn place(path: &str) -> (&str, Option<&str>) {
    match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    }
}
