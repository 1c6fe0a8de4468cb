//! What a metric is, before anybody writes it down.

use core::time::Duration;

/// What a family tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It only grows, until the node is started again.
    Counter,
    /// It is as it is now.
    Gauge,
    /// How often something had which size.
    Histogram,
}

impl Kind {
    /// As both formats write it.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What its numbers are of. The name of a family ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Things that are counted.
    None,
    Seconds,
    Bytes,
    /// 0 to 1, or how many times.
    Ratio,
}

impl Unit {
    /// As it ends a name; empty where there is none.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Ratio => "ratio",
        }
    }
}

/// What is promised of a family, whether it has samples or not.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Def {
    /// As Prometheus knows it: of a counter with `_total`.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) unit: Unit,
    /// Of every sample, in this order.
    pub(crate) labels: &'static [&'static str],
    /// One sentence or two.
    pub(crate) help: &'static str,
}

impl Def {
    /// As OpenMetrics knows it: of a counter without `_total`.
    pub(crate) fn stem(&self) -> &'static str {
        match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            Kind::Gauge | Kind::Histogram => self.name,
        }
    }
}

/// A family and what it says now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Family {
    pub(crate) def: &'static Def,
    pub(crate) samples: Vec<Sample>,
}

/// One series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// In the order of [`Def::labels`].
    pub(crate) labels: Box<[Box<str>]>,
    pub(crate) value: Value,
}

/// What a series says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Count(u64),
    Number(f64),
    Sizes(Box<Sizes>),
}

/// A histogram.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sizes {
    /// Upper bounds, ascending, and how many had at most that. What is above all of them
    /// is in `count` alone.
    pub(crate) buckets: Vec<(f64, u64)>,
    pub(crate) count: u64,
    pub(crate) sum: f64,
}

impl Sizes {
    /// From how many had at most each bound and more than the one before; `each` has one
    /// place more than `bounds`, for those above all.
    pub(crate) fn new(bounds: impl Iterator<Item = f64>, each: &[u64], sum: f64) -> Self {
        let mut so_far = 0;
        let buckets = bounds
            .zip(each)
            .map(|(bound, count)| {
                so_far += count;
                (bound, so_far)
            })
            .collect();
        // The sum of all places, so that no bucket has more than there are.
        let count = each.iter().sum();
        Self {
            buckets,
            count,
            sum,
        }
    }
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<u32> for Value {
    fn from(count: u32) -> Self {
        Self::Count(count.into())
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Self {
        Self::Count(count as u64)
    }
}

impl From<bool> for Value {
    fn from(is: bool) -> Self {
        Self::Count(is.into())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<Duration> for Value {
    fn from(time: Duration) -> Self {
        Self::Number(time.as_secs_f64())
    }
}

impl From<Sizes> for Value {
    fn from(sizes: Sizes) -> Self {
        Self::Sizes(Box::new(sizes))
    }
}

/// Families as they are put together, in the order in which they first came.
#[derive(Debug, Default)]
pub(crate) struct Families(Vec<Family>);

impl Families {
    /// One more series. The labels are those of the family, in its order.
    pub(crate) fn put(&mut self, def: &'static Def, labels: &[&str], value: impl Into<Value>) {
        debug_assert_eq!(def.labels.len(), labels.len(), "labels of {}", def.name);
        let sample = Sample {
            labels: labels.iter().map(|label| (*label).into()).collect(),
            value: value.into(),
        };
        // What is put together comes in rows of one family, or of the same few.
        let known = self.0.iter_mut().rev();
        match known
            .into_iter()
            .find(|family| core::ptr::eq(family.def, def))
        {
            Some(family) => family.samples.push(sample),
            None => self.0.push(Family {
                def,
                samples: vec![sample],
            }),
        }
    }

    /// The same of what may not be known.
    pub(crate) fn put_some(
        &mut self,
        def: &'static Def,
        labels: &[&str],
        value: Option<impl Into<Value>>,
    ) {
        if let Some(value) = value {
            self.put(def, labels, value);
        }
    }

    pub(crate) fn into_vec(self) -> Vec<Family> {
        self.0
    }
}
