//! What changes on a page while somebody looks at it.
//!
//! A page says by attributes what may change: `data-live` on text, `data-live-d` on the
//! path of a chart, each with a key; keys inside a row with `data-row` belong to that row.
//! Whoever serves the page renders it again once in a while and sends the values that
//! differ. So what arrives later is written by what wrote the page, and cannot differ from
//! it; rows that come or go need a new page.

use std::collections::BTreeMap;

use serde::Serialize;

/// Values of one page by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveValues(BTreeMap<String, String>);

/// Body of one server-sent event.
#[derive(Serialize)]
struct Event<'a> {
    /// Text by key.
    set: BTreeMap<&'a str, &'a str>,
    /// Whether there are other keys than before: the page must be loaded again.
    stale: bool,
}

impl LiveValues {
    /// Reads the values out of a page that [`crate::Ui`] wrote. Of other HTML it makes
    /// nothing useful, and never fails.
    #[must_use]
    pub fn of(html: &str) -> Self {
        let mut values = BTreeMap::new();
        let mut row = Row::default();
        let mut rest = html;
        while let Some(start) = rest.find('<') {
            rest = &rest[start..];
            let Some(end) = rest.find('>') else { break };
            let tag = &rest[..end];
            rest = &rest[end + 1..];
            row.read(tag);
            if let Some(key) = attribute(tag, "data-live") {
                let name = tag[1..].split_ascii_whitespace().next().unwrap_or_default();
                let close = format!("</{name}>");
                let inner = &rest[..rest.find(&close).unwrap_or(0)];
                values.insert(row.key(key), text_of(inner));
            }
            if let Some(key) = attribute(tag, "data-live-d") {
                let path = attribute(tag, "d").unwrap_or_default();
                values.insert(row.key(key), path.to_owned());
            }
        }
        Self(values)
    }

    /// What to send to somebody who has `shown`: one `data:` line of an event stream with
    /// its blank line (HTML, server-sent events), or nothing when nothing changed.
    ///
    /// Values are carried as JSON and put into the page as text, never as HTML.
    #[must_use]
    pub fn event_since(&self, shown: &Self) -> Option<String> {
        let set: BTreeMap<&str, &str> = self
            .0
            .iter()
            .filter(|(key, text)| shown.0.get(*key).is_some_and(|old| old != *text))
            .map(|(key, text)| (key.as_str(), text.as_str()))
            .collect();
        let stale = !self.0.keys().eq(shown.0.keys());
        if set.is_empty() && !stale {
            return None;
        }
        let body = serde_json::to_string(&Event { set, stale }).ok()?;
        Some(format!("data: {body}\n\n"))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing on the page changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The element with `data-row` that is open. Rows do not lie inside of rows.
#[derive(Default)]
struct Row<'a> {
    key: &'a str,
    element: &'a str,
    /// Elements of that name that are open, itself included.
    depth: u32,
}

impl<'a> Row<'a> {
    fn read(&mut self, tag: &'a str) {
        let tag = &tag[1..];
        let (closes, tag) = match tag.strip_prefix('/') {
            Some(tag) => (true, tag),
            None => (false, tag),
        };
        let name = tag.split_ascii_whitespace().next().unwrap_or_default();
        if self.depth > 0 && name == self.element {
            self.depth = if closes {
                self.depth - 1
            } else {
                self.depth + 1
            };
        } else if self.depth == 0
            && let Some(key) = attribute(tag, "data-row")
        {
            (self.key, self.element, self.depth) = (key, name, 1);
        }
    }

    fn key(&self, key: &str) -> String {
        if self.depth == 0 {
            key.to_owned()
        } else {
            format!("{} {key}", self.key)
        }
    }
}

/// Value of an attribute of a tag that we wrote: always in double quotes.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = tag;
    loop {
        let at = rest.find(name)?;
        let after = &rest[at + name.len()..];
        let alone = rest[..at].ends_with(' ');
        if alone && let Some(value) = after.strip_prefix("=\"") {
            return value.split('"').next();
        }
        rest = after;
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
            .0
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
