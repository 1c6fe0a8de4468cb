//! What both suites do alike: looking at the machine before, taking turns,
//! watching while something is measured, and writing down what was found.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pinion_cli::bench::latency::Latency;
use pinion_cli::bench::machine::{
    Disturbance, MachineFacts, OTHERS_SHARE_MAX, Watch, affinity, disturbance_now, pin_thread,
};
use pinion_cli::bench::measure::{BenchError, Run};
use serde::Serialize;

use crate::plot::{self, Distribution, PlotError};
use crate::table::{Column, Line, Measured, Sample};

/// The processor every server is bound to.
pub const SERVER_CPU: usize = 0;
/// The processor the generator is bound to.
pub const GENERATOR_CPU: usize = 1;

/// Share of a processor that the kernel may use for itself before a run counts less
/// than another try: of more, a p99 on two processors says as much as of the server.
const KERNEL_SHARE_MAX: f64 = 0.004;

/// Further tries of a run that the kernel interrupted, where the kernel does nothing
/// for what is measured; where it writes to a disk, there are none.
pub(crate) const TRIES_AGAIN_MAX: usize = 2;

/// Share of disturbed runs above which nothing is published.
const DISTURBED_RUNS_MAX: f64 = 0.25;

/// Looks at the machine and binds the generator to its processor.
///
/// # Errors
/// A processor is missing, or others use the machine and `force` is not given.
pub fn prepare(force: bool) -> Result<(MachineFacts, Disturbance), BenchError> {
    let usable = affinity();
    if !usable.contains(&SERVER_CPU) || !usable.contains(&GENERATOR_CPU) {
        return Err(BenchError::Options(format!(
            "the suite needs processors {SERVER_CPU} and {GENERATOR_CPU}; it may use {usable:?}"
        )));
    }
    let before = disturbance_now(Duration::from_secs(2));
    if before.is_too_busy() && !force {
        return Err(BenchError::Options(format!(
            "other processes use {:.0} % of the machine, more than {:.0} %: wait, or pass --force",
            before.others_share * 100.0,
            OTHERS_SHARE_MAX * 100.0
        )));
    }
    // Before pinning, which leaves one processor to be seen.
    let machine = MachineFacts::read();
    pin_thread(GENERATOR_CPU).map_err(BenchError::io("binding the generator"))?;
    Ok((machine, before))
}

/// Turns a number of seconds from an option into time.
///
/// # Errors
/// It is negative or no number.
pub fn seconds(option: &str, value: f64) -> Result<Duration, BenchError> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| BenchError::Options(format!("{option} {value} is no time")))
}

/// What one completion of a run stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    /// Records, or other things counted.
    pub records: f64,
    /// Bytes of payload.
    pub bytes: f64,
}

impl Unit {
    /// One of something whose bytes are not of interest.
    pub const ONE: Self = Self {
        records: 1.0,
        bytes: 0.0,
    };
}

/// [`measure`] without the distribution.
///
/// # Errors
/// What `run` answers.
pub fn observe(
    pids: &[u32],
    unit: Unit,
    run: impl FnOnce() -> Result<Run, BenchError>,
) -> Result<Sample, BenchError> {
    Ok(measure(pids, unit, run)?.sample)
}

/// Measures, watching the processor time of the servers `pids` and everyone
/// else's. Without a server the generator's own thread is what is measured.
///
/// # Errors
/// What `run` answers.
pub fn measure(
    pids: &[u32],
    unit: Unit,
    run: impl FnOnce() -> Result<Run, BenchError>,
) -> Result<Measured, BenchError> {
    let watch = Watch::start(pids);
    let run = run()?;
    let wall = watch.elapsed().as_secs_f64().max(1e-9);
    let server_cpu = if pids.is_empty() {
        run.generator.cpu_share
    } else {
        watch.process_cpu_seconds().iter().sum::<f64>() / wall
    };
    let kernel = watch.kernel_share();
    let disturbance = watch.stop();
    let latency = run.latency.summary();
    let rate = run.rate() * unit.records;
    let sample = Sample {
        p50_us: latency.p50_us,
        p99_us: latency.p99_us,
        p999_us: latency.p999_us,
        p9999_us: latency.p9999_us,
        max_us: latency.max_us,
        rate,
        bytes_rate: run.rate() * unit.bytes,
        rate_per_core: rate / server_cpu.max(0.01),
        server_cpu,
        generator_busy: run.generator.busy_share,
        slip_p99_us: run.generator.slip_p99_us,
        others: disturbance.others_share,
        steal: disturbance.steal_share,
        kernel,
        lost: run.lost,
        peak: None,
    };
    Ok(Measured {
        sample,
        latency: run.latency,
    })
}

