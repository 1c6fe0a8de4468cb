//! `pinion stream create`, and what a stream is in words.

use pinion_client::{Client, Overflow, StreamSpec};
use serde::Serialize;

use super::Context;
use crate::failure::Failure;
use crate::{human, value};

/// Partitions of a stream when nobody says how many; what a node gives a stream
/// that is made on first use.
const PARTITIONS: u16 = 4;

/// What the stream shall be like.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct CreateArgs {
    /// The stream, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = value::resource)]
    stream: String,
    /// Keep records on disk and acknowledge them only when they are there [default: in memory only]
    #[arg(long)]
    durable: bool,
    /// How many partitions; the same key is always in the same one
    #[arg(long, value_name = "N", default_value_t = PARTITIONS, value_parser = clap::value_parser!(u16).range(1..))]
    partitions: u16,
    /// Longest a record is kept, like 7d or 90m [default: as long as there is room]
    #[arg(long, value_name = "TIME", value_parser = value::ms_u64)]
    retention: Option<u64>,
    /// Most bytes each partition keeps on disk, like 10GiB [default: no limit]
    #[arg(long, value_name = "BYTES", value_parser = value::bytes, requires = "durable")]
    retention_bytes: Option<u64>,
    /// Memory of each partition, like 16MiB [default: the node's]
    #[arg(long, value_name = "BYTES", value_parser = value::bytes)]
    ring_bytes: Option<u64>,
    /// Largest record, like 64KiB [default: the node's]
    #[arg(long, value_name = "BYTES", value_parser = value::bytes)]
    max_record_bytes: Option<u64>,
    /// What happens when a subscriber falls behind [default: block when durable, else drop-oldest]
    #[arg(long, value_enum)]
    overflow: Option<OverflowArg>,
}

/// What happens to a subscriber that falls behind.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum OverflowArg {
    /// Publishers wait for it
    Block,
    /// The oldest records are skipped for it, and it is told
    DropOldest,
    /// The newest records are skipped for it, and it is told
    DropNewest,
    /// It is cut off
    Disconnect,
}

#[derive(Serialize)]
struct Created<'a> {
    stream: &'a str,
    durable: bool,
    partitions: u16,
    retention_ms: u64,
    retention_bytes: u64,
    ring_bytes: u64,
    max_record_bytes: u32,
}

impl CreateArgs {
    pub(super) async fn run(&self, context: &mut Context, client: &Client) -> Result<(), Failure> {
        let stream = client.open_stream_with(&self.stream, self.spec()?).await?;
        let spec = stream.spec();
        if context.json {
            context.printer.json(&Created {
                stream: &self.stream,
                durable: spec.durability > 0,
                partitions: spec.shards,
                retention_ms: spec.retention_ms,
                retention_bytes: spec.retention_bytes,
                ring_bytes: spec.ring_bytes,
                max_record_bytes: spec.max_record_bytes,
            });
        } else {
            let line = format!("{}: {}", self.stream, words(&spec));
            context.printer.line(line);
        }
        Ok(())
    }

    fn spec(&self) -> Result<StreamSpec, Failure> {
        let base = if self.durable {
            StreamSpec::durable(self.partitions)
        } else {
            StreamSpec::ephemeral(self.partitions)
        };
        Ok(StreamSpec {
            overflow: self.overflow.map_or(base.overflow, OverflowArg::given),
            retention_ms: self.retention.unwrap_or(0),
            retention_bytes: self.retention_bytes.unwrap_or(0),
            ring_bytes: self.ring_bytes.unwrap_or(0),
            max_record_bytes: record_bytes(self.max_record_bytes)?,
            ..base
        })
    }
}

/// As a specification holds it; what no `u32` holds no node takes.
pub(crate) fn record_bytes(bytes: Option<u64>) -> Result<u32, Failure> {
    u32::try_from(bytes.unwrap_or(0))
        .map_err(|_| Failure::Usage("no node takes records of that many bytes".to_owned()))
}

impl OverflowArg {
    const fn given(self) -> Overflow {
        match self {
            Self::Block => Overflow::Block,
            Self::DropOldest => Overflow::DropOldest,
            Self::DropNewest => Overflow::DropNewest,
            Self::Disconnect => Overflow::Disconnect,
        }
    }
}

/// One line for people.
pub(super) fn words(spec: &StreamSpec) -> String {
    let mut words = vec![
        if spec.durability > 0 {
            "durable"
        } else {
            "in memory"
        }
        .to_owned(),
        human::count(spec.shards.into(), "partition"),
    ];
    if spec.retention_ms > 0 {
        words.push(format!("keeps records {}", human::span(spec.retention_ms)));
    }
    if spec.retention_bytes > 0 {
        let bytes = human::bytes(spec.retention_bytes);
        words.push(format!("at most {bytes} a partition"));
    }
    let memory = human::bytes(spec.ring_bytes);
    words.push(format!("{memory} of memory a partition"));
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_in_words_says_what_it_survives_and_what_it_keeps() {
        let spec = StreamSpec {
            retention_ms: 7 * 86_400_000,
            retention_bytes: 10 << 30,
            ring_bytes: 1 << 20,
            ..StreamSpec::durable(4)
        };
        assert_eq!(
            words(&spec),
            "durable, 4 partitions, keeps records 7d, at most 10 GiB a partition, 1 MiB of memory a partition"
        );
        assert!(words(&StreamSpec::ephemeral(1)).starts_with("in memory, 1 partition, "));
    }

    #[test]
    fn a_record_no_specification_can_hold_is_wrong_usage() {
        assert_eq!(record_bytes(Some(65_536)).ok(), Some(65_536));
        assert!(matches!(
            record_bytes(Some(1 << 32)),
            Err(Failure::Usage(_))
        ));
    }
}
