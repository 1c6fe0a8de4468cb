//! Which addresses may be asked for an identity provider's documents.
//!
//! A tenant's administrator names an issuer, and the node fetches from where its name leads.
//! Without a rule that would be a way to ask any machine that the node can reach. The rule
//! is about addresses, after resolution: whoever connects takes the very address that was
//! checked, so that a name that changes its mind in between is of no use.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    first: IpAddr,
    length: u8,
}

/// Why the text of a range was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Not an address, a slash and a number.
    #[error("expected an address and the length of its prefix, such as 10.0.0.0/8")]
    Form,
    /// A prefix of more bits than such an address has.
    #[error("a prefix of {length} bits; such an address has {limit}")]
    Length {
        /// As asked for.
        length: u8,
        /// 32 or 128.
        limit: u8,
    },
    /// The address is not the first of its range: perhaps one address was meant.
    #[error("the range begins at {first}")]
    NotItsFirst {
        /// Where it does.
        first: IpAddr,
    },
}

impl Range {
    /// Reads `ADDRESS/LENGTH`.
    ///
    /// # Errors
    /// See [`RangeError`].
    pub fn parse(text: &str) -> Result<Self, RangeError> {
        let (first, length) = text.split_once('/').ok_or(RangeError::Form)?;
        let first: IpAddr = first.parse().map_err(|_| RangeError::Form)?;
        let length: u8 = length.parse().map_err(|_| RangeError::Form)?;
        let limit = bits_of(first);
        if length > limit {
            return Err(RangeError::Length { length, limit });
        }
        let range = Self { first, length };
        match range.first_of(first) {
            begins if begins == first => Ok(range),
            begins => Err(RangeError::NotItsFirst { first: begins }),
        }
    }

    /// Whether the address is in it. One of IPv4 is in no range of IPv6, nor the reverse,
    /// however it is written.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.first_of(address) == self.first
    }

    /// The first address of the range of this length around `address`.
    fn first_of(&self, address: IpAddr) -> IpAddr {
        let beyond = u32::from(bits_of(address) - self.length);
        match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(beyond).unwrap_or(0);
                Ipv4Addr::from_bits(v4.to_bits() & mask).into()
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(beyond).unwrap_or(0);
                Ipv6Addr::from_bits(v6.to_bits() & mask).into()
            }
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

fn bits_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

const fn v4(a: u8, b: u8, c: u8, length: u8) -> Range {
    Range {
        first: IpAddr::V4(Ipv4Addr::new(a, b, c, 0)),
        length,
    }
}

const fn v6(a: u16, b: u16, length: u8) -> Range {
    Range {
        first: IpAddr::V6(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0)),
        length,
    }
}

/// What of IPv4 is not the public network (IANA's registry of special-purpose addresses,
/// RFC 6890).
const NOT_PUBLIC_V4: [(Range, &str); 15] = [
    (v4(0, 0, 0, 8), "this network"),
    (v4(10, 0, 0, 8), "private"),
    (v4(100, 64, 0, 10), "shared by a carrier"),
    (v4(127, 0, 0, 8), "loopback"),
    // With 169.254.169.254, where clouds hand out credentials.
    (v4(169, 254, 0, 16), "link-local"),
    (v4(172, 16, 0, 12), "private"),
    (v4(192, 0, 0, 24), "protocol assignments"),
    (v4(192, 0, 2, 24), "documentation"),
    (v4(192, 88, 99, 24), "relays to IPv6"),
    (v4(192, 168, 0, 16), "private"),
    (v4(198, 18, 0, 15), "benchmarking"),
    (v4(198, 51, 100, 24), "documentation"),
    (v4(203, 0, 113, 24), "documentation"),
    (v4(224, 0, 0, 4), "multicast"),
    (v4(240, 0, 0, 4), "reserved"),
];

/// The one block of IPv6 from which public addresses are given out (RFC 4291 §2.4). Outside
/// it are loopback, link-local, private, multicast, and the forms that carry an address of
/// IPv4 inside (`::ffff:0:0/96`, `64:ff9b::/96`).
const PUBLIC_V6: Range = v6(0x2000, 0, 3);

/// What of that block is not public all the same.
const NOT_PUBLIC_V6: [(Range, &str); 4] = [
    // With Teredo, which carries an address of IPv4 inside.
    (v6(0x2001, 0, 23), "protocol assignments"),
    (v6(0x2001, 0xdb8, 32), "documentation"),
    (v6(0x2002, 0, 16), "an address of IPv4 inside"),
    (v6(0x3fff, 0, 20), "documentation"),
];

/// An address that no document is fetched from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} is not a public address ({why})")]
pub struct NotPublic {
    /// The address.
    pub address: IpAddr,
    /// What it is instead.
    pub why: &'static str,
}

