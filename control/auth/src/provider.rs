//! Where an identity provider publishes its keys: URLs, and the document that names one.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value};

use crate::json;
use crate::jwks_cache::FetchFailure;

/// Longest URL.
pub const URL_BYTES_MAX: usize = 1024;

/// Longest discovery document. Those of large providers take about 4 KiB.
pub const DISCOVERY_BYTES_MAX: usize = 64 * 1024;

/// Longest name of a host (RFC 1035 §2.3.4), and of one label of it.
const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Where a document is: an absolute URL of `https` or `http`, of a form so narrow that no two
/// readers take it for different places. No user, no fragment, no escapes in the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    text: Box<str>,
    secure: bool,
    host: Host,
    port: u16,
    /// Where the authority ends and the path begins.
    path: usize,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// A name, which is resolved, and which the server's certificate must have.
    Name(Box<str>),
    /// An address.
    Address(IpAddr),
}

/// Why a text is not such a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Longer than [`URL_BYTES_MAX`].
    #[error("longer than {URL_BYTES_MAX} bytes")]
    TooLong,
    /// Neither `https://` nor `http://`.
    #[error("expected https://")]
    Scheme,
    /// Neither a name nor an address, or a user before it.
    #[error("expected the name or address of a host after https://")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// No `/` after the host, or a byte that has no place in a path or query.
    #[error("expected a path that begins with / and holds no spaces, escapes but %XX, or #")]
    Path,
}

impl Url {
    /// Reads a URL.
    ///
    /// # Errors
    /// See [`UrlError`].
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.len() > URL_BYTES_MAX {
            return Err(UrlError::TooLong);
        }
        let (secure, rest) = match text.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("http://").ok_or(UrlError::Scheme)?),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (host, port) = read_authority(authority)?;
        if !target.starts_with('/') || !is_path_and_query(target.as_bytes()) {
            return Err(UrlError::Path);
        }
        Ok(Self {
            secure,
            host,
            port: port.unwrap_or(if secure { 443 } else { 80 }),
            path: text.len() - target.len(),
            text: text.into(),
        })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is asked for under TLS.
    #[must_use]
    pub fn secure(&self) -> bool {
        self.secure
    }

    /// Whom to connect to.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// At which port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port as they are written: for the `Host` header.
    #[must_use]
    pub fn authority(&self) -> &str {
        let start = if self.secure { "https://" } else { "http://" };
        &self.text[start.len()..self.path]
    }

    /// Path and query: what to ask the host for.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.text[self.path..]
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn read_authority(text: &str) -> Result<(Host, Option<u16>), UrlError> {
    if text.contains('@') {
        return Err(UrlError::Host);
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(UrlError::Host)?;
            let address: Ipv6Addr = host.parse().map_err(|_| UrlError::Host)?;
            let port = match port {
                "" => None,
                port => Some(port.strip_prefix(':').ok_or(UrlError::Host)?),
            };
            (Host::Address(address.into()), port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (read_host(host)?, Some(port)),
            None => (read_host(text)?, None),
        },
    };
    let port = match port {
        None => None,
        Some(digits) => Some(read_port(digits).ok_or(UrlError::Port)?),
    };
    Ok((host, port))
}

fn read_port(digits: &str) -> Option<u16> {
    let starts_well = matches!(digits.as_bytes().first(), Some(b'1'..=b'9'));
    starts_well.then(|| digits.parse().ok()).flatten()
}

fn read_host(text: &str) -> Result<Host, UrlError> {
    let label_fits = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_'))
    };
    if text.len() > HOST_BYTES_MAX || !text.split('.').all(label_fits) {
        return Err(UrlError::Host);
    }
    let last = text.rsplit('.').next().unwrap_or(text);
    if last.starts_with(|first: char| first.is_ascii_digit()) {
        // No domain ends in such a label, but resolvers take `2130706433` and `0x7f.1`
        // for addresses: only their usual form is one.
        let address: Ipv4Addr = text.parse().map_err(|_| UrlError::Host)?;
        return Ok(Host::Address(address.into()));
    }
    Ok(Host::Name(text.into()))
}

