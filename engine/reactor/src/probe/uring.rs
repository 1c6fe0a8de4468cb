//! `io_uring`: may it be used, is it new enough, has it every request we make.

use std::io;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, Probe, opcode};
use rustix::event::{EventfdFlags, eventfd};

use super::{Finding, has_capability, read, status_field};
use crate::ring;

const CHECK: &str = "io_uring";

/// Every request made: by the ring a core sleeps on, and by glommio's three.
/// glommio ends the process, with a joke, when one of its own is missing.
const OPCODES: [(&str, u8); 22] = [
    ("NOP", opcode::Nop::CODE),
    ("READV", opcode::Readv::CODE),
    ("WRITEV", opcode::Writev::CODE),
    ("FSYNC", opcode::Fsync::CODE),
    ("READ_FIXED", opcode::ReadFixed::CODE),
    ("WRITE_FIXED", opcode::WriteFixed::CODE),
    ("POLL_ADD", opcode::PollAdd::CODE),
    ("POLL_REMOVE", opcode::PollRemove::CODE),
    ("SENDMSG", opcode::SendMsg::CODE),
    ("RECVMSG", opcode::RecvMsg::CODE),
    ("TIMEOUT", opcode::Timeout::CODE),
    ("TIMEOUT_REMOVE", opcode::TimeoutRemove::CODE),
    ("ACCEPT", opcode::Accept::CODE),
    ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
    ("LINK_TIMEOUT", opcode::LinkTimeout::CODE),
    ("CONNECT", opcode::Connect::CODE),
    ("FALLOCATE", opcode::Fallocate::CODE),
    ("OPENAT", opcode::OpenAt::CODE),
    ("CLOSE", opcode::Close::CODE),
    ("STATX", opcode::Statx::CODE),
    ("READ", opcode::Read::CODE),
    ("WRITE", opcode::Write::CODE),
];

/// Capability that may use `io_uring` where it is kept from others.
const CAP_SYS_ADMIN: u32 = 21;

/// A call the kernel refused.
#[derive(Debug)]
struct Refusal {
    call: &'static str,
    error: io::Error,
}

/// What else the machine says, to tell whose refusal it is.
#[derive(Debug, Default, Clone, Copy)]
struct Facts {
    /// `kernel.io_uring_disabled`; absent before Linux 6.6.
    disabled: Option<u8>,
    /// A seccomp filter is installed.
    filtered: bool,
    privileged: bool,
}

/// What a working ring told.
#[derive(Debug)]
struct Abilities {
    missing: Vec<&'static str>,
    /// Timer changes complete without news (Linux 5.17).
    skips_success: bool,
    /// Deferred task work (Linux 6.1).
    defers: bool,
}

pub(super) fn check() -> Vec<Finding> {
    match exercise() {
        Ok(abilities) => judge(&abilities, &release()),
        Err(refusal) => vec![explain(&refusal, facts())],
    }
}

fn release() -> String {
    read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned())
}

fn facts() -> Facts {
    let status = read("/proc/self/status").unwrap_or_default();
    Facts {
        disabled: read("/proc/sys/kernel/io_uring_disabled").and_then(|text| text.parse().ok()),
        filtered: status_field(&status, "Seccomp").as_deref() == Some("2"),
        privileged: has_capability(&status, CAP_SYS_ADMIN),
    }
}

/// Makes both kinds of ring, and each of the three calls once.
fn exercise() -> Result<Abilities, Refusal> {
    let at = |call| move |error| Refusal { call, error };
    let mut ring = ring::build(8).map_err(at("io_uring_setup"))?;
    // glommio's third ring polls the disk instead of waiting for it.
    let polled: io::Result<IoUring> = IoUring::builder().setup_iopoll().build(8);
    drop(polled.map_err(at("io_uring_setup"))?);
    let mut probe = Probe::new();
    let bell = eventfd(0, EventfdFlags::CLOEXEC).map_err(|errno| Refusal {
        call: "eventfd2",
        error: errno.into(),
    })?;
    let submitter = ring.submitter();
    submitter
        .register_probe(&mut probe)
        .and_then(|()| submitter.register_eventfd(bell.as_raw_fd()))
        .map_err(at("io_uring_register"))?;
    enter(&mut ring).map_err(at("io_uring_enter"))?;
    Ok(Abilities {
        missing: OPCODES
            .iter()
            .filter(|(_, code)| !probe.is_supported(*code))
            .map(|(name, _)| *name)
            .collect(),
        skips_success: ring.params().is_feature_skip_cqe_on_success(),
        defers: ring.params().is_setup_single_issuer(),
    })
}

#[allow(unsafe_code)] // Submitting to a ring is unsafe in every wrapper.
fn enter(ring: &mut IoUring) -> io::Result<()> {
    let nop = opcode::Nop::new().build();
    // SAFETY: the request holds no pointer and no descriptor.
    let pushed = unsafe { ring.submission().push(&nop) };
    pushed.map_err(|_| io::Error::other("an empty ring is full"))?;
    ring.submit_and_wait(1)?;
    Ok(())
}

fn judge(abilities: &Abilities, release: &str) -> Vec<Finding> {
    let newer = "run a kernel of Linux 6.1 or later";
    if !abilities.missing.is_empty() || !abilities.skips_success {
        let what = if abilities.missing.is_empty() {
            "timers that complete silently".to_owned()
        } else {
            abilities.missing.join(", ")
        };
        let found = format!("Linux {release} lacks {what}; 5.17 is the oldest that has all");
        return vec![Finding::fatal(CHECK, found, newer)];
    }
    if !abilities.defers {
        let found = format!(
            "Linux {release} works, but interrupts a core for every datagram (no deferred task work)"
        );
        return vec![Finding::warn(CHECK, found, newer)];
    }
    let found = format!(
        "Linux {release}, all {} requests, deferred task work",
        OPCODES.len()
    );
    vec![Finding::ok(CHECK, found)]
}

