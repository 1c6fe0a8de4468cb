//! Control (b): an echo with quinn on tokio at both ends, as an application
//! would write it. One stream, messages of one size.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pinion_cli::bench::latency::Latency;
use pinion_cli::bench::machine::thread_cpu;
use pinion_cli::bench::measure::{BenchError, Generator, Run, SILENCE_MAX, Span};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const ALPN: &[u8] = b"echo";

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// Serves until `life` is over. `chain` and `key` are DER.
///
/// # Errors
/// The certificate is not usable, or the port is taken.
pub fn serve(
    port: u16,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    life: Duration,
) -> io::Result<()> {
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    runtime()?.block_on(async {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let endpoint = quinn::Endpoint::server(config, address)?;
        let serving = async {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(async {
                    // A connection that ends is the client's business.
                    let Ok(connection) = incoming.await else {
                        return;
                    };
                    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                        while let Ok(Some(chunk)) = receive.read_chunk(usize::MAX, true).await {
                            if send.write_chunk(chunk.bytes).await.is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        };
        // Running out of time is how it ends.
        let _ = tokio::time::timeout(life, serving).await;
        Ok(())
    })
}

/// Keeps `depth` messages of `size` bytes in flight on one stream.
///
/// # Errors
/// The server is not there, or stops answering.
pub fn measure(
    server: SocketAddr,
    root: CertificateDer<'static>,
    size: usize,
    depth: usize,
    span: Span,
) -> Result<Run, BenchError> {
    let failed = BenchError::io("quinn echo");
    let result = runtime()
        .and_then(|runtime| runtime.block_on(exchange(server, root, size.max(1), depth, span)));
    result.map_err(failed)
}

async fn exchange(
    server: SocketAddr,
    root: CertificateDer<'static>,
    size: usize,
    depth: usize,
    span: Span,
) -> io::Result<Run> {
    let connection = connect(server, root).await?;
    let (mut send, mut receive) = connection.open_bi().await.map_err(io::Error::other)?;
    let messages = vec![0x5a; size * depth];
    let mut stamps = VecDeque::with_capacity(depth);
    let mut latency = Latency::default();
    let started = Instant::now();
    let mut measured_from = None;
    let mut cpu_before = thread_cpu();
    let mut completed = 0_u64;
    let mut bytes = 0;
    let mut now = started;
    stamps.extend(std::iter::repeat_n(now, depth));
    send.write_all(&messages).await.map_err(io::Error::other)?;
    while now.duration_since(started) < span.warmup + span.measured {
        let chunk = tokio::time::timeout(SILENCE_MAX, receive.read_chunk(usize::MAX, true));
        let chunk = chunk.await.map_err(|_| io::ErrorKind::TimedOut)?;
        let chunk = chunk.map_err(io::Error::other)?;
        bytes += chunk.ok_or(io::ErrorKind::UnexpectedEof)?.bytes.len();
        now = Instant::now();
        if measured_from.is_none() && now.duration_since(started) >= span.warmup {
            measured_from = Some(now);
            cpu_before = thread_cpu();
        }
        let whole = bytes / size;
        bytes %= size;
        for stamp in stamps.drain(..whole.min(depth)) {
            if measured_from.is_some() {
                completed += 1;
                let ns = now.duration_since(stamp).as_nanos();
                latency.record(u64::try_from(ns).unwrap_or(u64::MAX));
            }
        }
        if whole > 0 {
            stamps.extend(std::iter::repeat_n(now, whole));
            send.write_all(&messages[..whole * size])
                .await
                .map_err(io::Error::other)?;
        }
    }
    connection.close(0_u32.into(), b"");
    let elapsed = now.duration_since(measured_from.unwrap_or(started));
    let cpu = thread_cpu().saturating_sub(cpu_before).as_secs_f64();
    let cpu_share = cpu / elapsed.as_secs_f64().max(1e-9);
    Ok(Run {
        completed,
        elapsed,
        latency,
        lost: 0,
        generator: Generator {
            cpu_share,
            // It sleeps when there is nothing, so its processor time is its work.
            busy_share: cpu_share,
            ..Generator::default()
        },
    })
}

async fn connect(
    server: SocketAddr,
    root: CertificateDer<'static>,
) -> io::Result<quinn::Connection> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root).map_err(io::Error::other)?;
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let started = Instant::now();
    loop {
        // A new socket each time: an unreachable port is remembered by the old one.
        let mut endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        endpoint.set_default_client_config(config.clone());
        let connecting = endpoint
            .connect(server, "localhost")
            .map_err(io::Error::other)?;
        match tokio::time::timeout(Duration::from_secs(1), connecting).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) if started.elapsed() > SILENCE_MAX => {
                return Err(io::Error::other(error));
            }
            Err(_) if started.elapsed() > SILENCE_MAX => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            _ => {}
        }
    }
}

/// The same suite first as a node has it.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    use rustls::crypto::ring::{cipher_suite, default_provider};
    let mut provider = default_provider();
    provider.cipher_suites = vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
    ];
    Arc::new(provider)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{Certificate, free_port};

    #[test]
    fn messages_come_back_and_are_counted_whole() {
        let port = free_port().expect("a port is free");
        let certificate = Certificate::new().expect("rcgen works");
        let (chain, key) = (certificate.chain(), certificate.key());
        let server =
            std::thread::spawn(move || serve(port, chain, key, Duration::from_millis(1500)));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let span = Span {
            warmup: Duration::ZERO,
            measured: Duration::from_millis(50),
        };
        let run = measure(address, certificate.root(), 100, 8, span).expect("echoes come");
        assert!(run.completed >= 8, "{}", run.completed);
        assert_eq!(run.latency.summary().count, run.completed);
        server.join().expect("no panic").expect("no error");
    }
}