/// How many runs were made and how many were disturbed.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Tally {
    /// All of them.
    pub runs: usize,
    /// Those while others used more than [`OTHERS_SHARE_MAX`].
    pub disturbed: usize,
    /// Those in which the kernel used more than `KERNEL_SHARE_MAX` for itself.
    pub interrupted: usize,
}

impl Tally {
    /// Counts one run and says on standard error how it went.
    pub fn count<M: AsRef<Sample>>(
        &mut self,
        who: &str,
        result: Result<M, BenchError>,
    ) -> Option<M> {
        self.runs += 1;
        match result {
            Ok(measured) => {
                let sample = measured.as_ref();
                self.disturbed += usize::from(sample.others > OTHERS_SHARE_MAX);
                self.interrupted += usize::from(was_interrupted(sample));
                eprintln!(
                    "  {who:<26} p50 {:>8.1} µs  p99 {:>8.1} µs  {:>9.0} /s  server {:>3.0} %  generator {:>3.0} %  others {:>2.0} %  kernel {:.2} %",
                    sample.p50_us,
                    sample.p99_us,
                    sample.rate,
                    sample.server_cpu * 100.0,
                    sample.generator_busy * 100.0,
                    sample.others * 100.0,
                    sample.kernel * 100.0
                );
                Some(measured)
            }
            Err(error) => {
                eprintln!("  {who:<26} failed: {error}");
                None
            }
        }
    }

    /// Whether too many runs were disturbed for a published figure.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a few hundred runs")]
    pub fn is_disturbed(&self) -> bool {
        self.disturbed as f64 > self.runs as f64 * DISTURBED_RUNS_MAX
    }
}

fn was_interrupted(sample: &Sample) -> bool {
    sample.kernel > KERNEL_SHARE_MAX
}

/// Measures, and up to `again` times more for as long as the kernel interrupted;
/// gives the try that it interrupted least. All subjects are treated alike.
pub(crate) fn undisturbed<M: AsRef<Sample>>(
    again: usize,
    mut measure: impl FnMut() -> Option<M>,
) -> Option<M> {
    let mut best = measure()?;
    for _ in 0..again {
        if !was_interrupted(best.as_ref()) {
            break;
        }
        match measure() {
            Some(other) if other.as_ref().kernel < best.as_ref().kernel => best = other,
            _ => {}
        }
    }
    Some(best)
}

/// Lets `subjects` take turns, round after round. Every other round goes
/// backwards, so that no subject always follows the same one. A run that the
/// kernel interrupted is made up to `again` times more.
pub fn in_turns<S: Copy, M: Into<Measured>>(
    subjects: &[S],
    rounds: usize,
    again: usize,
    name: impl Fn(S) -> String,
    mut measure: impl FnMut(S) -> Option<M>,
) -> Vec<Column> {
    let mut columns: Vec<Column> = subjects
        .iter()
        .map(|&subject| Column {
            subject: name(subject),
            samples: Vec::new(),
            latency: Latency::default(),
        })
        .collect();
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..subjects.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let measured = undisturbed(again, || measure(subjects[index]).map(Into::into));
            let column = &mut columns[index];
            if let Some(measured) = &measured {
                column.latency.add(&measured.latency);
            }
            column
                .samples
                .push(measured.map(|measured| measured.sample));
        }
    }
    columns
}

/// The lines of a Markdown file between which a suite writes.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    /// The line before.
    pub begin: &'static str,
    /// The line after.
    pub end: &'static str,
}

/// Where the findings go besides standard output.
#[derive(Clone, Debug, clap::Args)]
pub struct Output {
    /// Put the tables between the suite marks of this Markdown file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write everything as JSON here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the latency distribution of every subject of every line here, for HdrHistogram plotters
    #[arg(long, value_name = "DIR")]
    hgrm_dir: Option<PathBuf>,
    /// Draw latency by percentile, one SVG file for each line, into this folder
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Measure and publish although the machine is busy
    #[arg(long)]
    pub force: bool,
}

