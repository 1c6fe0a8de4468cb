//! What stands between quinn-proto and its TLS: rustls does all cryptography,
//! this saves work around it.
//!
//! - Received packets lose their PADDING ([`padding`]), a client's first excepted.
//! - The keys of Initial packets follow from the client's connection id alone
//!   (RFC 9001 §5.2). quinn-proto asks for them twice, to look at a client's
//!   first packet and again for its connection; a server derives them once.
//! - The keys of the first key update are asked for when the handshake ends. They
//!   are derived when a packet needs them: most short connections never do.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::BytesMut;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::crypto::{
    ClientConfig, CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey,
    ServerConfig, Session, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectError, ConnectionId, Side, TransportError};

use crate::doors::Doors;
use crate::padding;

/// A server's TLS. One for each endpoint, so that what it remembers is of the
/// same core.
pub(crate) struct ServerCrypto {
    inner: Arc<QuicServerConfig>,
    /// Where certificates are asked for, each handshake has a configuration of its own,
    /// which follows this one.
    doors: Option<(Arc<Doors>, Arc<rustls::ServerConfig>)>,
    /// Keys of the first packet looked at last, until their connection takes
    /// them. One is enough: a first packet is judged the moment it arrives. The
    /// lock is there because quinn-proto wants `Sync`; nobody else ever holds it.
    looked_at: Mutex<Option<Initial>>,
}

struct Initial {
    version: u32,
    dst_cid: ConnectionId,
    keys: Arc<Keys>,
}

impl ServerCrypto {
    pub(crate) fn new(
        inner: QuicServerConfig,
        doors: Option<(Arc<Doors>, Arc<rustls::ServerConfig>)>,
    ) -> Self {
        Self {
            inner: Arc::new(inner),
            doors,
            looked_at: Mutex::new(None),
        }
    }

    /// The keys remembered for a connection that begins with this id.
    fn taken(&self, version: u32, dst_cid: &ConnectionId) -> Option<Arc<Keys>> {
        lock(&self.looked_at)
            .take_if(|found| found.version == version && found.dst_cid == *dst_cid)
            .map(|found| found.keys)
    }
}

impl ServerConfig for ServerCrypto {
    fn initial_keys(
        &self,
        version: u32,
        dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        let keys = Arc::new(self.inner.initial_keys(version, dst_cid)?);
        // Not trimmed: what an address that has not proved itself may be sent
        // follows from the length of its first packet, which quinn-proto takes
        // after decryption (RFC 9000 §8.1).
        let given = shared(&keys);
        *lock(&self.looked_at) = Some(Initial {
            version,
            dst_cid: *dst_cid,
            keys,
        });
        Ok(given)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.inner.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        let config = match &self.doors {
            None => Arc::clone(&self.inner),
            Some((doors, base)) => {
                let config = QuicServerConfig::try_from(doors.configure(base));
                Arc::new(config.expect("the provider is that of every configuration here"))
            }
        };
        let inner = config.start_session(version, params);
        Box::new(Tls::new(inner, Some((self, version))))
    }
}

/// A client's TLS.
pub(crate) struct ClientCrypto(Arc<QuicClientConfig>);

impl ClientCrypto {
    pub(crate) fn new(inner: QuicClientConfig) -> Self {
        Self(Arc::new(inner))
    }
}

impl ClientConfig for ClientCrypto {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let inner = Arc::clone(&self.0).start_session(version, server_name, params)?;
        Ok(Box::new(Tls::new(inner, None)))
    }
}

/// One connection's TLS, for itself and for keys that are derived later. The lock
/// is there because quinn-proto wants `Sync`; nobody ever waits for it.
type Shared = Arc<Mutex<Box<dyn Session>>>;

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection's TLS.
struct Tls {
    inner: Shared,
    /// Where a server looks for its first keys, and its version of QUIC.
    server: Option<(Arc<ServerCrypto>, u32)>,
    /// Sets of keys the handshake has given: of Handshake packets, then of 1-RTT
    /// packets. With the second come the secrets of all later ones.
    given: u8,
    /// The keys promised last.
    next: Option<Arc<Next>>,
}

impl Tls {
    fn new(inner: Box<dyn Session>, server: Option<(Arc<ServerCrypto>, u32)>) -> Self {
        Self {
            inner: Arc::new(Mutex::new(inner)),
            server,
            given: 0,
            next: None,
        }
    }
}