/// RFC 3986 §3.3, §3.4: `pchar`, `/` and `?`.
fn is_path_and_query(bytes: &[u8]) -> bool {
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {}
            b'-' | b'.' | b'_' | b'~' | b'/' | b'?' | b':' | b'@' => {}
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => {}
            b'%' => {
                let is_hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
                if !is_hex(rest.next()) || !is_hex(rest.next()) {
                    return false;
                }
            }
            _ => return false,
        }
    }
    true
}

/// How an issuer's keys are found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// By the document that names them (OpenID Connect Discovery 1.0 §4).
    Discovery(Url),
    /// Here.
    Keys(Url),
}

/// Whose keys, from where. Two tenants that name the same share them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Provider {
    /// The issuer's name for itself.
    pub issuer: Box<str>,
    /// Where its keys are.
    pub source: Source,
}

/// What an issuer says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// Where its keys are.
    pub keys: Url,
    /// How somebody logs in with it; otherwise which rule what it says of that breaks.
    pub login: Result<Endpoints, &'static str>,
}

/// How somebody logs in with an issuer (OpenID Connect Discovery 1.0 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Where a browser is sent.
    pub authorization: Url,
    /// Where a code becomes a token.
    pub token: Url,
    /// Whether its answers to browsers say whose they are (RFC 9207 §3): one that does not is
    /// then somebody else's.
    pub names_itself: bool,
}

/// What the discovery document of `issuer`, which was fetched from `from`, says.
///
/// # Errors
/// [`FetchFailure::Document`] when it does not say where its keys are, or leads from https to
/// http; [`FetchFailure::OtherIssuer`] when it is somebody else's.
pub fn discovered(document: &[u8], issuer: &str, from: &Url) -> Result<Discovered, FetchFailure> {
    let bad = |what| FetchFailure::Document { what };
    if document.len() > DISCOVERY_BYTES_MAX {
        return Err(bad("longer than 64 KiB"));
    }
    let document =
        json::object(document).map_err(|_| bad("not a JSON object with unique members"))?;
    // OpenID Connect Discovery 1.0 §4.3: byte by byte.
    match document.get("issuer") {
        Some(Value::String(name)) if name == issuer => {}
        Some(Value::String(_)) => return Err(FetchFailure::OtherIssuer),
        _ => return Err(bad("issuer is not text")),
    }
    let Some(Value::String(url)) = document.get("jwks_uri") else {
        return Err(bad("jwks_uri is not text"));
    };
    let keys = Url::parse(url).map_err(|_| bad("jwks_uri is not a URL that is taken"))?;
    if from.secure() && !keys.secure() {
        return Err(bad("jwks_uri leads from https to http"));
    }
    Ok(Discovered {
        keys,
        login: endpoints(&document, from),
    })
}

/// How somebody logs in. A document that does not say it is still good for its keys.
fn endpoints(document: &Map<String, Value>, from: &Url) -> Result<Endpoints, &'static str> {
    let url = |name: &str| match document.get(name) {
        Some(Value::String(url)) => Url::parse(url).ok(),
        _ => None,
    };
    let authorization = url("authorization_endpoint");
    let authorization = authorization.ok_or("authorization_endpoint is not a URL that is taken")?;
    let token = url("token_endpoint").ok_or("token_endpoint is not a URL that is taken")?;
    if from.secure() && !(authorization.secure() && token.secure()) {
        return Err("an endpoint leads from https to http");
    }
    // Who leaves it out may still take it; who lists others does not.
    if let Some(Value::Array(methods)) = document.get("code_challenge_methods_supported")
        && !methods.iter().any(|one| one == "S256")
    {
        return Err("code_challenge_methods_supported is without S256");
    }
    let names_itself = document.get("authorization_response_iss_parameter_supported");
    Ok(Endpoints {
        authorization,
        token,
        names_itself: names_itself == Some(&Value::Bool(true)),
    })
}