fn explain(refusal: &Refusal, facts: Facts) -> Finding {
    /// Where a filter comes from, and what to let through.
    const ALLOW: &str = "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile (container: --security-opt seccomp=PROFILE.json; Kubernetes: securityContext.seccompProfile of type Localhost; systemd: SystemCallFilter=)";
    let Refusal { call, error } = refusal;
    let (found, fix) = match (error.raw_os_error(), facts) {
        (
            Some(libc::EPERM),
            Facts {
                disabled: Some(2), ..
            },
        ) => (
            "switched off on this machine (kernel.io_uring_disabled = 2)".to_owned(),
            "sysctl -w kernel.io_uring_disabled=0, and the same in /etc/sysctl.d".to_owned(),
        ),
        (
            Some(libc::EPERM),
            Facts {
                disabled: Some(1),
                privileged: false,
                ..
            },
        ) => (
            "kept from plain users on this machine (kernel.io_uring_disabled = 1)".to_owned(),
            "put a group of this user's into kernel.io_uring_group, or sysctl -w kernel.io_uring_disabled=0"
                .to_owned(),
        ),
        (Some(libc::EPERM | libc::EACCES), Facts { filtered: true, .. }) => (
            format!("a seccomp filter refuses {call} ({error})"),
            ALLOW.to_owned(),
        ),
        (Some(libc::EPERM | libc::EACCES), _) => (
            format!("{call} is refused ({error}), and neither by a seccomp filter nor by sysctl"),
            "look for a denial by a security module (`ausearch -m avc`, `dmesg`), or leave the sandbox"
                .to_owned(),
        ),
        (Some(libc::ENOSYS), Facts { filtered: true, .. }) => (
            format!("{call} does not exist here ({error}): a seccomp filter hides it, or the kernel lacks it"),
            format!("{ALLOW}; or run a kernel of Linux 6.1 or later with CONFIG_IO_URING"),
        ),
        (Some(libc::ENOSYS), _) => (
            format!("this kernel has no {call} ({error})"),
            "run a kernel of Linux 6.1 or later with CONFIG_IO_URING; sandboxes that bring a kernel of their own (gVisor) cannot run a node"
                .to_owned(),
        ),
        (Some(libc::ENOMEM), _) => (
            format!("no memory for {call} ({error})"),
            "raise the memory limit of the control group, or the limit of locked memory (`ulimit -l`)"
                .to_owned(),
        ),
        (Some(libc::EMFILE | libc::ENFILE), _) => (
            format!("no file left for {call} ({error})"),
            "raise the limit of open files (`ulimit -n`, LimitNOFILE=)".to_owned(),
        ),
        _ => (
            format!("{call}: {error}"),
            "run a kernel of Linux 6.1 or later".to_owned(),
        ),
    };
    Finding::fatal(CHECK, found, fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(errno: i32, facts: Facts) -> String {
        let refusal = Refusal {
            call: "io_uring_setup",
            error: io::Error::from_raw_os_error(errno),
        };
        let finding = explain(&refusal, facts);
        assert!(finding.is_fatal());
        finding.to_string()
    }

    fn says(text: &str, words: &[&str]) {
        for word in words {
            assert!(text.contains(word), "{word:?} is missing in {text:?}");
        }
    }

    #[test]
    fn each_refusal_is_laid_at_the_door_of_who_refused() {
        let filtered = Facts {
            filtered: true,
            ..Facts::default()
        };
        let switched = |disabled| Facts {
            disabled: Some(disabled),
            ..filtered
        };
        // The switch is named before the filter: it refuses first.
        says(
            &explained(libc::EPERM, switched(2)),
            &["io_uring_disabled = 2", "io_uring_disabled=0"],
        );
        says(
            &explained(libc::EPERM, switched(1)),
            &["plain users", "io_uring_group"],
        );
        let root = Facts {
            privileged: true,
            ..switched(1)
        };
        says(&explained(libc::EPERM, root), &["seccomp filter refuses"]);
        says(
            &explained(libc::EPERM, switched(0)),
            &["seccomp filter refuses io_uring_setup", "seccomp profile"],
        );
        says(
            &explained(libc::EPERM, Facts::default()),
            &["security module"],
        );
        says(
            &explained(libc::ENOSYS, filtered),
            &["seccomp", "CONFIG_IO_URING"],
        );
        let bare = explained(libc::ENOSYS, Facts::default());
        says(&bare, &["no io_uring_setup", "Linux 6.1"]);
        assert!(!bare.contains("seccomp"), "{bare}");
        says(&explained(libc::EMFILE, Facts::default()), &["ulimit -n"]);
        says(&explained(libc::ENOMEM, Facts::default()), &["ulimit -l"]);
        says(&explained(libc::EINVAL, Facts::default()), &["Linux 6.1"]);
    }

    #[test]
    fn a_missing_request_is_fatal_and_named_and_an_old_ring_only_slower() {
        let modern = Abilities {
            missing: vec![],
            skips_success: true,
            defers: true,
        };
        let findings = judge(&modern, "6.18");
        assert_eq!(findings, [Finding::ok(CHECK, &findings[0].found)]);
        let old = Abilities {
            defers: false,
            ..modern
        };
        let warned = judge(&old, "5.19");
        assert!(!warned[0].is_fatal() && warned[0].fix.is_some());
        let older = Abilities {
            missing: vec!["STATX"],
            ..old
        };
        let fatal = judge(&older, "5.5");
        assert!(fatal[0].is_fatal());
        says(&fatal[0].to_string(), &["5.5", "STATX", "5.17"]);
    }
}
