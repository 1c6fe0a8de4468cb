//! What can be done from the dashboard. Each action has one page that shows what it would
//! do before it is done.

use serde::{Serialize, Serializer};

use super::{Fact, Fresh, page};
use crate::links::Place;

/// A force action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Give a dead letter back to its queue.
    ReplayDeadLetter,
    /// Remove a dead letter.
    PurgeDeadLetter,
    /// Give the dead letters that match back, at a rate.
    RedriveDeadLetters,
    /// End a connection.
    CloseSession,
    /// Remove a reader's place.
    DeleteCursor,
    /// Delete a stream.
    DeleteStream,
    /// Delete a queue.
    DeleteQueue,
    /// Delete a cache.
    DeleteCache,
    /// Move shards so that brokers have like many.
    RebalanceStream,
    /// Let another broker lead a shard.
    TransferLeadership,
    /// Take the shards of a broker elsewhere.
    DrainBroker,
    /// Take a broker into use again.
    ActivateBroker,
    /// Let another member lead the group.
    TransferRaftLeader,
    /// Delete a tenant.
    DeleteTenant,
    /// Delete a namespace.
    DeleteNamespace,
    /// Take back the deletion of a tenant.
    RestoreTenant,
    /// Take back the deletion of a namespace.
    RestoreNamespace,
    /// Take back the deletion of a stream.
    RestoreStream,
    /// Take back the deletion of a queue.
    RestoreQueue,
    /// Take back the deletion of a cache.
    RestoreCache,
    /// Add a policy.
    AddPolicy,
    /// Remove a policy.
    RemovePolicy,
    /// Remove a role from a subject.
    RemoveGrouping,
    /// Remove an identity provider.
    RemoveProvider,
    /// Take the next signing key into use.
    RotateSigningKeys,
    /// End an API key.
    RevokeApiKey,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::ReplayDeadLetter,
        Self::PurgeDeadLetter,
        Self::RedriveDeadLetters,
        Self::CloseSession,
        Self::DeleteCursor,
        Self::DeleteStream,
        Self::DeleteQueue,
        Self::DeleteCache,
        Self::RebalanceStream,
        Self::TransferLeadership,
        Self::DrainBroker,
        Self::ActivateBroker,
        Self::TransferRaftLeader,
        Self::DeleteTenant,
        Self::DeleteNamespace,
        Self::RestoreTenant,
        Self::RestoreNamespace,
        Self::RestoreStream,
        Self::RestoreQueue,
        Self::RestoreCache,
        Self::AddPolicy,
        Self::RemovePolicy,
        Self::RemoveGrouping,
        Self::RemoveProvider,
        Self::RotateSigningKeys,
        Self::RevokeApiKey,
    ];

    /// Stable word: the query of a confirm page, its form, and the audit log have it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::ReplayDeadLetter => "replay_dead_letter",
            Self::PurgeDeadLetter => "purge_dead_letter",
            Self::RedriveDeadLetters => "redrive_dead_letters",
            Self::CloseSession => "close_session",
            Self::DeleteCursor => "delete_cursor",
            Self::DeleteStream => "delete_stream",
            Self::DeleteQueue => "delete_queue",
            Self::DeleteCache => "delete_cache",
            Self::RebalanceStream => "rebalance_stream",
            Self::TransferLeadership => "transfer_leadership",
            Self::DrainBroker => "drain_broker",
            Self::ActivateBroker => "activate_broker",
            Self::TransferRaftLeader => "transfer_raft_leader",
            Self::DeleteTenant => "delete_tenant",
            Self::DeleteNamespace => "delete_namespace",
            Self::RestoreTenant => "restore_tenant",
            Self::RestoreNamespace => "restore_namespace",
            Self::RestoreStream => "restore_stream",
            Self::RestoreQueue => "restore_queue",
            Self::RestoreCache => "restore_cache",
            Self::AddPolicy => "add_policy",
            Self::RemovePolicy => "remove_policy",
            Self::RemoveGrouping => "remove_grouping",
            Self::RemoveProvider => "remove_provider",
            Self::RotateSigningKeys => "rotate_signing_keys",
            Self::RevokeApiKey => "revoke_api_key",
        }
    }

    /// The operation that a word names.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.word() == word)
    }

    /// The operation and the target that the query of a confirm page asks for; `None`
    /// when there is none, or more than one.
    pub fn asked_for<'a>(
        query: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Option<(Self, &'a str)> {
        let mut named = None;
        let mut target = None;
        let mut button = None;
        let mut count = 0;
        for (name, value) in query {
            if name == "operation" {
                named = Some(Self::of_word(value)?);
                count += 1;
            } else if name == "target" {
                target = Some(value);
            } else if let Some(operation) = Self::of_word(name) {
                button = Some((operation, value));
                count += 1;
            }
        }
        if count != 1 {
            return None;
        }
        button.or(named.zip(target))
    }

    /// What its button says.
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::ReplayDeadLetter => "Replay dead letter",
            Self::PurgeDeadLetter => "Purge dead letter",
            Self::RedriveDeadLetters => "Redrive dead letters",
            Self::CloseSession => "Close session",
            Self::DeleteCursor => "Delete cursor",
            Self::DeleteStream => "Delete stream",
            Self::DeleteQueue => "Delete queue",
            Self::DeleteCache => "Delete cache",
            Self::RebalanceStream => "Rebalance stream",
            Self::TransferLeadership => "Transfer leadership",
            Self::DrainBroker => "Drain broker",
            Self::ActivateBroker => "Activate broker",
            Self::TransferRaftLeader => "Transfer Raft leader",
            Self::DeleteTenant => "Delete tenant",
            Self::DeleteNamespace => "Delete namespace",
            Self::RestoreTenant => "Take back tenant",
            Self::RestoreNamespace => "Take back namespace",
            Self::RestoreStream => "Take back stream",
            Self::RestoreQueue => "Take back queue",
            Self::RestoreCache => "Take back cache",
            Self::AddPolicy => "Add policy",
            Self::RemovePolicy => "Remove policy",
            Self::RemoveGrouping => "Remove role",
            Self::RemoveProvider => "Remove provider",
            Self::RotateSigningKeys => "Rotate signing keys",
            Self::RevokeApiKey => "Revoke API key",
        }
    }

    /// Whether nothing brings back what it takes away. Such an action asks for the name of
    /// its target in writing; deletions that have a grace period do so as well.
    #[must_use]
    pub const fn is_destructive(self) -> bool {
        matches!(
            self,
            Self::PurgeDeadLetter
                | Self::DeleteCursor
                | Self::DeleteStream
                | Self::DeleteQueue
                | Self::DeleteCache
                | Self::DeleteTenant
                | Self::DeleteNamespace
                | Self::RevokeApiKey
                | Self::RemoveProvider
        )
    }
}

