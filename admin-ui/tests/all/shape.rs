//! Every page is whole and can be used by everybody.

use std::collections::{BTreeMap, BTreeSet};

use pinion_admin_ui::assets::{ASSETS, CONTENT_SECURITY_POLICY};

use crate::every_page;
use crate::fixtures::Shown;
use crate::html::{Document, Element};

/// What is wrong with a page.
fn problems(page: &Shown) -> Vec<String> {
    let document = match Document::read(&page.html) {
        Ok(document) => document,
        Err(error) => return vec![error],
    };
    let mut found = Vec::new();
    let mut say = |problem: String| found.push(problem);

    let mut ids = BTreeSet::new();
    for id in document
        .elements
        .iter()
        .filter_map(|element| element.get("id"))
    {
        if !ids.insert(id) {
            say(format!("two elements are #{id}"));
        }
    }
    for element in &document.elements {
        for key in ["aria-labelledby", "aria-describedby", "for"] {
            for id in element.get(key).into_iter().flat_map(|all| all.split(' ')) {
                if !ids.contains(id) {
                    say(format!(
                        "<{} {key}> names #{id}, which is not there",
                        element.name
                    ));
                }
            }
        }
        for key in element.attributes.keys() {
            if key == "style" || key.starts_with("on") {
                say(format!("<{}> has {key}", element.name));
            }
        }
        for key in ["href", "src", "action"] {
            if let Some(value) = element.get(key)
                && (!value.starts_with(['/', '?', '#']) || value.starts_with("//"))
            {
                say(format!("{key}={value:?} leads elsewhere"));
            }
        }
    }
    if document.named("style").next().is_some() {
        say("a style element".into());
    }
    for script in document.named("script") {
        if script.get("src").is_none() || !script.text.is_empty() {
            say("an inline script".into());
        }
    }
    let once = |name: &str| document.named(name).count() == 1;
    for name in ["html", "head", "body", "main", "h1"] {
        if !once(name) {
            say(format!("not one <{name}>"));
        }
    }
    let in_head = |title: &&Element| document.is_inside(title, |one| one.name == "head");
    if document.named("title").filter(in_head).count() != 1 {
        say("not one title".into());
    }
    if document
        .named("html")
        .all(|html| html.get("lang").is_none())
    {
        say("no language".into());
    }
    controls(&document, &mut say);
    tables(&document, &mut say);
    words(&document, &mut say);
    headings(&document, &mut say);
    freshness(&document, &mut say);
    found
}

/// Each control has a label, each form that changes something its token.
fn controls(document: &Document, say: &mut impl FnMut(String)) {
    let labels: BTreeSet<&str> = document
        .named("label")
        .filter_map(|label| label.get("for"))
        .collect();
    let mut controls = BTreeSet::new();
    for control in document.elements.iter().filter(|element| {
        matches!(element.name.as_str(), "input" | "select" | "textarea")
            && element.get("type") != Some("hidden")
    }) {
        let id = control.get("id").unwrap_or_default();
        controls.insert(id);
        if !labels.contains(id) {
            say(format!(
                "<{} name={:?}> has no label",
                control.name,
                control.get("name")
            ));
        }
    }
    for label in labels {
        if !controls.contains(label) {
            say(format!("the label of {label} has no control"));
        }
    }
    for (place, form) in document
        .elements
        .iter()
        .enumerate()
        .filter(|(_, element)| element.name == "form")
    {
        let has_token = document
            .named("input")
            .any(|input| input.around.contains(&place) && input.get("name") == Some("csrf"));
        if (form.get("method") == Some("post")) != has_token {
            say(format!(
                "a form {:?} with method {:?}, token {has_token}",
                form.get("action"),
                form.get("method")
            ));
        }
    }
}

/// Each table has its caption first, each heading cell says what it is the heading of.
fn tables(document: &Document, say: &mut impl FnMut(String)) {
    for (place, table) in document
        .elements
        .iter()
        .enumerate()
        .filter(|(_, element)| element.name == "table")
    {
        let first = document
            .elements
            .iter()
            .find(|element| element.around.last() == Some(&place));
        if !first.is_some_and(|first| first.name == "caption" && !first.text.trim().is_empty()) {
            say("a table without a caption".into());
        }
        let legend = table.has_class("legend");
        if !legend && !document.is_inside(table, |around| around.has_class("scroll")) {
            say("a table that cannot be scrolled within its box".into());
        }
        // Rows are as wide as their heading.
        let mut widths: BTreeMap<usize, usize> = BTreeMap::new();
        for cell in document.elements.iter().filter(|cell| {
            matches!(cell.name.as_str(), "th" | "td") && cell.around.contains(&place)
        }) {
            *widths.entry(*cell.around.last().unwrap()).or_default() += 1;
        }
        let different: BTreeSet<usize> = widths.into_values().collect();
        if different.len() > 1 {
            say(format!("rows of {different:?} cells"));
        }
    }
    for cell in document.named("th") {
        if cell.get("scope").is_none() {
            say(format!("<th>{} has no scope", cell.text));
        }
    }
}

