//! Which host a request says that it is for.

use axum::http::header::HOST;
use axum::http::{Request, Version};

/// Whether a request says so once. Whoever stands between may go by the one word and this
/// node by the other, so what says it twice, or says two hosts, is for nobody (RFC 9112 §3.2,
/// RFC 9113 §8.3.1).
pub(crate) fn is_told_once<B>(request: &Request<B>) -> bool {
    let mut all = request.headers().get_all(HOST).iter();
    let (host, more) = (all.next(), all.next());
    match (host, request.uri().authority()) {
        _ if more.is_some() => false,
        (Some(host), Some(authority)) => {
            let authority = authority.as_str().as_bytes();
            host.as_bytes().eq_ignore_ascii_case(authority)
        }
        (Some(_), None) | (None, Some(_)) => true,
        (None, None) => request.version() < Version::HTTP_11,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_for_one_host() {
        let of = |uri: &str, hosts: &[&str], version| {
            let request = Request::builder().uri(uri).version(version);
            let with =
                |request: axum::http::request::Builder, host: &&str| request.header(HOST, *host);
            let request = hosts.iter().fold(request, with);
            is_told_once(&request.body(()).expect("a request"))
        };
        let new = Version::HTTP_11;
        assert!(of("/", &["node:7420"], new));
        assert!(of("http://node:7420/", &["Node:7420"], new));
        assert!(of("https://node/", &[], Version::HTTP_2));
        assert!(of("/", &[], Version::HTTP_10), "it knew of no hosts");
        for (uri, hosts) in [
            ("/", &[][..]),
            ("/", &["node", "node"]),
            ("http://node/", &["other"]),
            ("http://node/", &["node:7420"]),
            ("http://node/", &[""]),
        ] {
            assert!(!of(uri, hosts, new), "{uri} {hosts:?}");
        }
    }
}
