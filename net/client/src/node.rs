//! The node as the client sees it: one connection per data core, made when it
//! is first needed and again when it is lost.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pinion_quic::{Steering, tls};
use pinion_types::limits::{DATA_CORES_MAX, HANDLES_MAX};
use pinion_types::{CoreId, ErrorCode, FactId, Refusal, ResourceKind, ResourceName};
use pinion_wire::message::{Spec, Welcome};
use quinn::VarInt;
use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::watch;

use crate::config::{ClientConfig, ConfigError};
use crate::error::{ConnectError, ProtocolError, RequestError};
use crate::link::{Dial, Link};
use crate::pace::{Backoff, Breaker, RetryBudget};
use crate::resource::Resource;
use crate::stats::{Counters, add};
use crate::token::{Shown, Tokens};

/// What one delivery or reply stream may have on the way to us. The largest
/// frame four times over: a bulk reply never waits for a window update.
const STREAM_WINDOW: u32 = 8 << 20;

/// What all streams of one connection may have on the way to us. Subscriptions
/// are bounded by their credit before that; this bounds a node that ignores it.
const CONNECTION_WINDOW: u32 = 64 << 20;

/// Bytes of ours that QUIC may hold unacknowledged. Larger fills longer pipes
/// and holds more memory per connection.
const SEND_WINDOW: u64 = 8 << 20;

/// Addresses of one name that are tried in turn.
const ADDRESSES_MAX: usize = 4;

/// Least wait before a node that said it shuts down is tried again.
const DRAINED_WAIT: Duration = Duration::from_secs(1);

/// Least pause after a token could not be renewed.
const RENEW_AGAIN_MIN: Duration = Duration::from_millis(100);

/// How long before its token ends a connection that was replaced takes no more requests, and
/// waits for the answers that are out; at most half of what is left of that token. Longer lets
/// more of them come, shorter leaves more time to whoever works on what was reserved there.
const RETIRE_WAIT: Duration = Duration::from_secs(10);

/// How long [`Node::close`] waits for each of its steps.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// The node's connections, budgets and counters; shared by every handle.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) config: ClientConfig,
    pub(crate) stats: Arc<Counters>,
    tls: quinn::ClientConfig,
    tls_name: String,
    /// One per data core; grows to what WELCOME announces.
    slots: Mutex<Vec<Arc<Slot>>>,
    topology: Mutex<Option<Topology>>,
    resources: Mutex<HashMap<(ResourceKind, ResourceName), Arc<Resource>>>,
    /// Guarded by `resources`.
    next_resource: AtomicU64,
    breaker: Mutex<Breaker>,
    budget: Mutex<RetryBudget>,
    /// Where tokens come from, when they end.
    tokens: Option<Tokens>,
    random: Mutex<StdRng>,
    closed: watch::Sender<bool>,
}

/// How to aim at a core, as the last WELCOME said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Topology {
    node_id: u64,
    steering: Steering,
}

/// The connection of one core.
#[derive(Debug)]
struct Slot {
    link: Mutex<Option<Arc<Link>>>,
    /// Held by the one caller who connects.
    dialing: tokio::sync::Mutex<Dialing>,
}

#[derive(Debug)]
struct Dialing {
    backoff: Backoff,
    not_before: Option<Instant>,
}

/// Whether a connection landed where it was aimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Landing {
    /// On the core aimed for.
    Right,
    /// On another core, though the keys were those of the node.
    Wrong,
    /// The node restarted with other keys or cores since they were learned.
    Stale,
}

impl Node {
    /// Checks the configuration; connects to nothing yet.
    pub(crate) fn new(config: ClientConfig) -> Result<Self, ConfigError> {
        config.token_bytes()?;
        let tls_name = config.tls_name()?;
        let tls = tls_config(&config)?;
        let budget = RetryBudget::new(config.retry_budget, Instant::now());
        let breaker = Breaker::new(config.breaker);
        let tokens = config.source().cloned().map(Tokens::new);
        Ok(Self {
            config,
            stats: Arc::default(),
            tls,
            tls_name,
            slots: Mutex::default(),
            topology: Mutex::default(),
            resources: Mutex::default(),
            next_resource: AtomicU64::new(1),
            breaker: Mutex::new(breaker),
            budget: Mutex::new(budget),
            tokens,
            random: Mutex::new(rand::make_rng()),
            closed: watch::Sender::new(false),
        })
    }

