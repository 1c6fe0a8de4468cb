//! Control (a): the raw UDP echo. Nothing that speaks UDP can be faster than
//! this on the same two processors.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use pinion_cli::bench::measure::{BenchError, Completion, Driver, SILENCE_MAX};

/// Bytes of the stamp at the front of every datagram.
const STAMP_BYTES: usize = 8;

/// Largest datagram echoed.
const DATAGRAM_BYTES_MAX: usize = 2048;

/// How often a spinning server looks whether its time is over, in turns.
const TURNS_PER_LOOK: u32 = 1 << 16;

/// Whether a side waits in the kernel or asks again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Blocking calls.
    Block,
    /// Non-blocking calls in a loop.
    Spin,
}

/// Echoes every datagram until `life` is over.
///
/// # Errors
/// What the kernel answers.
pub fn serve(port: u16, waiting: Waiting, life: Duration) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
    socket.set_nonblocking(waiting == Waiting::Spin)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let end = Instant::now() + life;
    let mut bytes = [0; DATAGRAM_BYTES_MAX];
    let mut turns = 0_u32;
    loop {
        match socket.recv_from(&mut bytes) {
            Ok((length, from)) => {
                // A full send buffer loses the datagram, as the network may.
                let _ = socket.send_to(&bytes[..length], from);
            }
            Err(error) if is_nothing(&error) => {}
            Err(error) => return Err(error),
        }
        turns = turns.wrapping_add(1);
        if (waiting == Waiting::Block || turns.is_multiple_of(TURNS_PER_LOOK))
            && Instant::now() >= end
        {
            return Ok(());
        }
    }
}

/// Drives one datagram in flight.
pub struct Echo {
    socket: UdpSocket,
    datagram: Vec<u8>,
    answer: [u8; DATAGRAM_BYTES_MAX],
}

impl Echo {
    /// Binds and waits until the server echoes.
    ///
    /// # Errors
    /// Nothing comes back.
    pub fn new(server: SocketAddr, waiting: Waiting, size: usize) -> Result<Self, BenchError> {
        let tried = BenchError::io;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(tried("UDP bind"))?;
        socket.connect(server).map_err(tried("UDP connect"))?;
        let timeout = Duration::from_millis(100);
        socket
            .set_read_timeout(Some(timeout))
            .map_err(tried("UDP timeout"))?;
        let size = size.clamp(STAMP_BYTES, DATAGRAM_BYTES_MAX);
        let mut echo = Self {
            socket,
            datagram: vec![0x5a; size],
            answer: [0; DATAGRAM_BYTES_MAX],
        };
        echo.await_server()?;
        echo.socket
            .set_nonblocking(waiting == Waiting::Spin)
            .map_err(tried("UDP non-blocking"))?;
        Ok(echo)
    }

    fn await_server(&mut self) -> Result<(), BenchError> {
        let started = Instant::now();
        loop {
            // Until the server is there its port answers "refused" at once.
            let _ = self.socket.send(&self.datagram);
            match self.socket.recv(&mut self.answer) {
                Ok(_) => return Ok(()),
                Err(_) if started.elapsed() < SILENCE_MAX => std::thread::yield_now(),
                Err(_) => {
                    return Err(BenchError::Silence {
                        waited: started.elapsed(),
                        in_flight: 1,
                    });
                }
            }
        }
    }
}

impl Driver for Echo {
    fn lanes(&self) -> usize {
        1
    }

    fn submit(&mut self, _lane: usize, stamp: u64) -> Result<bool, BenchError> {
        self.datagram[..STAMP_BYTES].copy_from_slice(&stamp.to_le_bytes());
        match self.socket.send(&self.datagram) {
            Ok(_) => Ok(true),
            Err(error) if is_nothing(&error) => Ok(false),
            Err(error) => Err(BenchError::io("UDP send")(error)),
        }
    }

    fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
        match self.socket.recv(&mut self.answer) {
            Ok(length) => {
                let stamp = self.answer[..length].first_chunk::<STAMP_BYTES>();
                let stamp = stamp.map_or(0, |stamp| u64::from_le_bytes(*stamp));
                done.push(Completion { lane: 0, stamp });
                Ok(true)
            }
            Err(error) if is_nothing(&error) => Ok(false),
            Err(error) => Err(BenchError::io("UDP receive")(error)),
        }
    }
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use pinion_cli::bench::measure::{Span, closed_loop};

    use super::*;
    use crate::server::free_port;

    #[test]
    fn both_ways_of_waiting_bring_every_datagram_back() {
        for waiting in [Waiting::Block, Waiting::Spin] {
            let port = free_port().expect("a port is free");
            let server =
                std::thread::spawn(move || serve(port, waiting, Duration::from_millis(1500)));
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let mut echo = Echo::new(address, waiting, 100).expect("the server echoes");
            let span = Span {
                warmup: Duration::ZERO,
                measured: Duration::from_millis(30),
            };
            let run = closed_loop(&mut echo, 1, span).expect("echoes come");
            assert!(run.completed > 0, "{waiting:?}");
            server.join().expect("no panic").expect("no error");
        }
    }
}
