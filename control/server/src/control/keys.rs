//! The duty to rotate the keys that sign tenants' tokens: the plane says when, the key is made
//! here, where the master key is.

use std::time::Duration;

use pinion_admin_api::{Identity, PlaneHandle};
use pinion_metadata::{Expect, MetaVersion, Metadata};
use pinion_plane::{Answer, Caller};

/// How long the plane may take for it; it asks again after a minute.
const WAIT: Duration = Duration::from_secs(10);

/// Who did it, in the audit log.
const PRINCIPAL: &str = "pinion:rotation";

/// Rotates the keys of a tenant, if they are still those of `version`.
pub(super) fn rotate(
    identity: &Identity,
    plane: &PlaneHandle,
    metadata: &Metadata,
    tenant: &str,
    version: MetaVersion,
) {
    let Some(command) = identity.rotation(metadata, tenant) else {
        tracing::warn!(
            tenant,
            "the keys that sign its tokens are due and this node has no master key: \
             set auth.master_key_file or PINION_AUTH__MASTER_KEY"
        );
        return;
    };
    let (plane, tenant) = (plane.clone(), tenant.to_owned());
    tokio::spawn(async move {
        let caller = Caller {
            principal: PRINCIPAL.into(),
            request: 0,
            remote: None,
        };
        let asked = plane.write(caller, Expect::Version(version), command, WAIT);
        match asked.await {
            Answer::Refused(error) => {
                tracing::info!(tenant, %error, "its keys were not rotated; they are due again");
            }
            _ => tracing::info!(tenant, "the keys that sign its tokens were rotated"),
        }
    });
}
