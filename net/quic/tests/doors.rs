//! Who comes in at which door of a server, and what becomes of those who do not.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use pinion_quic::{
    ClientConfig, CloseReason, ConnId, Doors, Event, ReadOutcome, WriteOutcome, tls, transport,
};
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

const SOON: Duration = Duration::from_secs(20);

/// TLS alerts (RFC 8446 §6) as QUIC says them (RFC 9001 §4.8).
const CERTIFICATE_REQUIRED: u64 = 0x100 + 116;
const CERTIFICATE_EXPIRED: u64 = 0x100 + 45;
const DECRYPT_ERROR: u64 = 0x100 + 51;
const UNKNOWN_CA: u64 = 0x100 + 48;
const BAD_CERTIFICATE: u64 = 0x100 + 42;
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let der = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            der,
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        roots
    }

    fn sign(&self, id: &str, change: impl FnOnce(&mut CertificateParams)) -> Shown {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (vec![cert.der().clone()], key)
    }

    fn shown(&self, id: &str) -> Shown {
        self.sign(id, |_| {})
    }
}

/// A server with both doors, and those who sign for them.
struct World {
    identity: Identity,
    cluster: Authority,
    workloads: Authority,
    /// What the server shows to peers.
    node: CertificateDer<'static>,
    sim: Sim,
}

impl World {
    fn new() -> Self {
        let (cluster, workloads) = (Authority::new("cluster"), Authority::new("workloads"));
        // The name is for diallers in these tests that look at names.
        let (chain, key) = cluster.sign("spiffe://pinion/c/node/n1", |params| {
            let name = "localhost".try_into().unwrap();
            params.subject_alt_names.push(SanType::DnsName(name));
        });
        let node = chain[0].clone();
        let doors = Doors::default().with_peers(cluster.roots(), chain, key);
        let doors = doors.unwrap().with_clients(workloads.roots()).unwrap();
        let identity = identity();
        let sim = Sim::with_server(
            lan(),
            |mut config| {
                config.doors = Some(Arc::new(doors));
                config
            },
            &identity,
            2,
        );
        Self {
            identity,
            cluster,
            workloads,
            node,
            sim,
        }
    }

    /// Who dials as a peer, and takes who answers for the one it wants.
    fn peer(&self, (chain, key): Shown) -> ClientConfig {
        let node = self.node.clone();
        let expected = Arc::new(move |found: &CertificateDer<'_>| *found == node);
        let tls = tls::peer_client_config(self.cluster.roots(), chain, key, expected).unwrap();
        let transport = Arc::new(transport::peer(transport::MTU_ETHERNET));
        ClientConfig::new(tls).unwrap().with_transport(transport)
    }

    /// Who dials as a client, and shows a certificate.
    fn client(&self, (chain, key): Shown) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.identity.cert.clone()).unwrap();
        let tls = tls::client_config_with_certificate(roots, chain, key).unwrap();
        ClientConfig::new(tls).unwrap()
    }

    /// Who dials as told, with what a plain client has, and sees anybody's certificate.
    fn without_certificate(&self, alpn: &[u8]) -> ClientConfig {
        let mut roots = self.cluster.roots();
        roots.add(self.identity.cert.clone()).unwrap();
        let plain = tls::client_config(roots).unwrap();
        let mut config = rustls::ClientConfig::clone(&plain);
        config.alpn_protocols = vec![alpn.to_vec()];
        ClientConfig::new(Arc::new(config)).unwrap()
    }

    /// How the server and the dialler (node 2) fare. A client (node 1) is there
    /// meanwhile, and is served afterwards as before.
    fn dial(&mut self, config: &ClientConfig) -> Result<(ConnId, ConnId), CloseReason> {
        let plain = client_config(&self.identity);
        let (bystander, _) = self.sim.connected(1, &plain);
        let conn = self.sim.connect(2, config);
        let address = self.sim.nodes[2].addr;
        let (mut server, mut closed) = (None, None);
        self.sim.run_until(SOON, &mut |_, node, event| {
            match event {
                Event::Connected { conn, remote, .. } if node == SERVER && *remote == address => {
                    server = Some(*conn);
                }
                Event::Closed { conn: over, reason } if node == 2 && *over == conn => {
                    closed = Some(reason.clone());
                }
                _ => {}
            }
            server.is_some() || closed.is_some()
        });
        let again = self.sim.connected(1, &plain);
        assert_ne!(again.0, bystander);
        assert!(self.sim.server().remote(again.1).is_some());
        let stream = self.sim.nodes[1].endpoint.open_bi(bystander).unwrap();
        let written = self.sim.nodes[1].endpoint.write(bystander, stream, b"?");
        assert_eq!(written, WriteOutcome::Written(1));
        self.sim.run_until(SOON, &mut |sim, node, event| {
            matches!(event, Event::StreamOpened { conn, stream, .. } if node == SERVER
                && matches!(sim.server().read(*conn, *stream), ReadOutcome::Chunk(_)))
        });
        match (server, closed) {
            (_, Some(reason)) => Err(reason),
            (Some(server), None) => Ok((conn, server)),
            (None, None) => unreachable!("one of them ended the run"),
        }
    }

    fn alert(&mut self, config: &ClientConfig) -> u64 {
        match self.dial(config).unwrap_err() {
            CloseReason::PeerTransport { code, .. } | CloseReason::Transport { code, .. } => code,
            other => panic!("no alert: {other:?}"),
        }
    }
}

