//! Which paths an archive may have: those of a data directory and no other.

/// The entry that says what follows.
pub const MANIFEST: &str = "pinion-backup.json";

/// The entry with the checksums of all before, as `sha256sum -c` reads them.
pub const SUMS: &str = "pinion-backup.sha256";

/// The metadata at one version. It becomes the log of the control plane.
pub const METADATA: &str = "control/metadata";

/// Where a file of an archive belongs in a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A segment or checkpoint of this log.
    Log(u16),
    /// [`METADATA`].
    Metadata,
    /// What clients trust or the node shows; anybody may read it.
    Public,
    /// A key, secret or token.
    Secret,
}

/// The audit log, which lies in the folder of the control plane.
const AUDIT_LOG: u16 = u16::MAX - 2;

/// Logs from here on are the control plane's own.
const CONTROL_LOGS: u16 = u16::MAX - 2;

impl Place {
    /// Where `path` belongs; `None` for one that no archive has. Only the one spelling
    /// counts that the node writes: no `.`, no `..`, nothing absolute, nothing doubled.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        match path {
            METADATA => return Some(Self::Metadata),
            "tls/ca.pem" | "tls/node.pem" | "dev/ca.pem" | "dev/node.pem" => {
                return Some(Self::Public);
            }
            "tls/node.key" | "tls/node.secret" | "dev/node.key" | "dev/node.secret"
            | "dev/admin.token" | "dev/client.token" | "dev/master.key" | "secrets/master.key" => {
                return Some(Self::Secret);
            }
            _ => {}
        }
        let (control, rest) = match path.strip_prefix("control/") {
            Some(rest) => (true, rest),
            None => (false, path),
        };
        let (folder, name) = rest.split_once('/')?;
        let log = log_of(folder)?;
        let belongs = if control {
            log == AUDIT_LOG
        } else {
            log < CONTROL_LOGS
        };
        (belongs && is_file(name)).then_some(Self::Log(log))
    }
}

/// The log of `log-NNNN`, which has four digits, or five without a leading zero.
fn log_of(folder: &str) -> Option<u16> {
    let digits = folder.strip_prefix("log-")?;
    let number: u16 = digits.parse().ok()?;
    (format!("{number:04}") == digits).then_some(number)
}

fn is_file(name: &str) -> bool {
    let Some((number, kind)) = name.split_once('.') else {
        return false;
    };
    let digits = number.len() == 20 && number.bytes().all(|byte| byte.is_ascii_digit());
    digits && matches!(kind, "segment" | "checkpoint")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_data_directory_are_known_and_no_other() {
        let segment = "00000000000000000042.segment";
        for (path, place) in [
            (format!("log-0003/{segment}"), Place::Log(3)),
            (format!("log-12345/{segment}"), Place::Log(12_345)),
            (
                "log-0000/00000000000000000001.checkpoint".to_owned(),
                Place::Log(0),
            ),
            (format!("control/log-65533/{segment}"), Place::Log(65_533)),
            ("control/metadata".to_owned(), Place::Metadata),
            ("tls/ca.pem".to_owned(), Place::Public),
            ("dev/admin.token".to_owned(), Place::Secret),
        ] {
            assert_eq!(Place::of(&path), Some(place), "{path}");
        }
        for path in [
            "",
            "/",
            "/etc/passwd",
            "../log-0003/00000000000000000042.segment",
            "log-0003/../../x",
            "./log-0003/00000000000000000042.segment",
            "log-0003//00000000000000000042.segment",
            "log-3/00000000000000000042.segment",
            "log-00003/00000000000000000042.segment",
            "log-+003/00000000000000000042.segment",
            "log-0003/42.segment",
            "log-0003/00000000000000000042.segment/x",
            "log-0003/00000000000000000042.tmp",
            "log-65533/00000000000000000042.segment",
            "log-65534/00000000000000000042.segment",
            "control/log-0003/00000000000000000042.segment",
            "control/log-65534/00000000000000000042.segment",
            "control/imported",
            "pinion.store",
            "pinion.lock",
            "tls/../tls/ca.pem",
            "tls/other.key",
            "TLS/ca.pem",
            MANIFEST,
            SUMS,
        ] {
            assert_eq!(Place::of(path), None, "{path}");
        }
    }
}
