//! A tool for tests and for the curious: `deny-io-uring PROGRAM [ARGUMENT]...`
//! runs a program as a container does whose seccomp profile refuses `io_uring`.
//!
//! It installs a filter under which `io_uring_setup`, `io_uring_enter` and
//! `io_uring_register` fail with EPERM, and becomes the program. The filter
//! cannot be taken off again. Try `deny-io-uring pinion doctor`.
#![deny(unsafe_code)]

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// The arguments are wrong.
const EXIT_USAGE: u8 = 2;
/// The program was not run; what shells use.
const EXIT_NOT_RUN: u8 = 126;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: deny-io-uring PROGRAM [ARGUMENT]...");
        return ExitCode::from(EXIT_USAGE);
    };
    let error = match deny() {
        Ok(()) => Command::new(&program).args(arguments).exec(),
        Err(error) => error,
    };
    eprintln!("deny-io-uring: {}: {error}", program.display());
    ExitCode::from(EXIT_NOT_RUN)
}

#[allow(unsafe_code)] // No safe wrapper installs a seccomp filter.
fn deny() -> io::Result<()> {
    const LD_WORD: u16 = 0x20; // BPF_LD  | BPF_W   | BPF_ABS
    const JGE: u16 = 0x35; //     BPF_JMP | BPF_JGE | BPF_K
    const JGT: u16 = 0x25; //     BPF_JMP | BPF_JGT | BPF_K
    const RET: u16 = 0x06; //     BPF_RET | BPF_K
    const fn op(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
        libc::sock_filter { code, jt, jf, k }
    }
    // The three have the same, consecutive numbers on every architecture. The
    // number of a call is the first word of what a filter sees (seccomp(2)).
    const FIRST: u32 = 425;
    const LAST: u32 = 427;
    let filter = [
        op(LD_WORD, 0, 0, 0),
        op(JGE, 0, 2, FIRST),
        op(JGT, 1, 0, LAST),
        op(RET, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        op(RET, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: filter.as_ptr().cast_mut(),
    };
    // What lets a plain user install a filter: no later program gains rights.
    // SAFETY: takes numbers only.
    let promised = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if promised != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `program` is a valid `sock_fprog` whose `filter` points at `len`
    // initialised instructions; the kernel copies them before it returns.
    let installed = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    if installed != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
