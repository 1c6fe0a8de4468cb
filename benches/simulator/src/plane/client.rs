//! Who asks: writes under a number of their own until somebody says what became of them,
//! reads, and follows the changes from the version that it knows. Any node is asked; one
//! that does not lead forwards.

use core::time::Duration;
use std::sync::Arc;

use pinion_metadata::command::{BatchItem, CreateTenant, Delete, DeleteFacts, UpdateTenant};
use pinion_metadata::tenant::TenantQuotas;
use pinion_metadata::{Command, Expect, MetaVersion, Object, ObjectKey};
use pinion_plane::{
    Answer, Caller, Consistency, PlaneError, Query, QueryValue, Request, RequestId, WatchError,
    WatchId, Write,
};
use pinion_types::{Monotonic, Outcome};

use super::truth::{WriteAsked, mark};
use super::world::{Event, World};
use crate::{Violation, promise};

/// Tenants that clients quarrel about.
const TENANTS: usize = 5;
/// Longest time until a client gives up, and the one when nothing goes wrong any more.
const PATIENCE_MS: u64 = 3_000;
const PATIENCE_CALM: Duration = Duration::from_secs(20);

/// What a client wants.
#[derive(Clone, Debug)]
enum Wish {
    Write(WriteAsked),
    Read(ObjectKey, Consistency),
}

/// What a client is doing.
#[derive(Clone, Debug)]
struct Task {
    serial: u64,
    wish: Wish,
    /// The newest version that anybody knew when it began.
    floor: u64,
    /// When it gives up.
    until: Monotonic,
    /// Whom it asks.
    node: usize,
    /// It waits for an answer.
    waits: bool,
    /// An attempt of which nobody said what became of it.
    doubt: bool,
    /// When it asks next.
    ask_at: Monotonic,
    /// How long it waits for one answer.
    patience: Duration,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    number: usize,
    serial: u64,
    task: Option<Task>,
    /// It thinks until then.
    thinks: Monotonic,
    /// The last write that was done, to be asked for again.
    done: Option<WriteAsked>,
    pub(super) watch: Option<(usize, WatchId)>,
    /// The version up to which it knows every change.
    pub(super) at: u64,
    /// What it still has to do before it is at its end: a write and a read.
    pub(super) last: u8,
}

impl Client {
    pub(super) fn new(number: usize) -> Self {
        Self {
            number,
            serial: 0,
            task: None,
            thinks: Monotonic::ZERO,
            done: None,
            watch: None,
            at: 0,
            last: 2,
        }
    }

    /// It has done everything.
    pub(super) fn rests(&self) -> bool {
        self.last == 0 && self.task.is_none()
    }
}

fn tenant(number: usize) -> String {
    format!("t{number}")
}

fn create(name: &str, number: u128) -> Command {
    Command::CreateTenant(CreateTenant {
        name: name.into(),
        display_name: "".into(),
        description: mark(number),
        quotas: TenantQuotas::default(),
        encryption: None,
    })
}

fn update(name: &str, description: Box<str>) -> Command {
    Command::UpdateTenant(UpdateTenant {
        name: name.into(),
        display_name: None,
        description: Some(description),
        quotas: None,
        encryption: None,
    })
}

impl World {
    /// A client does the next thing.
    pub(super) fn act(&mut self, client: usize) -> Result<(), Violation> {
        self.follow(client)?;
        let now = self.now;
        let this = &mut self.clients[client];
        match &mut this.task {
            Some(task) if now >= task.until => self.give_up(client),
            Some(task) if task.waits || now < task.ask_at => Ok(()),
            Some(_) => self.attempt(client),
            None if now < this.thinks || (self.calm && this.last == 0) => Ok(()),
            None => {
                self.wish(client);
                self.attempt(client)
            }
        }
    }

    // ------------------------------------------------------------------ wishes

