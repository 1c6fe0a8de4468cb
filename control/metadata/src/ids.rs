//! Numbers of this crate, each its own type so that one is never passed for
//! another. None is ever used twice.

use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// The bare number, for bytes, log lines and metrics.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Version of the whole metadata: how many changes of objects led to it.
    /// 0 is the state before the first command.
    MetaVersion(u64)
);
number!(
    /// A tenant for its lifetime, also on the data path.
    TenantNumber(u64)
);
number!(
    /// A member of the group that replicates the metadata, for its lifetime.
    MemberNumber(u64)
);
number!(
    /// A policy, a grouping or an API key for its lifetime.
    RowId(u64)
);
number!(
    /// A broker for its lifetime; kept when it registers again.
    BrokerNumber(u32)
);
