//! The node's UDP sockets: one port, one socket per data core, opened as one
//! group so that the kernel hands each datagram to the core that owns it.
//!
//! The index which steers is the order of binding, and the kernel moves the
//! last socket into the place of one that closes. The group is therefore opened
//! once and closed together: keep the [`UdpGroup`] until every core has ended.

use std::io;
use std::mem::size_of;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::steering::Steering;

/// Socket buffer asked for, each way.
///
/// The kernel's default of about 208 KiB holds 140 full datagrams: less than a
/// core receives in one millisecond. Larger tolerates longer turns before the
/// kernel drops; the memory is only used while datagrams wait.
pub const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// How to open the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupOptions {
    /// Bytes of socket buffer to ask for, each way.
    pub buffer_bytes: usize,
    /// False leaves the steering program off even when keys are given; for
    /// tests of what happens where the kernel refuses it.
    pub attach_steering: bool,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            buffer_bytes: SOCKET_BUFFER_BYTES,
            attach_steering: true,
        }
    }
}

/// Socket buffers, asked and got, in bytes of one socket (R20).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferReport {
    /// What was asked, each way.
    pub asked: usize,
    /// What receiving got.
    pub receive: usize,
    /// What sending got.
    pub send: usize,
}

impl BufferReport {
    /// True when the kernel gave all that was asked.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.receive.min(self.send) >= self.asked
    }
}

/// Why the sockets were not opened. None is left open.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process has the port. Choose another, or stop it.
    #[error("UDP {addr} is in use by another process")]
    InUse {
        /// What was asked for.
        addr: SocketAddr,
    },
    /// No interface of this machine has the address.
    #[error("{ip} is not an address of this machine", ip = .addr.ip())]
    NoSuchAddress {
        /// What was asked for.
        addr: SocketAddr,
    },
    /// Ports below 1024 need a privilege.
    #[error("no permission to bind UDP {addr}")]
    Forbidden {
        /// What was asked for.
        addr: SocketAddr,
    },
    /// A group has 1 to [`pinion_types::limits::DATA_CORES_MAX`] sockets.
    #[error("a group of {count} sockets")]
    Count {
        /// What was asked for.
        count: usize,
    },
    /// Anything else the kernel said.
    #[error("opening UDP {addr}: {source}")]
    Io {
        /// What was asked for.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The sockets of one node, by data core.
#[derive(Debug)]
pub struct UdpGroup {
    /// One socket per data core, in the order that steers.
    pub sockets: Vec<UdpSocket>,
    /// The bound address, its port resolved.
    pub local_addr: SocketAddr,
    /// True when the kernel steers by connection id. When false, a datagram
    /// lands on a core chosen by its addresses, and the core that got it must
    /// forward it.
    pub steered: bool,
    /// Buffers of the first socket; the others are opened alike.
    pub buffers: BufferReport,
}

impl UdpGroup {
    /// A second handle of core `index`'s socket, to give to
    /// [`run_core`](crate::run_core). The socket stays in its place while the
    /// group lives, even if the core's thread ends.
    ///
    /// # Errors
    /// What the kernel said, for example that no more files may be opened.
    ///
    /// # Panics
    /// When `index` is not a core of the group.
    pub fn socket(&self, index: usize) -> io::Result<UdpSocket> {
        self.sockets[index].try_clone()
    }
}

/// Opens `count` sockets on `addr` and steers by `steering` where the kernel
/// allows it. With one socket there is nothing to steer, and it counts as
/// steered.
///
/// `addr` may have port 0. An IPv6 wildcard also takes IPv4.
///
/// # Errors
/// [`BindError`]; a refused steering program is not an error.
pub fn bind_group(
    addr: SocketAddr,
    count: usize,
    steering: Option<&Steering>,
    options: GroupOptions,
) -> Result<UdpGroup, BindError> {
    if count == 0 || count > usize::from(pinion_types::limits::DATA_CORES_MAX) {
        return Err(BindError::Count { count });
    }
    let explain = |source: io::Error| match source.raw_os_error() {
        Some(libc::EADDRINUSE) => BindError::InUse { addr },
        Some(libc::EADDRNOTAVAIL) => BindError::NoSuchAddress { addr },
        Some(libc::EACCES | libc::EPERM) => BindError::Forbidden { addr },
        _ => BindError::Io { addr, source },
    };
    if addr.port() != 0 {
        // SO_REUSEPORT would silently join the group of another node of the
        // same user and share its datagrams. A plain bind tells.
        drop(open(addr, false).map_err(explain)?);
    }
    let first = open(addr, count > 1).map_err(explain)?;
    let local_addr = first.local_addr().map_err(explain)?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(open(local_addr, true).map_err(explain)?);
    }
    let reports = sockets
        .iter()
        .map(|socket| size_buffers(socket, options.buffer_bytes));
    let buffers = reports.collect::<io::Result<Vec<_>>>().map_err(explain)?[0];
    Ok(UdpGroup {
        steered: steer(&sockets, steering, options),
        sockets,
        local_addr,
        buffers,
    })
}

