//! What a policy allows to be done.

use core::fmt;

macro_rules! actions {
    ($($name:ident $text:literal $what:literal,)*) => {
        /// Something that can be allowed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action {
            $(#[doc = concat!("`", $text, "`: ", $what)] $name,)*
        }

        impl Action {
            /// Every action, for tables and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its word in policies and tokens.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

actions! {
    StreamPublish "stream.publish" "append records.",
    StreamSubscribe "stream.subscribe" "read records.",
    StreamManage "stream.manage" "make, change and delete streams.",
    QueueProduce "queue.produce" "put messages.",
    QueueConsume "queue.consume" "take messages and finish them.",
    QueueManage "queue.manage" "make, change and delete queues; replay and purge dead letters.",
    CacheRead "cache.read" "read entries.",
    CacheWrite "cache.write" "write entries.",
    CacheManage "cache.manage" "make, change and delete caches.",
    KvRead "kv.read" "read keys.",
    KvWrite "kv.write" "write keys.",
    NoticePublish "notice.publish" "send notices.",
    NoticeSubscribe "notice.subscribe" "receive notices.",
    RpcCall "rpc.call" "send requests.",
    RpcServe "rpc.serve" "answer requests.",
    LeaseHold "lease.hold" "acquire leases.",
    LeaseView "lease.view" "see who holds a lease.",
    ScheduleManage "schedule.manage" "make, change and delete schedules.",
    FlagEvaluate "flag.evaluate" "ask for the value of a flag.",
    FlagManage "flag.manage" "make, change and delete flags.",
    RbacView "rbac.view" "see policies and groupings.",
    RbacPolicyManage "rbac.policy.manage" "add and delete policies.",
    RbacAssignmentManage "rbac.assignment.manage" "add and delete groupings.",
    TenantManage "tenant.manage" "change a tenant and everything in it.",
    NsManage "ns.manage" "change a namespace and everything in it.",
    AdminRead "admin:read" "see the state of the cluster.",
    AdminWrite "admin:write" "change the cluster.",
}

impl Action {
    /// The action of this word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|action| action.text() == text)
    }

    /// The word before the first dot; an action without a dot has no family.
    fn family(self) -> Option<&'static str> {
        self.text().split_once('.').map(|(family, _)| family)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// The actions that a policy names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActionPattern {
    /// This one.
    One(Action),
    /// `stream.*`: every action whose word begins so.
    Family(&'static str),
    /// `*`: every action.
    Every,
}

impl ActionPattern {
    /// The pattern of this text, if it names any action.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Every);
        }
        let Some(family) = text.strip_suffix(".*") else {
            return Action::parse(text).map(Self::One);
        };
        let mut families = Action::ALL.iter().filter_map(|action| action.family());
        families.find(|known| *known == family).map(Self::Family)
    }

    /// Whether it names this action.
    #[must_use]
    pub fn includes(self, action: Action) -> bool {
        match self {
            Self::One(one) => one == action,
            Self::Family(family) => action.family() == Some(family),
            Self::Every => true,
        }
    }

    /// Whether it names every action that `other` names.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        let all = Action::ALL.iter().copied();
        all.filter(|action| other.includes(*action))
            .all(|action| self.includes(action))
    }
}

impl fmt::Display for ActionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(action) => action.fmt(f),
            Self::Family(family) => write!(f, "{family}.*"),
            Self::Every => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_read_again() {
        for (at, action) in Action::ALL.iter().enumerate() {
            assert_eq!(Action::parse(action.text()), Some(*action));
            let others = &Action::ALL[at + 1..];
            assert!(others.iter().all(|other| other.text() != action.text()));
        }
        assert_eq!(Action::parse("stream.*"), None, "a pattern is no action");
        assert_eq!(Action::parse("Stream.publish"), None);
    }

    #[test]
    fn patterns_name_what_they_say() {
        let parse = |text| ActionPattern::parse(text).unwrap_or_else(|| panic!("{text}"));
        for text in [
            "*",
            "stream.*",
            "rbac.*",
            "rbac.policy.manage",
            "admin:read",
        ] {
            assert_eq!(parse(text).to_string(), text);
        }
        for text in [
            "",
            "**",
            "stream.",
            "stream*",
            "*.publish",
            "rbac.policy.*",
            "admin:*",
            "ns.",
        ] {
            assert_eq!(ActionPattern::parse(text), None, "{text}");
        }
        let names = |text, action| parse(text).includes(action);
        assert!(names("stream.*", Action::StreamManage));
        assert!(!names("stream.*", Action::QueueManage));
        assert!(names("rbac.*", Action::RbacAssignmentManage));
        assert!(names("*", Action::AdminWrite));
        assert!(!names("tenant.*", Action::NsManage));
    }

    #[test]
    fn a_pattern_covers_what_it_names_at_least() {
        let parse = |text| ActionPattern::parse(text).unwrap_or_else(|| panic!("{text}"));
        let covers = |wide, narrow| parse(wide).covers(parse(narrow));
        assert!(covers("*", "*") && covers("*", "stream.*") && covers("*", "admin:read"));
        assert!(covers("stream.*", "stream.publish") && covers("stream.*", "stream.*"));
        assert!(!covers("stream.*", "*") && !covers("stream.publish", "stream.*"));
        assert!(!covers("stream.*", "queue.produce"));
        // The only one of its family, and so all of it.
        assert!(covers("schedule.manage", "schedule.*"));
    }
}
