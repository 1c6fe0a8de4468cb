//! What a token costs the data core that a connection comes to: `token-hello` of
//! `benches/micro`, which has a core of its own and no cluster.

use std::io;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use super::PlaneError;
use super::report::{Section, Wanted};

/// Longest that the middle one and the hundredth of them may take, in microseconds.
const TIME_MAX_US: f64 = 100.0;

/// What the program says with `--json`.
#[derive(Deserialize)]
struct Said {
    p50_us: f64,
    p99_us: f64,
    worst_p50_us: f64,
    worst_p99_us: f64,
    worst_bytes: u32,
    plain_p50_us: f64,
}

/// Runs `program` and takes what it says.
pub(super) fn play(program: &Path) -> Result<Section, PlaneError> {
    let failed = PlaneError::io("token-hello");
    let output = Command::new(program).arg("--json").output();
    let output = output.map_err(&failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(failed(io::Error::other(said)));
    }
    let said: Said = serde_json::from_slice(&output.stdout)
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    let mut section = Section::new(
        "A token at HELLO",
        "How long a data core is taken up by the first request of a connection that shows a token of the cluster, which is \
         verified, in turns with the worst that is let in, which has 64 permissions and is as long as one may be, and with one of a \
         connection whose token is looked up in the configuration. One thread, no network. \
         Requests after it verify nothing: the core counts its signatures, and there is one for each connection.",
    );
    let most = Wanted::AtMost(TIME_MAX_US);
    section.figure("p50", said.p50_us, "µs", most);
    section.figure("p99", said.p99_us, "µs", most);
    let worst = format!("64 permissions, {} bytes", said.worst_bytes);
    section.figure(&format!("{worst}: p50"), said.worst_p50_us, "µs", most);
    section.figure(&format!("{worst}: p99"), said.worst_p99_us, "µs", most);
    section.figure(
        "p50 with a token that is looked up",
        said.plain_p50_us,
        "µs",
        Wanted::Nothing,
    );
    Ok(section)
}