    /// The first connection: any core, and the keys to aim with from then on.
    pub(crate) async fn connect(&self) -> Result<Arc<Link>, ConnectError> {
        let link = self.dial(None).await?;
        self.learn(&link.welcome)?;
        let slot = self.slot(CoreId(link.welcome.core));
        *lock(&slot.link) = Some(Arc::clone(&link));
        Ok(link)
    }

    /// How many data cores the node has; 1 before the first WELCOME.
    pub(crate) fn data_cores(&self) -> u16 {
        lock(&self.topology).map_or(1, |topology| topology.steering.cores())
    }

    /// Any connection that stands, or the first core's.
    pub(crate) async fn any_link(&self) -> Result<Arc<Link>, ConnectError> {
        let slots = lock(&self.slots).clone();
        for slot in &slots {
            if let Some(link) = slot.live() {
                return Ok(link);
            }
        }
        self.link(CoreId(0)).await
    }

    /// The connection to `core`, made if need be. Concurrent callers share one
    /// attempt; when its caller is dropped, the next takes over.
    pub(crate) async fn link(&self, core: CoreId) -> Result<Arc<Link>, ConnectError> {
        // A node that restarted may have fewer cores than when the caller
        // learned of this one; every core serves every partition.
        let core = CoreId(core.0 % self.data_cores());
        let slot = self.slot(core);
        if let Some(link) = slot.live() {
            return self.unless_closed(link);
        }
        let mut dialing = slot.dialing.lock().await;
        if let Some(link) = slot.live() {
            return self.unless_closed(link);
        }
        let before = lock(&slot.link).clone();
        let lost = before.is_some();
        if before.is_some_and(|link| link.drained()) && dialing.not_before.is_none() {
            let wait = DRAINED_WAIT.mul_f64(1.0 + self.random());
            dialing.not_before = Some(Instant::now() + wait);
        }
        if let Some(not_before) = dialing.not_before {
            tokio::time::sleep_until(not_before.into()).await;
        }
        for _ in 0..2 {
            self.check_open()?;
            {
                let mut breaker = lock(&self.breaker);
                let failures = breaker.failures();
                breaker
                    .admit(Instant::now())
                    .map_err(|retry_in| ConnectError::CircuitOpen { failures, retry_in })?;
            }
            match self.dial(Some(core)).await {
                Ok(link) => {
                    lock(&self.breaker).succeeded();
                    dialing.backoff.reset();
                    dialing.not_before = None;
                    let landing = self.landing(core, &link)?;
                    tracing::debug!(
                        aimed = core.0,
                        landed = link.welcome.core,
                        ?landing,
                        "connected"
                    );
                    if lost {
                        add(&self.stats.reconnects, 1);
                    }
                    if landing == Landing::Stale {
                        // Aim again with the keys just learned; keep this
                        // connection if the core it landed on has none.
                        if !self.keep_elsewhere(&link) {
                            link.close();
                        }
                        continue;
                    }
                    *lock(&slot.link) = Some(Arc::clone(&link));
                    return self.unless_closed(link);
                }
                Err(error) => {
                    add(&self.stats.connect_failures, 1);
                    lock(&self.breaker).failed(Instant::now());
                    let wait = dialing.backoff.next(self.random());
                    dialing.not_before = Some(Instant::now() + wait);
                    return Err(error);
                }
            }
        }
        // The node restarted twice while we aimed; any connection will do.
        drop(dialing);
        let link = self.dial(None).await?;
        self.learn(&link.welcome)?;
        *lock(&slot.link) = Some(Arc::clone(&link));
        Ok(link)
    }

