//! What is said of a stream.

use super::shape::{Ack, Kept, OverflowArg, Size, Spread, durability};
use super::{Kind, Said};
use crate::admin::draft::Draft;
use crate::admin::view::{Form, View};
use crate::human::{Align, Table};

pub(in crate::admin) type Verb = super::Verb<Stream>;

/// What can be said at any time.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::admin) struct Stream {
    #[command(flatten)]
    kept: Kept,
    #[command(flatten)]
    size: Size,
    /// What happens when a subscriber falls behind [default: the node's]
    #[arg(long, value_enum)]
    overflow: Option<OverflowArg>,
}

/// What can be said at first only.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::admin) struct New {
    /// Keep records on disk and acknowledge them only when they are there
    #[arg(long)]
    durable: bool,
    #[command(flatten)]
    spread: Spread,
    #[command(flatten)]
    ack: Ack,
}

impl Said for New {
    fn say(&self, draft: &mut Draft) {
        draft.set("spec.durability", Some(durability(self.durable)));
        self.spread.say(draft);
        self.ack.say(draft);
    }
}

impl Kind for Stream {
    type New = New;

    const WORD: &'static str = "stream";
    const PLURAL: &'static str = "streams";
    const VIEW: View = View {
        table: Table(&[
            ("NAMESPACE", 14, Align::Left),
            ("NAME", 20, Align::Left),
            ("STATE", 8, Align::Left),
            ("DURABILITY", 10, Align::Left),
            ("PARTITIONS", 10, Align::Right),
            ("RETENTION", 9, Align::Right),
            ("BYTES", 9, Align::Right),
            ("VERSION", 10, Align::Right),
        ]),
        cells: &[
            ("/namespace", Form::Plain),
            ("/name", Form::Plain),
            ("/state", Form::Plain),
            ("/spec/durability", Form::Plain),
            ("/spec/shards", Form::Plain),
            ("/spec/retention_ms", Form::Span),
            ("/spec/retention_bytes", Form::Bytes),
            ("/version", Form::Plain),
        ],
    };

    fn say(&self, draft: &mut Draft) {
        self.kept.say(draft);
        self.size.say(draft);
        draft.set("spec.overflow", self.overflow.map(OverflowArg::word));
    }
}
