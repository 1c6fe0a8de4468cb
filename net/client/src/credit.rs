//! How much a subscription may still be sent, and when to grant more.

/// What one subscription owes the node: credit it used and did not give back.
///
/// Credit goes back when half of either kind is used: sooner would send a
/// frame per record, later would let the node run dry for a round trip.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CreditAccount {
    records_max: u32,
    bytes_max: u32,
    records_used: u32,
    bytes_used: u32,
}

/// Credit to give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) records: u32,
    pub(crate) bytes: u32,
}

impl CreditAccount {
    pub(crate) const fn new(records_max: u32, bytes_max: u32) -> Self {
        Self {
            records_max,
            bytes_max,
            records_used: 0,
            bytes_used: 0,
        }
    }

    /// The application has taken `records` of `bytes` together.
    pub(crate) fn consume(&mut self, records: u32, bytes: u32) -> Option<Grant> {
        self.records_used = self.records_used.saturating_add(records);
        self.bytes_used = self.bytes_used.saturating_add(bytes);
        let due = self.records_used >= self.records_max.div_ceil(2)
            || self.bytes_used >= self.bytes_max.div_ceil(2);
        if !due {
            return None;
        }
        let grant = Grant {
            records: self.records_used,
            bytes: self.bytes_used,
        };
        self.records_used = 0;
        self.bytes_used = 0;
        Some(grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_goes_back_when_half_of_either_kind_is_used() {
        let mut account = CreditAccount::new(10, 1000);
        assert_eq!(account.consume(4, 10), None);
        assert_eq!(
            account.consume(1, 10),
            Some(Grant {
                records: 5,
                bytes: 20
            })
        );
        assert_eq!(account.consume(1, 499), None);
        assert_eq!(
            account.consume(0, 1),
            Some(Grant {
                records: 1,
                bytes: 500
            })
        );
    }

    #[test]
    fn credit_given_back_is_exactly_what_was_used() {
        let mut account = CreditAccount::new(7, 64);
        let (mut used, mut granted) = (0, 0);
        for i in 0..1000_u32 {
            used += i % 5;
            granted += account.consume(1, i % 5).map_or(0, |g| g.bytes);
        }
        assert!(used >= granted && used - granted < 64);
    }

    #[test]
    fn one_record_of_credit_comes_back_after_each_record() {
        let mut account = CreditAccount::new(1, 100);
        assert_eq!(
            account.consume(1, 1),
            Some(Grant {
                records: 1,
                bytes: 1
            })
        );
    }
}