/// Whether a document may be fetched from `address`: a public one, or one in a range that
/// the operator has `allowed`.
///
/// # Errors
/// [`NotPublic`].
pub fn check(address: IpAddr, allowed: &[Range]) -> Result<(), NotPublic> {
    if allowed.iter().any(|range| range.contains(address)) {
        return Ok(());
    }
    let special: &[_] = match address {
        IpAddr::V4(_) => &NOT_PUBLIC_V4,
        IpAddr::V6(_) if PUBLIC_V6.contains(address) => &NOT_PUBLIC_V6,
        IpAddr::V6(_) => {
            return Err(NotPublic {
                address,
                why: "outside 2000::/3",
            });
        }
    };
    match special.iter().find(|(range, _)| range.contains(address)) {
        Some((_, why)) => Err(NotPublic { address, why }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_edges_of_what_is_not_public() {
        for (public, private) in [
            ("1.0.0.0", "0.255.255.255"),
            ("9.255.255.255", "10.0.0.0"),
            ("11.0.0.0", "10.255.255.255"),
            ("100.63.255.255", "100.64.0.0"),
            ("100.128.0.0", "100.127.255.255"),
            ("126.255.255.255", "127.0.0.1"),
            ("128.0.0.0", "127.255.255.255"),
            ("169.253.255.255", "169.254.169.254"),
            ("172.15.255.255", "172.16.0.0"),
            ("172.32.0.0", "172.31.255.255"),
            ("192.0.1.0", "192.0.0.170"),
            ("192.0.3.0", "192.0.2.255"),
            ("192.88.98.255", "192.88.99.1"),
            ("192.167.255.255", "192.168.0.0"),
            ("192.169.0.0", "192.168.255.255"),
            ("198.17.255.255", "198.18.0.0"),
            ("198.20.0.0", "198.19.255.255"),
            ("198.51.101.0", "198.51.100.7"),
            ("203.0.112.255", "203.0.113.0"),
            ("223.255.255.255", "224.0.0.1"),
            ("8.8.8.8", "255.255.255.255"),
            ("2000::", "1fff:ffff::"),
            ("3ffe:ffff::1", "3fff:fff::1"),
            ("3fff:1000::", "4000::"),
            ("2001:200::", "2001:1ff:ffff::"),
            ("2001:db7::1", "2001:db8::1"),
            ("2003::1", "2002:7f00:1::"),
            ("2606:4700::1111", "::1"),
            ("2a00:1450::1", "::"),
            ("2a00:1450::1", "fe80::1"),
            ("2a00:1450::1", "fd00:ec2::254"),
            ("2a00:1450::1", "ff02::1"),
            ("2a00:1450::1", "::ffff:127.0.0.1"),
            ("2a00:1450::1", "::ffff:8.8.8.8"),
            ("2a00:1450::1", "::7f00:1"),
            ("2a00:1450::1", "64:ff9b::7f00:1"),
        ] {
            assert_eq!(check(address(public), &[]), Ok(()), "{public}");
            assert!(check(address(private), &[]).is_err(), "{private}");
        }
    }

    #[test]
    fn what_an_operator_allows_is_allowed_and_nothing_beside_it() {
        let allowed = ["10.1.0.0/16", "127.0.0.1/32", "fd00::/8", "::1/128"]
            .map(|text| Range::parse(text).expect("a range"));
        for text in ["10.1.2.3", "127.0.0.1", "fd12::1", "::1", "8.8.8.8"] {
            assert_eq!(check(address(text), &allowed), Ok(()), "{text}");
        }
        for text in [
            "10.2.0.0",
            "127.0.0.2",
            "fc00::1",
            "::2",
            // The same machine in other clothes was not allowed.
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
        ] {
            assert!(check(address(text), &allowed).is_err(), "{text}");
        }
        let everything = ["0.0.0.0/0", "::/0"].map(|text| Range::parse(text).expect("a range"));
        for text in ["0.0.0.0", "255.255.255.255", "::", "ff02::1"] {
            assert_eq!(check(address(text), &everything), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_range_is_written_from_its_first_address() {
        for text in [
            "10.0.0.0/8",
            "0.0.0.0/0",
            "1.2.3.4/32",
            "2001:db8::/33",
            "::1/128",
        ] {
            assert_eq!(Range::parse(text).expect("a range").to_string(), text);
        }
        let first = |text: &str| RangeError::NotItsFirst {
            first: address(text),
        };
        for (text, why) in [
            ("10.0.0.0", RangeError::Form),
            ("10.0.0/8", RangeError::Form),
            ("10.0.0.0/", RangeError::Form),
            ("10.0.0.0/-1", RangeError::Form),
            ("10.0.0.0/300", RangeError::Form),
            ("localhost/8", RangeError::Form),
            (
                "10.0.0.0/33",
                RangeError::Length {
                    length: 33,
                    limit: 32,
                },
            ),
            (
                "::/129",
                RangeError::Length {
                    length: 129,
                    limit: 128,
                },
            ),
            ("10.0.0.1/8", first("10.0.0.0")),
            ("1.2.3.4/0", first("0.0.0.0")),
            ("2001:db8::1/32", first("2001:db8::")),
        ] {
            assert_eq!(Range::parse(text), Err(why), "{text}");
        }
    }
}
