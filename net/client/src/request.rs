//! One request: route, send, wait, and try again only when that is safe.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pinion_types::{CoreId, ErrorCode, FactId, Outcome, PartitionId, RetryClass};
use pinion_wire::message::Handle;
use pinion_wire::{Reply, Request};

use crate::codec;
use crate::error::{ConnectError, RequestError, UnknownCause};
use crate::frames::Frame;
use crate::link::Lane;
use crate::node::Node;
use crate::resource::{AttemptError, Resource, not_sent};
use crate::stats::add;

/// What a repeat would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Nothing changes; a repeat is always safe.
    Read,
    /// A repeat may act twice, so it is made only when nothing happened.
    Write,
    /// A repeat acts once and is answered as the first was. Unlike a read, it
    /// may have happened when no answer came.
    Idempotent,
}

impl Class {
    /// Whether it may be sent again when nobody knows what became of it.
    const fn may_repeat(self) -> bool {
        matches!(self, Self::Read | Self::Idempotent)
    }
}

/// Longest wait between attempts that a node's hint may ask for.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long to wait before another attempt, if one may be made. `random` is
/// uniform in `0.0..1.0`.
pub(crate) fn retry_wait(error: &AttemptError, class: Class, random: f64) -> Option<Duration> {
    match error {
        AttemptError::Unanswered(_) => class.may_repeat().then_some(Duration::ZERO),
        AttemptError::NotAdmitted(error) => match error {
            RequestError::Refused(refusal) if refusal.outcome == Outcome::NotAdmitted => {
                let hint = Duration::from_millis(u64::from(refusal.retry_after_ms.max(1)));
                match refusal.retry {
                    // The hint at least, and up to twice that, so that clients
                    // refused together do not return together.
                    RetryClass::Retry | RetryClass::RetryAfter => {
                        Some(hint.mul_f64(1.0 + random).min(RETRY_WAIT_MAX))
                    }
                    RetryClass::Redirect => Some(Duration::ZERO),
                    RetryClass::Fatal if refusal.code == ErrorCode::BadHandle => {
                        Some(Duration::ZERO)
                    }
                    RetryClass::Fatal | RetryClass::OutcomeUnknown => None,
                }
            }
            RequestError::OutcomeUnknown(_) if class.may_repeat() => Some(Duration::ZERO),
            // The breaker and the backoff decide when; see `Node::link`.
            RequestError::NotConnected(ConnectError::CircuitOpen { .. }) => None,
            RequestError::NotConnected(error) if error.is_transient() => Some(Duration::ZERO),
            _ => None,
        },
    }
}

/// The error for a caller when no further attempt is made.
fn final_error(error: AttemptError, class: Class) -> RequestError {
    match error {
        AttemptError::NotAdmitted(error) => error,
        AttemptError::Unanswered(down) if class == Class::Read => not_sent(&down),
        AttemptError::Unanswered(_) => RequestError::OutcomeUnknown(UnknownCause::ConnectionLost),
    }
}

/// Whether the attempt may have acted.
const fn is_unsure(error: &AttemptError) -> bool {
    matches!(
        error,
        AttemptError::Unanswered(_) | AttemptError::NotAdmitted(RequestError::OutcomeUnknown(_))
    )
}

const fn unknown() -> RequestError {
    RequestError::OutcomeUnknown(UnknownCause::ConnectionLost)
}

/// The error of a repeat that is not made again. What a refusal says of the
/// repeat it does not say of the first attempt, but for one: a node that misses
/// records before this batch has not stored the batch.
fn told_again(error: &AttemptError) -> RequestError {
    match error {
        AttemptError::NotAdmitted(RequestError::Refused(refusal))
            if refusal.code == ErrorCode::SequenceGap =>
        {
            RequestError::Refused(*refusal)
        }
        _ => unknown(),
    }
}