impl Serialize for Operation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// What the audit log would say.
#[derive(Clone, Debug, Serialize)]
pub struct AuditPreview {
    /// Who.
    pub principal: String,
    /// Where from.
    pub remote: String,
    /// Tenant it is about; empty for none.
    pub tenant: String,
    /// What was asked.
    pub operation: String,
    /// Of what, one row for each.
    pub targets: Vec<String>,
}

/// Something to fill in before an action.
#[derive(Clone, Debug, Serialize)]
pub struct Input {
    /// Name in the form.
    pub name: String,
    /// What it is.
    pub label: String,
    /// What it is now.
    pub value: String,
    /// What may be written.
    pub hint: String,
    /// Whether people see it; otherwise it is only carried along.
    pub visible: bool,
}

/// Why an action was not done when it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfirmProblem {
    /// What was typed is not the name of the target.
    WrongWord,
    /// Something to fill in was not understood.
    BadInput,
    /// The target has changed since the page was made: this one shows it as it is now.
    Changed,
    /// It comes to other rows of the audit log than the page before showed, by what was filled
    /// in or since: this one shows them.
    Otherwise,
}

/// The page before a force action. It does nothing.
#[derive(Clone, Debug, Serialize)]
pub struct Confirm {
    /// What would be done.
    pub operation: Operation,
    /// To what, as people say it; what must be typed when it is destructive.
    pub target: String,
    /// The target as it is now.
    pub preview: Vec<Fact>,
    /// What that is worth.
    pub fresh: Fresh,
    /// What will happen, one sentence each.
    pub consequences: Vec<String>,
    /// What is left to fill in, and what comes along.
    pub inputs: Vec<Input>,
    /// The row of the audit log.
    pub audit: AuditPreview,
    /// The number that makes a repeat of the form the same request.
    pub request_id: String,
    /// Where to go instead, and afterwards.
    pub back: Place,
    /// Why it was not done.
    pub problem: Option<ConfirmProblem>,
}

impl Confirm {
    /// Whether what somebody typed lets the action happen.
    #[must_use]
    pub fn is_confirmed_by(&self, typed: &str) -> bool {
        !self.operation.is_destructive() || typed.trim() == self.target
    }
}

page!(Confirm, "confirm.html", "", live: false, |page| page.operation.verb());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    #[test]
    fn a_query_asks_for_one_operation_or_none() {
        let of =
            |pairs: &[(&'static str, &'static str)]| Operation::asked_for(pairs.iter().copied());
        let close = Some((Operation::CloseSession, "2.7"));
        assert_eq!(
            of(&[("operation", "close_session"), ("target", "2.7")]),
            close
        );
        assert_eq!(of(&[("tenant", "t"), ("close_session", "2.7")]), close);
        assert_eq!(of(&[("operation", "close_session")]), None);
        assert_eq!(of(&[("operation", "nothing"), ("target", "2.7")]), None);
        assert_eq!(
            of(&[("close_session", "2.7"), ("delete_stream", "a/b")]),
            None
        );
        let both = [
            ("operation", "delete_stream"),
            ("target", "a/b"),
            ("close_session", "2.7"),
        ];
        assert_eq!(of(&both), None);
    }

    #[test]
    fn what_takes_away_for_good_asks_for_the_name() {
        let page = |operation| Confirm {
            operation,
            target: "jobs/mail".into(),
            preview: Vec::new(),
            fresh: Fresh {
                kind: Kind::Live,
                as_of_unix_ms: 0,
                age_ms: 0,
            },
            consequences: Vec::new(),
            inputs: Vec::new(),
            audit: AuditPreview {
                principal: String::new(),
                remote: String::new(),
                tenant: String::new(),
                operation: String::new(),
                targets: Vec::new(),
            },
            request_id: String::new(),
            back: Place::Overview,
            problem: None,
        };
        for operation in Operation::ALL {
            let destroys = operation.word().starts_with("delete_")
                || operation.word().starts_with("purge_")
                || operation.word().starts_with("revoke_");
            assert!(!destroys || operation.is_destructive(), "{operation:?}");
            let page = page(operation);
            assert_eq!(page.is_confirmed_by(""), !operation.is_destructive());
            assert_eq!(
                page.is_confirmed_by("jobs/Mail"),
                !operation.is_destructive()
            );
            assert!(page.is_confirmed_by(" jobs/mail "));
        }
    }

    #[test]
    fn words_lead_back_to_their_operation() {
        for operation in Operation::ALL {
            assert_eq!(Operation::of_word(operation.word()), Some(operation));
        }
        assert_eq!(Operation::of_word("delete_everything"), None);
    }
}