    fn wish(&mut self, client: usize) {
        let floor = self.truth.newest();
        let wish = if self.calm {
            self.last_wish(client, floor)
        } else {
            self.any_wish(client, floor)
        };
        if let Wish::Write(asked) = &wish {
            self.truth.asks(asked.clone());
        }
        let patience = if self.calm {
            PATIENCE_CALM
        } else {
            Duration::from_millis(self.rng.between(50, PATIENCE_MS))
        };
        let one_answer = self.rng.between(20, 1_500);
        let node = self.rng.index(self.nodes.len());
        let this = &mut self.clients[client];
        this.serial += 1;
        this.task = Some(Task {
            serial: this.serial,
            wish,
            floor,
            until: self.now + patience,
            node,
            waits: false,
            doubt: false,
            ask_at: self.now,
            patience: Duration::from_millis(one_answer),
        });
        self.later(patience, Event::Client(client));
    }

    /// A write that nothing stands against, and a read that sees it.
    fn last_wish(&mut self, client: usize, floor: u64) -> Wish {
        let this = &mut self.clients[client];
        this.last -= 1;
        if this.last == 0 {
            let key = ObjectKey::tenant("default");
            return Wish::Read(key, Consistency::Linearizable);
        }
        let number = self.number(client);
        Wish::Write(WriteAsked {
            number,
            expect: Expect::Any,
            command: update("default", mark(number)),
            floor,
        })
    }

    /// No two writes have the same number, and none is 0.
    fn number(&self, client: usize) -> u128 {
        let this = &self.clients[client];
        (u128::from(this.serial) + 1) * 16 + this.number as u128
    }

    fn any_wish(&mut self, client: usize, floor: u64) -> Wish {
        let name = tenant(self.rng.index(TENANTS));
        let key = ObjectKey::tenant(&name);
        let kind = self.rng.index(20);
        if kind < 4 {
            return Wish::Read(key, Consistency::Linearizable);
        }
        if kind < 6 {
            return Wish::Read(key, Consistency::Stale);
        }
        if kind == 6
            && let Some(done) = &self.clients[client].done
        {
            // It did not hear the answer, or so it says.
            return Wish::Write(done.clone());
        }
        let number = self.number(client);
        let mut expect = Expect::Any;
        let command = match kind {
            7..11 => create(&name, number),
            11..14 => update(&name, mark(number)),
            14..16 => {
                // What it knows of the object, which may be long ago.
                let back = self.rng.below(3);
                let known = self.truth.object(&key, floor.saturating_sub(back));
                expect = known.map_or(Expect::Absent, |object| {
                    Expect::Version(object.meta.version)
                });
                match expect {
                    Expect::Absent => create(&name, number),
                    _ => update(&name, mark(number)),
                }
            }
            16 => Command::Undelete(key),
            17 | 18 => {
                let grace_ms = self.rng.below(1_500);
                Command::Delete(Delete {
                    key,
                    force: true,
                    grace_ms,
                    facts: DeleteFacts::default(),
                })
            }
            _ => {
                let other = tenant((self.rng.index(TENANTS - 1) + 1 + name_index(&name)) % TENANTS);
                let beside = format!("{}b", mark(number)).into();
                let items = [update(&name, mark(number)), update(&other, beside)];
                let items = items.map(|command| BatchItem { expect, command });
                Command::Batch(items.into())
            }
        };
        Wish::Write(WriteAsked {
            number,
            expect,
            command,
            floor,
        })
    }

    // ---------------------------------------------------------------- attempts

    fn attempt(&mut self, client: usize) -> Result<(), Violation> {
        let now = self.now;
        let this = &self.clients[client];
        let Some(task) = this.task.clone() else {
            return Ok(());
        };
        let node = &mut self.nodes[task.node];
        if node.plane.is_none() {
            self.elsewhere(client);
            return Ok(());
        }
        // A command that is lost on its way between nodes is unknown at its deadline.
        let patience = task.patience.min(task.until.since(now));
        let deadline = node.clocks(now).0 + patience;
        let request = match &task.wish {
            Wish::Write(asked) => Request::Write(Write {
                caller: Caller {
                    principal: format!("p:c{}", this.number).into(),
                    request: asked.number,
                    remote: None,
                },
                expect: asked.expect,
                command: asked.command.clone(),
                deadline,
            }),
            Wish::Read(key, consistency) => Request::Read {
                query: Query::Get(key.clone()),
                consistency: *consistency,
                deadline,
            },
        };
        self.requests += 1;
        let id = RequestId(self.requests);
        self.note("ask", &[client as u64, task.node as u64, id.0]);
        let asked = (client, task.serial);
        self.nodes[task.node].requests.insert(id, asked);
        if let Some(task) = &mut self.clients[client].task {
            task.waits = true;
        }
        self.ask(task.node, id, request)
    }