impl Node {
    /// Runs one request on the core that owns `partition`.
    pub(crate) async fn request<'a, T>(
        &self,
        resource: &Resource,
        partition: PartitionId,
        class: Class,
        build: impl Fn(Handle) -> Request<'a>,
        read: impl Fn(&Frame, Reply<'_>) -> Option<T>,
    ) -> Result<T, RequestError> {
        self.request_within(
            self.config.request_timeout,
            resource,
            partition,
            class,
            build,
            read,
        )
        .await
    }

    /// [`request`](Self::request) with its own time.
    pub(crate) async fn request_within<'a, T>(
        &self,
        after: Duration,
        resource: &Resource,
        partition: PartitionId,
        class: Class,
        build: impl Fn(Handle) -> Request<'a>,
        read: impl Fn(&Frame, Reply<'_>) -> Option<T>,
    ) -> Result<T, RequestError> {
        if self.is_closed() {
            return Err(RequestError::Closed);
        }
        self.budget_deposit();
        // What is known when time runs out in the middle of an attempt.
        let asked = AtomicBool::new(false);
        let last = Mutex::new(None);
        let attempts = async {
            // Connections are lost with everything in flight on them. Each
            // request may go again once for that without asking the budget:
            // reconnecting has its own pace. A second loss may be its own doing.
            let mut free = true;
            // An attempt may have acted; what later ones are told about
            // themselves no longer speaks for all of them.
            let mut unsure = false;
            loop {
                let attempt = self.attempt(resource, partition, &build, &read, &asked);
                let error = match attempt.await {
                    Ok(value) => return Ok(value),
                    Err(error) => error,
                };
                self.take_hint(resource, partition, &error);
                unsure |= class == Class::Idempotent && is_unsure(&error);
                let Some(wait) = retry_wait(&error, class, self.random()) else {
                    return Err(if unsure {
                        told_again(&error)
                    } else {
                        final_error(error, class)
                    });
                };
                asked.store(unsure, Ordering::Relaxed);
                if free && matches!(error, AttemptError::Unanswered(_)) {
                    free = false;
                    add(&self.stats.retries, 1);
                    continue;
                }
                let error = if unsure {
                    unknown()
                } else {
                    final_error(error, class)
                };
                if !self.budget_withdraw() {
                    return Err(error);
                }
                *last
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                tokio::time::sleep(wait).await;
            }
        };
        match tokio::time::timeout(after, attempts).await {
            Ok(result) => result,
            Err(_) => {
                add(&self.stats.timeouts, 1);
                if class != Class::Read && asked.load(Ordering::Relaxed) {
                    return Err(RequestError::OutcomeUnknown(UnknownCause::NoReply));
                }
                let last = last
                    .into_inner()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                Err(last.unwrap_or(RequestError::TimedOut { after }))
            }
        }
    }

    async fn attempt<'a, T>(
        &self,
        resource: &Resource,
        partition: PartitionId,
        build: &impl Fn(Handle) -> Request<'a>,
        read: &impl Fn(&Frame, Reply<'_>) -> Option<T>,
        asked: &AtomicBool,
    ) -> Result<T, AttemptError> {
        let core = resource.core_of(partition)?;
        let link = self.link(core).await.map_err(RequestError::from)?;
        let handle = resource.open_on(&link).await?;
        let request = build(handle);
        let lane = match request {
            Request::QueuePut(_) => Lane::Bulk,
            _ => Lane::Requests,
        };
        let mut pending = link
            .call(lane, codec::encode(&request)?)
            .await
            .map_err(|down| not_sent(&down))?;
        asked.store(true, Ordering::Relaxed);
        let frame = pending.reply().await.map_err(AttemptError::Unanswered)?;
        match codec::reply(&frame).map_err(RequestError::from)? {
            Reply::Error(refusal) => {
                if refusal.code == ErrorCode::BadHandle {
                    link.forget_handle(resource.id);
                }
                Err(RequestError::from_refusal(refusal).into())
            }
            reply => Ok(read(&frame, reply).ok_or_else(|| codec::unexpected(&frame))?),
        }
    }

