//! Deliberately wrong variants of the engine, to see whether the oracles notice.
//!
//! A mutant is a file in `mutants/`: which source, what to find in it, and what
//! to put there instead, behind `pinion_types::mutant("its name")`. The tree is
//! copied, every mutant is applied to the copy, `pinion_types` of the copy gets
//! the function that asks the environment which one is on, and the copy is
//! built once. The tree itself holds nothing of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The variable of the copy's environment that names the mutant that is on.
const VARIABLE: &str = "SIM_MUTANT";
/// Folders that are not part of the sources.
const NOT_COPIED: [&str; 3] = ["target", ".git", "node_modules"];
/// A mutant that runs longer than this has made the engine hang; it counts as
/// noticed, as the same campaign ends without it.
const TIME_MAX: Duration = Duration::from_secs(240);

/// What the copy's `pinion_types` gets.
const SWITCH: &str = r#"
/// Whether the named wrong variant is on.
#[must_use]
pub fn mutant(name: &str) -> bool {
    static ON: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    ON.get_or_init(|| std::env::var("SIM_MUTANT").unwrap_or_default()) == name
}
"#;

/// One wrong variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// Name of its file, without the extension.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
    /// Options of `pinion-sim` under which it must be noticed.
    pub options: Vec<String>,
    edits: Vec<Edit>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Edit {
    file: PathBuf,
    find: String,
    replace: String,
}

/// What became of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An oracle noticed.
    Caught,
    /// The engine never ended, which everybody would notice.
    Hung,
    /// Nobody noticed.
    Missed,
}

/// What an oracle said of a mutant, as `pinion-sim` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Kind, seed and violation.
    pub what: String,
    /// Hash of what happened; none when the engine panicked.
    pub hash: Option<String>,
    /// Options of `pinion-sim` that make it happen again.
    pub options: Vec<String>,
}

impl Finding {
    /// The first one in what `pinion-sim` printed.
    fn in_output(text: &str) -> Option<Self> {
        let mut lines = text.lines().skip_while(|line| !line.starts_with("FAILED "));
        let what = lines.next()?.to_owned();
        let mut hash = None;
        for line in lines {
            if let Some(found) = line.strip_prefix("  hash of what happened: ") {
                hash = Some(found.to_owned());
            } else if let Some(options) = line.strip_prefix("  again: pinion-sim ") {
                let options = options.split_whitespace().map(str::to_owned).collect();
                return Some(Self {
                    what,
                    hash,
                    options,
                });
            }
        }
        None
    }
}

/// Why the mutants cannot be run.
#[derive(Debug)]
pub enum MutantError {
    /// A file could not be read, written or copied.
    Io(PathBuf, io::Error),
    /// A mutant's file is not understood.
    Malformed(PathBuf, &'static str),
    /// What a mutant wants to change is not there, or is there twice.
    NotFound {
        /// The mutant.
        mutant: String,
        /// The source.
        file: PathBuf,
        /// How often the text was found.
        found: usize,
    },
    /// There is no mutant of that name.
    Unknown(String),
    /// The copy does not build, or fails without a mutant.
    Broken(&'static str),
}

impl core::fmt::Display for MutantError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Malformed(path, what) => write!(f, "{}: {what}", path.display()),
            Self::NotFound {
                mutant,
                file,
                found,
            } => write!(
                f,
                "{mutant}: its text is {found} times in {}, must be once",
                file.display()
            ),
            Self::Unknown(name) => write!(f, "no mutant is named {name}"),
            Self::Broken(what) => f.write_str(what),
        }
    }
}

impl core::error::Error for MutantError {}

/// Reads a mutant's file:
///
/// ```text
/// why acknowledges when the write is handed out
/// run --only crash
/// file engine/commitlog/src/log.rs
/// <<<<
/// what is there
/// ====
/// what shall be there
/// >>>>
/// ```
///
/// `file` and its texts may come several times.
fn parse(name: &str, text: &str) -> Result<Mutant, &'static str> {
    let mut mutant = Mutant {
        name: name.to_owned(),
        why: String::new(),
        options: Vec::new(),
        edits: Vec::new(),
    };
    let mut file = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "why" => mutant.why = rest.to_owned(),
            "run" => mutant.options = rest.split_whitespace().map(str::to_owned).collect(),
            "file" => file = Some(PathBuf::from(rest)),
            "<<<<" => {
                let file = file.clone().ok_or("a text without a file")?;
                let find = until(&mut lines, "====").ok_or("a text without ====")?;
                let replace = until(&mut lines, ">>>>").ok_or("a text without >>>>")?;
                mutant.edits.push(Edit {
                    file,
                    find,
                    replace,
                });
            }
            "" => {}
            _ => return Err("a line that is neither why, run, file nor a text"),
        }
    }
    if mutant.why.is_empty() || mutant.edits.is_empty() {
        return Err("a mutant says why and changes something");
    }
    let mut switched = mutant.edits.iter().map(|edit| &edit.replace);
    if !switched.any(|text| text.contains(&format!("mutant(\"{name}\")"))) {
        return Err("a mutant asks whether it is on, by the name of its file");
    }
    Ok(mutant)
}