impl Session for Tls {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        let taken = self
            .server
            .as_ref()
            .and_then(|(config, version)| config.taken(*version, dst_cid));
        match taken {
            Some(keys) => trimming(shared(&keys)),
            None => trimming(lock(&self.inner).initial_keys(dst_cid, side)),
        }
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        lock(&self.inner).handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        lock(&self.inner).peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        let (header, packet) = lock(&self.inner).early_crypto()?;
        Some((header, Box::new(Trimming(packet))))
    }

    fn early_data_accepted(&self) -> Option<bool> {
        lock(&self.inner).early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        lock(&self.inner).is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        lock(&self.inner).read_handshake(buf)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        lock(&self.inner).transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let keys = lock(&self.inner).write_handshake(buf)?;
        self.given = self.given.saturating_add(1);
        Some(trimming(keys))
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        if self.given < 2 {
            return None;
        }
        // Each generation follows from the one before: that one first.
        if let Some(before) = &self.next {
            before.keys();
        }
        let next = Arc::new(Next {
            tls: Arc::clone(&self.inner),
            keys: OnceLock::new(),
        });
        self.next = Some(Arc::clone(&next));
        let part = |remote| NextKey {
            next: Arc::clone(&next),
            remote,
        };
        Some(KeyPair {
            local: Box::new(part(false)),
            remote: Box::new(part(true)),
        })
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        lock(&self.inner).is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        lock(&self.inner).export_keying_material(output, label, context)
    }
}

/// One generation of 1-RTT keys after the first (RFC 9001 §6), derived when used.
struct Next {
    tls: Shared,
    keys: OnceLock<KeyPair<Box<dyn PacketKey>>>,
}

impl Next {
    fn keys(&self) -> &KeyPair<Box<dyn PacketKey>> {
        self.keys.get_or_init(|| {
            let keys = lock(&self.tls).next_1rtt_keys();
            trimming_pair(keys.expect("promised after the handshake gave 1-RTT keys"))
        })
    }
}

/// One direction of a [`Next`].
struct NextKey {
    next: Arc<Next>,
    remote: bool,
}

impl NextKey {
    fn packet(&self) -> &dyn PacketKey {
        let pair = self.next.keys();
        &**if self.remote {
            &pair.remote
        } else {
            &pair.local
        }
    }
}

impl PacketKey for NextKey {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        self.packet().encrypt(packet, buf, header_len);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        self.packet().decrypt(packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.packet().tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.packet().confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.packet().integrity_limit()
    }
}

fn trimming(keys: Keys) -> Keys {
    Keys {
        header: keys.header,
        packet: trimming_pair(keys.packet),
    }
}

fn trimming_pair(pair: KeyPair<Box<dyn PacketKey>>) -> KeyPair<Box<dyn PacketKey>> {
    KeyPair {
        local: pair.local,
        remote: Box::new(Trimming(pair.remote)),
    }
}

/// A key for received packets that drops what pads them.
struct Trimming(Box<dyn PacketKey>);

impl PacketKey for Trimming {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        self.0.encrypt(packet, buf, header_len);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        self.0.decrypt(packet, header, payload)?;
        padding::trim(payload);
        Ok(())
    }

    fn tag_len(&self) -> usize {
        self.0.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.0.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.0.integrity_limit()
    }
}

/// The same keys once more, for another owner.
fn shared(keys: &Arc<Keys>) -> Keys {
    let part = |remote| Part {
        keys: Arc::clone(keys),
        remote,
    };
    Keys {
        header: KeyPair {
            local: Box::new(part(false)),
            remote: Box::new(part(true)),
        },
        packet: KeyPair {
            local: Box::new(part(false)),
            remote: Box::new(part(true)),
        },
    }
}

/// One direction of keys that have two owners.
struct Part {
    keys: Arc<Keys>,
    remote: bool,
}

impl Part {
    fn packet(&self) -> &dyn PacketKey {
        let pair = &self.keys.packet;
        &**if self.remote {
            &pair.remote
        } else {
            &pair.local
        }
    }

    fn header(&self) -> &dyn HeaderKey {
        let pair = &self.keys.header;
        &**if self.remote {
            &pair.remote
        } else {
            &pair.local
        }
    }
}

impl PacketKey for Part {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        self.packet().encrypt(packet, buf, header_len);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        self.packet().decrypt(packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.packet().tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.packet().confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.packet().integrity_limit()
    }
}

impl HeaderKey for Part {
    fn decrypt(&self, pn_offset: usize, packet: &mut [u8]) {
        self.header().decrypt(pn_offset, packet);
    }

    fn encrypt(&self, pn_offset: usize, packet: &mut [u8]) {
        self.header().encrypt(pn_offset, packet);
    }