    /// Tries another node in a while.
    fn elsewhere(&mut self, client: usize) {
        let node = self.rng.index(self.nodes.len());
        self.again(client, node, 60);
    }

    fn again(&mut self, client: usize, node: usize, most_ms: u64) {
        let after = Duration::from_micros(self.rng.between(100, most_ms * 1_000));
        let now = self.now;
        if let Some(task) = &mut self.clients[client].task {
            task.waits = false;
            task.node = node;
            task.ask_at = now + after;
        }
        self.later(after, Event::Client(client));
    }

    /// The node that a client waits for is gone.
    pub(super) fn lost(&mut self, client: usize, serial: u64) {
        let this = &mut self.clients[client];
        let Some(task) = this.task.as_mut().filter(|task| task.serial == serial) else {
            return;
        };
        task.doubt = true;
        self.elsewhere(client);
    }

    fn give_up(&mut self, client: usize) -> Result<(), Violation> {
        let Some(task) = self.clients[client].task.take() else {
            return Ok(());
        };
        promise!(
            self.short(&task),
            "nothing goes wrong any more, and nobody answers client {client}: {:?}",
            task.wish
        );
        if let Wish::Write(asked) = &task.wish {
            let known = self.clients[client].done.as_ref();
            let repeated = known.is_some_and(|done| done.number == asked.number);
            if task.doubt || task.waits {
                self.truth.counts.unknown += u64::from(!repeated);
            } else if !repeated {
                self.truth.not_done(asked.number)?;
            }
        }
        self.rest(client);
        Ok(())
    }

    /// Whether a client began when not all was well, and had less patience.
    fn short(&self, task: &Task) -> bool {
        self.calm_since
            .is_none_or(|since| task.until < since + PATIENCE_CALM)
    }

    /// Thinks, then does the next thing.
    fn rest(&mut self, client: usize) {
        let most = u64::try_from(self.plan.think.as_micros()).unwrap_or(u64::MAX);
        let after = Duration::from_micros(self.rng.between(100, most));
        self.clients[client].thinks = self.now + after;
        self.later(after, Event::Client(client));
    }

    /// A node answers.
    pub(super) fn answered(
        &mut self,
        client: usize,
        serial: u64,
        answer: Answer,
    ) -> Result<(), Violation> {
        let this = &self.clients[client];
        let Some(task) = this.task.clone().filter(|task| task.serial == serial) else {
            // It has given up.
            return Ok(());
        };
        match (answer, task.wish) {
            (
                Answer::Written {
                    version, repeat, ..
                },
                Wish::Write(asked),
            ) => {
                self.truth.done(asked.number, version, repeat)?;
                self.clients[client].done = Some(asked);
            }
            (
                Answer::Read {
                    version,
                    stale,
                    value: QueryValue::Object(object),
                },
                Wish::Read(key, consistency),
            ) => self.was_read(
                &key,
                (consistency, task.floor),
                (version, stale),
                object.as_ref(),
            )?,
            (Answer::Refused(PlaneError::Meta(error)), Wish::Write(asked)) => {
                let certain = !task.doubt;
                self.truth.refused(asked.number, &error, certain)?;
            }
            (Answer::Refused(error), _) => {
                self.try_again(client, &error);
                return Ok(());
            }
            (answer, wish) => {
                let what = format!("client {client} is answered {answer:?} to {wish:?}");
                return Err(Violation::new(what));
            }
        }
        self.clients[client].task = None;
        self.rest(client);
        Ok(())
    }

