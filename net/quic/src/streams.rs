//! Stream operations of the endpoint. None of them blocks or sends: what they queue
//! leaves with the next [`Endpoint::poll_transmit`].

use bytes::Bytes;
use quinn_proto::{Dir, ReadError, ReadableError, VarInt, WriteError};

use crate::endpoint::Endpoint;
use crate::event::{ConnId, Gone, ReadOutcome, StreamId, WriteOutcome};

impl Endpoint {
    /// Takes the next bytes of a stream. Call until something else than a chunk
    /// comes back; the peer gets credit for what was taken.
    pub fn read(&mut self, conn: ConnId, stream: StreamId) -> ReadOutcome {
        let mut taken = None;
        let end = self.read_with(conn, stream, 1, |bytes| taken = Some(bytes));
        match taken {
            Some(bytes) => ReadOutcome::Chunk(bytes),
            None => end,
        }
    }

    /// Takes up to `chunks_max` chunks in one go, cheaper than as many
    /// [`read`](Self::read)s. The answer says what comes after them: `Chunk` with
    /// empty bytes when `chunks_max` was reached and there may be more.
    pub fn read_with(
        &mut self,
        conn: ConnId,
        stream: StreamId,
        chunks_max: usize,
        mut take: impl FnMut(Bytes),
    ) -> ReadOutcome {
        let mut left = chunks_max;
        if left == 0 {
            return ReadOutcome::Chunk(Bytes::new());
        }
        self.read_while(conn, stream, |chunk| {
            take(chunk);
            left -= 1;
            left > 0
        })
    }

    /// Takes chunks in one go until `take` says that it wants no more. The answer
    /// says what comes after them: `Chunk` with empty bytes when `take` had enough
    /// and there may be more.
    pub fn read_while(
        &mut self,
        conn: ConnId,
        stream: StreamId,
        mut take: impl FnMut(Bytes) -> bool,
    ) -> ReadOutcome {
        let Some(open) = self.conn_mut(conn) else {
            return ReadOutcome::Gone;
        };
        let Some(id) = open.readable(stream) else {
            return ReadOutcome::Gone;
        };
        let mut half = open.inner.recv_stream(id);
        let mut chunks = match half.read(true) {
            Ok(chunks) => chunks,
            Err(ReadableError::ClosedStream | ReadableError::IllegalOrderedRead) => {
                return ReadOutcome::Gone;
            }
        };
        let outcome = loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => {
                    if !take(chunk.bytes) {
                        break ReadOutcome::Chunk(Bytes::new());
                    }
                }
                Ok(None) => break ReadOutcome::Finished,
                Err(ReadError::Blocked) => break ReadOutcome::Blocked,
                Err(ReadError::Reset(code)) => break ReadOutcome::Reset(code.into_inner()),
            }
        };
        if chunks.finalize().should_transmit() {
            self.queue_transmit(conn.slot);
        }
        outcome
    }

    /// Copies bytes onto a stream, as many as flow control and the send window allow.
    pub fn write(&mut self, conn: ConnId, stream: StreamId, data: &[u8]) -> WriteOutcome {
        self.write_half(conn, stream, |half| half.write(data))
    }

    /// Puts chunks onto a stream without copying. What was taken is gone from
    /// `chunks`: taken ones are left empty, and one taken in part keeps its rest.
    pub fn write_chunks(
        &mut self,
        conn: ConnId,
        stream: StreamId,
        chunks: &mut [Bytes],
    ) -> WriteOutcome {
        self.write_half(conn, stream, |half| {
            half.write_chunks(chunks).map(|written| written.bytes)
        })
    }

    fn write_half(
        &mut self,
        conn: ConnId,
        stream: StreamId,
        write: impl FnOnce(&mut quinn_proto::SendStream<'_>) -> Result<usize, WriteError>,
    ) -> WriteOutcome {
        let Some(open) = self.conn_mut(conn) else {
            return WriteOutcome::Gone;
        };
        let Some(id) = open.writable(stream) else {
            return WriteOutcome::Gone;
        };
        let outcome = match write(&mut open.inner.send_stream(id)) {
            Ok(bytes) => WriteOutcome::Written(bytes),
            Err(WriteError::Blocked) => WriteOutcome::Blocked,
            Err(WriteError::Stopped(code)) => WriteOutcome::Stopped(code.into_inner()),
            Err(WriteError::ClosedStream) => WriteOutcome::Gone,
        };
        // A blocked write also sends: it tells the peer that its credit is short.
        self.queue_transmit(conn.slot);
        outcome
    }

    /// Opens a stream only this side sends on. `None`: the peer's limit is reached
    /// ([`Event::StreamsAvailable`](crate::Event::StreamsAvailable) will tell) or the
    /// connection is gone.
    pub fn open_uni(&mut self, conn: ConnId) -> Option<StreamId> {
        self.conn_mut(conn)?
            .inner
            .streams()
            .open(Dir::Uni)
            .map(Into::into)
    }

    /// Opens a stream both sides send on; as [`open_uni`](Self::open_uni).
    pub fn open_bi(&mut self, conn: ConnId) -> Option<StreamId> {
        self.conn_mut(conn)?
            .inner
            .streams()
            .open(Dir::Bi)
            .map(Into::into)
    }

    /// No more bytes will be written; those that were still arrive.
    pub fn finish(&mut self, conn: ConnId, stream: StreamId) -> Result<(), Gone> {
        let open = self.conn_mut(conn).ok_or(Gone)?;
        let id = open.writable(stream).ok_or(Gone)?;
        open.inner.send_stream(id).finish().map_err(|_| Gone)?;
        self.queue_transmit(conn.slot);
        Ok(())
    }

    /// Gives up sending; bytes not yet delivered never will be.
    pub fn reset(&mut self, conn: ConnId, stream: StreamId, code: u32) -> Result<(), Gone> {
        let open = self.conn_mut(conn).ok_or(Gone)?;
        let id = open.writable(stream).ok_or(Gone)?;
        open.inner
            .send_stream(id)
            .reset(VarInt::from_u32(code))
            .map_err(|_| Gone)?;
        self.queue_transmit(conn.slot);
        Ok(())
    }

    /// Wants no more bytes; those that arrive are discarded.
    pub fn stop(&mut self, conn: ConnId, stream: StreamId, code: u32) -> Result<(), Gone> {
        let open = self.conn_mut(conn).ok_or(Gone)?;
        let id = open.readable(stream).ok_or(Gone)?;
        open.inner
            .recv_stream(id)
            .stop(VarInt::from_u32(code))
            .map_err(|_| Gone)?;
        self.queue_transmit(conn.slot);
        Ok(())
    }

    /// Higher goes first; streams of equal priority take turns. Zero at first.
    pub fn set_priority(
        &mut self,
        conn: ConnId,
        stream: StreamId,
        priority: i32,
    ) -> Result<(), Gone> {
        let open = self.conn_mut(conn).ok_or(Gone)?;
        let id = open.writable(stream).ok_or(Gone)?;
        open.inner
            .send_stream(id)
            .set_priority(priority)
            .map_err(|_| Gone)
    }
}