    /// Learns from a redirect.
    pub(crate) fn take_hint(
        &self,
        resource: &Resource,
        partition: PartitionId,
        error: &AttemptError,
    ) {
        if let AttemptError::NotAdmitted(RequestError::Refused(refusal)) = error
            && refusal.retry == RetryClass::Redirect
            && let Some(core) = refusal.fact(FactId::Core)
            && let Ok(core) = u16::try_from(core)
        {
            resource.moved(partition, CoreId(core));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::LinkDown;
    use pinion_types::Refusal;

    fn refused(code: ErrorCode) -> AttemptError {
        RequestError::from_refusal(Refusal::new(code)).into()
    }

    #[test]
    fn a_write_is_repeated_only_when_nothing_happened() {
        let lost = AttemptError::Unanswered(LinkDown::Closed);
        assert_eq!(retry_wait(&lost, Class::Write, 0.0), None);
        assert!(retry_wait(&lost, Class::Read, 0.0).is_some());
        assert_eq!(
            retry_wait(&refused(ErrorCode::CoreLost), Class::Write, 0.0),
            None
        );
        assert!(retry_wait(&refused(ErrorCode::CoreLost), Class::Read, 0.0).is_some());
        assert!(retry_wait(&refused(ErrorCode::Busy), Class::Write, 0.0).is_some());
    }

    #[test]
    fn what_acts_once_is_repeated_and_still_unknown_when_no_answer_came() {
        let lost = || AttemptError::Unanswered(LinkDown::Closed);
        assert!(retry_wait(&lost(), Class::Idempotent, 0.0).is_some());
        assert_eq!(
            final_error(lost(), Class::Idempotent).outcome(),
            Outcome::Unknown
        );
        assert_eq!(
            told_again(&refused(ErrorCode::SequenceGap)).code(),
            Some(ErrorCode::SequenceGap)
        );
        for code in [
            ErrorCode::Busy,
            ErrorCode::PartitionFenced,
            ErrorCode::Forbidden,
        ] {
            let error = told_again(&refused(code));
            assert_eq!(error.outcome(), Outcome::Unknown, "{code:?}");
        }
    }

    #[test]
    fn a_hint_is_kept_and_spread_by_chance_within_its_bound() {
        let busy: AttemptError =
            RequestError::Refused(Refusal::new(ErrorCode::Busy).after_ms(10)).into();
        let ms = Duration::from_millis;
        assert_eq!(retry_wait(&busy, Class::Read, 0.0), Some(ms(10)));
        assert_eq!(retry_wait(&busy, Class::Read, 0.5), Some(ms(15)));
        let long: AttemptError =
            RequestError::Refused(Refusal::new(ErrorCode::Busy).after_ms(1_000_000)).into();
        assert_eq!(retry_wait(&long, Class::Read, 0.0), Some(RETRY_WAIT_MAX));
    }

    #[test]
    fn what_will_not_get_better_is_not_repeated() {
        for code in [
            ErrorCode::Forbidden,
            ErrorCode::NotFound,
            ErrorCode::VersionConflict,
        ] {
            assert_eq!(retry_wait(&refused(code), Class::Read, 0.0), None);
        }
        let open: AttemptError = RequestError::NotConnected(ConnectError::CircuitOpen {
            failures: 5,
            retry_in: Duration::from_secs(1),
        })
        .into();
        assert_eq!(retry_wait(&open, Class::Read, 0.0), None);
    }

    #[test]
    fn the_loss_of_a_connection_leaves_a_write_unknown_and_a_read_repeatable() {
        let lost = || AttemptError::Unanswered(LinkDown::Lost(quinn::ConnectionError::TimedOut));
        let write = final_error(lost(), Class::Write);
        assert_eq!(write.outcome(), Outcome::Unknown);
        assert_eq!(
            final_error(lost(), Class::Read).outcome(),
            Outcome::NotAdmitted
        );
    }
}
