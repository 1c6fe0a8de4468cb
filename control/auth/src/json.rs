//! JSON without ambiguity: a member that appears twice is refused, at any depth.
//!
//! RFC 8259 §4 leaves it open what a repeated name means, and two readers that choose
//! differently are how a checked document says something else to the next one. RFC 7515 §4
//! and RFC 7519 §4 demand unique names of headers and claims.

use core::fmt;

use serde_json::de::SliceRead;
use serde_json::{Deserializer, Map, Number, Value};

use serde::de::{Deserialize, Error, MapAccess, SeqAccess, Visitor};

/// The bytes are not one JSON object, or one that says something twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object with unique members")]
pub(crate) struct NotAnObject;

/// Reads one object and nothing after it.
///
/// The caller bounds the length: what is built takes at most about twenty times the
/// memory of the text. Nesting ends at serde_json's 128 levels.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, NotAnObject> {
    let mut deserializer = Deserializer::new(SliceRead::new(bytes));
    let value = Unique::deserialize(&mut deserializer).map_err(|_| NotAnObject)?;
    deserializer.end().map_err(|_| NotAnObject)?;
    match value.0 {
        Value::Object(map) => Ok(map),
        _ => Err(NotAnObject),
    }
}

/// A value whose objects name nothing twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Unique)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with unique members")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Unique(value)) = seq.next_element()? {
            all.push(value);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((name, Unique(value))) = members.next_entry::<String, Unique>()? {
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a member appears twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_serde_json_reads() {
        let text = r#"{"a":[1,-2,3.5,true,null,"x\u0041"],"b":{"c":{}}}"#;
        let expected: Map<String, Value> = serde_json::from_str(text).expect("JSON");
        assert_eq!(object(text.as_bytes()), Ok(expected));
    }

    #[test]
    fn a_repeated_member_is_refused_wherever_it_is_and_however_it_is_spelled() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[{"a":1,"a":2}]}"#,
        ] {
            assert_eq!(object(text.as_bytes()), Err(NotAnObject), "{text}");
        }
        // The same name in two objects is not a repeat.
        assert!(object(br#"{"x":{"a":1},"y":{"a":2}}"#).is_ok());
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        for bytes in [
            &b""[..],
            b"[]",
            b"{}{}",
            b"{} x",
            b"{\"a\":1,}",
            b"{\"a\":\"\xff\"}",
            &deep,
        ] {
            assert_eq!(object(bytes), Err(NotAnObject));
        }
    }
}
