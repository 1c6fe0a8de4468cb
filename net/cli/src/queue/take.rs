//! `pinion queue take` and `pinion queue consume`.

use std::num::{NonZeroU32, NonZeroU64};
use std::pin::pin;
use std::time::Duration;

use pinion_client::{ConsumeOptions, Consumer, Message, Queue, RequestError, TakeOptions};
use pinion_types::limits::{QUEUE_TAKE_MAX, QUEUE_WAIT_MS_MAX};
use tokio::time::Instant;

use super::message::Look;
use super::{Context, Target};
use crate::failure::Failure;
use crate::human;
use crate::output::Style;
use crate::subscribe::interrupted;
use crate::value;

/// Messages printed and acknowledged at once. More write less often; all of
/// them come again when this process is killed in between.
const BATCH: usize = 256;

/// What to take.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct TakeArgs {
    #[command(flatten)]
    target: Target,
    /// Most messages
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(QUEUE_TAKE_MAX)))]
    max: u32,
    /// Wait so long for the first one, like 5s [default: not at all]
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    wait: Option<Duration>,
    /// How long they are reserved [default: the queue's]
    #[arg(long, value_name = "TIME", value_parser = value::lease)]
    lease: Option<Duration>,
    /// Acknowledge them when they are printed [default: give them back at the end]
    #[arg(long)]
    ack: bool,
    /// Keep them reserved until each is settled with its token from elsewhere, or Ctrl-C; implies --long
    #[arg(long, conflicts_with = "ack")]
    hold: bool,
    #[command(flatten)]
    look: LookArgs,
}

/// How messages are printed.
#[derive(Clone, Copy, Debug, clap::Args)]
struct LookArgs {
    /// Token, id, attempt, time and key before each value
    #[arg(long)]
    long: bool,
    /// Values as they are, unescaped
    #[arg(long, conflicts_with_all = ["json", "long"])]
    raw: bool,
}

impl LookArgs {
    fn look(self, context: &Context) -> Look {
        Look {
            style: Style::of(context.json, self.raw),
            long: self.long,
        }
    }
}

impl TakeArgs {
    pub(super) fn queue(&self) -> &str {
        &self.target.queue
    }

    pub(super) async fn run(&self, context: &mut Context, queue: &Queue) -> Result<(), Failure> {
        let mut interrupt = pin!(interrupted());
        let mut look = self.look.look(context);
        look.long |= self.hold;
        let taken = tokio::select! {
            taken = self.take(queue) => taken?,
            () = &mut interrupt => return Ok(()),
        };
        for message in &taken {
            look.print(context, message);
        }
        tokio::select! {
            flushed = context.printer.flush() => flushed?,
            // Not printed, so not acknowledged either.
            () = &mut interrupt => return Ok(()),
        }
        if taken.is_empty() {
            return Err(self.nothing());
        }
        if self.ack {
            return all_settled(&queue.ack(&taken).await);
        }
        if self.hold {
            let several = human::count(taken.len() as u64, "message");
            let name = &self.target.queue;
            eprintln!(
                "holding {several}: `pinion queue ack {name} TOKEN`, or nack or release, from elsewhere; Ctrl-C gives back the rest"
            );
            tokio::select! {
                () = self.hold(queue, taken) => {}
                () = &mut interrupt => {}
            }
            return Ok(());
        }
        eprintln!("given back; --ack acknowledges them, --hold keeps them reserved");
        // They would go back with the connection; so nobody waits for its end.
        all_settled(&queue.release(&taken).await)
    }

    /// Up to `max` messages; the wait is for the first.
    async fn take(&self, queue: &Queue) -> Result<Vec<Message>, RequestError> {
        let until = Instant::now() + self.wait.unwrap_or_default();
        let mut taken: Vec<Message> = Vec::new();
        loop {
            let left = u32::try_from(taken.len()).map_or(0, |len| self.max - len);
            if left == 0 {
                return Ok(taken);
            }
            // A node makes nobody wait for longer than it says; we do.
            let wait = if taken.is_empty() {
                let left = until.saturating_duration_since(Instant::now());
                left.min(Duration::from_millis(QUEUE_WAIT_MS_MAX.into()))
            } else {
                Duration::ZERO
            };
            let options = TakeOptions {
                group: self.target.group.clone(),
                partitions: self.target.partitions(),
                max: left,
                wait,
                lease: self.lease,
                ..TakeOptions::default()
            };
            let more = queue.take(options).await?;
            let nothing = more.is_empty();
            taken.extend(more);
            if nothing && (!taken.is_empty() || Instant::now() >= until) {
                return Ok(taken);
            }
        }
    }

    /// Ends when none of the messages is reserved any more.
    async fn hold(&self, queue: &Queue, mut held: Vec<Message>) {
        let lease = self.lease.unwrap_or_else(|| {
            Duration::from_millis(u64::from(queue.spec().queue.visibility_ms.max(1)))
        });
        let pause = (lease / 3).clamp(HOLD_PAUSE_MIN, HOLD_PAUSE_MAX);
        while !held.is_empty() {
            tokio::time::sleep(pause).await;
            // Extending says both: it keeps them, and it tells which are gone.
            // What failed otherwise is repeated at the next turn.
            let _ = queue.extend(&held, lease).await;
            held.retain(Message::is_held);
        }
    }

