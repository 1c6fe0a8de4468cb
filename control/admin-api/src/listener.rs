//! From a listening socket to HTTP: what a connection speaks is judged by its first
//! bytes, and everything about it has an end.

use core::net::SocketAddr;
use core::pin::Pin;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Context, Poll};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONNECTION, TRANSFER_ENCODING};
use axum::http::{HeaderValue, Request, Response, Version};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use pinion_auth::spiffe::SpiffeId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::access::address;
use crate::call::{Certified, Remote, Secure, random_id};
use crate::error::Failure;
use crate::frames;
use crate::host;
use crate::limits::{
    ACCEPT_PAUSE, CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX, DRAIN_WAIT, FIRST_BYTE_WAIT,
    HEADER_BYTES_MAX, HEADER_WAIT, HEADERS_MAX, IDLE_WAIT, STREAMS_MAX, UNREAD_WAIT,
};
use crate::prefix;

/// Who may speak without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cleartext {
    /// Nobody.
    #[default]
    Never,
    /// Clients on this machine.
    Loopback,
}

/// What one listener lets in.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) router: Router,
    /// Without one nobody speaks TLS here.
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) cleartext: Cleartext,
}

/// What a client that has to speak TLS is told, as it can read nothing else.
const USE_HTTPS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain\r\ncontent-length: 10\r\nconnection: close\r\n\r\nuse https\n";

/// Lets clients in until `stop` is true, then ends what they have under way.
pub(crate) async fn listen(listener: TcpListener, door: Door, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let addresses = Addresses::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        while connections.try_join_next().is_some() {}
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Of one connection, or of the process: descriptors may be used up, and
                // are not there sooner for asking at once.
                if !is_of_one(&error) {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        // Beyond the limits a client is hung up on: an answer would cost what there is
        // too little of.
        if connections.len() >= CONNECTIONS_MAX {
            continue;
        }
        let Some(counted) = addresses.enter(remote) else {
            continue;
        };
        let (door, stop) = (door.clone(), stop.clone());
        connections.spawn(async move {
            // A client that does not speak as it should is hung up on.
            let _ = connection(stream, remote, &door, stop).await;
            drop(counted);
        });
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // Those that take longer are cut when the set is dropped.
    let _ = timeout(DRAIN_WAIT, all).await;
}

fn is_of_one(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// What a first byte says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    /// A handshake record of TLS (RFC 8446 §5.1).
    Tls,
    /// A method of HTTP/1.1, or the preface of HTTP/2, which begins as one.
    Http,
    /// Nothing that is known.
    Nothing,
}

fn judge(byte: u8) -> Speaks {
    match byte {
        0x16 => Speaks::Tls,
        b'A'..=b'Z' => Speaks::Http,
        _ => Speaks::Nothing,
    }
}

async fn connection(
    stream: TcpStream,
    remote: SocketAddr,
    door: &Door,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD_WAIT))?;
    let mut begin = [0; frames::BEGIN_BYTES];
    let found = timeout(FIRST_BYTE_WAIT, stream.peek(&mut begin)).await??;
    if found == 0 {
        return Ok(());
    }
    // Before its first byte, which is the length of a frame and may be any.
    if let Some(answer) = frames::refuse(&begin[..found]) {
        return last_words(stream, &answer).await;
    }
    let mut first = [begin[0]];
    match (judge(first[0]), &door.tls) {
        (Speaks::Tls, Some(tls)) => {
            let acceptor = TlsAcceptor::from(tls.clone());
            let mut stream = timeout(HEADER_WAIT, acceptor.accept(stream)).await??;
            let certified = certified(stream.get_ref().1);
            let found = timeout(FIRST_BYTE_WAIT, stream.read(&mut first)).await??;
            if found == 0 || judge(first[0]) != Speaks::Http {
                return Ok(());
            }
            let from = (remote, Secure(true), certified);
            http(Begun::new(first[0], stream), from, door, stop).await;
        }
        (Speaks::Http, _)
            if door.cleartext == Cleartext::Loopback
                && remote.ip().to_canonical().is_loopback() =>
        {
            http(stream, (remote, Secure(false), None), door, stop).await;
        }
        (Speaks::Http, _) => last_words(stream, USE_HTTPS).await?,
        (Speaks::Tls, None) | (Speaks::Nothing, _) => {}
    }
    Ok(())
}

