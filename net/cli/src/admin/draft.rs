//! A body that is put together field by field.

use serde_json::{Map, Value};

use crate::failure::Failure;

/// An object of JSON. Fields that nobody set are not in it: the node fills in its own, or
/// leaves what is there.
#[derive(Debug, Default)]
pub(super) struct Draft(Map<String, Value>);

impl Draft {
    /// Sets the field at `path`, whose parts are separated by dots, if there is a value.
    pub(super) fn set(&mut self, path: &str, value: Option<impl Into<Value>>) -> &mut Self {
        if let Some(value) = value {
            put(&mut self.0, path, value.into());
        }
        self
    }

    /// As a change: one of nothing is none.
    pub(super) fn patch(self) -> Result<Value, Failure> {
        if self.0.is_empty() {
            let why = "nothing to change: name at least one option, see --help";
            return Err(Failure::Usage(why.to_owned()));
        }
        Ok(self.value())
    }

    pub(super) fn value(self) -> Value {
        Value::Object(self.0)
    }
}

/// Sets the field at `path` of `object`, making the objects on the way.
pub(super) fn put(object: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            object.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = object
                .entry(first)
                .or_insert_with(|| Value::Object(Map::new()));
            match inner {
                Value::Object(inner) => put(inner, rest, value),
                other => panic!("{path} goes through {other}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_meet_in_their_object_and_what_is_not_set_is_not_there() {
        let mut draft = Draft::default();
        assert!(matches!(Draft::default().patch(), Err(Failure::Usage(_))));
        draft
            .set("name", Some("acme"))
            .set("quotas.max_streams", Some(3))
            .set("quotas.max_connections", Some(4))
            .set("description", None::<&str>);
        assert_eq!(
            draft.value(),
            json!({"name": "acme", "quotas": {"max_streams": 3, "max_connections": 4}})
        );
    }
}
