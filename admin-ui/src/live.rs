//! What changes on a page while somebody looks at it.
//!
//! A page says by attributes what may change: `data-live` on text, `data-live-d` on the
//! path of a chart, each with a key; keys inside a row with `data-row` belong to that row.
//! Whoever serves the page renders it again once in a while and sends the values that
//! differ. So what arrives later is written by what wrote the page, and cannot differ from
//! it. When anything else in `main` differs (a row that came, a level that fell), the page
//! is stale and says so, instead of moving things under somebody's hand; what is
//! `data-still` is not looked at, and says of itself when it was taken.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Serialize;

/// Values of one page by key, and what it is besides them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveValues {
    values: BTreeMap<String, String>,
    /// Hash of the rest of `main`, without what is still.
    rest: u64,
}

/// Body of one server-sent event.
#[derive(Serialize)]
struct Event<'a> {
    /// Text by key.
    set: BTreeMap<&'a str, &'a str>,
    /// Whether more than values has changed: the page must be loaded again.
    stale: bool,
}

impl LiveValues {
    /// Reads the values out of a page that [`crate::Ui`] wrote. Of other HTML it makes
    /// nothing useful, and never fails.
    #[must_use]
    pub fn of(html: &str) -> Self {
        let mut values = BTreeMap::new();
        let mut hash = DefaultHasher::new();
        let mut row = Inside::of("data-row");
        let mut still = Inside::of("data-still");
        let main = html.find("<main").map_or(html, |start| &html[start..]);
        let mut rest = main.find("</main>").map_or(main, |end| &main[..end]);
        while let Some(start) = rest.find('<') {
            let text = &rest[..start];
            rest = &rest[start..];
            let Some(end) = rest.find('>') else { break };
            let tag = &rest[..end];
            rest = &rest[end + 1..];
            let was_still = still.is_open();
            row.read(tag);
            still.read(tag);
            if was_still || still.is_open() {
                continue;
            }
            text.hash(&mut hash);
            if let Some(key) = attribute(tag, "data-live-d") {
                let path = attribute(tag, "d").unwrap_or_default();
                values.insert(row.key(key), path.to_owned());
                // The path is the last attribute, before `"/`.
                tag[..tag.len().saturating_sub(path.len() + 2)].hash(&mut hash);
                continue;
            }
            tag.hash(&mut hash);
            if let Some(key) = attribute(tag, "data-live") {
                let name = tag[1..].split_ascii_whitespace().next().unwrap_or_default();
                let inner = &rest[..closing(rest, name).unwrap_or(0)];
                values.insert(row.key(key), text_of(inner));
                rest = &rest[inner.len()..];
            }
        }
        Self {
            values,
            rest: hash.finish(),
        }
    }

    /// What to send to somebody who has `shown`: one `data:` line of an event stream with
    /// its blank line (HTML, server-sent events), or nothing when nothing changed.
    ///
    /// Values are carried as JSON and put into the page as text, never as HTML.
    #[must_use]
    pub fn event_since(&self, shown: &Self) -> Option<String> {
        let set: BTreeMap<&str, &str> = self
            .values
            .iter()
            .filter(|(key, text)| shown.values.get(*key).is_some_and(|old| old != *text))
            .map(|(key, text)| (key.as_str(), text.as_str()))
            .collect();
        let stale = self.rest != shown.rest || !self.values.keys().eq(shown.values.keys());
        if set.is_empty() && !stale {
            return None;
        }
        let body = serde_json::to_string(&Event { set, stale }).ok()?;
        Some(format!("data: {body}\n\n"))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether nothing on the page changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// The element with some attribute that is open. Such elements do not lie inside of each
/// other.
struct Inside<'a> {
    attribute: &'static str,
    value: &'a str,
    element: &'a str,
    /// Elements of that name that are open, itself included.
    depth: u32,
}

impl<'a> Inside<'a> {
    fn of(attribute: &'static str) -> Self {
        Self {
            attribute,
            value: "",
            element: "",
            depth: 0,
        }
    }

    fn is_open(&self) -> bool {
        self.depth > 0
    }

    fn read(&mut self, tag: &'a str) {
        let tag = &tag[1..];
        let (closes, tag) = match tag.strip_prefix('/') {
            Some(tag) => (true, tag),
            None => (false, tag),
        };
        let name = tag.split_ascii_whitespace().next().unwrap_or_default();
        if self.is_open() && name == self.element {
            self.depth = if closes {
                self.depth - 1
            } else {
                self.depth + 1
            };
        } else if !self.is_open() && !closes {
            let there = if tag.ends_with(self.attribute) {
                Some("")
            } else {
                attribute(tag, self.attribute)
            };
            if let Some(value) = there {
                (self.value, self.element, self.depth) = (value, name, 1);
            }
        }
    }

