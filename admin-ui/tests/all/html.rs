//! A small reader of HTML, stricter than a browser: what it takes, every browser reads in
//! the same way. Attributes are in double quotes, elements are closed, nothing is guessed.

use std::collections::BTreeMap;

/// Elements that have no end (HTML, 13.1.2).
const VOID: [&str; 6] = ["meta", "link", "input", "img", "br", "path"];

/// One element with where it is.
#[derive(Debug)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Places of those around it in [`Document::elements`], outermost first.
    pub(crate) around: Vec<usize>,
    /// Text inside of it, that of its children included, references resolved.
    pub(crate) text: String,
}

impl Element {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    pub(crate) fn has_class(&self, class: &str) -> bool {
        self.get("class")
            .is_some_and(|all| all.split(' ').any(|one| one == class))
    }
}

/// A page as it was read.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) elements: Vec<Element>,
}

impl Document {
    pub(crate) fn read(html: &str) -> Result<Self, String> {
        let mut document = Self::default();
        let mut open: Vec<usize> = Vec::new();
        let mut rest = html.strip_prefix("<!doctype html>\n").ok_or("no doctype")?;
        while !rest.is_empty() {
            let Some(start) = rest.find('<') else {
                document.text(&open, rest)?;
                break;
            };
            document.text(&open, &rest[..start])?;
            rest = &rest[start + 1..];
            let end = end_of_tag(rest)?;
            let (tag, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            if let Some(name) = tag.strip_prefix('/') {
                let last = open
                    .pop()
                    .ok_or_else(|| format!("</{name}> closes nothing"))?;
                let opened = &document.elements[last].name;
                if opened != name {
                    return Err(format!("</{name}> closes <{opened}>"));
                }
                continue;
            }
            let (tag, closed) = match tag.strip_suffix('/') {
                Some(tag) => (tag, true),
                None => (tag, false),
            };
            let element = Element::read(tag, &open)?;
            let is_void = VOID.contains(&element.name.as_str());
            if closed && element.name != "path" {
                return Err(format!("<{}/> is not closed by that", element.name));
            }
            document.elements.push(element);
            if !is_void {
                open.push(document.elements.len() - 1);
            }
        }
        match open.pop() {
            Some(left) => Err(format!(
                "<{}> is never closed",
                document.elements[left].name
            )),
            None => Ok(document),
        }
    }

    fn text(&mut self, open: &[usize], text: &str) -> Result<(), String> {
        let resolved = resolved(text)?;
        for place in open {
            self.elements[*place].text.push_str(&resolved);
        }
        Ok(())
    }

    pub(crate) fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.elements
            .iter()
            .filter(move |element| element.name == name)
    }

    /// Whether an element is inside of one that answers yes.
    pub(crate) fn is_inside(&self, element: &Element, of: impl Fn(&Element) -> bool) -> bool {
        element
            .around
            .iter()
            .any(|place| of(&self.elements[*place]))
    }
}

impl Element {
    fn read(tag: &str, open: &[usize]) -> Result<Self, String> {
        let end = tag.find([' ', '\n']).unwrap_or(tag.len());
        let name = &tag[..end];
        if name.is_empty()
            || !name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        {
            return Err(format!("<{tag}> has no name"));
        }
        let mut attributes = BTreeMap::new();
        let mut rest = tag[end..].trim();
        while !rest.is_empty() {
            let end = rest.find(['=', ' ']).unwrap_or(rest.len());
            let key = &rest[..end];
            if key.is_empty()
                || !key
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            {
                return Err(format!("<{tag}>: {key:?} is not an attribute"));
            }
            let value;
            if rest[end..].starts_with('=') {
                let quoted = rest[end + 1..]
                    .strip_prefix('"')
                    .ok_or_else(|| format!("<{tag}>: {key} is not quoted"))?;
                let close = quoted
                    .find('"')
                    .ok_or_else(|| format!("<{tag}>: {key} has no end"))?;
                value = resolved(&quoted[..close])?;
                rest = &quoted[close + 1..];
                if !rest.is_empty() && !rest.starts_with([' ', '\n']) {
                    return Err(format!("<{tag}>: no space after {key}"));
                }
            } else {
                value = String::new();
                rest = &rest[end..];
            }
            rest = rest.trim_start();
            if attributes.insert(key.to_owned(), value).is_some() {
                return Err(format!("<{tag}> has {key} twice"));
            }
        }
        Ok(Self {
            name: name.to_owned(),
            attributes,
            around: open.to_vec(),
            text: String::new(),
        })
    }
}

/// The `>` that ends a tag, outside of quotes.
fn end_of_tag(tag: &str) -> Result<usize, String> {
    let mut quoted = false;
    for (at, byte) in tag.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Ok(at),
            b'<' => break,
            _ => {}
        }
    }
    Err(format!(
        "a tag has no end: <{}",
        tag.chars().take(60).collect::<String>()
    ))
}

/// Text without its references; those that we write are the only ones.
fn resolved(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['&', '>']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let known = [
            ("&amp;", '&'),
            ("&lt;", '<'),
            ("&gt;", '>'),
            ("&quot;", '"'),
            ("&#39;", '\''),
        ];
        let Some((reference, letter)) = known
            .into_iter()
            .find(|(reference, _)| rest.starts_with(reference))
        else {
            return Err(format!(
                "not escaped: {}",
                rest.chars().take(40).collect::<String>()
            ));
        };
        out.push(letter);
        rest = &rest[reference.len()..];
    }
    out.push_str(rest);
    Ok(out)
}

#[test]
fn the_reader_refuses_what_browsers_would_guess() {
    let read = |body: &str| Document::read(&format!("<!doctype html>\n{body}"));
    assert!(read("<p class=\"a\">x <b>y</b></p><input value=\"1\" disabled>").is_ok());
    for bad in [
        "<p>x",
        "<p>x</b></p>",
        "<p class=a>x</p>",
        "<p class=\"a\"id=\"b\">x</p>",
        "<p a=\"1\" a=\"2\">x</p>",
        "<p>a > b</p>",
        "<p>a & b</p>",
        "<p>&copy;</p>",
        "<p title=\"a&b\">x</p>",
        "<div/>",
        "<p",
        "</p>",
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
}
