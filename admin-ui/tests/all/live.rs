//! What arrives later is what the page would have said.

use std::collections::BTreeSet;

use pinion_admin_ui::Ui;
use pinion_admin_ui::live::LiveValues;

use crate::every_page;
use crate::fixtures::{self, Set};
use crate::html::Document;

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