fn until<'a>(lines: &mut impl Iterator<Item = &'a str>, end: &str) -> Option<String> {
    let mut text = String::new();
    for line in lines {
        if line == end {
            // A text may be part of a line.
            text.pop();
            return Some(text);
        }
        text.push_str(line);
        text.push('\n');
    }
    None
}

/// Every mutant of a folder, by name.
///
/// # Errors
/// [`MutantError::Io`], [`MutantError::Malformed`].
pub fn read_all(folder: &Path) -> Result<Vec<Mutant>, MutantError> {
    let at = |path: &Path, error| MutantError::Io(path.to_owned(), error);
    let mut mutants = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| at(folder, e))? {
        let path = entry.map_err(|e| at(folder, e))?.path();
        if path
            .extension()
            .is_none_or(|extension| extension != "mutant")
        {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(|e| at(&path, e))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let mutant =
            parse(&name, &text).map_err(|what| MutantError::Malformed(path.clone(), what))?;
        mutants.push(mutant);
    }
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(mutants)
}

/// A copy of the tree with every mutant in it, built.
pub struct Copy {
    binary: PathBuf,
}

impl Copy {
    /// Copies the tree at `root` to `folder`, applies the mutants and builds.
    ///
    /// # Errors
    /// [`MutantError`]; a mutant whose text is not found once is an error, so
    /// that a mutant that became stale is noticed.
    pub fn build(root: &Path, folder: &Path, mutants: &[Mutant]) -> Result<Self, MutantError> {
        let tree = folder.join("tree");
        if tree.exists() {
            fs::remove_dir_all(&tree).map_err(|e| MutantError::Io(tree.clone(), e))?;
        }
        copy_tree(root, &tree)?;
        for mutant in mutants {
            for edit in &mutant.edits {
                apply(&tree, &mutant.name, edit)?;
            }
        }
        let types = tree.join("engine/types/src/lib.rs");
        let at = |e| MutantError::Io(types.clone(), e);
        let text = fs::read_to_string(&types).map_err(at)?;
        fs::write(&types, text + SWITCH).map_err(at)?;
        let target = folder.join("target");
        let status = Command::new("cargo")
            .args([
                "build",
                "--release",
                "-p",
                "simulator",
                "--bin",
                "pinion-sim",
            ])
            .current_dir(&tree)
            .env("CARGO_TARGET_DIR", &target)
            .status()
            .map_err(|e| MutantError::Io("cargo".into(), e))?;
        if !status.success() {
            return Err(MutantError::Broken(
                "the tree with the mutants does not build",
            ));
        }
        Ok(Self {
            binary: target.join("release/pinion-sim"),
        })
    }

    /// Runs the campaign of a mutant, with it on or off. Gives what was found,
    /// too, unless the engine aborted.
    ///
    /// # Errors
    /// [`MutantError::Io`] when the copy cannot be run.
    pub fn run(
        &self,
        mutant: &Mutant,
        on: bool,
    ) -> Result<(Verdict, Option<Finding>), MutantError> {
        let name = if on { &mutant.name } else { "" };
        let (status, text) = self.output(name, &mutant.options)?;
        let verdict = status.map_or(Verdict::Hung, verdict);
        Ok((verdict, Finding::in_output(&text)))
    }

    /// Runs the seed of a finding again.
    ///
    /// # Errors
    /// [`MutantError::Io`]; [`MutantError::Broken`] when nothing is found.
    pub fn again(&self, mutant: &Mutant, found: &Finding) -> Result<Finding, MutantError> {
        let (_, text) = self.output(&mutant.name, &found.options)?;
        Finding::in_output(&text).ok_or(MutantError::Broken("a seed finds nothing again"))
    }

    /// What a person types for that.
    #[must_use]
    pub fn command(&self, mutant: &Mutant, found: &Finding) -> String {
        let binary = self.binary.display();
        let options = found.options.join(" ");
        format!("{VARIABLE}={} {binary} {options}", mutant.name)
    }

