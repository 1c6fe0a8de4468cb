//! QUIC transport parameters of both roles, each number with its reason.
//!
//! The rule behind most of them: **nothing ever waits for the peer's delayed
//! ACK.** A receiver may hold back the ACK of a lone packet for 25 ms (RFC 9000
//! §18.2, `max_ack_delay`). That is harmless while a sender has other packets to
//! send, and a 25 ms quantum when it does not. It bites whenever the congestion
//! window holds only one packet: a packet size close to the window (jumbo frames
//! under the default window), or the minimum window of two packets after heavy
//! loss, of which quinn-proto sends one. So: the window is sized by the largest
//! packet, and the peer is asked by the ACK-frequency extension to hold back an
//! ACK for one millisecond at most. `tests/virtual_time.rs` shows both, and shows
//! that it notices when either is undone.

use std::sync::Arc;
use std::time::Duration;

use pinion_types::limits::{FRAME_BYTES_MAX, REQUEST_STREAMS_MAX, SUBSCRIPTIONS_MAX};
use quinn_proto::congestion::CubicConfig;
use quinn_proto::{AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

/// Smallest UDP payload every QUIC path carries (RFC 9000 §14), and the size
/// connections start with. Starting higher would lose the handshake on a path
/// that cannot carry it; path MTU discovery raises it within a few round trips.
pub const MTU_INITIAL: u16 = 1200;

/// Largest UDP payload on Ethernet: 1500 less the IPv6 and UDP headers. Higher wins
/// on loopback and jumbo networks only, and costs lost probes elsewhere.
pub const MTU_ETHERNET: u16 = 1452;

/// A good UDP payload on loopback: in bulk it measured 1.6 times the rate of
/// [`MTU_ETHERNET`], and more gained nothing (8,900 measured 1.2 times).
pub const MTU_LOOPBACK: u16 = 4000;

/// Largest UDP payload on a jumbo network: 9000 less the IPv6 and UDP headers.
pub const MTU_JUMBO: u16 = 8952;

/// Most server-opened unidirectional streams a client takes: one per subscription,
/// and some that are ending. quinn-proto keeps about 30 bytes for each that *may* be
/// opened, so much more would show in a process with thousands of client connections.
pub const DELIVERY_STREAMS_MAX: u32 = SUBSCRIPTIONS_MAX + 64;

/// A connection that says nothing for this long is gone. RFC 9308 §3.2 recommends
/// 30 s; shorter loses clients behind radio links, longer keeps the dead in memory.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How often an otherwise silent client speaks: three chances inside
/// [`IDLE_TIMEOUT`], and often enough for NAT bindings (RFC 9308 §3.2).
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A connection to another node of the cluster that says nothing for this long is gone.
/// Members of a group speak every 100 ms, so this is fifty words missed. A node that was
/// started again and forgot the connection without being able to say so is dialled anew
/// after it; shorter gives up on machines that stall.
pub const PEER_IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often an otherwise silent connection to another node speaks: four chances in
/// [`PEER_IDLE_TIMEOUT`].
pub const PEER_KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Longest the peer is asked to hold back an ACK (ACK-frequency extension). The
/// least quinn-proto accepts; it bounds what a window of one packet can cost.
/// Lower is not possible, higher brings the quantum back. It costs an ACK-only
/// packet when neither side has anything to send for a millisecond.
pub const ACK_DELAY_MAX: Duration = Duration::from_millis(1);

/// ACK at once when more than this many packets wait for one (RFC 9000 §13.2.2:
/// every second packet). Higher saves ACK packets but stalls a sender whose window
/// is smaller than the threshold; datagrams that arrive in one GRO batch share one
/// ACK anyway, which saves more. Zero would send an ACK-only packet for each reply
/// that the next request acknowledges for free.
pub const ACK_THRESHOLD: u32 = 1;

/// What a peer may send on one stream before we read it. Two of the largest
/// frames, so that one can be read while the next arrives. It is a limit, not an
/// allocation: an idle stream holds nothing. Raise it and one unread stream may
/// hold more; lower it and a large frame takes more than one round trip of credit.
pub const STREAM_WINDOW: u32 = 2 * 1024 * 1024 + 64 * 1024;

/// What a client may have in flight towards the server over all its streams: the
/// most memory one client can make a core hold in reassembly.
pub const SERVER_RECEIVE_WINDOW: u32 = 2 * STREAM_WINDOW;

/// What a server may have in flight towards a client: deliveries of many
/// subscriptions, bounded above this by the protocol's own credit.
pub const CLIENT_RECEIVE_WINDOW: u32 = 16 * 1024 * 1024;

/// Bytes written but not yet acknowledged that one connection may hold. It also
/// bounds what a client that never reads can make the server keep.
pub const SEND_WINDOW: u64 = 4 * 1024 * 1024;

// A frame that does not fit in the window could only arrive while it is being
// read; the session reads whole frames.
const _: () = assert!(FRAME_BYTES_MAX as u64 <= STREAM_WINDOW as u64);
const _: () = assert!(STREAM_WINDOW <= SERVER_RECEIVE_WINDOW);

/// Parameters of a server connection on paths of at most `mtu_max` bytes.
pub fn server(mtu_max: u16) -> TransportConfig {
    let mut config = both(mtu_max);
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(u32::from(REQUEST_STREAMS_MAX)))
        // Nothing in the protocol is sent on client-opened unidirectional streams.
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(SERVER_RECEIVE_WINDOW))
        // The client keeps the connection alive; a server that did so would hold
        // on to clients that crashed.
        .keep_alive_interval(None);
    config
}

