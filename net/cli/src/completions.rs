//! `pinion completions`: what the shell needs to complete commands.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap_complete::{Shell, generate};

/// Which shell.
#[derive(Clone, Debug, clap::Args)]
pub struct CompletionsArgs {
    /// Shell to complete for; for example `pinion completions bash > /etc/bash_completion.d/pinion`
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the completions of `command`, which only the binary knows whole.
#[must_use]
pub fn run(args: &CompletionsArgs, mut command: clap::Command) -> ExitCode {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    generate(args.shell, &mut command, name, &mut script);
    match io::stdout().write_all(&script) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("error: cannot write to standard output: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