    /// `None` for the status when it took too long.
    fn output(
        &self,
        mutant: &str,
        options: &[String],
    ) -> Result<(Option<ExitStatus>, String), MutantError> {
        let at = |e| MutantError::Io(self.binary.clone(), e);
        // A file takes any amount without being read meanwhile.
        let file = self.binary.with_extension("out");
        let output = fs::File::create(&file).map_err(at)?;
        let mut child = Command::new(&self.binary)
            .args(options)
            .env(VARIABLE, mutant)
            .stdout(output)
            .stderr(Stdio::null())
            .spawn()
            .map_err(at)?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(at)? {
                break Some(status);
            }
            if started.elapsed() > TIME_MAX {
                child.kill().map_err(at)?;
                child.wait().map_err(at)?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let text = fs::read_to_string(&file).map_err(at)?;
        Ok((status, text))
    }
}

/// Nothing found is 0; anything else, an abort included, is noticed.
fn verdict(status: ExitStatus) -> Verdict {
    if status.success() {
        Verdict::Missed
    } else {
        Verdict::Caught
    }
}

fn apply(tree: &Path, mutant: &str, edit: &Edit) -> Result<(), MutantError> {
    let path = tree.join(&edit.file);
    let text = fs::read_to_string(&path).map_err(|e| MutantError::Io(path.clone(), e))?;
    let found = text.matches(&edit.find).count();
    if found != 1 {
        return Err(MutantError::NotFound {
            mutant: mutant.to_owned(),
            file: edit.file.clone(),
            found,
        });
    }
    let text = text.replacen(&edit.find, &edit.replace, 1);
    fs::write(&path, text).map_err(|e| MutantError::Io(path.clone(), e))
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), MutantError> {
    let at = |path: &Path, error| MutantError::Io(path.to_owned(), error);
    fs::create_dir_all(to).map_err(|e| at(to, e))?;
    for entry in fs::read_dir(from).map_err(|e| at(from, e))? {
        let entry = entry.map_err(|e| at(from, e))?;
        let (path, name) = (entry.path(), entry.file_name());
        if NOT_COPIED.iter().any(|not| name == *not) {
            continue;
        }
        let target = to.join(&name);
        let kind = entry.file_type().map_err(|e| at(&path, e))?;
        if kind.is_dir() {
            copy_tree(&path, &target)?;
        } else if kind.is_file() {
            fs::copy(&path, &target).map_err(|e| at(&path, e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test may
mod tests {
    use super::*;

    const GOOD: &str = "why it is wrong\nrun --only crash --seeds 3\nfile a/b.rs\n<<<<\nlet x = 1;\n====\nlet x = if pinion_types::mutant(\"m\") { 2 } else { 1 };\n>>>>\n";

    #[test]
    fn a_mutants_file_says_where_what_and_why() {
        let mutant = parse("m", GOOD).unwrap();
        assert_eq!(mutant.options, ["--only", "crash", "--seeds", "3"]);
        assert_eq!(mutant.edits[0].find, "let x = 1;");
        assert!(parse("other", GOOD).is_err(), "switched by another name");
        assert!(parse("m", &GOOD.replace("why it", "it")).is_err());
        assert!(parse("m", &GOOD.replace(">>>>", "")).is_err());
    }

    #[test]
    fn a_finding_is_read_from_what_was_printed() {
        let text = "Node: 3 seeds\n\nFAILED node, seed 7: it is wrong\n    #1 boot\n  hash of what happened: 00ab\n  again: pinion-sim --only node --seed 7 --steps 11\n";
        let found = Finding::in_output(text).unwrap();
        assert_eq!(found.what, "FAILED node, seed 7: it is wrong");
        assert_eq!(found.hash.as_deref(), Some("00ab"));
        assert_eq!(found.options.join(" "), "--only node --seed 7 --steps 11");
        assert_eq!(Finding::in_output("violations: 0\n"), None);
    }

    #[test]
    fn a_text_that_is_not_there_once_is_an_error() {
        let folder = std::env::temp_dir().join(format!("pinion-mutant-{}", std::process::id()));
        fs::create_dir_all(folder.join("a")).unwrap();
        let edit = parse("m", GOOD).unwrap().edits.remove(0);
        for (text, fine) in [
            ("fn f() {}\nlet x = 1;\n", true),
            ("", false),
            ("let x = 1;\nlet x = 1;\n", false),
        ] {
            fs::write(folder.join("a/b.rs"), text).unwrap();
            assert_eq!(apply(&folder, "m", &edit).is_ok(), fine, "{text}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn every_mutant_of_the_tree_is_well_formed_and_finds_its_place() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mutants = read_all(&root.join("mutants")).unwrap();
        for mutant in &mutants {
            for edit in &mutant.edits {
                let text = fs::read_to_string(root.join("../..").join(&edit.file)).unwrap();
                assert_eq!(text.matches(&edit.find).count(), 1, "{}", mutant.name);
            }
        }
    }
}
