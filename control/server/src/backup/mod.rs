//! Backups: what of a data directory goes into an archive, and how it comes back.
//!
//! The control thread holds the logs still (`control/backups.rs`); `copy` is the thread
//! that reads them, [`restore`] the command that puts an archive into an empty directory.
//! The archive itself is `pinion-backup`.

pub(crate) mod copy;
pub(crate) mod restore;

/// A file in a data directory while a restore is under way. A node does not start
/// beside it: what is there may be half of something.
pub(crate) const RESTORING: &str = "pinion.restoring";

/// The node's own files that only a backup with secrets has, in `tls/` or `dev/`.
pub(crate) const OWN_FILES: &[&str] = &[
    "ca.pem",
    "node.pem",
    "node.key",
    "node.secret",
    "admin.token",
    "client.token",
    "master.key",
];

/// Where the operator's master key is in an archive, and in a restored directory.
pub(crate) const MASTER_KEY: &str = "secrets/master.key";
