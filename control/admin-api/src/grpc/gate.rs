//! What stands before each service: who may call it at all, how often, and for how long it
//! may take to say what it wants.

use core::convert::Infallible;
use core::future::ready;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response};
use tonic::Status;
use tower::Service;

use crate::Api;
use crate::access::Who;
use crate::call::Peer;
use crate::error::Failure;
use crate::limits::{BODY_WAIT, PLANE_WAIT};

/// How long a call may take until its answer begins: to send its message, to wait for the
/// plane, and as long again to make the answer.
const CALL_WAIT: Duration = BODY_WAIT.saturating_add(PLANE_WAIT.saturating_mul(2));

/// Who may call a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    /// Each call looks itself.
    Inside,
    /// Whoever has a credential that counts, and everybody the methods of this name.
    Credential {
        /// The last part of a path; empty is none.
        but: &'static str,
    },
}

/// A service behind its gate.
#[derive(Clone, Debug)]
pub(crate) struct Gate<S> {
    pub(crate) api: Arc<Api>,
    pub(crate) open: Open,
    pub(crate) inner: S,
}

type Answer = Response<tonic::body::Body>;

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Answer, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if let Err(failure) = self.let_in(&request) {
            return Box::pin(ready(Ok(Status::from(failure).into_http())));
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            match tokio::time::timeout(CALL_WAIT, answer).await {
                Ok(answer) => answer,
                Err(_) => Ok(Status::deadline_exceeded("the call took too long").into_http()),
            }
        })
    }
}

impl<S> Gate<S> {
    fn let_in(&self, request: &Request<Body>) -> Result<(), Failure> {
        let Open::Credential { but } = self.open else {
            return Ok(());
        };
        let peer = Peer::of(request.extensions());
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        if method == but {
            return self.api.rate_nobody(&Who::nobody(peer.remote));
        }
        match self.api.admit(request.headers(), &peer) {
            Ok(who) => self.api.rate(&who, false),
            Err(error) => {
                self.api.rate_nobody(&Who::nobody(peer.remote))?;
                Err(error.into())
            }
        }
    }
}