fn steer(sockets: &[UdpSocket], steering: Option<&Steering>, options: GroupOptions) -> bool {
    if sockets.len() == 1 {
        return true;
    }
    let Some(steering) = steering.filter(|_| options.attach_steering) else {
        return false;
    };
    let cores = u32::try_from(sockets.len()).expect("at most DATA_CORES_MAX");
    match attach_reuseport_program(&sockets[0], &steering.program(cores)) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "the kernel refuses to steer datagrams by connection id; cores forward them instead");
            false
        }
    }
}

fn open(addr: SocketAddr, reuse_port: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(addr),
        Type::DGRAM.cloexec(),
        Some(Protocol::UDP),
    )?;
    if addr.is_ipv6() {
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    // Never SO_REUSEADDR: on UDP it lets a second process steal the port.
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

fn size_buffers(socket: &UdpSocket, asked: usize) -> io::Result<BufferReport> {
    let socket = SockRef::from(socket);
    socket.set_recv_buffer_size(asked)?;
    socket.set_send_buffer_size(asked)?;
    // Linux doubles what was asked, for its own bookkeeping, and reports that
    // (socket(7)).
    Ok(BufferReport {
        asked,
        receive: socket.recv_buffer_size()? / 2,
        send: socket.send_buffer_size()? / 2,
    })
}

/// Attaches a classic BPF program to the SO_REUSEPORT group of `socket`.
#[allow(unsafe_code)] // No safe wrapper knows SO_ATTACH_REUSEPORT_CBPF.
pub(crate) fn attach_reuseport_program(
    socket: impl AsFd,
    program: &[libc::sock_filter],
) -> io::Result<()> {
    let header = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_ptr().cast_mut(),
    };
    let len = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).expect("16 bytes");
    // SAFETY: `header` is a valid `sock_fprog` of the stated size, its `filter`
    // points at `len` initialised instructions that outlive the call, and the
    // kernel copies them and writes to neither.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const header).cast(),
            len,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Datagrams dropped for want of buffer since `socket` was opened.
