//! What headers a record has, and which of them a reader wants: said here once
//! more, without the engine's filters, so that the two can be compared.

use pinion_types::block::encode_header;
use pinion_wire::message::FilterBuf;

/// Name of the header that says what a record is.
const TYPE: &[u8] = b"type";
/// Name of a header that few records have.
const URGENT: &[u8] = b"urgent";
const ORDER: &[u8] = b"order";
const ORDER_EU: &[u8] = b"order/eu";
const BILL: &[u8] = b"bill";
const YES: &[u8] = b"yes";

/// Headers that records have, by their class.
const CLASSES: [&[(&[u8], &[u8])]; 6] = [
    &[],
    &[(TYPE, ORDER)],
    &[(TYPE, ORDER_EU)],
    &[(TYPE, BILL)],
    &[(TYPE, ORDER), (TYPE, BILL)],
    &[(TYPE, ORDER_EU), (URGENT, YES)],
];

/// Of which class a value's record is.
fn class_of(value: u64) -> usize {
    let mixed = value.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 35;
    usize::try_from(mixed).unwrap_or(0) % CLASSES.len()
}

/// The headers of a value's record, encoded.
pub(crate) fn headers_of(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in CLASSES[class_of(value)] {
        encode_header(&mut out, name, value).expect("two short headers");
    }
    out
}

/// Which records a reader wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wish {
    /// All of them.
    #[default]
    All,
    /// `type` is `order`.
    Equal,
    /// No `type` is `order`.
    NotEqual,
    /// A `type` begins with `order`.
    Prefix,
    /// A `type` is `bill` or `order/eu`.
    AnyOf,
    /// Begins with `order`, and `urgent` is `yes`.
    Both,
}

impl Wish {
    /// Those that leave something out.
    pub(crate) const SOME: [Self; 5] = [
        Self::Equal,
        Self::NotEqual,
        Self::Prefix,
        Self::AnyOf,
        Self::Both,
    ];

    /// Classes of records that it wants, see [`CLASSES`].
    const fn classes(self) -> &'static [usize] {
        match self {
            Self::All => &[0, 1, 2, 3, 4, 5],
            Self::Equal => &[1, 4],
            Self::NotEqual => &[0, 2, 3, 5],
            Self::Prefix => &[1, 2, 4, 5],
            Self::AnyOf => &[2, 3, 4, 5],
            Self::Both => &[5],
        }
    }

    /// Whether it wants a value's record.
    pub(crate) fn wants(self, value: u64) -> bool {
        self.classes().contains(&class_of(value))
    }

    /// Its bit in a set of wishes.
    pub(super) const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// As it is said to the node.
    pub(crate) fn filter(self) -> FilterBuf {
        let mut filter = FilterBuf::new();
        let built = match self {
            Self::All => Ok(&mut filter),
            Self::Equal => filter.equals(TYPE, ORDER),
            Self::NotEqual => filter.not_equals(TYPE, ORDER),
            Self::Prefix => filter.starts_with(TYPE, ORDER),
            Self::AnyOf => filter.any_of(TYPE, &[BILL, ORDER_EU]),
            Self::Both => filter
                .starts_with(TYPE, ORDER)
                .and_then(|filter| filter.equals(URGENT, YES)),
        };
        assert!(built.is_ok(), "short names and values");
        filter
    }
}
