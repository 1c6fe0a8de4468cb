//! Brokers: the nodes that lead shards and have copies of them.

use std::net::Ipv6Addr;

use pinion_types::WallMs;

use crate::error::MetaError;
use crate::ids::BrokerNumber;
use crate::limits::{
    ADDRESS_BYTES_MAX, LABEL_BYTES_MAX, LABEL_NAME_BYTES_MAX, LABELS_MAX, SITE_BYTES_MAX,
    TOTAL_BYTES_MAX,
};
use crate::name;

/// A broker; its name is in its key. That it beats is known to the leader alone
/// and not written here: only that it was found to be down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Never used again for another, and kept when it registers again.
    pub number: BrokerNumber,
    /// What it says of itself.
    pub facts: BrokerFacts,
    /// Which life of its process registered, drawn at random at its start.
    pub incarnation: u64,
    /// When that was.
    pub registered: WallMs,
    /// An operator wants nothing new on it. It stays so until an operator says
    /// otherwise, also when the broker starts again.
    pub draining: bool,
    /// Since when it is down; `None` is up.
    pub down: Option<WallMs>,
}

/// What a broker says of itself when it registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerFacts {
    /// Where clients reach it: `host:port`, at most [`ADDRESS_BYTES_MAX`] bytes.
    pub address: Box<str>,
    /// For placing copies apart; at most [`SITE_BYTES_MAX`] bytes, may be empty.
    pub region: Box<str>,
    /// Part of the region; at most [`SITE_BYTES_MAX`] bytes, may be empty.
    pub zone: Box<str>,
    /// For people and their tools; at most [`LABELS_MAX`], in the order of names,
    /// each name once.
    pub labels: Box<[Label]>,
    /// What it can take.
    pub capacity: Capacity,
}

/// A word on a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// 1 to [`LABEL_NAME_BYTES_MAX`] bytes.
    pub name: Box<str>,
    /// At most [`LABEL_BYTES_MAX`] bytes.
    pub value: Box<str>,
}

/// What a broker can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Shards that it may lead or have copies of, at least 1. More are never
    /// placed there, but may be there already when it comes back with less.
    pub max_shards: u32,
    /// Connections at a time.
    pub max_connections: u32,
    /// Data cores, at least 1.
    pub cores: u16,
    /// Logs that durable shards are spread over, at least 1.
    pub logs: u16,
    /// Bytes of rings and caches that one data core may promise; 0: it did not say, and
    /// is promised whatever is asked for.
    pub memory_per_core: u64,
}

impl Capacity {
    /// Whether a broker that has promised `promised` bytes with it can take a partition of
    /// `bytes`. A partition is on one core; how the others fill up is its own affair.
    pub(crate) fn has_memory(&self, bytes: u64, promised: u64) -> bool {
        let one = self.memory_per_core;
        // Also where nothing was said, so that no sum of what is promised leaves a `u64`.
        let all = match one {
            0 => TOTAL_BYTES_MAX,
            one => one.saturating_mul(self.cores.into()).min(TOTAL_BYTES_MAX),
        };
        (one == 0 || bytes <= one) && promised <= all
    }
}

/// Whether a broker takes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerStatus {
    /// It serves, and more may be placed there.
    Active,
    /// It serves, and nothing more is placed there.
    Draining,
    /// It does not beat.
    Down,
}

impl Broker {
    /// Whether it takes anything.
    #[must_use]
    pub fn status(&self) -> BrokerStatus {
        match (self.down, self.draining) {
            (Some(_), _) => BrokerStatus::Down,
            (None, true) => BrokerStatus::Draining,
            (None, false) => BrokerStatus::Active,
        }
    }
}

impl BrokerFacts {
    /// Refused when a field breaks its grammar.
    pub(crate) fn check(&self) -> Result<(), MetaError> {
        check_address(&self.address)?;
        name::text("region", &self.region, SITE_BYTES_MAX)?;
        name::text("zone", &self.zone, SITE_BYTES_MAX)?;
        name::range("labels", self.labels.len() as u64, 0, LABELS_MAX as u64)?;
        for (at, label) in self.labels.iter().enumerate() {
            name::text_of("label", &label.name, 1, LABEL_NAME_BYTES_MAX)?;
            name::text("label value", &label.value, LABEL_BYTES_MAX)?;
            // In order, so that one set of labels has one form.
            if at > 0 && self.labels[at - 1].name >= label.name {
                return Err(MetaError::LabelOrder { at });
            }
        }
        let any = u32::MAX.into();
        name::range("max_shards", self.capacity.max_shards.into(), 1, any)?;
        name::range("cores", self.capacity.cores.into(), 1, any)?;
        name::range("logs", self.capacity.logs.into(), 1, any)
    }
}

/// `host:port`; the host is a name, an IPv4 address, or an IPv6 address in
/// brackets (RFC 3986 §3.2.2).
pub(crate) fn check_address(address: &str) -> Result<(), MetaError> {
    name::text_of("address", address, 1, ADDRESS_BYTES_MAX)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_host = |host: &str| match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|host| host.parse::<Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.bytes().all(plain),
    };
    let is_port = |port: &str| {
        let number = port.parse::<u16>().ok().filter(|number| *number != 0);
        number.is_some_and(|number| number.to_string() == port)
    };
    match address.rsplit_once(':') {
        Some((host, port)) if is_host(host) && is_port(port) => Ok(()),
        _ => Err(MetaError::BadAddress {
            address: address.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for address in [
            "localhost:1",
            "10.0.0.1:7420",
            "[::1]:65535",
            "a-b.example_1:80",
        ] {
            assert_eq!(check_address(address), Ok(()), "{address}");
        }
        for address in [
            "localhost",
            ":80",
            "localhost:",
            "localhost:0",
            "localhost:080",
            "localhost:+80",
            "localhost:65536",
            "::1:80",
            "[::1:80",
            "[localhost]:80",
            "a b:80",
            "a/b:80",
            "https://a:80",
        ] {
            let bad = MetaError::BadAddress {
                address: address.into(),
            };
            assert_eq!(check_address(address), Err(bad));
        }
        assert!(check_address(&format!("{}:80", "a".repeat(253))).is_err());
    }
}
