//! Static files, in the binary: nothing is read at run time.

/// Policy sent with every page: nothing but our own style sheet, script and images, no
/// inline code, no frame around us, and forms that lead to us alone (CSP Level 3).
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; \
     img-src 'self' data:; script-src 'self'; connect-src 'self'; form-action 'self'; \
     frame-ancestors 'none'; base-uri 'none'";

/// Headers that belong on every page and every file.
pub const SECURITY_HEADERS: [(&str, &str); 5] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// One file.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Path it is asked for by.
    pub path: &'static str,
    /// For `Content-Type`.
    pub content_type: &'static str,
    /// What is in it.
    pub body: &'static str,
}

impl Asset {
    /// Strong validator (RFC 9110 §8.8.3): 64-bit FNV-1a of the body, quoted. Send it with
    /// `Cache-Control: no-cache` and answer 304 when it comes back.
    #[must_use]
    pub fn etag(&self) -> String {
        let hash = self
            .body
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        format!("\"{hash:016x}\"")
    }
}

/// Most that all files weigh together, in bytes, packed by gzip as they are sent.
pub const FILES_BYTES_MAX: usize = 10_000;

/// All files.
pub const ASSETS: [Asset; 3] = [
    Asset {
        path: "/assets/pinion.css",
        content_type: "text/css; charset=utf-8",
        body: include_str!("../static/pinion.css"),
    },
    Asset {
        path: "/assets/live.js",
        content_type: "text/javascript; charset=utf-8",
        body: include_str!("../static/live.js"),
    },
    Asset {
        path: "/assets/pinion.svg",
        content_type: "image/svg+xml",
        body: include_str!("../static/pinion.svg"),
    },
];

/// The file with exactly this path. There is no folder behind it that a path could leave.
#[must_use]
pub fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_paths_are_found() {
        for known in &ASSETS {
            assert_eq!(asset(known.path).map(|found| found.path), Some(known.path));
        }
        for path in [
            "/assets/../assets/pinion.css",
            "/assets/pinion.css/",
            "/assets/",
            "/assets/PINION.css",
            "/assets/%70inion.css",
        ] {
            assert!(asset(path).is_none(), "{path}");
        }
    }

    #[test]
    fn validators_are_quoted_and_differ() {
        let tags: Vec<String> = ASSETS.iter().map(Asset::etag).collect();
        assert!(
            tags.iter()
                .all(|tag| tag.len() == 18 && tag.starts_with('"'))
        );
        assert!(tags[0] != tags[1] && tags[1] != tags[2]);
    }
}