#[allow(unsafe_code)] // No safe wrapper knows SO_MEMINFO.
pub(crate) fn receive_drops(socket: &UdpSocket) -> Option<u32> {
    /// Place of the drop counter in the answer (`SK_MEMINFO_DROPS`).
    const DROPS: usize = 8;
    let mut info = [0_u32; DROPS + 1];
    let mut len = libc::socklen_t::try_from(size_of_val(&info)).expect("36 bytes");
    // SAFETY: `info` is `len` bytes of writable, plain memory and `len` is
    // writable; the kernel writes at most `len` bytes and the length written.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    (done == 0 && len as usize == size_of_val(&info)).then_some(info[DROPS])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    const KEYS: Steering = Steering {
        k0: 7,
        k1: 0x9e37_79b9,
    };

    fn loopback() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn a_port_in_use_is_said_so_even_when_its_owner_shares_it() {
        let theirs = bind_group(loopback(), 2, None, GroupOptions::default()).unwrap();
        let error = bind_group(theirs.local_addr, 2, None, GroupOptions::default()).unwrap_err();
        assert!(
            matches!(error, BindError::InUse { addr } if addr == theirs.local_addr),
            "{error}"
        );
    }

    #[test]
    fn a_foreign_address_is_said_to_be_none_of_ours() {
        let error = bind_group(
            "192.0.2.1:9".parse().unwrap(),
            1,
            None,
            GroupOptions::default(),
        )
        .unwrap_err();
        assert!(matches!(error, BindError::NoSuchAddress { .. }), "{error}");
    }

    #[test]
    fn buffers_are_reported_as_asked_and_as_got() {
        let options = GroupOptions {
            buffer_bytes: 64 << 10,
            ..GroupOptions::default()
        };
        let group = bind_group(loopback(), 1, None, options).unwrap();
        assert_eq!(
            group.buffers,
            BufferReport {
                asked: 64 << 10,
                receive: 64 << 10,
                send: 64 << 10
            }
        );
        let options = GroupOptions {
            buffer_bytes: 1 << 30,
            ..GroupOptions::default()
        };
        let group = bind_group(loopback(), 1, None, options).unwrap();
        assert!(!group.buffers.is_full(), "{:?}", group.buffers);
    }

    #[test]
    fn each_datagram_lands_on_the_core_its_connection_id_names() {
        const CORES: u32 = 3;
        let group = bind_group(
            loopback(),
            CORES as usize,
            Some(&KEYS),
            GroupOptions::default(),
        )
        .unwrap();
        assert!(group.steered);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut sent = [0_usize; CORES as usize];
        for i in 0..90_u32 {
            let word = i.wrapping_mul(0x85eb_ca6b);
            let mut payload = if i % 2 == 0 {
                vec![0x40]
            } else {
                vec![0xc0, 0, 0, 0, 1, 8]
            };
            payload.extend_from_slice(&word.to_be_bytes());
            client.send_to(&payload, group.local_addr).unwrap();
            sent[KEYS.core_of(word, CORES) as usize] += 1;
        }
        assert!(sent.iter().all(|count| *count > 0), "{sent:?}");
        // Loopback delivers within the send: what is there, is all there is.
        let counts = group
            .sockets
            .iter()
            .map(|socket| std::iter::from_fn(|| socket.recv_from(&mut [0; 64]).ok()).count());
        assert_eq!(counts.collect::<Vec<_>>(), sent);
    }

    #[test]
    fn without_the_program_the_group_says_that_it_does_not_steer() {
        let off = GroupOptions {
            attach_steering: false,
            ..GroupOptions::default()
        };
        assert!(!bind_group(loopback(), 2, Some(&KEYS), off).unwrap().steered);
        assert!(
            !bind_group(loopback(), 2, None, GroupOptions::default())
                .unwrap()
                .steered
        );
    }

    #[test]
    fn an_ipv6_wildcard_takes_both_families() {
        let group = bind_group(
            "[::]:0".parse().unwrap(),
            2,
            Some(&KEYS),
            GroupOptions::default(),
        )
        .unwrap();
        let port = group.local_addr.port();
        for target in ["127.0.0.1", "::1"] {
            let target = SocketAddr::new(target.parse().unwrap(), port);
            let client =
                UdpSocket::bind((if target.is_ipv4() { "127.0.0.1" } else { "::1" }, 0)).unwrap();
            client.send_to(b"\x40....", target).unwrap();
        }
        let received: usize = group
            .sockets
            .iter()
            .map(|socket| {
                socket
                    .set_read_timeout(Some(Duration::from_secs(5)))
                    .unwrap();
                std::iter::from_fn(|| socket.recv_from(&mut [0; 64]).ok()).count()
            })
            .sum();
        assert_eq!(received, 2);
    }

    #[test]
    fn drops_are_counted_when_nobody_reads() {
        let options = GroupOptions {
            buffer_bytes: 4 << 10,
            ..GroupOptions::default()
        };
        let group = bind_group(loopback(), 1, None, options).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(receive_drops(&group.sockets[0]), Some(0));
        (0..100)
            .for_each(|_| assert_eq!(client.send_to(&[0; 1000], group.local_addr).unwrap(), 1000));
        let received =
            std::iter::from_fn(|| group.sockets[0].recv_from(&mut [0; 2000]).ok()).count();
        assert_eq!(
            receive_drops(&group.sockets[0]).map(|drops| drops as usize + received),
            Some(100)
        );
    }
}
