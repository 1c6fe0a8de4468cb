//! Who a workload is, by its certificate.

use pinion_auth::spiffe::{SPIFFE_BYTES_MAX, SpiffeError, SpiffeId};
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls_pki_types::CertificateDer;

const ORDERS: &str = "spiffe://cluster.local/ns/shop/sa/orders";

fn certificate(uris: &[&str]) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(["orders.shop.svc".to_owned()]).unwrap();
    for uri in uris {
        let uri = Ia5String::try_from(*uri).unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
    }
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    params.self_signed(&key).unwrap().der().clone()
}

#[test]
fn a_certificate_says_who_its_workload_is() {
    let id = SpiffeId::of_certificate(&certificate(&[ORDERS])).unwrap();
    assert_eq!(id.text(), ORDERS);
    assert_eq!(id.to_string(), ORDERS);
    assert_eq!(id.trust_domain(), "cluster.local");
    assert_eq!(id.path(), "/ns/shop/sa/orders");
}

#[test]
fn a_certificate_of_nobody_or_of_two_is_refused() {
    let of = |uris: &[&str]| SpiffeId::of_certificate(&certificate(uris)).unwrap_err();
    assert_eq!(of(&[]), SpiffeError::Names { found: 0 });
    assert_eq!(
        of(&[ORDERS, "https://orders.example/"]),
        SpiffeError::Names { found: 2 }
    );
    assert_eq!(of(&[ORDERS, ORDERS]), SpiffeError::Names { found: 2 });
    assert_eq!(of(&["https://orders.example/"]), SpiffeError::Scheme);
    let whole = certificate(&[ORDERS]);
    for bytes in [&b""[..], b"garbage", &whole[..whole.len() - 1]] {
        let found = SpiffeId::of_certificate(&bytes.to_vec().into());
        assert_eq!(found, Err(SpiffeError::Certificate));
    }
}

#[test]
fn an_id_has_one_spelling() {
    let longest = format!("spiffe://a/{}", "p".repeat(SPIFFE_BYTES_MAX - 11));
    for text in [
        ORDERS,
        "spiffe://a/b",
        "spiffe://a-b.c_d.9/B.c-d_e/...",
        "spiffe://pinion/prod/node/n1",
        &longest,
    ] {
        assert_eq!(SpiffeId::parse(text).unwrap().text(), text);
    }
    let found = SPIFFE_BYTES_MAX + 1;
    assert_eq!(
        SpiffeId::parse(&format!("{longest}p")),
        Err(SpiffeError::TooLong { found })
    );
    let domain = format!("spiffe://{}/a", "d".repeat(256));
    for (text, why) in [
        ("", SpiffeError::Scheme),
        ("SPIFFE://a/b", SpiffeError::Scheme),
        ("spiffe:/a/b", SpiffeError::Scheme),
        (" spiffe://a/b", SpiffeError::Scheme),
        ("spiffe://", SpiffeError::TrustDomain),
        ("spiffe:///b", SpiffeError::TrustDomain),
        ("spiffe://A/b", SpiffeError::TrustDomain),
        ("spiffe://a:1/b", SpiffeError::TrustDomain),
        ("spiffe://u@a/b", SpiffeError::TrustDomain),
        ("spiffe://a?b", SpiffeError::TrustDomain),
        ("spiffe://a%2e/b", SpiffeError::TrustDomain),
        (&domain, SpiffeError::TrustDomain),
        ("spiffe://a", SpiffeError::Path),
        ("spiffe://a/", SpiffeError::Path),
        ("spiffe://a/b/", SpiffeError::Path),
        ("spiffe://a//b", SpiffeError::Path),
        ("spiffe://a/./b", SpiffeError::Path),
        ("spiffe://a/b/..", SpiffeError::Path),
        ("spiffe://a/b%20c", SpiffeError::Path),
        ("spiffe://a/b?c", SpiffeError::Path),
        ("spiffe://a/b#c", SpiffeError::Path),
        ("spiffe://a/b c", SpiffeError::Path),
        ("spiffe://a/ö", SpiffeError::Path),
        ("spiffe://a/b\n", SpiffeError::Path),
    ] {
        assert_eq!(SpiffeId::parse(text), Err(why), "{text:?}");
    }
}