impl Output {
    /// Writes one `.hgrm` file for each subject of each line where `--hgrm-dir`
    /// asks for it, and one chart for each line where `--plots` does: all rounds
    /// together, microseconds.
    ///
    /// # Errors
    /// The directory or a file cannot be written.
    pub fn write_distributions<'l>(
        &self,
        lines: impl IntoIterator<Item = &'l Line>,
    ) -> Result<(), BenchError> {
        for line in lines {
            if let Some(dir) = &self.hgrm_dir {
                write_distributions(dir, [line]).map_err(BenchError::io("--hgrm-dir"))?;
            }
            if let Some(svg) = self.plots.is_some().then(|| chart(line)).flatten() {
                self.write_plot(&line.title, &svg)?;
            }
        }
        Ok(())
    }

    /// Writes the chart of `title` where `--plots` asks for it.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub fn write_plot(&self, title: &str, svg: &str) -> Result<(), BenchError> {
        let Some(dir) = &self.plots else {
            return Ok(());
        };
        fs::create_dir_all(dir)
            .and_then(|()| fs::write(dir.join(format!("{}.svg", slug(title))), svg))
            .map_err(BenchError::io("--plots"))
    }

    /// Prints `text`, and writes it and `findings` where they were asked for.
    ///
    /// # Errors
    /// A file cannot be written, or too many runs were disturbed.
    pub fn deliver(
        &self,
        text: &str,
        findings: &impl Serialize,
        tally: Tally,
        marks: Marks,
    ) -> Result<(), BenchError> {
        println!("{text}");
        if let Some(path) = &self.json {
            let json = serde_json::to_string_pretty(findings)
                .map_err(|error| BenchError::Options(format!("--json: {error}")))?;
            fs::write(path, json).map_err(BenchError::io("--json"))?;
        }
        let Some(path) = &self.out else {
            return Ok(());
        };
        if tally.is_disturbed() && !self.force {
            return Err(BenchError::Options(format!(
                "{} of {} runs were disturbed: not published; run again, or pass --force",
                tally.disturbed, tally.runs
            )));
        }
        publish(path, text, marks).map_err(BenchError::io("--out"))
    }
}

/// What the heading of a report says where runs are made again.
pub(crate) fn said_of_tries() -> String {
    format!(
        "Where a bound is on a 99th percentile or beyond, such a run is made again, at most {TRIES_AGAIN_MAX} times, \
         and the try that the kernel interrupted least counts.\n"
    )
}

/// The first lines of every report.
#[must_use]
pub fn heading(machine: &MachineFacts, tally: Tally, minutes: f64, cut_short: bool) -> String {
    let mut out = format!(
        "Machine: {}.\n\nServer on CPU {SERVER_CPU}, generator on CPU {GENERATOR_CPU}, loopback. \
         Median (lowest–highest) over interleaved runs; {} runs in {minutes:.1} minutes, {} of them while \
         other processes used more than {:.0} % of the machine. In {} the kernel's own \
         threads used more than {} % of a processor.\n",
        machine.line(),
        tally.runs,
        tally.disturbed,
        OTHERS_SHARE_MAX * 100.0,
        tally.interrupted,
        KERNEL_SHARE_MAX * 100.0,
    );
    if cut_short {
        out.push_str("\nThe time was up before every run was made.\n");
    }
    out
}

fn write_distributions<'l>(
    dir: &Path,
    lines: impl IntoIterator<Item = &'l Line>,
) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for line in lines {
        for column in &line.columns {
            // Nothing was timed, or every run failed.
            if column.latency.summary().count == 0 {
                continue;
            }
            let name = format!("{}--{}.hgrm", slug(&line.title), slug(&column.subject));
            let mut file = io::BufWriter::new(fs::File::create(dir.join(name))?);
            column.latency.write_hgrm(&mut file)?;
            file.flush()?;
        }
    }
    Ok(())
}