    /// The resource of this name, the same for everyone who asks.
    pub(crate) fn resource(
        &self,
        kind: ResourceKind,
        name: &str,
        declared: Option<Spec>,
    ) -> Result<Arc<Resource>, RequestError> {
        let name = ResourceName::parse(name)?;
        let mut resources = lock(&self.resources);
        let known = resources.get(&(kind, name.clone()));
        if let Some(known) = known
            && (declared.is_none() || declared == known.declared)
        {
            return Ok(Arc::clone(known));
        }
        // Ids are never reused: a connection keeps the handle of each.
        let id = self.next_resource.load(Ordering::Relaxed);
        if id > u64::from(HANDLES_MAX) {
            let refusal = Refusal::new(ErrorCode::LimitReached);
            return Err(RequestError::Refused(
                refusal.with(FactId::Limit, u64::from(HANDLES_MAX)),
            ));
        }
        self.next_resource.store(id + 1, Ordering::Relaxed);
        // A declaration takes the place of a plain OPEN: from then on every
        // connection opens with it.
        let resource = Arc::new(Resource::new(id, kind, name.clone(), declared));
        resources.insert((kind, name), Arc::clone(&resource));
        Ok(resource)
    }

    /// The node refused to open it; the next caller begins anew.
    pub(crate) fn forget_resource(&self, resource: &Arc<Resource>) {
        let mut resources = lock(&self.resources);
        let key = (resource.kind, resource.name.clone());
        let same =
            |known: &Arc<Resource>| Arc::ptr_eq(known, resource) && resource.shape().is_none();
        if resources.get(&key).is_some_and(same) {
            resources.remove(&key);
        }
    }

    /// Pays for a first attempt.
    pub(crate) fn budget_deposit(&self) {
        add(&self.stats.requests, 1);
        lock(&self.budget).deposit();
    }

    /// Pays for one retry; false when the budget is spent.
    pub(crate) fn budget_withdraw(&self) -> bool {
        let granted = self.budget_take();
        if granted {
            add(&self.stats.retries, 1);
        }
        granted
    }

    /// [`budget_withdraw`](Self::budget_withdraw) for a round of several
    /// retries, which the caller counts.
    pub(crate) fn budget_take(&self) -> bool {
        let granted = lock(&self.budget).withdraw(Instant::now());
        if !granted {
            add(&self.stats.retries_denied, 1);
        }
        granted
    }

    /// Uniform in `0.0..1.0`.
    pub(crate) fn random(&self) -> f64 {
        // 53 bits are what an f64 holds exactly.
        #[allow(clippy::cast_precision_loss)]
        let fraction = (lock(&self.random).next_u64() >> 11) as f64;
        fraction / 9_007_199_254_740_992.0
    }

