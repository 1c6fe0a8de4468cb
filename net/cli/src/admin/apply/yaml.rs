//! YAML as a tree in which everything knows its line.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Most documents of one file; as many as one request takes.
pub(super) const DOCUMENTS_MAX: usize = 256;
/// Deepest nesting. What is declared has five levels.
const DEPTH_MAX: usize = 32;
/// Most values of one file, those that aliases repeat included.
const NODES_MAX: usize = 100_000;

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct At {
    /// Counted from 1.
    pub(super) line: u64,
    pub(super) node: Node,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Number(u64),
    Text(String),
    /// A number that is negative, broken, or too large.
    Other(String),
    List(Vec<At>),
    /// In the order of the file; a key that is there twice is an error of the file.
    Map(Vec<(Key, At)>),
}

/// A key and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    pub(super) line: u64,
    pub(super) name: String,
}

impl Node {
    /// What it is, for messages.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) | Self::Other(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// The documents of a file, and the line of an error with what is wrong.
pub(super) fn documents(text: &str) -> Result<Vec<At>, (u64, String)> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_documents: DOCUMENTS_MAX,
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
        },
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        (line, error.without_snippet().to_string())
    })
}

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Node>::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.referenced.line(),
            node: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        Ok(u64::try_from(value).map_or_else(|_| Node::Other(value.to_string()), Node::Number))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Other(value.to_string()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Other(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Other(value.to_string()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = fields.next_key::<Spanned<String>>()? {
            let line = key.referenced.line();
            let key = Key {
                line,
                name: key.value,
            };
            map.push((key, fields.next_value()?));
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn everything_knows_its_line() {
        let text = "a: 1\nb:\n  - x\n  - y: 7d\n---\n# two\nc: \"1\"\nd: -1\n";
        let documents = documents(text).expect("good");
        assert_eq!(documents.len(), 2);
        let Node::Map(one) = &documents[0].node else {
            panic!("{documents:?}");
        };
        assert_eq!((one[0].0.line, one[1].0.line), (1, 2));
        let Node::List(list) = &one[1].1.node else {
            panic!("{one:?}");
        };
        assert_eq!((list[0].line, list[1].line), (3, 4));
        let Node::Map(two) = &documents[1].node else {
            panic!("{documents:?}");
        };
        assert_eq!(two[0].0.line, 7);
        assert_eq!(two[0].1.node, Node::Text("1".to_owned()));
        assert_eq!(two[1].1.node, Node::Other("-1".to_owned()));
    }

    #[test]
    fn a_file_that_is_broken_says_where() {
        for (text, line) in [("a: 1\na: 2\n", 2), ("a: [1\nb: 2\n", 2), ("a: *x\n", 1)] {
            let (at, what) = documents(text).expect_err(text);
            assert_eq!(at, line, "{text}: {what}");
        }
    }

    #[test]
    fn what_grows_without_end_is_refused() {
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (one, two) in ["ab", "bc", "cd", "de", "ef", "fg"]
            .iter()
            .map(|p| p.split_at(1))
        {
            let times = vec![format!("*{one}"); 10].join(", ");
            bomb.push_str(&format!("{two}: &{two} [{times}]\n"));
        }
        assert!(documents(&bomb).is_err());
        assert!(documents(&"[".repeat(100_000)).is_err());
        assert!(documents(&"---\na: 1\n".repeat(DOCUMENTS_MAX + 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ \\n:a-c\\-\\[\\]{}&*!|>'\"#%,0-9]{0,80}") {
            drop(documents(&text));
        }
    }
}
