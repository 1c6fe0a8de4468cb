//! Asking before something that cannot be taken back.

use crate::failure::Failure;

/// Asks on the terminal before something that cannot be taken back. Without a
/// terminal there is nobody to ask.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    use std::io::{BufRead as _, IsTerminal as _, Read as _};
    if yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::Usage(format!("{question} Say so with --yes")));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    let read = stdin.lock().take(16).read_line(&mut answer);
    read.map_err(|error| Failure::io("read the answer", error))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Incomplete("nothing was changed".to_owned())),
    }
}