/// Says this and hangs up.
async fn last_words(mut stream: TcpStream, words: &[u8]) -> io::Result<()> {
    stream.write_all(words).await?;
    stream.shutdown().await?;
    // What it has sent must be read, or the kernel takes back the answer.
    let mut rest = [0; 1024];
    let drain = async { while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    let _ = timeout(core::time::Duration::from_secs(1), drain).await;
    Ok(())
}

/// Who is at the other end by a certificate. One that names nobody is none: who shows it may
/// still show a token.
fn certified(tls: &rustls::ServerConnection) -> Option<Certified> {
    let leaf = tls.peer_certificates()?.first()?;
    let id = SpiffeId::of_certificate(leaf).ok()?;
    Some(Certified(Arc::new(id)))
}

/// Requests under way on one connection, and when the last one ended.
struct Activity {
    under_way: AtomicUsize,
    last: Mutex<Instant>,
}

struct UnderWay(Arc<Activity>);

impl UnderWay {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.under_way.fetch_add(1, Ordering::Relaxed);
        Self(activity.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl Activity {
    /// When the connection has been idle for too long, if nothing comes.
    fn idle_until(&self) -> Instant {
        let idle = self.under_way.load(Ordering::Relaxed) == 0;
        let since = if idle {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner)
        } else {
            Instant::now()
        };
        since + IDLE_WAIT
    }
}

/// Speaks HTTP until the client goes, is silent, or the API ends.
async fn http<S>(
    stream: S,
    (remote, secure, certified): (SocketAddr, Secure, Option<Certified>),
    door: &Door,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity {
        under_way: AtomicUsize::new(0),
        last: Mutex::new(Instant::now()),
    });
    let service = {
        let (router, activity) = (door.router.clone(), activity.clone());
        service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Remote(remote));
            request.extensions_mut().insert(secure);
            if let Some(certified) = &certified {
                request.extensions_mut().insert(certified.clone());
            }
            prefix::canonical(request.uri_mut());
            let (router, under_way) = (router.clone(), UnderWay::new(&activity));
            let in_chunks = request.headers().contains_key(TRANSFER_ENCODING);
            let for_one = host::is_told_once(&request);
            let may_close = request.version() <= Version::HTTP_11;
            async move {
                let mut response = if for_one {
                    router.oneshot(request).await.into_response()
                } else {
                    let why = "a request is for one host, and says so once";
                    Failure::bad("bad_host", why).into_response(&random_id())
                };
                if (in_chunks || !for_one) && may_close {
                    // There may have been a length as well, which hyper takes away; what
                    // follows is then somebody's who believes that (RFC 9112 §6.1). So it
                    // may be where two hosts were told.
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                Ok::<_, core::convert::Infallible>(held(response, under_way))
            }
        })
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WAIT)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEADER_BYTES_MAX).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(STREAMS_MAX as usize)
        .keep_alive_interval(IDLE_WAIT)
        .keep_alive_timeout(HEADER_WAIT);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = core::pin::pin!(connection);
    let mut ending = false;
    loop {
        let idle = activity.idle_until();
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = stop.wait_for(|stop| *stop), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = sleep_until(idle.into()) => {
                if Instant::now() < activity.idle_until() {
                    continue;
                }
                if ending {
                    return;
                }
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// The request is under way until its answer was taken.
fn held(response: Response<Body>, under_way: UnderWay) -> Response<Held> {
    response.map(|body| Held {
        body,
        _under_way: under_way,
    })
}

/// A body and what ends with it.
struct Held {
    body: Body,
    _under_way: UnderWay,
}

impl hyper::body::Body for Held {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// How many connections each address has, as requests are counted: by [`address`].
#[derive(Clone, Default)]
struct Addresses(Arc<Mutex<HashMap<String, usize>>>);

/// One of them, until it is dropped.
struct Counted {
    addresses: Addresses,
    address: String,
}

impl Addresses {
    fn enter(&self, remote: SocketAddr) -> Option<Counted> {
        let address = address(Some(remote));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(address.clone()).or_default();
        if *count >= CONNECTIONS_PER_ADDRESS_MAX {
            return None;
        }
        *count += 1;
        Some(Counted {
            addresses: self.clone(),
            address,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut all = self
            .addresses
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.address);
            }
        }
    }
}

/// A stream whose first byte was read already.
struct Begun<S> {
    first: Option<u8>,
    stream: S,
}

impl<S> Begun<S> {
    fn new(first: u8, stream: S) -> Self {
        Self {
            first: Some(first),
            stream,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buffer.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_says_what_is_spoken() {
        for byte in 0..=u8::MAX {
            let expected = match byte {
                0x16 => Speaks::Tls,
                _ if byte.is_ascii_uppercase() => Speaks::Http,
                _ => Speaks::Nothing,
            };
            assert_eq!(judge(byte), expected, "{byte:#x}");
        }
    }

    #[test]
    fn an_address_has_so_many_connections_and_gives_them_back() {
        let addresses = Addresses::default();
        let remote = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let (one, other) = (remote("127.0.0.1:1"), remote("127.0.0.2:1"));
        let enter = || addresses.enter(one);
        let all: Vec<_> = (0..CONNECTIONS_PER_ADDRESS_MAX).map(|_| enter()).collect();
        assert!(all.iter().all(Option::is_some));
        assert!(enter().is_none());
        assert!(addresses.enter(other).is_some());
        drop(all);
        assert!(addresses.0.lock().expect("unpoisoned").is_empty());
        assert!(enter().is_some());
    }

    #[test]
    fn addresses_of_one_network_share_what_an_address_has() {
        let addresses = Addresses::default();
        let enter = |text: &str| addresses.enter(text.parse().expect("an address"));
        // Whoever has one address of a /64 has as many as they like.
        let all: Vec<_> = (0..CONNECTIONS_PER_ADDRESS_MAX)
            .map(|at| enter(&format!("[2001:db8:1:2::{at:x}]:1")))
            .collect();
        assert!(all.iter().all(Option::is_some));
        assert!(enter("[2001:db8:1:2:ffff::1]:1").is_none());
        assert!(enter("[2001:db8:1:3::1]:1").is_some());
        // The same machine, by a listener of both families and by one of its own.
        let mapped: Vec<_> = (0..CONNECTIONS_PER_ADDRESS_MAX)
            .map(|_| enter("[::ffff:192.0.2.1]:1"))
            .collect();
        assert!(mapped.iter().all(Option::is_some));
        assert!(enter("192.0.2.1:1").is_none());
        assert!(enter("[::ffff:192.0.2.2]:1").is_some());
    }
}
