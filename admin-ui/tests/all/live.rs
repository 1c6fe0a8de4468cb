//! What arrives later is what the page would have said.

use std::collections::BTreeSet;

use pinion_admin_ui::Ui;
use pinion_admin_ui::live::LiveValues;
use pinion_admin_ui::model::{Level, Page, Quantity};

use crate::every_page;
use crate::fixtures::{self, Set, data, pages};
use crate::html::{Document, Element};

#[test]
fn every_live_page_has_values_and_each_key_is_there_once() {
    for page in every_page() {
        let values = LiveValues::of(&page.html);
        let document = Document::read(&page.html).unwrap();
        let mut keys = BTreeSet::new();
        for element in &document.elements {
            let row = element
                .around
                .iter()
                .map(|place| &document.elements[*place])
                .chain([element])
                .find_map(|around| around.get("data-row"));
            for name in ["data-live", "data-live-d"] {
                let Some(key) = element.get(name) else {
                    continue;
                };
                let key = row.map_or_else(|| key.to_owned(), |row| format!("{row} {key}"));
                assert!(
                    keys.insert(key.clone()),
                    "{} ({:?}) has {key:?} twice",
                    page.name,
                    page.set
                );
            }
        }
        assert_eq!(
            values.len(),
            keys.len(),
            "{} ({:?}): {keys:?}",
            page.name,
            page.set
        );
        assert!(
            !page.live || !values.is_empty(),
            "{} never changes",
            page.name
        );
    }
}

#[test]
fn a_page_that_is_the_same_sends_nothing_and_one_with_more_rows_is_stale() {
    let ui = Ui::new().unwrap();
    let few = fixtures::all(&ui, Set::Full(3));
    let more = fixtures::all(&ui, Set::Full(4));
    let of = |pages: &[fixtures::Shown]| {
        let page = pages.iter().find(|page| page.name == "streams").unwrap();
        LiveValues::of(&page.html)
    };
    assert_eq!(of(&few).event_since(&of(&few)), None);
    let event = of(&more).event_since(&of(&few)).unwrap();
    assert!(event.contains("\"stale\":true"), "{event}");
}

/// What is sent when a page becomes another, and whether that made it stale.
fn change<P: Page>(page: &mut P, change: impl FnOnce(&mut P)) -> (String, bool) {
    let ui = Ui::new().unwrap();
    let shell = Set::Full(3).shell();
    let before = LiveValues::of(&ui.render(&shell, page).unwrap());
    change(page);
    let after = LiveValues::of(&ui.render(&shell, page).unwrap());
    let event = after.event_since(&before).unwrap_or_default();
    let stale = event.contains("\"stale\":true");
    (event, stale)
}

#[test]
fn numbers_are_sent_and_whatever_else_changes_makes_the_page_stale() {
    let set = Set::Full(3);
    let (event, stale) = change(&mut pages::overview(set), |page| {
        page.tiles_fresh.age_ms += 100;
        page.tiles[0].value = Quantity::PerSecond(7.0);
        page.tiles[0].series.points.rotate_left(1);
        page.tiles[0].series.points[59] = Some(1e9);
        page.cores[0].history_permille[3] = 999;
        page.issues[0].since_ms += 5000;
    });
    assert!(
        event.contains("\"7 /s\"") && event.contains("4 min 17 s"),
        "{event}"
    );
    assert!(!stale, "{event}");

    let (event, stale) = change(&mut data::stream(set), |page| {
        page.partitions[0].in_per_s = 1.0;
        page.in_per_s.points.rotate_left(1);
        page.in_per_s.points[59] = Some(5e6);
    });
    assert!(
        event.contains("5 M/s"),
        "the axis has no new number: {event}"
    );
    assert!(!stale, "{event}");

    let (event, stale) = change(&mut data::sessions(set), |page| {
        page.rows[0].connected_ms += 1000;
        page.rows[0].subscriptions += 1;
    });
    assert!(!event.is_empty() && !stale, "{event}");

    let (_, stale) = change(&mut pages::overview(set), |page| {
        page.status.level = Level::Bad;
    });
    assert!(stale, "a band that turned red was not noticed");
    let (_, stale) = change(&mut data::stream(set), |page| {
        page.partitions[0].state.text = "fenced".into();
    });
    assert!(stale, "a fenced partition was not noticed");
    let (event, _) = change(&mut data::stream(set), |page| page.newest[0].offset += 1);
    assert_eq!(event, "", "a panel that is still was looked at");
}

/// Columns of live tables that say what something is, not how it goes.
const FIXED: [&str; 4] = ["Partitions", "Core", "Budget", "Number"];

/// A panel that says that it is as of now has nothing in it that is from before.
#[test]
fn every_number_of_a_live_panel_is_live() {
    let mut found = Vec::new();
    for page in every_page().into_iter().filter(|page| page.live) {
        let document = Document::read(&page.html).unwrap();
        let elements = &document.elements;
        for (place, cell) in elements.iter().enumerate() {
            let number = cell.has_class("n") && cell.name == "td"
                || cell.has_class("big")
                || cell.has_class("tick");
            let still = document.is_inside(cell, |one| one.get("data-still").is_some());
            let live = |one: &Element| one.get("data-live").is_some();
            let within = elements
                .iter()
                .any(|one| one.around.contains(&place) && live(one));
            if !number || still || live(cell) || within || cell.text == "as of" {
                continue;
            }
            // The heading of its column: the one at the same place in the first row.
            let row = *cell.around.last().unwrap();
            let beside = |row: usize| {
                elements
                    .iter()
                    .filter(move |one| one.around.last() == Some(&row))
            };
            let at = beside(row).position(|one| std::ptr::eq(one, cell)).unwrap();
            let table = cell
                .around
                .iter()
                .copied()
                .find(|around| elements[*around].name == "table");
            let head = table.and_then(|table| {
                elements
                    .iter()
                    .position(|one| one.name == "tr" && one.around.contains(&table))
            });
            let heading = head
                .and_then(|head| beside(head).nth(at))
                .map_or("", |one| &*one.text);
            // The mark of what it is worth is no part of the name.
            let heading = heading.split(" (").next().unwrap_or_default();
            if !FIXED.contains(&heading) {
                found.push(format!(
                    "{} ({:?}): {heading}: {}",
                    page.name, page.set, cell.text
                ));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The script and the pages agree on the attributes.
#[test]
fn the_script_reads_what_the_pages_say() {
    let script = pinion_admin_ui::assets::asset("/assets/live.js")
        .unwrap()
        .body;
    for word in [
        "data-live",
        "data-live-d",
        "data-row",
        "liveUrl",
        "live-switch",
        "news.set",
        "news.stale",
    ] {
        assert!(script.contains(word), "{word}");
    }
}