/// Parameters of a client connection on paths of at most `mtu_max` bytes.
pub fn client(mtu_max: u16) -> TransportConfig {
    let mut config = both(mtu_max);
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(DELIVERY_STREAMS_MAX))
        .receive_window(VarInt::from_u32(CLIENT_RECEIVE_WINDOW))
        .keep_alive_interval(Some(KEEP_ALIVE));
    config
}

/// Parameters of a connection to another node of the cluster: it only sends.
pub fn peer(mtu_max: u16) -> TransportConfig {
    let mut config = both(mtu_max);
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(idle(PEER_IDLE_TIMEOUT)))
        .keep_alive_interval(Some(PEER_KEEP_ALIVE));
    config
}

fn idle(timeout: Duration) -> IdleTimeout {
    let millis = u32::try_from(timeout.as_millis()).expect("half a minute fits");
    VarInt::from_u32(millis).into()
}

/// Congestion window before the first ACK: ten packets (RFC 9002 §7.2, RFC 6928)
/// of the largest size the path may turn out to carry.
///
/// quinn-proto takes the number once and never rescales it. With its default of
/// 12,000 bytes a packet of 8,952 leaves room for exactly one in flight, which is
/// the delayed-ACK quantum; a packet above 12,000 could never be sent at all.
pub fn initial_window(mtu_max: u16) -> u64 {
    10 * u64::from(mtu_max.max(MTU_INITIAL))
}

fn both(mtu_max: u16) -> TransportConfig {
    let mtu_max = mtu_max.max(MTU_INITIAL);
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(mtu_max);
    let mut cubic = CubicConfig::default();
    cubic.initial_window(initial_window(mtu_max));
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_THRESHOLD))
        .max_ack_delay(Some(ACK_DELAY_MAX));

    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(idle(IDLE_TIMEOUT)))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .send_window(SEND_WINDOW)
        // Streams of one priority take turns: one slow subscription never blocks another.
        .send_fairness(true)
        .initial_mtu(MTU_INITIAL)
        .min_mtu(MTU_INITIAL)
        .mtu_discovery_config((mtu_max > MTU_INITIAL).then_some(mtu))
        .ack_frequency_config(Some(acks))
        // Unreliable datagrams are refused: nothing in the protocol uses them.
        .datagram_receive_buffer_size(None)
        // The spin bit tells observers our round-trip time and tells us nothing.
        .allow_spin(false)
        .congestion_controller_factory(Arc::new(cubic));
    config
}