#[test]
fn a_peer_shows_its_certificate_sees_the_nodes_and_sends_on_three_streams() {
    let mut world = World::new();
    let shown = world.cluster.shown("spiffe://pinion/c/node/n2");
    let leaf = shown.0.clone();
    let config = world.peer(shown);
    let (peer, server) = world.dial(&config).unwrap();
    assert_eq!(world.sim.server().peer_certificates(server), leaf);
    let seen = world.sim.nodes[2].endpoint.peer_certificates(peer);
    assert_eq!(seen, [world.node.clone()]);
    let agreed = |event: &Event| matches!(event, Event::Connected { conn, alpn, .. } if *conn == server && alpn == tls::ALPN_PEER);
    assert!(world.sim.nodes[SERVER].events.iter().any(agreed));

    let dialler = &mut world.sim.nodes[2].endpoint;
    assert_eq!(dialler.open_uni(peer), None, "nothing is promised at first");
    world.sim.server().allow_uni_streams(server, 3);
    world.sim.run_until(SOON, &mut |_, node, event| {
        node == 2 && matches!(event, Event::StreamsAvailable { bidi: false, .. })
    });
    let dialler = &mut world.sim.nodes[2].endpoint;
    let opened = [(); 4].map(|()| dialler.open_uni(peer));
    assert_eq!(
        opened.map(|stream| stream.is_some()),
        [true, true, true, false]
    );
}

#[test]
fn a_client_may_show_a_certificate_or_none() {
    let mut world = World::new();
    let shown = world
        .workloads
        .shown("spiffe://cluster.local/ns/shop/sa/orders");
    let leaf = shown.0.clone();
    let config = world.client(shown);
    let (_, server) = world.dial(&config).unwrap();
    assert_eq!(world.sim.server().peer_certificates(server), leaf);

    let plain = client_config(&world.identity);
    let (_, server) = world.dial(&plain).unwrap();
    assert_eq!(world.sim.server().peer_certificates(server), []);
}

