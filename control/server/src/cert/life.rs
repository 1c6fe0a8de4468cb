//! Until when a certificate counts: the one field that nothing here reads otherwise.

use rustls_pki_types::CertificateDer;

/// Tags of DER (X.690 §8, RFC 5280 §4.1).
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;

/// The end of `notAfter`, as RFC 3339 writes it. `None`: this is no certificate.
pub(super) fn until(certificate: &CertificateDer<'_>) -> Option<String> {
    let (whole, _) = element(certificate, SEQUENCE)?;
    let (mut signed, _) = element(whole, SEQUENCE)?;
    if let Some((_, rest)) = element(signed, VERSION) {
        signed = rest;
    }
    // Serial number, algorithm, issuer: three of any kind.
    for _ in 0..3 {
        (_, _, signed) = any(signed)?;
    }
    let (validity, _) = element(signed, SEQUENCE)?;
    let (_, _, rest) = any(validity)?;
    let (tag, time, _) = any(rest)?;
    let time = std::str::from_utf8(time).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        GENERALIZED_TIME => (time.get(..4)?.to_owned(), time.get(4..)?),
        // Two digits: 1950 to 2049 (RFC 5280 §4.1.2.5.1).
        UTC_TIME => {
            let year = time.get(..2)?;
            let century = if year < "50" { "20" } else { "19" };
            (format!("{century}{year}"), time.get(2..)?)
        }
        _ => return None,
    };
    let all_digits =
        rest.len() == 10 && (year.bytes().chain(rest.bytes())).all(|b| b.is_ascii_digit());
    let part = |at: usize| &rest[at..at + 2];
    all_digits.then(|| {
        let (month, day) = (part(0), part(2));
        let (hour, minute, second) = (part(4), part(6), part(8));
        format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")
    })
}

/// The content of an element with this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any(bytes)?;
    (found == tag).then_some((content, rest))
}

/// Tag and content of the first element, and what follows it.
fn any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        // Four digits are more than any certificate has.
        let fits = (1..=4).contains(&digits.len());
        let len = digits
            .iter()
            .fold(0, |len, digit| len << 8 | usize::from(*digit));
        (fits.then_some(len)?, rest)
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::super::authority::{Authority, Signs};
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn the_last_day_of_a_certificate_is_read_in_both_forms_and_rubbish_is_none() {
        let day = Duration::from_secs(86_400);
        for (days, until_then) in [
            (1, "1970-01-02T00:00:00Z"),
            (29_220, "2050-01-01T00:00:00Z"),
        ] {
            let made = Authority::make(Signs::Nodes, "c", UNIX_EPOCH, day * days);
            let (_, pair) = made.expect("made");
            let found = pinion_quic::tls::certificates(pair.certificate.as_bytes());
            let der = found.expect("read").remove(0);
            assert_eq!(until(&der).as_deref(), Some(until_then));
            for len in 0..der.len().min(120) {
                assert_eq!(
                    until(&der[..len].to_vec().into()),
                    None,
                    "{len} bytes of it"
                );
            }
        }
        assert_eq!(
            until(&vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff].into()),
            None
        );
    }
}