    /// A random number, for producer ids.
    pub(crate) fn random_u64(&self) -> u64 {
        lock(&self.random).next_u64()
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Tells when the client is closed.
    pub(crate) fn closed(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    /// Sends what is queued, then closes every connection. Bounded in time.
    pub(crate) async fn close(&self) {
        self.closed.send_replace(true);
        let links: Vec<_> = lock(&self.slots)
            .iter()
            .filter_map(|slot| slot.live())
            .collect();
        let finish = async {
            for link in &links {
                link.finish().await;
            }
        };
        // Out of time: what is not yet acknowledged is lost with the connection,
        // and whoever waits for it is told so.
        let _ = tokio::time::timeout(CLOSE_WAIT, finish).await;
        for link in &links {
            link.close();
        }
        let closed = async {
            for link in &links {
                link.closed().await;
            }
        };
        // Out of time: the node will notice by its idle timeout.
        let _ = tokio::time::timeout(CLOSE_WAIT, closed).await;
    }

    fn check_open(&self) -> Result<(), ConnectError> {
        if self.is_closed() {
            return Err(ConnectError::Closed);
        }
        Ok(())
    }

    fn unless_closed(&self, link: Arc<Link>) -> Result<Arc<Link>, ConnectError> {
        if self.is_closed() {
            link.close();
            return Err(ConnectError::Closed);
        }
        Ok(link)
    }

    fn slot(&self, core: CoreId) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        let index = usize::from(core.0.min(DATA_CORES_MAX));
        while slots.len() <= index {
            slots.push(Arc::new(Slot {
                link: Mutex::default(),
                dialing: tokio::sync::Mutex::new(Dialing {
                    backoff: Backoff::new(self.config.backoff),
                    not_before: None,
                }),
            }));
        }
        Arc::clone(&slots[index])
    }

    /// Takes in what a WELCOME says about the node. True when it was news.
    fn learn(&self, welcome: &Welcome) -> Result<bool, ConnectError> {
        let steering = Steering::new(welcome.steering_k0, welcome.steering_k1, welcome.data_cores)
            .map_err(|_| ProtocolError::Malformed { opcode: 0x81 })?;
        if welcome.core >= welcome.data_cores {
            return Err(ProtocolError::Malformed { opcode: 0x81 }.into());
        }
        let news = Topology {
            node_id: welcome.node_id,
            steering,
        };
        let before = lock(&self.topology).replace(news);
        Ok(before.is_some_and(|before| before != news))
    }

    fn landing(&self, aimed: CoreId, link: &Link) -> Result<Landing, ConnectError> {
        let news = self.learn(&link.welcome)?;
        if link.welcome.core == aimed.0 {
            return Ok(Landing::Right);
        }
        if news {
            return Ok(Landing::Stale);
        }
        add(&self.stats.wrong_shard, 1);
        Ok(Landing::Wrong)
    }

    fn keep_elsewhere(&self, link: &Arc<Link>) -> bool {
        let slot = self.slot(CoreId(link.welcome.core));
        let mut place = lock(&slot.link);
        let free = place.as_ref().is_none_or(|link| link.is_down());
        if free {
            *place = Some(Arc::clone(link));
        }
        free
    }

    async fn dial(&self, aim: Option<CoreId>) -> Result<Arc<Link>, ConnectError> {
        let after = self.config.connect_timeout;
        let server = self.config.server();
        match tokio::time::timeout(after, self.dial_any(aim)).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::TimedOut {
                server: server.to_owned(),
                after,
            }),
        }
    }

    async fn dial_any(&self, aim: Option<CoreId>) -> Result<Arc<Link>, ConnectError> {
        let Some(tokens) = &self.tokens else {
            return self.dial_with(aim, self.config.shown()).await;
        };
        let shown = tokens.get().await?;
        let result = self.dial_with(aim, shown.clone()).await;
        match &result {
            Err(ConnectError::Refused(refusal)) if refusal.code == ErrorCode::Unauthenticated => {
                // It may have ended sooner than its source knew.
                tokens.forget(&shown.token.0).await;
                self.dial_with(aim, tokens.get().await?).await
            }
            _ => result,
        }
    }

    /// Gets the next token, and puts a connection with it in the place of each that stands.
    async fn renew(&self, tokens: &Tokens) -> Result<(), ConnectError> {
        let after = self.config.connect_timeout;
        let renewed = tokio::time::timeout(after, tokens.renewed()).await;
        let number = renewed.map_err(|_| ConnectError::Token {
            reason: format!("its source did not answer within {after:?}"),
        })??;
        let slots = lock(&self.slots).clone();
        for (core, slot) in (0..).zip(slots) {
            // Nobody else dials this core meanwhile.
            let _dialing = slot.dialing.lock().await;
            let old = slot.live().filter(|old| old.token.number < number);
            let Some(old) = old else { continue };
            let core = CoreId(core);
            let link = self.dial(Some(core)).await?;
            if self.landing(core, &link)? == Landing::Stale {
                // The node was started anew: the old one is lost, as will be seen.
                link.close();
                continue;
            }
            *lock(&slot.link) = Some(link);
            tokio::spawn(async move { old.retire(RETIRE_WAIT).await });
        }
        Ok(())
    }

    async fn dial_with(
        &self,
        aim: Option<CoreId>,
        token: Shown,
    ) -> Result<Arc<Link>, ConnectError> {
        let server = self.config.server();
        let resolve = |source| ConnectError::Resolve {
            server: server.to_owned(),
            source: Arc::new(source),
        };
        let found: Vec<SocketAddr> = tokio::net::lookup_host(server)
            .await
            .map_err(resolve)?
            .take(ADDRESSES_MAX)
            .collect();
        let none = std::io::Error::new(std::io::ErrorKind::NotFound, "no address");
        let mut result = Err(resolve(none));
        for address in found {
            let dial = Dial {
                server,
                address,
                tls_name: &self.tls_name,
                config: self.aimed(aim),
                token: token.clone(),
                client_name: self.config.client_name(),
                max_in_flight: self.config.max_in_flight,
                stats: Arc::clone(&self.stats),
            };
            result = Link::establish(dial).await;
            match &result {
                Err(ConnectError::Handshake { .. } | ConnectError::Socket(_)) => {}
                _ => break,
            }
        }
        result
    }

    /// The QUIC configuration whose first packet the kernel delivers to `aim`.
    fn aimed(&self, aim: Option<CoreId>) -> quinn::ClientConfig {
        let mut config = self.tls.clone();
        let topology = *lock(&self.topology);
        if let (Some(core), Some(topology)) = (aim, topology) {
            let cid = topology
                .steering
                .cid_for_core(core.0 % topology.steering.cores(), &mut *lock(&self.random));
            config.initial_dst_cid_provider(Arc::new(move || quinn::ConnectionId::new(&cid)));
        }
        config
    }
}