    fn sample_size(&self) -> usize {
        self.header().sample_size()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tls;

    const VERSION: u32 = 1;

    fn params() -> TransportParameters {
        // Whatever they say: nobody here obeys them.
        TransportParameters::read(Side::Server, &mut &[][..]).unwrap()
    }

    fn server() -> (Arc<ServerCrypto>, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let pem = made.cert.pem();
        let key = made.signing_key.serialize_pem();
        let tls = tls::server_config_pem(pem.as_bytes(), key.as_bytes()).unwrap();
        let crypto = ServerCrypto::new(QuicServerConfig::try_from(tls).unwrap(), None);
        (Arc::new(crypto), pem)
    }

    fn client(pem: &str) -> Box<dyn Session> {
        let tls = tls::client_config_pem(pem.as_bytes()).unwrap();
        Arc::new(ClientCrypto::new(QuicClientConfig::try_from(tls).unwrap()))
            .start_session(VERSION, "localhost", &params())
            .unwrap()
    }

    /// Seals a packet of PING and padding with one key, opens it with the other.
    fn opened(number: u64, seal: &dyn PacketKey, open: &dyn PacketKey) -> Option<Vec<u8>> {
        let header = [0x40, 7];
        let mut packet = [&header[..], &[1], &[0; 99], &[0; 16]].concat();
        seal.encrypt(number, &mut packet, header.len());
        let mut payload = BytesMut::from(&packet[header.len()..]);
        open.decrypt(number, &header, &mut payload).ok()?;
        Some(payload.to_vec())
    }

    #[test]
    fn a_first_packet_keeps_its_length_and_its_keys_are_derived_once() {
        let (config, pem) = server();
        let id = ConnectionId::new(&[9; 8]);
        let first = client(&pem).initial_keys(&id, Side::Client);
        let looked = config.initial_keys(VERSION, &id).unwrap();
        let padded = [&[1][..], &[0; 99]].concat();
        assert_eq!(
            opened(0, &*first.packet.local, &*looked.packet.remote),
            Some(padded)
        );

        let session = Arc::clone(&config).start_session(VERSION, &params());
        let other = session.initial_keys(&ConnectionId::new(&[8; 8]), Side::Server);
        assert_eq!(
            opened(1, &*first.packet.local, &*other.packet.remote),
            None,
            "keys of another id"
        );
        assert!(lock(&config.looked_at).is_some(), "not this connection's");
        let own = session.initial_keys(&id, Side::Server);
        assert!(lock(&config.looked_at).is_none(), "not derived again");
        assert_eq!(
            opened(1, &*first.packet.local, &*own.packet.remote),
            Some(vec![1])
        );
        assert_eq!(
            opened(2, &*own.packet.local, &*first.packet.remote),
            Some(vec![1])
        );
    }

    /// What a side has to say, apart by the keys it is said under.
    fn said(session: &mut dyn Session) -> Vec<Vec<u8>> {
        let mut flights = Vec::new();
        loop {
            let mut bytes = Vec::new();
            let keys = session.write_handshake(&mut bytes);
            if !bytes.is_empty() {
                flights.push(bytes);
            }
            if keys.is_none() {
                return flights;
            }
        }
    }

    /// Exchanges handshake messages until neither side has more to say.
    fn shake(one: &mut dyn Session, two: &mut dyn Session) {
        loop {
            let (from_one, mut more) = (said(one), false);
            for bytes in from_one {
                two.read_handshake(&bytes).unwrap();
                more = true;
            }
            for bytes in said(two) {
                one.read_handshake(&bytes).unwrap();
                more = true;
            }
            if !more {
                return;
            }
        }
    }

    #[test]
    fn key_updates_agree_although_their_keys_are_derived_late() {
        let (config, pem) = server();
        let mut ours = config.start_session(VERSION, &params());
        let mut theirs = client(&pem);
        assert!(ours.next_1rtt_keys().is_none(), "there are none yet");
        shake(&mut *theirs, &mut *ours);
        let generations = |session: &mut Box<dyn Session>| {
            (0..4)
                .map(|_| session.next_1rtt_keys().unwrap())
                .collect::<Vec<_>>()
        };
        let (ours, theirs) = (generations(&mut ours), generations(&mut theirs));
        // The last first: none of them was used before.
        for index in (0..4).rev() {
            let (our, their) = (&ours[index], &theirs[index]);
            assert_eq!(opened(5, &*our.local, &*their.remote), Some(vec![1]));
            assert_eq!(opened(5, &*their.local, &*our.remote), Some(vec![1]));
            let another = &theirs[(index + 1) % 4];
            assert_eq!(opened(5, &*our.local, &*another.remote), None);
        }
    }
}