#[test]
fn whoever_has_no_good_certificate_is_told_so_and_nobody_else_is_hurt() {
    let mut world = World::new();
    let none = world.without_certificate(tls::ALPN_PEER);
    assert_eq!(world.alert(&none), CERTIFICATE_REQUIRED);

    let named_alike = Authority::new("cluster");
    for (authority, alert) in [
        (named_alike, DECRYPT_ERROR),
        (Authority::new("stranger"), UNKNOWN_CA),
    ] {
        let stranger = world.peer(authority.shown("spiffe://pinion/c/node/n2"));
        assert_eq!(world.alert(&stranger), alert);
    }

    let late = world.cluster.sign("spiffe://pinion/c/node/n2", |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let late = world.peer(late);
    assert_eq!(world.alert(&late), CERTIFICATE_EXPIRED);
}

#[test]
fn a_certificate_opens_its_own_door_alone() {
    let mut world = World::new();
    let workload = world.workloads.shown("spiffe://pinion/c/node/n2");
    let as_peer = world.peer(workload);
    assert_eq!(world.alert(&as_peer), UNKNOWN_CA);

    let node = world.cluster.shown("spiffe://pinion/c/node/n2");
    let as_client = world.client(node);
    assert_eq!(world.alert(&as_client), UNKNOWN_CA);
}

#[test]
fn a_session_of_one_door_is_not_resumed_at_the_other() {
    let mut world = World::new();
    let plain = world.without_certificate(tls::ALPN);
    world.dial(&plain).unwrap();
    world.sim.run_for(Duration::from_secs(1));
    // The same tickets, at the other door: rustls keeps them by the server's name.
    let mut roots = world.cluster.roots();
    roots.add(world.identity.cert.clone()).unwrap();
    let clients = tls::client_config(roots).unwrap();
    let mut peers = rustls::ClientConfig::clone(&clients);
    peers.alpn_protocols = vec![tls::ALPN_PEER.to_vec()];
    let clients = ClientConfig::new(clients).unwrap();
    world.dial(&clients).unwrap();
    world.sim.run_for(Duration::from_secs(1));
    let peers = ClientConfig::new(Arc::new(peers)).unwrap();
    assert_eq!(world.alert(&peers), CERTIFICATE_REQUIRED);
}

#[test]
fn who_showed_a_certificate_shows_it_again() {
    let mut world = World::new();
    let shown = world
        .workloads
        .shown("spiffe://cluster.local/ns/shop/sa/orders");
    let config = world.client(shown);
    for _ in 0..2 {
        let (client, server) = world.dial(&config).unwrap();
        assert_eq!(world.sim.server().peer_certificates(server).len(), 1);
        let early = world.sim.nodes[2].endpoint.early_data_accepted(client);
        assert!(!early, "nothing is resumed");
        world.sim.run_for(Duration::from_secs(1));
    }
}

#[test]
fn a_dialler_goes_on_only_with_whom_it_expects() {
    let mut world = World::new();
    let (chain, key) = world.cluster.shown("spiffe://pinion/c/node/n2");
    let nobody = Arc::new(|_: &CertificateDer<'_>| false);
    let tls = tls::peer_client_config(world.cluster.roots(), chain, key, nobody).unwrap();
    let config = ClientConfig::new(tls).unwrap();
    assert_eq!(world.alert(&config), BAD_CERTIFICATE);

    let (chain, key) = world.cluster.shown("spiffe://pinion/c/node/n2");
    let anybody = Arc::new(|_: &CertificateDer<'_>| true);
    let tls = tls::peer_client_config(world.workloads.roots(), chain, key, anybody).unwrap();
    let config = ClientConfig::new(tls).unwrap();
    assert_eq!(world.alert(&config), UNKNOWN_CA, "of another authority");
}

#[test]
fn a_server_without_a_door_for_peers_does_not_speak_their_protocol() {
    let mut world = World::new();
    let shown = world.cluster.shown("spiffe://pinion/c/node/n2");
    let peer = world.peer(shown);
    let identity = identity();
    let mut sim = Sim::with_server(lan(), |config| config, &identity, 2);
    std::mem::swap(&mut sim, &mut world.sim);
    world.identity = identity;
    assert_eq!(world.alert(&peer), NO_APPLICATION_PROTOCOL);
    let unknown = world.without_certificate(b"pinion/2");
    assert_eq!(world.alert(&unknown), NO_APPLICATION_PROTOCOL);
}