    fn key(&self, key: &str) -> String {
        if self.is_open() {
            format!("{} {key}", self.value)
        } else {
            key.to_owned()
        }
    }
}

/// Value of an attribute of a tag that we wrote: always in double quotes, and after a space.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = tag;
    loop {
        rest = &rest[rest.find(' ')? + 1..];
        let value = rest.strip_prefix(name);
        if let Some(value) = value.and_then(|rest| rest.strip_prefix("=\"")) {
            return value.split('"').next();
        }
    }
}

/// Where the element of this name that is open ends; none of its name is in it.
fn closing(html: &str, name: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        at += html[at..].find('<')?;
        let tag = html[at + 1..].strip_prefix('/');
        let tag = tag.and_then(|tag| tag.strip_prefix(name));
        if tag.is_some_and(|rest| rest.starts_with('>')) {
            return Some(at);
        }
        at += 1;
    }
}

/// Text without its tags, with the references that [`crate::escape`] writes resolved.
fn text_of(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        text.push_str(&rest[..start]);
        rest = match rest[start..].find('>') {
            Some(end) => &rest[start + end + 1..],
            None => "",
        };
    }
    text.push_str(rest);
    if !text.contains('&') {
        return text.trim().to_owned();
    }
    for (reference, letter) in [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ] {
        text = text.replace(reference, letter);
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "<b data-live=\"rate\">1.5 <i class=\"u\">k/s</i></b>\
        <table><tr data-row=\"s/a\"><th>a</th><td data-live=\"n\">1</td></tr>\
        <tr data-row=\"s/b\"><td data-live=\"n\">2 &lt; 3 &amp;amp;</td></tr></table>\
        <div data-row=\"t\"><div>x</div><b data-live=\"n\">3</b></div>\
        <svg><path class=\"l\" data-live-d=\"p\" d=\"M0 1\"/></svg>";

    #[test]
    fn values_are_read_with_their_rows_and_without_their_tags() {
        let values = LiveValues::of(PAGE);
        let pairs: Vec<(&str, &str)> = values
            .values
            .iter()
            .map(|(key, text)| (key.as_str(), text.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("p", "M0 1"),
                ("rate", "1.5 k/s"),
                ("s/a n", "1"),
                ("s/b n", "2 < 3 &amp;"),
                ("t n", "3"),
            ]
        );
    }

    #[test]
    fn only_what_differs_is_sent() {
        let before = LiveValues::of(PAGE);
        assert_eq!(before.event_since(&before), None);
        let after = LiveValues::of(&PAGE.replace("1.5", "1.6"));
        assert_eq!(
            after.event_since(&before).as_deref(),
            Some("data: {\"set\":{\"rate\":\"1.6 k/s\"},\"stale\":false}\n\n")
        );
    }

    #[test]
    fn another_row_makes_the_page_stale() {
        let before = LiveValues::of(PAGE);
        let after = LiveValues::of(&PAGE.replace("s/b", "s/c"));
        let event = after.event_since(&before).unwrap_or_default();
        assert!(event.contains("\"stale\":true"), "{event}");
    }

    #[test]
    fn anything_else_that_differs_makes_the_page_stale_unless_it_is_still() {
        let page = "<main><b class=\"ok\" data-live=\"n\">1</b><i data-still><i>x</i>y</i>\
            <svg><path data-live-d=\"p\" d=\"M0 1\"/></svg></main>z";
        let before = LiveValues::of(page);
        let stale = |from: &str, to: &str| {
            let event = LiveValues::of(&page.replacen(from, to, 1)).event_since(&before);
            event.map(|event| event.contains("\"stale\":true"))
        };
        assert_eq!(stale("ok", "bad"), Some(true));
        assert_eq!(stale(">1<", ">2<"), Some(false));
        assert_eq!(stale("M0 1", "M0 1L2 3"), Some(false));
        assert_eq!(stale("<svg>", "<svg>s"), Some(true));
        assert_eq!(stale("x<", "other<"), None);
        assert_eq!(stale("y<", "other<"), None);
        assert_eq!(stale("z", "other"), None);
    }

    #[test]
    fn broken_html_is_read_without_a_panic() {
        for end in 0..PAGE.len() {
            if PAGE.is_char_boundary(end) {
                let _ = LiveValues::of(&PAGE[..end]);
            }
        }
        assert!(LiveValues::of("<a data-live=\"").is_empty());
        assert!(LiveValues::of("").is_empty());
    }
}
