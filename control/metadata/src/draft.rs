//! The state as a command would leave it, beside the state as it is.
//!
//! A command reads and writes through a draft. When it is refused, the draft is
//! dropped and nothing has changed.

use std::collections::BTreeMap;

use pinion_types::WallMs;

use crate::broker::Broker;
use crate::error::MetaError;
use crate::ids::{BrokerNumber, MetaVersion, RowId};
use crate::object::{Body, Deleting, Meta, Object, ObjectKey};
use crate::place::Board;
use crate::resource::{Move, Placement, Strategy};
use crate::state::{Counters, Metadata};
use crate::usage::{Scope, Usage, charges};

/// What a command has changed so far.
pub(crate) struct Draft<'a> {
    base: &'a Metadata,
    stamp: WallMs,
    /// `None` is removed.
    changed: BTreeMap<ObjectKey, Option<Object>>,
    /// Of every scope that was touched.
    usage: BTreeMap<Scope, Usage>,
    /// Numbers to give out next.
    pub(crate) counters: Counters,
}

/// What is left of a draft when its command was taken.
pub(crate) struct Staged {
    /// In the order of keys; versions are still to be given.
    pub(crate) changed: BTreeMap<ObjectKey, Option<Object>>,
    pub(crate) usage: BTreeMap<Scope, Usage>,
    pub(crate) counters: Counters,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(base: &'a Metadata, stamp: WallMs) -> Self {
        Self {
            base,
            stamp,
            changed: BTreeMap::new(),
            usage: BTreeMap::new(),
            counters: base.counters(),
        }
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Object> {
        match self.changed.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.base.get(key).map(|object| &**object),
        }
    }

    /// The time of the command.
    pub(crate) fn stamp(&self) -> WallMs {
        self.stamp
    }

    /// The command's entry of the replicated log.
    pub(crate) fn index(&self) -> u64 {
        self.base.applied_index()
    }

    /// The object under `key`, unless it is deleted.
    pub(crate) fn active(&self, key: &ObjectKey) -> Result<&Object, MetaError> {
        let object = self.existing(key)?;
        match object.meta.deleting {
            Some(_) => Err(MetaError::Deleting(key.clone())),
            None => Ok(object),
        }
    }

    /// The object under `key`, deleted or not.
    pub(crate) fn existing(&self, key: &ObjectKey) -> Result<&Object, MetaError> {
        self.get(key)
            .ok_or_else(|| MetaError::NotFound(key.clone()))
    }

    pub(crate) fn usage(&self, scope: &Scope) -> Usage {
        let changed = self.usage.get(scope).copied();
        changed.unwrap_or_else(|| self.base.usage(scope))
    }

    /// What would be used, and what is.
    pub(crate) fn used(&self, scope: &Scope) -> (Usage, Usage) {
        (self.usage(scope), self.base.usage(scope))
    }

    /// The same with what is deleted and not purged: it can be taken back, and what it
    /// takes is taken until then, so that deleting makes no room in a quota.
    pub(crate) fn kept(&self, scope: &Scope) -> (Usage, Usage) {
        let (mut now, mut before) = self.used(scope);
        if let Some(deleted) = scope.deleted() {
            let (more, more_before) = self.used(&deleted);
            now.add(more);
            before.add(more_before);
        }
        (now, before)
    }

