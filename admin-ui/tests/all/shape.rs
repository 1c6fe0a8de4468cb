//! Every page is whole and can be used by everybody.

use std::collections::{BTreeMap, BTreeSet};

use pinion_admin_ui::assets::{ASSETS, CONTENT_SECURITY_POLICY};

use crate::every_page;
use crate::fixtures::{Set, Shown};
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
    worth(&document, &mut say);
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

/// Where a panel has both what is durable and what is live, each number says which it is: by
/// the mark of its column, its row, its tile, its chart or its name. Where it has one of them
/// no mark says the other.
fn worth(document: &Document, say: &mut impl FnMut(String)) {
    let holds = |element: &Element| element.has_class("panel") || element.has_class("band");
    for (place, panel) in document.elements.iter().enumerate() {
        if !holds(panel) {
            continue;
        }
        let of = panel.get("aria-labelledby").unwrap_or_default();
        let inside = || {
            let all = document.elements.iter().enumerate();
            all.filter(|(_, one)| one.around.contains(&place))
        };
        let is = |kind: &str| inside().any(|(_, one)| one.has_class("kind") && one.has_class(kind));
        let mixed = is("durable") && is("live");
        if !mixed {
            for (_, mark) in inside().filter(|(_, one)| one.has_class("k")) {
                let kinds = ["durable", "live"].into_iter();
                if !kinds
                    .into_iter()
                    .any(|kind| is(kind) && mark.has_class(kind))
                {
                    say(format!(
                        "#{of} is all of one kind, and has a mark{}",
                        mark.text
                    ));
                }
            }
            continue;
        }
        for (at, one) in inside() {
            let says = match one.name.as_str() {
                "td" if one.has_class("n") => cell_says(document, one),
                "dd" => {
                    let pair = one.around.last().copied();
                    document.named("dt").any(|dt| {
                        dt.around.last().copied() == pair
                            && marked(document, place_of(document, dt))
                    })
                }
                "figure" => document
                    .elements
                    .iter()
                    .enumerate()
                    .any(|(caption, element)| {
                        element.name == "figcaption"
                            && element.around.contains(&at)
                            && marked(document, caption)
                    }),
                _ if one.has_class("tile") => {
                    document.elements.iter().enumerate().any(|(h3, element)| {
                        element.name == "h3" && element.around.contains(&at) && marked(document, h3)
                    })
                }
                _ if ["note", "lead", "only"]
                    .iter()
                    .any(|class| one.has_class(class)) =>
                {
                    !one.text.contains(|letter: char| letter.is_ascii_digit())
                        || marked(document, at)
                }
                _ => true,
            };
            if !says {
                say(format!(
                    "#{of}: a number of <{} {:?}> that is neither durable nor live: {:?}",
                    one.name,
                    one.get("class"),
                    one.text.trim()
                ));
            }
        }
    }
}

fn place_of(document: &Document, element: &Element) -> usize {
    let mut all = document.elements.iter();
    all.position(|one| std::ptr::eq(one, element)).unwrap()
}

/// Whether something has a mark in it that says durable or live, aloud as well.
fn marked(document: &Document, place: usize) -> bool {
    document.elements.iter().any(|mark| {
        let says = |kind: &str| mark.has_class(kind) && mark.text.contains(kind);
        mark.around.contains(&place) && mark.has_class("k") && (says("durable") || says("live"))
    })
}

/// Whether a cell says what it is worth: by its column, by its row, or with its whole chart.
fn cell_says(document: &Document, cell: &Element) -> bool {
    if document.is_inside(cell, |around| around.name == "figure") {
        return true;
    }
    let row = *cell.around.last().unwrap();
    let cells = |row: usize| {
        let all = document.elements.iter().enumerate();
        all.filter(move |(_, one)| one.around.last() == Some(&row))
            .map(|(place, _)| place)
            .collect::<Vec<usize>>()
    };
    let mine = cells(row);
    let at = mine
        .iter()
        .position(|place| std::ptr::eq(&raw const document.elements[*place], cell));
    let table = cell
        .around
        .iter()
        .rev()
        .find(|place| document.elements[**place].name == "table");
    let heading = document.elements.iter().enumerate().find(|(_, one)| {
        one.name == "tr"
            && one.around.contains(table.unwrap())
            && document.is_inside(one, |around| around.name == "thead")
    });
    let columns = cells(heading.unwrap().0);
    let column = columns[at.unwrap()];
    let by_row = document
        .elements
        .iter()
        .any(|mark| mark.around.contains(&column) && mark.has_class("k") && mark.has_class("kept"));
    let row_says = mine.iter().any(|place| {
        let cell = &document.elements[*place];
        let words = [("d", "durable"), ("l", "live")];
        let is_kept = |(class, word): (&str, &str)| cell.has_class(class) && cell.text == word;
        marked(document, *place) || words.into_iter().any(is_kept)
    });
    // Of a legend the name of a row has the mark, and its column none.
    let legend = document.is_inside(cell, |around| around.has_class("legend"));
    marked(document, column) || ((by_row || legend) && row_says)
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
    let broken_in = |name: &str, from: &str, to: &str| {
        let named = |page: &&Shown| page.name == name && page.set == Set::Full(12);
        let good = pages.iter().find(named).unwrap();
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
    let broken = |from: &str, to: &str| broken_in("access", from, to);
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
    let mark = |kind: &str, says: &str| {
        format!("<span class=\"k {kind}\"><span class=\"vh\"> ({says})</span></span>")
    };
    let (durable, live) = (mark("durable", "durable"), mark("live", "live"));
    // A column, a column that its rows speak for, a row, a chart, a tile, a part of a whole.
    broken_in("storage", &format!("Segments{durable}"), "Segments");
    for page in ["streams", "queues", "overview"] {
        broken_in(page, &mark("kept", "as kept"), "");
        broken_in(page, "<td class=\"d\">durable</td>", "<td>durable</td>");
        broken_in(page, "<td class=\"l\">live</td>", "<td class=\"l\">–</td>");
    }
    broken_in(
        "queue",
        &format!("Messages a second{live}"),
        "Messages a second",
    );
    broken_in("queue", &format!("in flight{live}"), "in flight");
    broken_in("queue", &format!("Consumers{live}"), "Consumers");
    broken_in("raft", &format!("Leader{live}"), "Leader");
    // What is not said aloud is said by a shape alone, and what is said twice must agree.
    broken_in("storage", &durable, &mark("durable", "live"));
    broken_in("caches", "Entries</a>", &format!("Entries</a>{durable}"));
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
