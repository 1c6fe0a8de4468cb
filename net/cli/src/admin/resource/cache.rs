//! What is said of a cache.

use super::shape::{Size, Spread};
use super::{Kind, Said};
use crate::admin::draft::Draft;
use crate::admin::view::{Form, View};
use crate::human::{Align, Table};

pub(in crate::admin) type Verb = super::Verb<Cache>;

/// What can be said at any time.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::admin) struct Cache {
    #[command(flatten)]
    size: Size,
}

/// What can be said at first only.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::admin) struct New {
    #[command(flatten)]
    spread: Spread,
}

impl Said for New {
    fn say(&self, draft: &mut Draft) {
        self.spread.say(draft);
    }
}

impl Kind for Cache {
    type New = New;

    const WORD: &'static str = "cache";
    const PLURAL: &'static str = "caches";
    const VIEW: View = View {
        table: Table(&[
            ("NAMESPACE", 14, Align::Left),
            ("NAME", 20, Align::Left),
            ("STATE", 8, Align::Left),
            ("PARTITIONS", 10, Align::Right),
            ("MEMORY EACH", 11, Align::Right),
            ("VERSION", 10, Align::Right),
        ]),
        cells: &[
            ("/namespace", Form::Plain),
            ("/name", Form::Plain),
            ("/state", Form::Plain),
            ("/spec/shards", Form::Plain),
            ("/spec/ring_bytes", Form::Bytes),
            ("/version", Form::Plain),
        ],
    };

    fn say(&self, draft: &mut Draft) {
        self.size.say(draft);
    }
}
