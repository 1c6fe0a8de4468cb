//! One row of the audit log, and its bytes: `docs/audit-format.md`.

use core::fmt::{self, Write as _};
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use pinion_metadata::command::{AddGroupings, AddPolicies, CreateApiKey, DeleteRules};
use pinion_metadata::limits::PRINCIPAL_BYTES_MAX;
use pinion_metadata::{Applied, BrokerNumber, Command, Envelope, MetaVersion, ObjectKey};
use pinion_types::WallMs;

/// Bytes before the texts.
const FIXED_BYTES: usize = 80;

/// Bytes of the longest text.
pub(super) const TEXT_BYTES_MAX: usize = 512;

/// Bytes of the longest row.
pub(crate) const ROW_BYTES_MAX: usize = FIXED_BYTES + 4 * (2 + TEXT_BYTES_MAX);

const VERSION: u8 = 1;

/// Something that was asked, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// When: of a command its stamp, of a refusal this node's clock.
    pub at: WallMs,
    /// Its place in the group's log; 0 when it never came there.
    pub index: u64,
    /// Version of the metadata that it left.
    pub version: MetaVersion,
    /// The client's number of the request, or 0.
    pub request: u128,
    /// The node that was asked.
    pub origin: BrokerNumber,
    /// The address that asked, as far as this node knows: it does for what it was asked
    /// itself in this life.
    pub remote: Option<SocketAddr>,
    /// What became of it.
    pub result: AuditResult,
    /// Who asked.
    pub principal: Box<str>,
    /// Whose it is about; empty when no one tenant's.
    pub tenant: Box<str>,
    /// What was asked.
    pub operation: Box<str>,
    /// The object that it was about, as its key; empty when no one.
    pub target: Box<str>,
}

/// What became of something that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditResult {
    /// It was done.
    Done,
    /// It had been done before, under the same request number.
    Repeated,
    /// The metadata refused it: [`MetaCode`](pinion_metadata::MetaCode).
    Refused(u16),
    /// It was refused before it came to the metadata, with this status of HTTP.
    Denied(u16),
    /// Rows of the entries from `index` of the row up to `to` could not be written.
    Gap {
        /// The last entry without a row.
        to: u64,
    },
}

/// Why bytes are no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row of the audit log is not what this release writes: {field}")]
pub struct RowError {
    /// What is wrong.
    pub field: &'static str,
}

impl AuditRow {
    /// Adds the row's bytes to `out`. Texts that are too long are cut: who asked must not
    /// be able to keep the row from being written.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        let (tag, code, to) = match self.result {
            AuditResult::Done => (0, 0, 0),
            AuditResult::Repeated => (1, 0, 0),
            AuditResult::Refused(code) => (2, code, 0),
            AuditResult::Denied(code) => (3, code, 0),
            AuditResult::Gap { to } => (4, 0, to),
        };
        let (family, ip, port) = match self.remote {
            None => (0, [0; 16], 0),
            Some(remote) => match remote.ip() {
                IpAddr::V4(ip) => (4, ip.to_ipv6_mapped().octets(), remote.port()),
                IpAddr::V6(ip) => (6, ip.octets(), remote.port()),
            },
        };
        out.extend([0; 4]);
        out.extend([VERSION, tag]);
        out.extend(u16::to_le_bytes(code));
        out.extend(self.at.0.to_le_bytes());
        out.extend(self.index.to_le_bytes());
        out.extend(u64::to_le_bytes(to));
        out.extend(self.version.0.to_le_bytes());
        out.extend(self.request.to_le_bytes());
        out.extend(self.origin.0.to_le_bytes());
        out.extend(u16::to_le_bytes(family));
        out.extend(u16::to_le_bytes(port));
        out.extend(ip);
        for text in [&self.principal, &self.tenant, &self.operation, &self.target] {
            let text = cut(text);
            let length = u16::try_from(text.len()).expect("it was cut");
            out.extend(length.to_le_bytes());
            out.extend(text.as_bytes());
        }
        let length = u32::try_from(out.len() - begin).expect("at most ROW_BYTES_MAX");
        out[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// Reads the first row of `bytes`; what follows it, too.
    ///
    /// # Errors
    /// They are not what [`encode`](Self::encode) writes.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), RowError> {
        let wrong = |field| RowError { field };
        let length = bytes.first_chunk().copied().map(u32::from_le_bytes);
        let length = length.and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| (FIXED_BYTES + 8..=ROW_BYTES_MAX).contains(length));
        let (row, rest) = length
            .and_then(|length| bytes.split_at_checked(length))
            .ok_or(wrong("length"))?;
        let mut from = Reader(&row[4..]);
        let [version, tag] = from.take()?;
        if version != VERSION {
            return Err(wrong("version"));
        }
        let code = u16::from_le_bytes(from.take()?);
        let at = WallMs(u64::from_le_bytes(from.take()?));
        let index = u64::from_le_bytes(from.take()?);
        let to = u64::from_le_bytes(from.take()?);
        let meta = MetaVersion(u64::from_le_bytes(from.take()?));
        let request = u128::from_le_bytes(from.take()?);
        let origin = BrokerNumber(u32::from_le_bytes(from.take()?));
        let family = u16::from_le_bytes(from.take()?);
        let port = u16::from_le_bytes(from.take()?);
        let ip = Ipv6Addr::from(from.take::<16>()?);
        let v4 = ip.to_ipv4_mapped();
        let remote = match (family, v4) {
            (0, _) if port == 0 && ip == Ipv6Addr::UNSPECIFIED => None,
            (4, Some(ip)) => Some(SocketAddr::from((ip, port))),
            (6, _) => Some(SocketAddr::from((ip, port))),
            _ => return Err(wrong("remote")),
        };
        let result = match (tag, code, to) {
            (0, 0, 0) => AuditResult::Done,
            (1, 0, 0) => AuditResult::Repeated,
            (2, code, 0) => AuditResult::Refused(code),
            (3, code, 0) => AuditResult::Denied(code),
            (4, 0, to) => AuditResult::Gap { to },
            _ => return Err(wrong("result")),
        };
        let row = Self {
            at,
            index,
            version: meta,
            request,
            origin,
            remote,
            result,
            principal: from.text()?,
            tenant: from.text()?,
            operation: from.text()?,
            target: from.text()?,
        };
        if !from.0.is_empty() {
            return Err(wrong("length"));
        }
        Ok((row, rest))
    }
}