/// What is read aloud is there.
fn words(document: &Document, say: &mut impl FnMut(String)) {
    for (place, element) in document.elements.iter().enumerate() {
        let inside = |name: &str| {
            document
                .named(name)
                .any(|one| one.around.last() == Some(&place))
        };
        let silent = element.get("aria-hidden") == Some("true");
        match element.name.as_str() {
            "svg"
                if !silent
                    && (element.get("role") != Some("img")
                        || !inside("title")
                        || !inside("desc")) =>
            {
                say("a chart that cannot be read aloud".into());
            }
            "img" if element.get("alt").is_none() => say("an image without alt".into()),
            "a" | "button" | "summary" | "label" | "legend" | "h1" | "h2" | "h3"
                if element.text.trim().is_empty() =>
            {
                say(format!("<{}> without words", element.name));
            }
            "nav" | "section"
                if element.get("aria-label").is_none()
                    && element.get("aria-labelledby").is_none() =>
            {
                say(format!("<{}> without a name", element.name));
            }
            _ if element.has_class("scroll")
                && (element.get("tabindex") != Some("0")
                    || element.get("aria-label").is_none()) =>
            {
                say("a box that the keyboard cannot scroll".into());
            }
            _ => {}
        }
    }
    let skip = document.elements.iter().find(|element| element.name == "a");
    if skip.is_none_or(|link| link.get("href") != Some("#main")) {
        say("the first link does not skip to the content".into());
    }
}

fn headings(document: &Document, say: &mut impl FnMut(String)) {
    let mut before = 0;
    for heading in &document.elements {
        let level = match heading.name.as_str() {
            "h1" => 1,
            "h2" => 2,
            "h3" => 3,
            _ => continue,
        };
        if level > before + 1 {
            say(format!("<h{level}> after <h{before}>: {}", heading.text));
        }
        before = level;
    }
}

/// Each panel says what its numbers are worth, and only panels have numbers that change.
fn freshness(document: &Document, say: &mut impl FnMut(String)) {
    let holds = |element: &Element| element.has_class("panel") || element.has_class("band");
    for (place, panel) in document
        .elements
        .iter()
        .enumerate()
        .filter(|(_, element)| holds(element))
    {
        let fresh: Vec<&Element> = document
            .elements
            .iter()
            .filter(|one| one.has_class("fresh") && one.around.contains(&place))
            .collect();
        let says = |one: &&Element| {
            one.text.contains("as of")
                && one.text.contains("old")
                && (one.text.contains("live") || one.text.contains("durable"))
        };
        if fresh.len() != 1 || !fresh.iter().all(says) {
            say(format!(
                "a panel that does not say how old it is: {:?}",
                panel.get("aria-labelledby")
            ));
        }
    }
    for element in document
        .elements
        .iter()
        .filter(|one| one.has_class("n") || one.has_class("big"))
    {
        if !document.is_inside(element, holds) {
            say(format!("a number without a panel: {}", element.text));
        }
    }
}

#[test]
fn every_page_is_well_formed_and_can_be_used_by_everybody() {
    let mut found = Vec::new();
    for page in every_page() {
        for problem in problems(&page) {
            found.push(format!("{} ({:?}): {problem}", page.name, page.set));
        }
    }
    assert!(
        found.is_empty(),
        "{} problems\n{}",
        found.len(),
        found[..found.len().min(40)].join("\n")
    );
}

#[test]
fn the_check_finds_what_is_wrong() {
    let pages = every_page();
    let good = pages.iter().find(|page| page.name == "access").unwrap();
    let broken = |from: &str, to: &str| {
        assert!(good.html.contains(from), "{from}");
        let page = Shown {
            html: good.html.replacen(from, to, 1),
            name: good.name.clone(),
            title: good.title.clone(),
            model: good.model.clone(),
            ..*good
        };
        assert!(
            !problems(&page).is_empty(),
            "{from} -> {to} was not noticed"
        );
    };
    broken("</p>", "");
    broken("id=\"subject\"", "id=\"object\"");
    broken("<label for=\"subject\">", "<label for=\"nobody\">");
    broken("<caption class=\"vh\">Policies</caption>", "");
    broken(" scope=\"col\"", "");
    broken("<main", "<main style=\"color:red\"");
    broken("<main", "<main onclick=\"x\"");
    broken("</head>", "<script>1</script></head>");
    broken("href=\"/ui/streams\"", "href=\"https://example.com\"");
    broken("name=\"csrf\"", "name=\"token\"");
    broken("class=\"fresh\"", "class=\"note\"");
    broken("<h2", "<h3");
    broken("href=\"#main\"", "href=\"#nav\"");
    broken(" tabindex=\"0\"", "");
}

#[test]
fn the_policy_needs_nothing_from_elsewhere() {
    assert!(CONTENT_SECURITY_POLICY.starts_with("default-src 'none'"));
    for word in ["unsafe", "http:", "https:", "*"] {
        assert!(!CONTENT_SECURITY_POLICY.contains(word), "{word}");
    }
    for asset in ASSETS {
        for word in [
            "@import",
            "url(",
            "eval(",
            "innerHTML",
            "Function(",
            "document.write",
        ] {
            assert!(!asset.body.contains(word), "{} has {word}", asset.path);
        }
        let elsewhere = asset.body.replace("http://www.w3.org/2000/svg", "");
        assert!(
            !elsewhere.contains("//www") && !elsewhere.contains("http"),
            "{}",
            asset.path
        );
    }
}
