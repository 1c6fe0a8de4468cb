//! `pinion queue ack`, `nack`, `extend` and `release`: by token.

use std::collections::BTreeMap;
use std::time::Duration;

use pinion_client::{ErrorCode, PartitionId, Queue, RequestError, Token};
use serde::Serialize;

use super::message::{TokenArg, token};
use super::{Context, Target};
use crate::failure::Failure;
use crate::value;

/// Which reservations.
#[derive(Clone, Debug, clap::Args)]
struct Tokens {
    #[command(flatten)]
    target: Target,
    /// Tokens as `take --hold` or `--json` prints them
    #[arg(required = true, value_name = "TOKEN", value_parser = token)]
    tokens: Vec<TokenArg>,
}

/// Whose work is done.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct AckArgs {
    #[command(flatten)]
    tokens: Tokens,
}

/// Whose work failed.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct NackArgs {
    #[command(flatten)]
    tokens: Tokens,
    /// Not given out again before this has passed [default: the queue's backoff]
    #[arg(long, value_name = "TIME", value_parser = value::message_time)]
    delay: Option<Duration>,
    /// Why; kept beside the message, up to 255 bytes
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    error: String,
}

/// Whose work goes on.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ExtendArgs {
    #[command(flatten)]
    tokens: Tokens,
    /// How long from now [default: the queue's]
    #[arg(long, value_name = "TIME", value_parser = value::lease)]
    lease: Option<Duration>,
}

/// Whose work was not begun.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ReleaseArgs {
    #[command(flatten)]
    tokens: Tokens,
}

type Results = Result<Vec<Result<(), ErrorCode>>, RequestError>;

impl AckArgs {
    pub(super) fn queue(&self) -> &str {
        &self.tokens.target.queue
    }

    pub(super) async fn run(&self, context: &mut Context, queue: &Queue) -> Result<(), Failure> {
        let settle = async |partition, group: &str, tokens: &[Token]| {
            queue.ack_tokens(partition, group, tokens).await
        };
        self.tokens.run(context, queue, "acked", settle).await
    }
}

impl NackArgs {
    pub(super) fn queue(&self) -> &str {
        &self.tokens.target.queue
    }

    pub(super) async fn run(&self, context: &mut Context, queue: &Queue) -> Result<(), Failure> {
        let settle = async |partition, group: &str, tokens: &[Token]| {
            queue
                .nack_tokens(partition, group, tokens, self.delay, &self.error)
                .await
        };
        self.tokens.run(context, queue, "nacked", settle).await
    }
}

impl ExtendArgs {
    pub(super) fn queue(&self) -> &str {
        &self.tokens.target.queue
    }

    pub(super) async fn run(&self, context: &mut Context, queue: &Queue) -> Result<(), Failure> {
        let settle = async |partition, group: &str, tokens: &[Token]| {
            queue
                .extend_tokens(partition, group, tokens, self.lease)
                .await
        };
        self.tokens.run(context, queue, "extended", settle).await
    }
}

impl ReleaseArgs {
    pub(super) fn queue(&self) -> &str {
        &self.tokens.target.queue
    }

    pub(super) async fn run(&self, context: &mut Context, queue: &Queue) -> Result<(), Failure> {
        let settle = async |partition, group: &str, tokens: &[Token]| {
            queue.release_tokens(partition, group, tokens).await
        };
        self.tokens.run(context, queue, "released", settle).await
    }
}

#[derive(Serialize)]
struct Row {
    token: String,
    done: bool,
    /// Number of the refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
}

impl Tokens {
    /// Settles the tokens partition by partition, and says what became of each.
    async fn run(
        &self,
        context: &mut Context,
        queue: &Queue,
        done: &'static str,
        settle: impl AsyncFn(PartitionId, &str, &[Token]) -> Results,
    ) -> Result<(), Failure> {
        let (mut failed, mut code) = (0, None);
        for (partition, tokens) in self.by_partition(queue.shards())? {
            let results = settle(partition, &self.target.group, &tokens).await?;
            for (token, result) in tokens.into_iter().zip(results) {
                let token = TokenArg {
                    partition: Some(partition),
                    token,
                };
                let refused = result.err();
                if refused.is_some() {
                    failed += 1;
                    code = code.or(refused);
                }
                if context.json {
                    context.printer.json(&Row {
                        token: token.to_string(),
                        done: refused.is_none(),
                        code: refused.map(|code| code as u16),
                        why: refused.map(ErrorCode::advice),
                    });
                } else {
                    let became = refused.map_or(done, ErrorCode::advice);
                    context.printer.line(format_args!("{token}\t{became}"));
                }
            }
        }
        match failed {
            0 => Ok(()),
            failed => Err(Failure::Unsettled {
                failed,
                of: self.tokens.len(),
                code,
            }),
        }
    }

    fn by_partition(&self, shards: u16) -> Result<BTreeMap<PartitionId, Vec<Token>>, Failure> {
        let mut by_partition: BTreeMap<_, Vec<Token>> = BTreeMap::new();
        for given in &self.tokens {
            let said = self.target.partition.map(PartitionId);
            let partition = match (given.partition, said) {
                (Some(own), Some(said)) if own != said => {
                    return Err(Failure::Usage(format!(
                        "{given} is not of partition {said}"
                    )));
                }
                (Some(own), _) => own,
                (None, Some(said)) => said,
                (None, None) if shards == 1 => PartitionId(0),
                (None, None) => {
                    return Err(Failure::Usage(format!(
                        "{given} does not say its partition: write P:TOKEN, or --partition P"
                    )));
                }
            };
            by_partition.entry(partition).or_default().push(given.token);
        }
        Ok(by_partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(partition: Option<u16>, given: &[&str]) -> Tokens {
        Tokens {
            target: Target {
                queue: "a/b".to_owned(),
                group: String::new(),
                partition,
            },
            tokens: given.iter().map(|text| token(text).expect(text)).collect(),
        }
    }

    const DIGITS: &str = "000102030405060708090a0b0c0d0e0f";

    #[test]
    fn tokens_go_to_the_partition_they_name_or_the_only_one() {
        let named = format!("2:{DIGITS}");
        let split = tokens(None, &[&named, &named])
            .by_partition(4)
            .expect("named");
        assert_eq!(split[&PartitionId(2)].len(), 2);
        let only = tokens(None, &[DIGITS]).by_partition(1).expect("only one");
        assert!(only.contains_key(&PartitionId(0)));
        let said = tokens(Some(3), &[DIGITS]).by_partition(4).expect("said");
        assert!(said.contains_key(&PartitionId(3)));
    }

    #[test]
    fn a_token_of_nobody_knows_which_partition_is_wrong_usage() {
        let named = format!("2:{DIGITS}");
        for wrong in [tokens(None, &[DIGITS]), tokens(Some(1), &[&named])] {
            assert!(matches!(wrong.by_partition(4), Err(Failure::Usage(_))));
        }
    }
}