/// As many whole characters as a text of a row may have.
pub(super) fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], RowError> {
        let field = "length";
        let (taken, rest) = self.0.split_first_chunk().ok_or(RowError { field })?;
        self.0 = rest;
        Ok(*taken)
    }

    fn text(&mut self) -> Result<Box<str>, RowError> {
        let field = "text";
        let length = usize::from(u16::from_le_bytes(self.take()?));
        let (text, rest) = self.0.split_at_checked(length).ok_or(RowError { field })?;
        self.0 = rest;
        let text = core::str::from_utf8(text).map_err(|_| RowError { field })?;
        Ok(text.into())
    }
}

// ---------------------------------------------------------------- from commands

/// The rows of an applied command: one, and one for each command of a batch.
pub(crate) fn rows_of(
    index: u64,
    at: WallMs,
    envelope: &Envelope,
    applied: &Applied,
    remote: Option<SocketAddr>,
) -> Vec<AuditRow> {
    let result = match &applied.result {
        Ok(_) if applied.duplicate => AuditResult::Repeated,
        Ok(_) => AuditResult::Done,
        Err(error) => AuditResult::Refused(error.code() as u16),
    };
    let row = |command: &Command| {
        let target = about(command);
        AuditRow {
            at,
            index,
            version: applied.version,
            request: envelope.request,
            origin: envelope.origin,
            remote,
            result,
            principal: envelope.principal.clone(),
            tenant: target.as_ref().and_then(tenant).unwrap_or_default(),
            operation: operation(command).into(),
            target: target.map(|key| key.to_string()).unwrap_or_default().into(),
        }
    };
    match &envelope.command {
        Command::Batch(items) => items.iter().map(|item| row(&item.command)).collect(),
        command => vec![row(command)],
    }
}

/// What a row says that a command is about: its object; the tenant, where it is about rows of
/// one that have no name or were not made yet.
fn about(command: &Command) -> Option<ObjectKey> {
    match command {
        Command::AddPolicies(AddPolicies { tenant, .. })
        | Command::AddGroupings(AddGroupings { tenant, .. })
        | Command::DeletePolicies(DeleteRules { tenant, .. })
        | Command::DeleteGroupings(DeleteRules { tenant, .. })
        | Command::CreateApiKey(CreateApiKey { tenant, .. }) => Some(ObjectKey::tenant(tenant)),
        _ => command.target(),
    }
}

/// Whose the object is: what it is in, at some depth.
fn tenant(key: &ObjectKey) -> Option<Box<str>> {
    let mut key = key.clone();
    loop {
        key = match key {
            ObjectKey::Tenant(tenant) => return Some(tenant),
            key => key.parent()?,
        };
    }
}

/// The word for a command: its name in the code, written small. A command that is added
/// has its word by that; none may be renamed.
fn operation(command: &Command) -> String {
    struct Name(String);
    impl fmt::Write for Name {
        /// Takes the name and refuses what follows it, which may be long.
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for letter in text.chars() {
                if !letter.is_ascii_alphabetic() {
                    return Err(fmt::Error);
                }
                if letter.is_ascii_uppercase() && !self.0.is_empty() {
                    self.0.push('_');
                }
                self.0.push(letter.to_ascii_lowercase());
            }
            Ok(())
        }
    }
    let mut name = Name(String::new());
    // It ends with the name, which is no failure.
    let _ = write!(name, "{command:?}");
    name.0
}

// A principal is never cut.
const _: () = assert!(PRINCIPAL_BYTES_MAX <= TEXT_BYTES_MAX);
// A row is found by the length in front of it.
const _: () = assert!(ROW_BYTES_MAX <= u16::MAX as usize);