    /// Objects from `first` on as long as `of` holds, those that this draft
    /// changed last.
    pub(crate) fn range<'d, F>(
        &'d self,
        first: &ObjectKey,
        of: F,
    ) -> impl Iterator<Item = &'d Object> + use<'a, 'd, F>
    where
        F: Fn(&ObjectKey) -> bool + Copy,
    {
        let unchanged = self
            .base
            .from(first)
            .take_while(move |object| of(&object.meta.key))
            .map(|object| &**object)
            .filter(|object| !self.changed.contains_key(&object.meta.key));
        let changed = self.changed.range(first..);
        let changed = changed
            .take_while(move |(key, _)| of(key))
            .filter_map(|(_, object)| object.as_ref());
        unchanged.chain(changed)
    }

    /// The number of a new policy, grouping or API key.
    pub(crate) fn next_row(&mut self) -> RowId {
        let row = self.counters.row;
        self.counters.row = RowId(row.0 + 1);
        row
    }

    /// The broker of this number.
    pub(crate) fn broker(&self, number: BrokerNumber) -> Option<&Broker> {
        let is_broker = |key: &ObjectKey| matches!(key, ObjectKey::Broker(_));
        let changed = self.changed.range(ObjectKey::broker("")..);
        let changed = changed.take_while(|(key, _)| is_broker(key));
        let mut changed = changed.filter_map(|(_, object)| object.as_ref()?.broker());
        let unchanged = || {
            let object = self.base.broker(number)?;
            let same = !self.changed.contains_key(&object.meta.key);
            same.then(|| object.broker())?
        };
        changed
            .find(|broker| broker.number == number)
            .or_else(unchanged)
    }

    /// Where the shards of a placement of the resource `of` are to go.
    ///
    /// # Errors
    /// [`MetaError::NotFound`], [`MetaError::NoBroker`].
    pub(crate) fn plan(
        &self,
        of: &ObjectKey,
        placement: &Placement,
        strategy: Strategy,
    ) -> Result<Box<[Move]>, MetaError> {
        let is_broker = |key: &ObjectKey| matches!(key, ObjectKey::Broker(_));
        let first = ObjectKey::broker("");
        let brokers = self.range(&first, is_broker);
        let used = |number| self.usage(&Scope::Broker(number));
        let bytes = match &self.existing(of)?.body {
            Body::Resource(resource) => Some(resource.spec.partition_memory()),
            _ => None,
        };
        let mut board = Board::new(brokers.filter_map(Object::broker), used, bytes);
        board.plan(strategy, placement).ok_or(MetaError::NoBroker)
    }

    /// Makes a new object.
    ///
    /// # Errors
    /// There is one under this key.
    pub(crate) fn create(&mut self, key: ObjectKey, body: Body) -> Result<(), MetaError> {
        match self.get(&key) {
            Some(object) if object.meta.deleting.is_some() => {
                return Err(MetaError::Deleting(key));
            }
            Some(_) => return Err(MetaError::Exists(key)),
            None => {}
        }
        self.put(Object {
            meta: Meta {
                key,
                created: self.stamp,
                updated: self.stamp,
                version: MetaVersion(0),
                generation: 1,
                deleting: None,
            },
            body,
        });
        Ok(())
    }

    /// Gives an existing object another body; the same body changes nothing.
    pub(crate) fn update(&mut self, key: &ObjectKey, body: Body) -> Result<(), MetaError> {
        let old = self.active(key)?;
        if old.body == body {
            return Ok(());
        }
        let meta = Meta {
            updated: self.stamp,
            generation: old.meta.generation + 1,
            ..old.meta.clone()
        };
        self.put(Object { meta, body });
        Ok(())
    }

    /// Deletes or takes back.
    pub(crate) fn set_deleting(
        &mut self,
        key: &ObjectKey,
        deleting: Option<Deleting>,
    ) -> Result<(), MetaError> {
        let mut object = self.existing(key)?.clone();
        object.meta.updated = self.stamp;
        object.meta.deleting = deleting;
        self.put(object);
        Ok(())
    }

    /// Takes an object away.
    pub(crate) fn remove(&mut self, key: &ObjectKey) -> Result<(), MetaError> {
        let gone = charges(self.existing(key)?, |key| self.get(key));
        self.uncharge(gone);
        self.changed.insert(key.clone(), None);
        Ok(())
    }

    fn put(&mut self, object: Object) {
        if let Some(old) = self.get(&object.meta.key) {
            let gone = charges(old, |key| self.get(key));
            self.uncharge(gone);
        }
        for (scope, usage) in charges(&object, |key| self.get(key)) {
            self.touch(scope).add(usage);
        }
        self.changed.insert(object.meta.key.clone(), Some(object));
    }

    fn uncharge(&mut self, gone: Vec<(Scope, Usage)>) {
        for (scope, usage) in gone {
            self.touch(scope).subtract(usage);
        }
    }

    fn touch(&mut self, scope: Scope) -> &mut Usage {
        let usage = self.usage(&scope);
        self.usage.entry(scope).or_insert(usage)
    }

    pub(crate) fn finish(self) -> Staged {
        Staged {
            changed: self.changed,
            usage: self.usage,
            counters: self.counters,
        }
    }
}
