//! What was counted beside what was accepted: a pure function.

use core::fmt;

use super::baseline::Baseline;

/// How much longer a path may become before somebody must accept it in writing,
/// in percent. Lower finds smaller losses and stops more changes that only move
/// code about; higher lets a loss slip in.
pub const TOLERANCE_PERCENT: f64 = 5.0;

/// What was counted of one path.
#[derive(Clone, Debug, PartialEq)]
pub struct Count {
    /// Its name.
    pub name: String,
    /// Instructions per operation.
    pub instructions: f64,
}

/// What a path's count means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Within the tolerance.
    Same,
    /// Shorter by more than the tolerance: the baseline should be renewed, or a
    /// later loss up to here goes unseen.
    Faster,
    /// Longer by more than the tolerance.
    Slower,
    /// Not in the baseline.
    New,
    /// In the baseline, but no path of that name was counted.
    Gone,
}

impl Verdict {
    /// Whether it must be accepted in writing. A count taken with other tools
    /// than the baseline's cannot say that a path became longer; that a path is
    /// missing on one side it can.
    #[must_use]
    pub const fn fails(self, same_tools: bool) -> bool {
        match self {
            Self::Same | Self::Faster => false,
            Self::Slower => same_tools,
            Self::New | Self::Gone => true,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "",
            Self::Faster => "shorter: accept it, to hold it",
            Self::Slower => "LONGER",
            Self::New => "NEW: not in the baseline",
            Self::Gone => "GONE: only in the baseline",
        })
    }
}

/// One line of the comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The path.
    pub name: String,
    /// Accepted instructions per operation.
    pub old: Option<f64>,
    /// Counted now.
    pub new: Option<f64>,
    /// What it means.
    pub verdict: Verdict,
}

impl Row {
    /// By how much it changed, in percent of what was accepted.
    #[must_use]
    pub fn change_percent(&self) -> Option<f64> {
        Some((self.new? / self.old? - 1.0) * 100.0)
    }
}

/// A row for each path that was counted, in their order, then one for each
/// that only the baseline has.
#[must_use]
pub fn compare(baseline: &Baseline, counted: &[Count]) -> Vec<Row> {
    let mut rows: Vec<Row> = counted
        .iter()
        .map(|count| {
            let mut row = Row {
                name: count.name.clone(),
                old: baseline.instructions(&count.name),
                new: Some(count.instructions),
                verdict: Verdict::New,
            };
            if let Some(change) = row.change_percent() {
                row.verdict = if change > TOLERANCE_PERCENT {
                    Verdict::Slower
                } else if change < -TOLERANCE_PERCENT {
                    Verdict::Faster
                } else {
                    Verdict::Same
                };
            }
            row
        })
        .collect();
    let gone = baseline
        .counts
        .iter()
        .filter(|old| counted.iter().all(|count| count.name != old.name));
    rows.extend(gone.map(|old| Row {
        name: old.name.clone(),
        old: Some(old.instructions),
        new: None,
        verdict: Verdict::Gone,
    }));
    rows
}

#[cfg(test)]
mod tests {
    use super::super::baseline::Tools;
    use super::*;

    fn count(name: &str, instructions: f64) -> Count {
        Count {
            name: name.to_owned(),
            instructions,
        }
    }

    fn baseline(counts: &[Count]) -> Baseline {
        Baseline {
            tools: Tools {
                compiler: "rustc 1".to_owned(),
                machine: "x86_64".to_owned(),
                libc: "glibc 2".to_owned(),
            },
            counts: counts.to_vec(),
        }
    }

    #[track_caller]
    fn verdict(old: f64, new: f64) -> Verdict {
        let rows = compare(&baseline(&[count("a", old)]), &[count("a", new)]);
        let [row] = &rows[..] else {
            panic!("one row: {rows:?}")
        };
        assert_eq!((row.old, row.new), (Some(old), Some(new)));
        row.verdict
    }

    #[test]
    fn what_did_not_change_passes() {
        assert_eq!(verdict(100.0, 100.0), Verdict::Same);
        assert!(!Verdict::Same.fails(true));
    }

    #[test]
    fn what_became_longer_by_more_than_the_tolerance_fails() {
        assert_eq!(verdict(100.0, 104.9), Verdict::Same);
        assert_eq!(verdict(100.0, 105.1), Verdict::Slower);
        assert_eq!(verdict(100.0, 1000.0), Verdict::Slower);
        assert!(Verdict::Slower.fails(true));
    }

    #[test]
    fn what_became_shorter_passes_and_is_pointed_out() {
        assert_eq!(verdict(100.0, 95.1), Verdict::Same);
        assert_eq!(verdict(100.0, 94.9), Verdict::Faster);
        assert!(!Verdict::Faster.fails(true));
    }

    #[test]
    fn other_tools_cannot_say_that_a_path_became_longer() {
        assert!(!Verdict::Slower.fails(false));
        assert!(Verdict::New.fails(false), "but that one is not held, yes");
        assert!(Verdict::Gone.fails(false));
    }

    #[test]
    fn a_path_missing_on_either_side_fails() {
        let rows = compare(
            &baseline(&[count("kept", 1.0), count("gone", 2.0)]),
            &[count("new", 3.0), count("kept", 1.0)],
        );
        let seen: Vec<_> = rows
            .iter()
            .map(|row| (row.name.as_str(), row.verdict, row.change_percent()))
            .collect();
        assert_eq!(
            seen,
            [
                ("new", Verdict::New, None),
                ("kept", Verdict::Same, Some(0.0)),
                ("gone", Verdict::Gone, None),
            ]
        );
        assert!(Verdict::New.fails(true) && Verdict::Gone.fails(true));
    }
}
