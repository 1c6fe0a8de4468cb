//! The accepted counts, as the file `benches/micro/baseline.csv` keeps them, and
//! the lines of `benches/micro/ACCEPTED.md`.
//!
//! ```text
//! # compiler: rustc 1.90.0 (1159e78c4 2025-09-14)
//! # machine: x86_64 sse4.2 avx2
//! # libc: glibc 2.36
//! path;instructions
//! wire: encode a GET;61.0
//! ```
//! Lines in the order of [`PATHS`](super::PATHS), so that a change is a change of
//! one line. Other lines that begin with `#` are for people.

use core::fmt::Write as _;

use super::compare::{Count, Row};

/// First line of the table.
const HEADING: &str = "path;instructions";

/// A change below this, in percent, is not worth a line in the list of what was
/// accepted: the start of the heap and of the stack moves counts by less.
const NOISE_PERCENT: f64 = 0.5;

/// What decides how many instructions the same source takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// `rustc --version` of the compiler.
    pub compiler: String,
    /// Architecture, and the extensions that code chooses by at run time.
    pub machine: String,
    /// The C library: its `memcpy` and `malloc` are counted, too.
    pub libc: String,
}

impl Tools {
    fn fields(&self) -> [(&'static str, &str); 3] {
        [
            ("compiler", &self.compiler),
            ("machine", &self.machine),
            ("libc", &self.libc),
        ]
    }

    /// What differs: its name, here, there.
    pub fn differences<'a>(
        &'a self,
        there: &'a Self,
    ) -> impl Iterator<Item = (&'static str, &'a str, &'a str)> {
        self.fields()
            .into_iter()
            .zip(there.fields())
            .filter(|(here, there)| here.1 != there.1)
            .map(|(here, there)| (here.0, here.1, there.1))
    }
}

/// The accepted counts and what they were taken with.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// What they were taken with.
    pub tools: Tools,
    /// One for each path.
    pub counts: Vec<Count>,
}

/// Why bytes are no baseline.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaselineError {
    /// A line `# field: value` is missing.
    #[error("the line `# {field}: …` is missing")]
    Missing {
        /// Which.
        field: &'static str,
    },
    /// A line is no path with a positive number, or names a path again.
    #[error("line {number} is no `path;instructions`, or its path has one already")]
    Line {
        /// Counted from 1.
        number: usize,
    },
}

impl Baseline {
    /// What was accepted for a path.
    #[must_use]
    pub fn instructions(&self, name: &str) -> Option<f64> {
        let found = self.counts.iter().find(|count| count.name == name)?;
        Some(found.instructions)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`BaselineError`], the first fault.
    pub fn parse(text: &str) -> Result<Self, BaselineError> {
        let fact = |field: &'static str| {
            text.lines()
                .filter_map(|line| line.strip_prefix("# ")?.split_once(": "))
                .find(|(name, _)| *name == field)
                .map(|(_, value)| value.trim().to_owned())
                .ok_or(BaselineError::Missing { field })
        };
        let tools = Tools {
            compiler: fact("compiler")?,
            machine: fact("machine")?,
            libc: fact("libc")?,
        };
        let mut counts: Vec<Count> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.is_empty() || line == HEADING {
                continue;
            }
            let count = line
                .rsplit_once(';')
                .and_then(|(name, number)| Some((name, number.parse::<f64>().ok()?)))
                .filter(|(_, number)| number.is_finite() && *number > 0.0)
                .filter(|(name, _)| counts.iter().all(|count| count.name != *name))
                .map(|(name, instructions)| Count {
                    name: name.to_owned(),
                    instructions,
                });
            counts.push(count.ok_or(BaselineError::Line { number: at + 1 })?);
        }
        Ok(Self { tools, counts })
    }

    /// The file.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::from(
            "# Instructions per operation, written by `instructions --accept REASON`;\n\
             # see docs/benchmarks-micro.md.\n",
        );
        for (field, value) in self.tools.fields() {
            writeln!(text, "# {field}: {value}").expect("a string takes all");
        }
        text.push_str(HEADING);
        text.push('\n');
        for count in &self.counts {
            writeln!(text, "{};{:.1}", count.name, count.instructions).expect("a string takes all");
        }
        text
    }
}

/// Lines for the list of what was accepted: one for each path that changed.
#[must_use]
pub fn accepted_lines(date: &str, rows: &[Row], reason: &str) -> String {
    // A table's cell ends at a bar and at the end of the line.
    let reason = reason.replace('|', "/").replace(['\n', '\r'], " ");
    let number = |count: Option<f64>| count.map_or("none".to_owned(), |n| format!("{n:.1}"));
    let mut text = String::new();
    for row in rows {
        let change = row.change_percent();
        if change.is_some_and(|percent| percent.abs() < NOISE_PERCENT) {
            continue;
        }
        let change = change.map_or("".to_owned(), |percent| format!("{percent:+.1} %"));
        writeln!(
            text,
            "| {date} | {} | {} | {} | {change} | {} |",
            row.name,
            number(row.old),
            number(row.new),
            reason.trim()
        )
        .expect("a string takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::compare::compare;
    use super::*;

    fn tools(compiler: &str) -> Tools {
        Tools {
            compiler: compiler.to_owned(),
            machine: "x86_64 avx2".to_owned(),
            libc: "glibc 2.36".to_owned(),
        }
    }

    fn baseline(counts: &[(&str, f64)]) -> Baseline {
        let counts = counts.iter().map(|(name, instructions)| Count {
            name: (*name).to_owned(),
            instructions: *instructions,
        });
        Baseline {
            tools: tools("rustc 1.90.0"),
            counts: counts.collect(),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let written = baseline(&[("wire: encode, small", 61.5), ("cache: get", 312.0)]);
        assert_eq!(Baseline::parse(&written.render()), Ok(written));
    }

    #[test]
    fn what_is_no_baseline_is_refused() {
        let good = baseline(&[("a", 1.0)]).render();
        let without = good.replace("# libc", "# library");
        assert_eq!(
            Baseline::parse(&without),
            Err(BaselineError::Missing { field: "libc" })
        );
        for line in ["b", "b;", "b;x", "b;-1", "b;0", "b;NaN", "a;2"] {
            let number = good.lines().count() + 1;
            assert_eq!(
                Baseline::parse(&format!("{good}{line}\n")),
                Err(BaselineError::Line { number }),
                "{line}"
            );
        }
    }

    #[test]
    fn other_tools_are_named() {
        let (here, there) = (tools("rustc 1.91.0"), tools("rustc 1.90.0"));
        let found: Vec<_> = here.differences(&there).collect();
        assert_eq!(found, [("compiler", "rustc 1.91.0", "rustc 1.90.0")]);
        assert_eq!(here.differences(&here).count(), 0);
    }

    #[test]
    fn what_is_accepted_is_written_down_without_the_noise() {
        let old = baseline(&[("same", 100.0), ("longer", 100.0), ("gone", 7.0)]);
        let new = baseline(&[("same", 100.2), ("longer", 120.0), ("new", 5.0)]);
        let rows = compare(&old, &new.counts);
        let lines = accepted_lines("2026-01-02", &rows, " a|b\nc ");
        assert_eq!(
            lines,
            "| 2026-01-02 | longer | 100.0 | 120.0 | +20.0 % | a/b c |\n\
             | 2026-01-02 | new | none | 5.0 |  | a/b c |\n\
             | 2026-01-02 | gone | 7.0 | none |  | a/b c |\n"
        );
    }
}