/// Renews the token before it ends, for as long as there is a handle of the client.
pub(crate) fn keep_token(node: &Arc<Node>) {
    let Some(tokens) = &node.tokens else { return };
    let (mut due, mut closed) = (tokens.due(), node.closed());
    let mut backoff = Backoff::new(node.config.backoff);
    let node = Arc::downgrade(node);
    tokio::spawn(async move {
        let mut again = None;
        loop {
            let at = again.take().or(*due.borrow_and_update());
            let wait = async {
                match at {
                    Some(at) => tokio::time::sleep_until(Instant::into(at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                changed = due.changed() => match changed {
                    Ok(()) => continue,
                    // The last handle is gone.
                    Err(_) => return,
                },
                _ = closed.wait_for(|closed| *closed) => return,
            }
            let Some(node) = node.upgrade() else { return };
            let Some(tokens) = &node.tokens else { return };
            match node.renew(tokens).await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    tracing::warn!(%error, "the token is not renewed yet; trying again");
                    let wait = backoff.next(node.random()).max(RENEW_AGAIN_MIN);
                    again = Some(Instant::now() + wait);
                }
            }
        }
    });
}

impl Drop for Node {
    /// The last handle is gone: nobody can wait, so connections close at once.
    fn drop(&mut self) {
        for slot in lock(&self.slots).iter() {
            if let Some(link) = slot.live() {
                link.close();
            }
        }
    }
}

impl Slot {
    fn live(&self) -> Option<Arc<Link>> {
        lock(&self.link)
            .as_ref()
            .filter(|link| !link.is_down())
            .cloned()
    }
}

fn tls_config(config: &ClientConfig) -> Result<quinn::ClientConfig, ConfigError> {
    let ca = |reason: String| ConfigError::Ca { reason };
    let roots = config.ca_bytes()?;
    let mut tls = match config.certificate() {
        None => tls::client_config_pem(roots).map_err(|error| ca(error.to_string()))?,
        Some((chain, key)) => {
            // Whichever of them is wrong, the other is right.
            tls::roots(roots).map_err(|error| ca(error.to_string()))?;
            let made = tls::client_config_pem_with_certificate(roots, chain, key);
            made.map_err(|error| ConfigError::Certificate {
                reason: error.to_string(),
            })?
        }
    };
    // 0-RTT data may be replayed, and this client never sends any.
    Arc::make_mut(&mut tls).enable_early_data = false;
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls)
        .map_err(|error| ca(error.to_string()))?;
    let mut quic = quinn::ClientConfig::new(Arc::new(crypto));
    // The numbers shared with the node, ACK frequency among them: no large
    // transfer ever waits for a delayed ACK.
    let mut transport = pinion_quic::transport::client(pinion_quic::transport::MTU_ETHERNET);
    transport
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW);
    quic.transport_config(Arc::new(transport));
    Ok(quic)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