    fn nothing(&self) -> Failure {
        let name = &self.target.queue;
        let group = match self.target.group.as_str() {
            "" => String::new(),
            group => format!(" --group {group}"),
        };
        Failure::Incomplete(format!(
            "no message; `pinion queue why {name}{group}` says what holds them back, if anything does"
        ))
    }
}

/// How often a held message's reservation is renewed: a third of it, so that
/// two more attempts fit, but at least this often, to end soon when the last
/// one is settled.
const HOLD_PAUSE_MAX: Duration = Duration::from_secs(1);
/// However short the reservation is.
const HOLD_PAUSE_MIN: Duration = Duration::from_millis(50);

/// What to consume.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ConsumeArgs {
    #[command(flatten)]
    target: Target,
    /// End after so many
    #[arg(long, value_name = "N")]
    count: Option<NonZeroU64>,
    /// End when nothing came for so long; with --count that is a failure
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    wait: Option<Duration>,
    /// How long they are reserved at a time [default: the queue's]
    #[arg(long, value_name = "TIME", value_parser = value::lease)]
    lease: Option<Duration>,
    /// Messages of each partition that may be on the way; more hide longer round trips, fewer leave more to other consumers
    #[arg(long, value_name = "N", default_value = "64")]
    credit: NonZeroU32,
    /// Messages of each partition that may be reserved at a time [default: the queue's bound for each consumer]
    #[arg(long, value_name = "N")]
    in_flight: Option<NonZeroU32>,
    #[command(flatten)]
    look: LookArgs,
}

impl ConsumeArgs {
    pub(super) fn queue(&self) -> &str {
        &self.target.queue
    }

    pub(super) async fn run(&self, context: &mut Context, queue: &Queue) -> Result<(), Failure> {
        let mut interrupt = pin!(interrupted());
        // With a bound on how many, few more are kept from others meanwhile.
        let left = self.count.map_or(u64::MAX, NonZeroU64::get);
        let options = ConsumeOptions {
            group: self.target.group.clone(),
            partitions: self.target.partitions(),
            lease: self.lease,
            in_flight_max: self.in_flight.map_or(0, NonZeroU32::get),
            credit_records: self
                .credit
                .get()
                .min(u32::try_from(left).unwrap_or(u32::MAX)),
            ..ConsumeOptions::default()
        };
        let mut consumer = tokio::select! {
            consumer = queue.consume(options) => consumer?,
            () = &mut interrupt => return Ok(()),
        };
        if !context.json {
            eprintln!("consuming {}", self.target.queue);
        }
        let mut left = left;
        while left > 0 {
            let batch = tokio::select! {
                batch = self.next(&mut consumer, left) => batch?,
                () = &mut interrupt => return Ok(()),
            };
            let Some(batch) = batch else {
                return self.ended_quietly(left);
            };
            left -= batch.len() as u64;
            let look = self.look.look(context);
            for message in &batch {
                look.print(context, message);
            }
            tokio::select! {
                flushed = context.printer.flush() => flushed?,
                // Not printed, so not acknowledged either: they come again.
                () = &mut interrupt => return Ok(()),
            }
            all_settled(&queue.ack(&batch).await)?;
        }
        Ok(())
    }

    /// The next messages; `None` when nothing came in time.
    async fn next(
        &self,
        consumer: &mut Consumer,
        left: u64,
    ) -> Result<Option<Vec<Message>>, Failure> {
        let most = usize::try_from(left).map_or(BATCH, |left| left.min(BATCH));
        let batch = tokio::select! {
            batch = consumer.next_batch(most) => batch,
            () = crate::subscribe::quiet(self.wait) => return Ok(None),
        };
        match batch {
            Some(batch) => Ok(Some(batch?)),
            None => Ok(None),
        }
    }

    fn ended_quietly(&self, left: u64) -> Result<(), Failure> {
        let Some(count) = self.count else {
            return Ok(());
        };
        Err(Failure::Incomplete(format!(
            "{} of {count} messages came, then nothing for {:?}",
            count.get() - left,
            self.wait.unwrap_or_default()
        )))
    }
}

/// Whether all went well; the first reason of those that did not.
fn all_settled(results: &[Result<(), RequestError>]) -> Result<(), Failure> {
    let mut failed = results.iter().filter_map(|result| result.as_ref().err());
    let Some(first) = failed.next() else {
        return Ok(());
    };
    eprintln!("{first}");
    Err(Failure::Unsettled {
        failed: 1 + failed.count(),
        of: results.len(),
        code: first.code(),
    })
}

#[cfg(test)]
mod tests {
    use pinion_client::{ErrorCode, Refusal};

    use super::*;

    #[test]
    fn one_message_that_was_not_settled_is_a_failure_that_says_how_many() {
        assert!(all_settled(&[Ok(()), Ok(())]).is_ok());
        let expired = RequestError::Refused(Refusal::new(ErrorCode::TokenExpired));
        let failure = all_settled(&[Ok(()), Err(expired), Ok(())]).expect_err("one failed");
        assert_eq!(failure.to_string(), "1 of 3 were not settled");
        let Failure::Unsettled { code, .. } = failure else {
            panic!("{failure:?}");
        };
        assert_eq!(code, Some(ErrorCode::TokenExpired));
    }
}
