//! Every word that a refusal has, and what it means: the `type` and the `title` of its
//! problem details (RFC 9457).
//!
//! The page that reads the OpenAPI document has a row for each, which is where `type` leads.

/// Words in their order, each with a title that is the same at every occurrence.
pub(crate) const CODES: &[(&str, &str)] = &[
    ("already_initialized", "The tenant had its first day"),
    (
        "audit_unavailable",
        "The audit log cannot be written or read",
    ),
    ("backup_failed", "The backup cannot be made"),
    ("backup_pending", "A backup is being made"),
    ("bad_action", "There is no such action"),
    ("bad_address", "This is no address"),
    ("bad_algorithm", "The algorithms of signatures are wrong"),
    ("bad_batch", "The number of commands in one is wrong"),
    ("bad_body", "The body is not what the route takes"),
    (
        "bad_host",
        "The request does not say once which host it is for",
    ),
    ("bad_if_match", "If-Match has no version"),
    (
        "bad_issuer",
        "The identity provider is not written as it should be",
    ),
    ("bad_jti", "This is no id of a token"),
    ("bad_name", "This is no name"),
    ("bad_object", "This is no object of a policy"),
    ("bad_parameter", "A parameter is missing or wrong"),
    (
        "bad_path",
        "A part of the path is not what is expected there",
    ),
    ("bad_request", "The request says what does not go together"),
    ("bad_request_id", "X-Request-Id is no id"),
    ("bad_spec", "A field of what is wanted is out of its range"),
    ("bad_subject", "This is nobody whom rights are given to"),
    ("bad_text", "A text has what is no text"),
    ("bad_time", "This is no time, or one that does not fit"),
    ("bad_token_life", "A token would have no life"),
    ("bad_url", "This is no URL that keys may be fetched from"),
    ("batch", "A part of the command was refused"),
    ("body_timeout", "The body took too long"),
    ("body_too_large", "The body is too large"),
    ("broker_alive", "A broker of that name lives"),
    ("broker_twice", "A broker is named twice"),
    ("broker_unavailable", "The broker takes nothing"),
    ("busy", "The node has too much to do"),
    ("confirmation_required", "X-Confirm: true is missing"),
    ("core_silent", "A data core did not answer in time"),
    ("deleting", "It is being deleted"),
    ("elsewhere", "Another node serves it"),
    ("exists", "There is one of that name"),
    ("failed", "The node met what it did not expect"),
    (
        "forbidden",
        "It takes a right that the caller does not have",
    ),
    ("grace_required", "What has data is deleted with a grace"),
    ("has_data", "It has durable data"),
    ("has_subscribers", "It has subscribers"),
    ("immutable_field", "The field cannot be changed"),
    (
        "issuer_unavailable",
        "The keys of the identity provider cannot be had",
    ),
    ("keys_sealed", "The tenant's keys cannot be opened"),
    ("label_order", "The labels are not in order"),
    ("lagging", "The member has not caught up"),
    ("last_voter", "It is the last that votes"),
    ("limit_reached", "There are as many as there may be"),
    ("malformed", "The command has no meaning"),
    ("member_exists", "The group has that member"),
    (
        "method_not_allowed",
        "The path is not asked with this method",
    ),
    ("no_broker", "No broker can take it"),
    ("no_exchange", "The node exchanges no tokens"),
    ("no_leader", "Nobody leads the control plane"),
    ("no_master_key", "The node has no master key"),
    ("no_memory", "The brokers have not the memory for it"),
    ("no_plan", "There is no plan"),
    ("no_randomness", "The system gives no random bytes"),
    ("no_signing_keys", "The tenant has no keys to sign with"),
    ("no_tokens", "No token is of such a subject"),
    ("not_a_replica", "The broker has no copy of the shard"),
    ("not_deletable", "It is no object that is deleted"),
    ("not_deleting", "It is not being deleted"),
    ("not_empty", "There is something inside"),
    (
        "not_found",
        "There is no such object, or none that the caller may know of",
    ),
    ("not_leader", "The node does not lead"),
    ("not_ready", "The node is not ready"),
    ("not_voter", "The member does not vote"),
    ("nothing_granted", "Nothing remains that may be granted"),
    ("other_incarnation", "It is of another life of the broker"),
    ("outcome_unknown", "It may have been done, or not"),
    (
        "outside_scope",
        "It is outside of where the caller has that right",
    ),
    ("outside_tenant", "The object is outside of the tenant"),
    ("parent_deleting", "What it is in is being deleted"),
    ("partition_fenced", "The partition is closed off"),
    ("plan_pending", "A plan is being carried out"),
    (
        "quota_above_parent",
        "The quota is above that of what it is in",
    ),
    ("quota_below_use", "The quota is below what is in use"),
    ("quota_exceeded", "A quota is used up"),
    ("rate_limited", "Too many requests"),
    ("read_only", "The node takes nothing that needs space"),
    (
        "resnapshot_required",
        "The changes from that version on are not there",
    ),
    ("role_cycle", "A role would hold itself"),
    ("shown_before", "The secret was shown once"),
    ("spec_conflict", "There is one that is different"),
    ("still_active", "The broker is in use"),
    ("still_leading", "The broker leads, or has copies"),
    ("still_member", "The broker is a member of the group"),
    ("timed_out", "It took too long"),
    ("token_too_large", "The grant does not fit a token"),
    ("too_early", "Its grace is not over"),
    ("too_large", "What is wanted is too large"),
    (
        "too_many_permissions",
        "The grant has more than a token holds",
    ),
    (
        "too_many_watchers",
        "There are as many watchers as there may be",
    ),
    ("transfer_pending", "The lead is being given away"),
    ("unauthenticated", "No credential that counts"),
    ("unknown_field", "The body has a field that there is not"),
    (
        "unknown_parameter",
        "The query has a parameter that there is not",
    ),
    ("unknown_path", "There is no such path"),
    ("unsupported_kind", "Objects of this kind are not applied"),
    ("unsupported_media_type", "The body is not JSON"),
    ("version_conflict", "It was changed since"),
];

