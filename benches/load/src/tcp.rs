//! Non-blocking TCP connections, with or without TLS, for the controls that
//! speak text protocols. One thread, spinning, as the native client does.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use pinion_cli::bench::measure::BenchError;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustls::pki_types::ServerName;

/// Bytes one read offers room for.
const READ_BYTES: usize = 256 << 10;

/// Connections told apart in one wait; the rest have their turn in the next.
const EVENTS: usize = 128;

/// One connection with what waits to be written and what was read.
pub struct Wire {
    stream: TcpStream,
    tls: Option<Box<rustls::ClientConnection>>,
    /// Append requests here; [`flush`](Self::flush) sends them.
    pub out: Vec<u8>,
    sent: usize,
    input: Vec<u8>,
    filled: usize,
    consumed: usize,
}

impl Wire {
    /// Connects, and with `tls` hands over to it at once.
    ///
    /// # Errors
    /// What the kernel or rustls answers.
    pub fn connect(
        address: SocketAddr,
        tls: Option<&Arc<rustls::ClientConfig>>,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let tls = match tls {
            None => None,
            Some(config) => {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                let mut tls = rustls::ClientConnection::new(Arc::clone(config), name)
                    .map_err(io::Error::other)?;
                tls.set_buffer_limit(None);
                while tls.is_handshaking() {
                    tls.complete_io(&mut stream)?;
                }
                Some(Box::new(tls))
            }
        };
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            tls,
            out: Vec::new(),
            sent: 0,
            input: vec![0; READ_BYTES],
            filled: 0,
            consumed: 0,
        })
    }

    /// Sends what waits, as far as the kernel takes it. True when anything left.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn flush(&mut self) -> io::Result<bool> {
        if let Some(tls) = &mut self.tls {
            if !self.out.is_empty() {
                tls.writer().write_all(&self.out)?;
                self.out.clear();
            }
            let mut moved = false;
            while tls.wants_write() {
                match tls.write_tls(&mut self.stream) {
                    Ok(_) => moved = true,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            return Ok(moved);
        }
        if self.sent == self.out.len() {
            return Ok(false);
        }
        match self.stream.write(&self.out[self.sent..]) {
            Ok(bytes) => self.sent += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
        Ok(true)
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Reads what is there. True when anything came.
    ///
    /// # Errors
    /// The connection is gone; its orderly end is `UnexpectedEof`.
    pub fn fill(&mut self) -> io::Result<bool> {
        if self.consumed == self.filled {
            self.consumed = 0;
            self.filled = 0;
        } else if self.input.len() - self.filled < READ_BYTES / 2 {
            self.input.copy_within(self.consumed..self.filled, 0);
            self.filled -= self.consumed;
            self.consumed = 0;
            if self.input.len() - self.filled < READ_BYTES / 2 {
                self.input.resize(self.filled + READ_BYTES, 0);
            }
        }
        let Some(tls) = &mut self.tls else {
            return match self.stream.read(&mut self.input[self.filled..]) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => {
                    self.filled += bytes;
                    Ok(true)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
                Err(error) => Err(error),
            };
        };
        match tls.read_tls(&mut self.stream) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        tls.process_new_packets().map_err(io::Error::other)?;
        loop {
            if self.filled == self.input.len() {
                self.input.resize(self.filled + READ_BYTES, 0);
            }
            match tls.reader().read(&mut self.input[self.filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => self.filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }

    /// What was read and not yet consumed.
    #[must_use]
    pub fn input(&self) -> &[u8] {
        &self.input[self.consumed..self.filled]
    }

    /// Drops the first `bytes` of [`input`](Self::input).
    pub fn consume(&mut self, bytes: usize) {
        self.consumed = (self.consumed + bytes).min(self.filled);
    }

    /// Shows what was read to `take`, again and again, until it takes nothing:
    /// it answers with the bytes of the whole message at the front that it has
    /// taken, none while that is incomplete. What it appends to the vector is
    /// queued behind [`out`](Self::out).
    ///
    /// # Errors
    /// What `take` answers; what it took before is consumed.
    pub fn take_each<E>(
        &mut self,
        mut take: impl FnMut(&[u8], &mut Vec<u8>) -> Result<Option<usize>, E>,
    ) -> Result<(), E> {
        let mut at = 0;
        let input = &self.input[self.consumed..self.filled];
        let taken = loop {
            match take(&input[at..], &mut self.out) {
                Ok(Some(length)) => at += length,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.consume(at);
        taken
    }
}

/// Several connections of one thread. With one it reads straight away; with
/// more it asks the kernel which have something, in one call.
pub struct Wires {
    wires: Vec<Wire>,
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Wires {
    /// Opens `count` connections.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn connect(
        address: SocketAddr,
        count: usize,
        tls: Option<&Arc<rustls::ClientConfig>>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut wires = Vec::with_capacity(count);
        for index in 0..count {
            let wire = Wire::connect(address, tls)?;
            let data = EventData::new_u64(index as u64);
            epoll::add(&epoll, &wire.stream, data, EventFlags::IN)?;
            wires.push(wire);
        }
        Ok(Self {
            wires,
            epoll,
            events: Vec::with_capacity(EVENTS),
        })
    }

    /// How many connections there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.wires.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.wires.is_empty()
    }

    /// One of them.
    pub fn wire(&mut self, index: usize) -> &mut Wire {
        &mut self.wires[index]
    }

    /// Sends what waits on any of them. True when anything left.
    ///
    /// # Errors
    /// A connection is gone.
    pub fn flush(&mut self) -> io::Result<bool> {
        let mut moved = false;
        for wire in &mut self.wires {
            moved |= wire.flush()?;
        }
        Ok(moved)
    }

    /// Reads from those that have something and shows each. True when any had.
    ///
    /// # Errors
    /// A connection is gone, or what `each` answers.
    pub fn fill<E: From<io::Error>>(
        &mut self,
        mut each: impl FnMut(usize, &mut Wire) -> Result<(), E>,
    ) -> Result<bool, E> {
        if let [wire] = self.wires.as_mut_slice() {
            let moved = wire.fill()?;
            if moved {
                each(0, wire)?;
            }
            return Ok(moved);
        }
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        self.events.clear();
        let room = rustix::buffer::spare_capacity(&mut self.events);
        epoll::wait(&self.epoll, room, Some(&at_once)).map_err(io::Error::from)?;
        let mut moved = false;
        for event in &self.events {
            let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let Some(wire) = self.wires.get_mut(index) else {
                continue;
            };
            if wire.fill()? {
                moved = true;
                each(index, wire)?;
            }
        }
        Ok(moved)
    }

    /// [`flush`](Self::flush), then [`fill`](Self::fill). True when anything moved.
    ///
    /// # Errors
    /// A connection is gone, or what `each` answers.
    pub fn turn(
        &mut self,
        each: impl FnMut(usize, &mut Wire) -> Result<(), Fault>,
    ) -> Result<bool, BenchError> {
        let sent = self.flush().map_err(BenchError::io("sending"))?;
        let received = self.fill(each).map_err(|Fault(error)| error)?;
        Ok(sent || received)
    }
}

/// An error of the closure given to [`Wires::fill`].
#[derive(Debug)]
pub struct Fault(pub BenchError);

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self(BenchError::io("reading")(error))
    }
}

/// Most bytes of an answer that a fault tells.
const TOLD_MAX: usize = 200;

/// `peer` answered `answer` to `question`, which its protocol does not allow there.
#[must_use]
pub fn refusal(peer: &'static str, question: &'static str, answer: &[u8]) -> Fault {
    let start = &answer[..answer.len().min(TOLD_MAX)];
    Fault(BenchError::Unexpected {
        peer,
        question,
        answer: String::from_utf8_lossy(start).into_owned(),
    })
}

/// Position of the first CR LF in `bytes`.
#[must_use]
pub fn line_end(bytes: &[u8]) -> Option<usize> {
    let at = bytes.iter().position(|&b| b == b'\r')?;
    match bytes.get(at + 1) {
        Some(b'\n') => Some(at),
        Some(_) => bytes.windows(2).position(|pair| pair == b"\r\n"),
        None => None,
    }
}

/// A decimal number that is all of `bytes`.
#[must_use]
pub fn decimal(bytes: &[u8]) -> Option<usize> {
    if bytes.is_empty() || bytes.len() > 18 {
        return None;
    }
    bytes.iter().try_fold(0_usize, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + usize::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn lines_and_numbers_are_found() {
        assert_eq!(line_end(b"ab\r\ncd"), Some(2));
        assert_eq!(line_end(b"a\rb\r\n"), Some(3));
        assert_eq!(line_end(b"ab\r"), None);
        assert_eq!(decimal(b"1024"), Some(1024));
        assert_eq!(decimal(b""), None);
        assert_eq!(decimal(b"1x"), None);
    }

    #[test]
    fn messages_are_taken_while_they_are_whole_and_answers_are_queued_in_order() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
        let address = listener.local_addr().expect("bound");
        let mut wire = Wire::connect(address, None).expect("connect");
        wire.input[..5].copy_from_slice(b"aabb?");
        wire.filled = 5;
        wire.out.extend_from_slice(b"0");
        // Two bytes are a message.
        let pairs = |input: &[u8], out: &mut Vec<u8>| {
            if input.starts_with(b"?!") {
                return Err("a question");
            }
            out.extend(input.get(..2).and_then(<[u8]>::first));
            Ok((input.len() >= 2).then_some(2))
        };
        wire.take_each(pairs).expect("none of them is a question");
        assert_eq!(
            (wire.input(), wire.out.as_slice()),
            (b"?".as_slice(), b"0ab".as_slice())
        );
        wire.input[..4].copy_from_slice(b"cc?!");
        (wire.consumed, wire.filled) = (0, 4);
        assert_eq!(wire.take_each(pairs), Err("a question"));
        assert_eq!(wire.input(), b"?!", "what was taken before is gone");
    }

    #[test]
    fn several_wires_bring_back_what_each_was_sent() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
        let address = listener.local_addr().expect("bound");
        let echo = std::thread::spawn(move || {
            let mut sockets: Vec<_> = (0..3)
                .map(|_| listener.accept().expect("accept").0)
                .collect();
            for socket in &mut sockets {
                let mut bytes = [0; 5];
                socket.read_exact(&mut bytes).expect("five bytes");
                socket.write_all(&bytes).expect("echo");
            }
            // Kept open: an end of file would be an error to the other side.
            sockets
        });
        let mut wires = Wires::connect(address, 3, None).expect("connect");
        for index in 0..3_u8 {
            wires
                .wire(usize::from(index))
                .out
                .extend_from_slice(&[index; 5]);
        }
        wires.flush().expect("loopback");
        let mut whole = [false; 3];
        while whole != [true; 3] {
            wires
                .fill(|index, wire| {
                    let expected = [u8::try_from(index).expect("small"); 5];
                    whole[index] = wire.input() == expected;
                    Ok::<_, io::Error>(())
                })
                .expect("loopback");
        }
        drop(echo.join().expect("the echo ends"));
    }
}