/// `text` as part of a file name: letters and digits in lower case, one dash for
/// each run of anything else.
#[must_use]
pub fn slug(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        if letter.is_ascii_alphanumeric() {
            out.push(letter.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.trim_end_matches('-').to_owned()
}

/// Latency by percentile of everyone in `line`; none where nothing was timed.
fn chart(line: &Line) -> Option<String> {
    let distributions: Vec<Distribution> = line
        .columns
        .iter()
        // Names may be Markdown.
        .map(|column| Distribution::of(&column.subject.replace("**", ""), &column.latency))
        .collect();
    match plot::percentiles(&line.title, &distributions) {
        Ok(svg) => Some(svg),
        Err(PlotError::Empty) => None,
        Err(error) => {
            // The figures stand without it.
            eprintln!("no plot of {}: {error}", line.title);
            None
        }
    }
}

/// Replaces what stands between the marks of a Markdown file.
pub(crate) fn publish(path: &Path, text: &str, marks: Marks) -> io::Result<()> {
    let page = fs::read_to_string(path)?;
    let page = between_marks(&page, text, marks).ok_or_else(|| {
        io::Error::other(format!(
            "{} has no {} … {}",
            path.display(),
            marks.begin,
            marks.end
        ))
    })?;
    fs::write(path, page)
}

fn between_marks(page: &str, text: &str, Marks { begin, end }: Marks) -> Option<String> {
    let (before, rest) = page.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!(
        "{before}{begin}\n{}\n{end}{after}",
        text.trim_end()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Marks = Marks {
        begin: "<!-- begin -->",
        end: "<!-- end -->",
    };

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let page = "head\n<!-- begin -->\nold\n<!-- end -->\nfoot\n";
        assert_eq!(
            between_marks(page, "new\n", MARKS).as_deref(),
            Some("head\n<!-- begin -->\nnew\n<!-- end -->\nfoot\n")
        );
        assert_eq!(between_marks("no marks", "new", MARKS), None);
    }

    #[test]
    fn every_other_round_goes_backwards_and_a_failed_run_keeps_its_place() {
        let mut order = Vec::new();
        let columns = in_turns(
            &[1, 2, 3],
            2,
            0,
            |s| s.to_string(),
            |subject| {
                order.push(subject);
                (subject != 2).then(Sample::default)
            },
        );
        assert_eq!(order, [1, 2, 3, 3, 2, 1]);
        assert_eq!(columns[1].samples, [None, None]);
        assert_eq!(columns[2].samples.len(), 2);
    }

    #[test]
    fn a_run_that_was_interrupted_is_made_again_and_the_quietest_try_counts() {
        let tried = |waits: &[Option<f64>]| {
            let mut tries = waits.iter().copied();
            let kept: Option<Measured> = undisturbed(2, || {
                let sample = Sample {
                    kernel: tries.next().expect("no try too many")?,
                    ..Sample::default()
                };
                Some(sample.into())
            });
            let kept = kept.map(|measured| measured.sample.kernel);
            (kept, waits.len() - tries.len())
        };
        assert_eq!(tried(&[Some(0.004)]), (Some(0.004), 1));
        assert_eq!(tried(&[Some(0.02), Some(0.001)]), (Some(0.001), 2));
        let again = [Some(0.02), Some(0.01), Some(0.03)];
        assert_eq!(tried(&again), (Some(0.01), 3), "not for ever");
        let failed = [Some(0.02), None, None];
        assert_eq!(tried(&failed), (Some(0.02), 3), "a figure is kept");
        assert_eq!(tried(&[None]), (None, 1), "a failure stays one");
    }

    #[test]
    fn every_subject_that_was_timed_has_its_distribution_of_all_rounds() {
        let columns = in_turns(
            &["Pinion", "UDP echo, both spin", "failed"],
            2,
            0,
            str::to_owned,
            |subject| {
                let mut measured = Measured::default();
                measured.latency.record_n(7_000, 3);
                (subject != "failed").then_some(measured)
            },
        );
        let line = Line {
            title: "GET 100 B, 64 in flight".to_owned(),
            columns,
            promises: Vec::new(),
        };
        let dir = tempfile::tempdir().expect("a temporary directory");
        write_distributions(dir.path(), [&line]).expect("written");
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .expect("listed")
            .map(|entry| entry.expect("read").file_name())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "get-100-b-64-in-flight--pinion.hgrm",
                "get-100-b-64-in-flight--udp-echo-both-spin.hgrm"
            ]
        );
        let svg = chart(&line).expect("two were timed");
        assert!(svg.contains("UDP echo, both spin: p50 7 µs"), "{svg}");
        assert!(!svg.contains("failed"), "who was not timed has no curve");
        assert_eq!(
            chart(&Line {
                columns: Vec::new(),
                ..line
            }),
            None
        );
        let text = fs::read_to_string(dir.path().join(&names[0])).expect("read");
        let total = text.lines().find(|l| l.contains("Total count"));
        assert!(total.is_some_and(|l| l.ends_with(" 6]")), "{text}");
    }

    #[test]
    fn a_quarter_of_disturbed_runs_is_published_and_more_are_not() {
        let tally = |runs, disturbed| Tally {
            runs,
            disturbed,
            ..Tally::default()
        };
        assert!(!tally(8, 2).is_disturbed());
        assert!(tally(8, 3).is_disturbed());
    }
}