/// What a word means, if there is such a word.
pub(crate) fn title(code: &str) -> Option<&'static str> {
    let at = CODES.binary_search_by_key(&code, |(word, _)| word).ok()?;
    Some(CODES[at].1)
}

/// Where a word is explained: relative to the node that said it (RFC 9457 §3.1.1).
pub(crate) fn type_of(code: &str) -> String {
    format!("/v1/docs#error-{code}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_metadata::MetaCode;
    use std::fs;
    use std::path::Path;

    #[test]
    fn words_are_in_order_and_those_of_the_metadata_are_there() {
        assert!(CODES.is_sorted_by(|one, next| one.0 < next.0));
        for code in MetaCode::ALL {
            assert!(title(code.text()).is_some(), "{code:?} has no title");
        }
        assert_eq!(title("no_such_word"), None);
    }

    /// Pieces of code that say which word a refusal has.
    const CALLS: [&str; 6] = [
        "Failure::bad(",
        "Failure::new(",
        "Self::bad(",
        "Self::new(",
        "unavailable(",
        "failure(",
    ];

    /// What looks like a word where a call begins.
    fn word(call: &str) -> Option<&str> {
        let (_, text) = call.split_once('"')?;
        let (text, _) = text.split_once('"')?;
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        text.bytes().all(is_word).then_some(text)
    }

    fn visit(folder: &Path, seen: &mut usize) {
        for entry in fs::read_dir(folder).expect("sources") {
            let path = entry.expect("a file").path();
            // The dashboard says why on pages, which have no types.
            if path.ends_with("ui") {
                continue;
            }
            if path.is_dir() {
                visit(&path, seen);
                continue;
            }
            // Beside code there are a page and descriptors.
            if path.extension().is_none_or(|kind| kind != "rs") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("text");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for call in CALLS.iter().flat_map(|call| code.split(call).skip(1)) {
                // As far as the second argument reaches.
                let head: String = call.chars().take(120).collect();
                let head = head.split(';').next().unwrap_or_default();
                let Some(word) = word(head) else {
                    continue;
                };
                assert!(title(word).is_some(), "{path:?}: {word} has no title");
                *seen += 1;
            }
        }
    }

    #[test]
    fn every_word_that_is_said_has_a_title() {
        let mut seen = 0;
        visit(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut seen,
        );
        assert!(seen > 70, "the sources were not read: {seen}");
    }
}
