//! Runs this program again under valgrind's callgrind, one path at a time.
//!
//! A process for each path, so that no path moves another's heap, with an empty
//! environment, so that the stack begins at the same place.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which functions are counted: callgrind matches names as the compiler mangles
/// them, of which only this part is the same in every build.
pub const REGION: &str = "*counted_region*";

/// What the program under valgrind says before the number of operations.
pub const OPERATIONS: &str = "operations ";

/// Why a path has no count.
#[derive(Debug, thiserror::Error)]
pub enum CountError {
    /// Valgrind is in no folder of `PATH`.
    #[error("valgrind is not installed; on Debian and Ubuntu: apt-get install valgrind")]
    NoValgrind,
    /// It could not be started.
    #[error("{} cannot be started: {source}", .path.display())]
    Start {
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("counting `{name}` failed:\n{output}")]
    Failed {
        /// The path.
        name: String,
        /// What it wrote.
        output: String,
    },
    /// Its output has no count, or the count is zero: the counted function was
    /// not found by its name.
    #[error("nothing was counted for `{name}`:\n{output}")]
    Nothing {
        /// The path.
        name: String,
        /// What it wrote.
        output: String,
    },
}

/// Where valgrind is, by the folders of `search` (the variable `PATH`).
///
/// # Errors
/// [`CountError::NoValgrind`].
pub fn find_valgrind(search: Option<&OsStr>) -> Result<PathBuf, CountError> {
    std::env::split_paths(search.unwrap_or_default())
        .map(|folder| folder.join("valgrind"))
        .find(|file| file.is_file())
        .ok_or(CountError::NoValgrind)
}

/// Instructions per operation of the path `name`, which `program --run NAME`
/// runs. The same program gives the same count but for a few instructions.
///
/// # Errors
/// [`CountError`].
pub fn count(valgrind: &Path, program: &Path, name: &str) -> Result<f64, CountError> {
    let output = Command::new(valgrind)
        .arg("--tool=callgrind")
        .arg("--callgrind-out-file=/dev/null")
        .arg(format!("--toggle-collect={REGION}"))
        .arg(program)
        .arg("--run")
        .arg(name)
        .env_clear()
        .output()
        .map_err(|source| CountError::Start {
            path: valgrind.to_owned(),
            source,
        })?;
    let said = String::from_utf8_lossy(&output.stdout);
    let report = String::from_utf8_lossy(&output.stderr);
    let wrote = || format!("{said}{report}");
    if !output.status.success() {
        return Err(CountError::Failed {
            name: name.to_owned(),
            output: wrote(),
        });
    }
    per_operation(&said, &report).ok_or_else(|| CountError::Nothing {
        name: name.to_owned(),
        output: wrote(),
    })
}

/// From what the program said and what callgrind reported.
fn per_operation(said: &str, report: &str) -> Option<f64> {
    let operations: u64 = said
        .lines()
        .find_map(|line| line.strip_prefix(OPERATIONS))?
        .trim()
        .parse()
        .ok()?;
    let collected: u64 = report
        .lines()
        .find_map(|line| line.split_once("Collected : "))?
        .1
        .trim()
        .parse()
        .ok()?;
    (operations > 0 && collected > 0).then(|| collected as f64 / operations as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "==5892== Events    : Ir\n==5892== Collected : 17010\n";

    #[test]
    fn the_count_is_what_was_collected_by_what_was_done() {
        assert_eq!(per_operation("operations 1000\n", REPORT), Some(17.01));
    }

    #[test]
    fn nothing_counted_is_no_count_of_zero() {
        assert_eq!(per_operation("", REPORT), None);
        assert_eq!(per_operation("operations 0\n", REPORT), None);
        assert_eq!(per_operation("operations 9\n", "nothing"), None);
        let zero = REPORT.replace("17010", "0");
        assert_eq!(per_operation("operations 9\n", &zero), None);
    }

    #[test]
    fn a_missing_valgrind_is_said_with_the_way_to_get_it() {
        let error = find_valgrind(Some(OsStr::new("/nowhere:/nor-here"))).expect_err("not there");
        assert!(error.to_string().contains("apt-get install valgrind"));
        assert!(find_valgrind(None).is_err());
    }
}