    fn was_read(
        &mut self,
        key: &ObjectKey,
        (consistency, floor): (Consistency, u64),
        (version, stale): (MetaVersion, bool),
        object: Option<&Arc<Object>>,
    ) -> Result<(), Violation> {
        promise!(
            stale == (consistency == Consistency::Stale),
            "a read ({consistency:?}) says that it is stale: {stale}"
        );
        let floor = (!stale).then_some(floor);
        self.truth.read(key, version, object, floor)
    }

    /// It did not happen, or nobody knows whether it did.
    fn try_again(&mut self, client: usize, error: &PlaneError) {
        if let Some(task) = &mut self.clients[client].task {
            task.doubt |= error.outcome() == Outcome::Unknown;
        }
        self.elsewhere(client);
    }

    // -------------------------------------------------------------------- watch

    /// A client looks whether something changed.
    fn follow(&mut self, client: usize) -> Result<(), Violation> {
        let Some((at, id)) = self.clients[client].watch else {
            return self.begin_to_follow(client);
        };
        if self.nodes[at].paused() || !self.nodes[at].watch_ready.remove(&id) {
            return Ok(());
        }
        let limit = self.rng.index(6) + 1;
        loop {
            let mut taken = Ok(Vec::new());
            self.turn(at, |plane| taken = plane.poll_watch(id, limit))?;
            if self.clients[client].watch != Some((at, id)) {
                return Ok(());
            }
            match taken {
                Ok(taken) if taken.is_empty() => break,
                Ok(taken) => {
                    for watched in taken {
                        let known = self.clients[client].at;
                        self.truth.watched(known, &watched.change)?;
                        self.clients[client].at = watched.change.version.0;
                    }
                }
                Err(WatchError::Resnapshot(way)) => {
                    let known = self.clients[client].at;
                    promise!(
                        way.oldest.0 > known,
                        "a watcher at {known} is told to begin anew: {way}"
                    );
                    self.nodes[at].watches.remove(&id);
                    self.clients[client].watch = None;
                    return self.begin_anew(client, at);
                }
                Err(error) => {
                    let what = format!("the watch of client {client} at member {at}: {error}");
                    return Err(Violation::new(what));
                }
            }
        }
        let credit = u32::try_from(self.rng.between(1, 9)).unwrap_or(1);
        // What the last turns told is looked at by now.
        self.nodes[at].watch_ready.remove(&id);
        self.turn(at, |plane| plane.watch_credit(id, credit))
    }

    fn begin_to_follow(&mut self, client: usize) -> Result<(), Violation> {
        let at = self.rng.index(self.nodes.len());
        if self.nodes[at].paused() || !self.nodes[at].ready {
            return Ok(());
        }
        let known = self.clients[client].at;
        let cluster = self.truth.cluster();
        let mut begun = Err(WatchError::NotReady);
        self.turn(at, |plane| {
            begun = plane.watch(cluster, MetaVersion(known));
        })?;
        match begun {
            Ok(id) => {
                if self.nodes[at].plane.is_none() {
                    return Ok(());
                }
                self.nodes[at].watches.insert(id, client);
                self.clients[client].watch = Some((at, id));
                let credit = u32::try_from(self.rng.between(1, 9)).unwrap_or(1);
                self.turn(at, |plane| plane.watch_credit(id, credit))
            }
            Err(WatchError::Resnapshot(way)) if way.newest.0 < known => {
                // This node is behind; the client asks another one.
                Ok(())
            }
            Err(WatchError::Resnapshot(way)) => {
                promise!(
                    way.oldest.0 > known,
                    "a client at {known} is told to begin anew: {way}"
                );
                self.begin_anew(client, at)
            }
            Err(WatchError::NotReady) => Ok(()),
            Err(error) => Err(Violation::new(format!("client {client}: {error}"))),
        }
    }

    /// Reads everything as a node has it, to follow from there.
    fn begin_anew(&mut self, client: usize, at: usize) -> Result<(), Violation> {
        let machine = self.nodes[at]
            .plane
            .as_ref()
            .and_then(|plane| plane.metadata());
        if let Some(machine) = machine {
            self.truth.counts.resnapshots += 1;
            self.clients[client].at = machine.version().0;
        }
        Ok(())
    }
}

fn name_index(name: &str) -> usize {
    name.trim_start_matches('t').parse().unwrap_or(0)
}
