//! The state as a command would leave it, beside the state as it is.
//!
//! A command reads and writes through a draft. When it is refused, the draft is
//! dropped and nothing has changed.

use std::collections::BTreeMap;

use pinion_types::WallMs;

use crate::error::MetaError;
use crate::ids::MetaVersion;
use crate::object::{Body, Meta, Object, ObjectKey};
use crate::state::{Counters, Metadata};
use crate::usage::{Scope, Usage, charges};

/// What a command has changed so far.
pub(crate) struct Draft<'a> {
    base: &'a Metadata,
    stamp: WallMs,
    changed: BTreeMap<ObjectKey, Object>,
    /// Of every scope that was touched.
    usage: BTreeMap<Scope, Usage>,
    /// Numbers to give out next.
    pub(crate) counters: Counters,
}

/// What is left of a draft when its command was taken.
pub(crate) struct Staged {
    /// In the order of keys; versions are still to be given.
    pub(crate) changed: BTreeMap<ObjectKey, Object>,
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
        let base = || self.base.get(key).map(|object| &**object);
        self.changed.get(key).or_else(base)
    }

    /// The object under `key`.
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

    /// Objects from `first` on as long as `of` holds, those that this draft
    /// changed last.
    pub(crate) fn range(
        &self,
        first: &ObjectKey,
        of: impl Fn(&ObjectKey) -> bool + Copy,
    ) -> impl Iterator<Item = &Object> {
        let unchanged = self
            .base
            .from(first)
            .take_while(move |object| of(&object.meta.key))
            .map(|object| &**object)
            .filter(|object| !self.changed.contains_key(&object.meta.key));
        let changed = self.changed.range(first..);
        let changed = changed
            .take_while(move |(key, _)| of(key))
            .map(|(_, object)| object);
        unchanged.chain(changed)
    }

    /// Makes a new object.
    ///
    /// # Errors
    /// There is one under this key.
    pub(crate) fn create(&mut self, key: ObjectKey, body: Body) -> Result<(), MetaError> {
        if self.get(&key).is_some() {
            return Err(MetaError::Exists(key));
        }
        self.put(Object {
            meta: Meta {
                key,
                created: self.stamp,
                updated: self.stamp,
                version: MetaVersion(0),
                generation: 1,
            },
            body,
        });
        Ok(())
    }

    /// Gives an existing object another body; the same body changes nothing.
    pub(crate) fn update(&mut self, key: &ObjectKey, body: Body) -> Result<(), MetaError> {
        let old = self.existing(key)?;
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

    fn put(&mut self, object: Object) {
        if let Some(old) = self.get(&object.meta.key) {
            for (scope, usage) in charges(old) {
                self.touch(scope).subtract(usage);
            }
        }
        for (scope, usage) in charges(&object) {
            self.touch(scope).add(usage);
        }
        self.changed.insert(object.meta.key.clone(), object);
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
