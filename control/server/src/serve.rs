//! `pinion serve`.

use std::process::ExitCode;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::config::{Config, Flags};
use crate::doctor::refuse_unfit_machine;
use crate::identity;
use crate::node::{Node, StartError};

/// Refused or failed.
pub(crate) const EXIT_FAILED: u8 = 1;
/// The configuration or the flags are wrong.
pub(crate) const EXIT_USAGE: u8 = 2;

pub(crate) fn run(flags: &Flags) -> ExitCode {
    init_log();
    let config = match Config::load(flags) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("pinion: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    // Before anything is opened: one legible line with the fix for what makes a
    // node impossible here (R1).
    if let Some(code) = refuse_unfit_machine(&config.data_dir) {
        return code;
    }
    let node = match Node::start(&config) {
        Ok(node) => node,
        Err(error) => {
            eprintln!("pinion: {error}");
            return ExitCode::from(match error {
                StartError::Config(_) | StartError::Placement(_) | StartError::Cluster(_) => {
                    EXIT_USAGE
                }
                _ => EXIT_FAILED,
            });
        }
    };
    for signal in [SIGTERM, SIGINT] {
        // The second signal of a kind ends the process at once, for an operator
        // who will not wait for the drain.
        let registered = signal_hook::flag::register_conditional_default(signal, node.stop_flag())
            .and_then(|_| signal_hook::flag::register(signal, node.stop_flag()));
        if let Err(error) = registered {
            eprintln!("pinion: cannot handle signals: {error}");
            return ExitCode::from(EXIT_FAILED);
        }
    }
    print_facts(&config, &node);
    let ending = node.wait();
    for failure in &ending.failures {
        eprintln!("pinion: {failure}");
    }
    let stats = &ending.stats;
    eprintln!(
        "pinion: drained: {} sessions, {} requests, {} records published, {} for another core",
        stats.sessions, stats.requests, stats.published, stats.wrong_shard
    );
    if ending.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_FAILED)
    }
}

/// One line per fact a newcomer needs.
fn print_facts(config: &Config, node: &Node) {
    let steering = if node.placement.data.len() == 1 {
        "one data core"
    } else if node.steered {
        "steered by the kernel"
    } else {
        "forwarded between cores (the kernel program is off or not allowed)"
    };
    eprintln!("pinion {}", env!("CARGO_PKG_VERSION"));
    eprintln!("  listening   {} (QUIC, UDP)", node.address);
    if node.has_admin {
        let scheme = if config.dev { "http" } else { "https" };
        eprintln!("  admin       {scheme}://{} (HTTP, TCP)", node.address);
        if config.dev {
            let token = identity::directory(config).join("admin.token");
            let token = token.display();
            eprintln!(
                "  dashboard   {scheme}://{}/ (log in with what {token} has)",
                node.address
            );
        }
    }
    eprintln!(
        "  data cores  CPU {:?}, control CPU {}; datagrams {steering}",
        node.placement.data, node.placement.control
    );
    if let Some(ca) = &node.ca_path {
        eprintln!("  trust       --ca {}", ca.display());
    }
    if config.dev {
        let dir = identity::directory(config);
        eprintln!(
            "  token       --token {}",
            dir.join("client.token").display()
        );
        eprintln!(
            "  dev mode    loopback only; streams, caches and queues are created on first use"
        );
        eprintln!("  try         pinion pub demo/hello --key k   (in another shell, here)");
    } else if config.token.is_empty() {
        eprintln!(
            "  no tokens   every client is refused: run `pinion token --name NAME` and put what it prints into the configuration"
        );
    }
    let found = &node.found;
    eprintln!(
        "  data        {} ({} segments, {} MiB; {} records read again)",
        config.data_dir.display(),
        found.segments,
        found.bytes >> 20,
        found.records_replayed
    );
    for remark in &found.remarks {
        eprintln!("  data        {remark}");
    }
    for warning in &node.warnings {
        eprintln!("  warning     {warning}");
    }
    if !node.socket_buffers.is_full() {
        eprintln!(
            "  warning     UDP buffers of {} KiB where {} KiB were asked; `pinion doctor` has the fix",
            node.socket_buffers.receive.min(node.socket_buffers.send) / 1024,
            node.socket_buffers.asked / 1024
        );
    }
}

/// Warnings and worse on standard error; `PINION_LOG` says otherwise.
fn init_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("PINION_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}
