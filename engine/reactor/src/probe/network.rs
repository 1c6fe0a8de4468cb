//! UDP: buffers, segmentation offload, steering by connection id.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use quinn_udp::UdpSocketState;

use super::Finding;
use crate::steering::Steering;
use crate::udp::{BufferReport, GroupOptions, UdpGroup, attach_reuseport_program, bind_group};

/// Sockets of the trial group: the fewest between which there is a choice.
const TRIAL_SOCKETS: usize = 2;

pub(super) fn check() -> Vec<Finding> {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    match bind_group(loopback, TRIAL_SOCKETS, None, GroupOptions::default()) {
        Ok(group) => vec![
            judge_buffers(group.buffers),
            offload(&group),
            judge_steering(steer(&group)),
        ],
        Err(error) => vec![Finding::fatal(
            "udp",
            format!("no socket on loopback: {error}"),
            "give the process a network namespace whose loopback is up (`ip link set lo up`)",
        )],
    }
}

fn judge_buffers(report: BufferReport) -> Finding {
    const CHECK: &str = "udp buffers";
    let BufferReport {
        asked,
        receive,
        send,
    } = report;
    let found = format!(
        "{} KiB to receive and {} KiB to send, of {} KiB asked",
        receive >> 10,
        send >> 10,
        asked >> 10
    );
    if report.is_full() {
        return Finding::ok(CHECK, found);
    }
    Finding::warn(
        CHECK,
        format!("{found}: bursts are lost"),
        format!(
            "sysctl -w net.core.rmem_max={asked} net.core.wmem_max={asked}, and the same in /etc/sysctl.d"
        ),
    )
}

fn offload(group: &UdpGroup) -> Finding {
    match UdpSocketState::new((&group.sockets[0]).into()) {
        Ok(state) => judge_offload(state.max_gso_segments(), state.gro_segments()),
        Err(error) => Finding::fatal(
            "udp offload",
            format!("a socket cannot be set up: {error}"),
            "run a kernel of Linux 6.1 or later",
        ),
    }
}

fn judge_offload(send_segments: usize, receive_segments: usize) -> Finding {
    const CHECK: &str = "udp offload";
    let word = |segments| {
        if segments > 1 {
            format!("up to {segments} datagrams a call")
        } else {
            "one datagram a call".to_owned()
        }
    };
    let found = format!(
        "sends {} (GSO), receives {} (GRO)",
        word(send_segments),
        word(receive_segments)
    );
    if send_segments > 1 && receive_segments > 1 {
        return Finding::ok(CHECK, found);
    }
    Finding::warn(
        CHECK,
        format!("{found}: large transfers are many times slower"),
        "run a kernel of Linux 5.0 or later, outside sandboxes that bring a network stack of their own",
    )
}

fn steer(group: &UdpGroup) -> io::Result<()> {
    let keys = Steering { k0: 0, k1: 1 };
    let cores = u32::try_from(TRIAL_SOCKETS).expect("2");
    attach_reuseport_program(&group.sockets[0], &keys.program(cores))
}

fn judge_steering(attached: io::Result<()>) -> Finding {
    const CHECK: &str = "udp steering";
    match attached {
        Ok(()) => Finding::ok(
            CHECK,
            "the kernel delivers each datagram to the core that owns its connection",
        ),
        Err(error) => Finding::warn(
            CHECK,
            format!(
                "the kernel refuses the program that steers datagrams ({error}): cores forward them to each other"
            ),
            "allow setsockopt SO_ATTACH_REUSEPORT_CBPF in the sandbox; with one data core it does not matter",
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Severity;
    use super::*;

    #[test]
    fn small_buffers_come_with_the_line_that_enlarges_them() {
        let report = BufferReport {
            asked: 4 << 20,
            receive: 208 << 10,
            send: 4 << 20,
        };
        let finding = judge_buffers(report);
        assert_eq!(finding.severity, Severity::Warn);
        assert!(finding.found.contains("208 KiB to receive"), "{finding}");
        let fix = finding.fix.unwrap();
        assert!(
            fix.contains("net.core.rmem_max=4194304 net.core.wmem_max=4194304"),
            "{fix}"
        );
        let full = BufferReport {
            receive: 4 << 20,
            ..report
        };
        assert_eq!(judge_buffers(full).severity, Severity::Ok);
    }

    #[test]
    fn offload_missing_on_either_side_is_a_warning() {
        assert_eq!(judge_offload(64, 64).severity, Severity::Ok);
        for finding in [judge_offload(1, 64), judge_offload(64, 1)] {
            assert_eq!(finding.severity, Severity::Warn);
            assert!(finding.found.contains("one datagram a call"), "{finding}");
        }
    }

    #[test]
    fn refused_steering_is_a_warning_that_says_what_happens_instead() {
        let refused = judge_steering(Err(io::Error::from_raw_os_error(libc::EPERM)));
        assert_eq!(refused.severity, Severity::Warn);
        assert!(refused.found.contains("forward"), "{refused}");
        assert_eq!(judge_steering(Ok(())).severity, Severity::Ok);
    }
}
