//! What stands before each service: who may call it at all, how often, and for how long it
//! may take to say what it wants.

use core::convert::Infallible;
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
use crate::call::{LetIn, Peer, let_in, refuse, request_id};
use crate::error::Failure;
use crate::limits::{BODY_WAIT, PLANE_WAIT};
use crate::routes::{Route, routes};

/// How long a call may take until its answer begins: to send its message, to wait for the
/// plane, and as long again to make the answer.
const CALL_WAIT: Duration = BODY_WAIT.saturating_add(PLANE_WAIT.saturating_mul(2));

/// Who may call a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    /// Whom the route of the call lets in: its [`Route::rpc`] is the method.
    Route,
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

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Err(refused) = self.let_in(&mut request) {
            let api = Arc::clone(&self.api);
            return Box::pin(async move { Ok(refused.told(&api).await.into_http()) });
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

/// A call that goes no further.
struct Refused {
    failure: Failure,
    /// The route of which the audit log says that it was refused, to whom, and the number of
    /// the request.
    of: Option<(&'static Route, Who, u128)>,
}

impl From<Failure> for Box<Refused> {
    fn from(failure: Failure) -> Self {
        Self::new(Refused { failure, of: None })
    }
}

impl Refused {
    async fn told(self, api: &Api) -> Status {
        let failure = match self.of {
            Some((route, who, number)) => refuse(api, route, &who, number, self.failure).await,
            None => self.failure,
        };
        failure.into()
    }
}

impl<S> Gate<S> {
    /// By the head alone: the message is read, by whatever is inside, of whom it is read for.
    fn let_in(&self, request: &mut Request<Body>) -> Result<(), Box<Refused>> {
        let peer = Peer::of(request.extensions());
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        match self.open {
            Open::Route => {
                let Some(route) = routes().find(|route| route.rpc == Some(method)) else {
                    // There is no such method, which is said without its message.
                    return Ok(());
                };
                let (number, _) = request_id(request.headers())?;
                let mut who = Who::nobody(peer.remote);
                match let_in(&self.api, route, request.headers(), &peer, &mut who) {
                    Ok(()) => {
                        request.extensions_mut().insert(LetIn(who));
                        Ok(())
                    }
                    Err(failure) => Err(Box::new(Refused {
                        failure,
                        of: Some((route, who, number)),
                    })),
                }
            }
            Open::Credential { but } if method == but => {
                Ok(self.api.rate_nobody(&Who::nobody(peer.remote))?)
            }
            Open::Credential { .. } => match self.api.admit(request.headers(), &peer) {
                Ok(who) => Ok(self.api.rate(&who, false)?),
                Err(error) => {
                    self.api.rate_nobody(&Who::nobody(peer.remote))?;
                    Err(Failure::from(error).into())
                }
            },
        }
    }
}
