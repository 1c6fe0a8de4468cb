//! Pages are small and quickly made.

use std::time::Instant;

use pinion_admin_ui::Ui;
use pinion_admin_ui::model::{PAGE_BYTES_MAX, ROWS_MAX};

use crate::fixtures::{self, Set};

#[test]
fn a_page_with_all_its_rows_is_at_most_fifty_kilobytes() {
    let ui = Ui::new().unwrap();
    let mut large = Vec::new();
    for page in fixtures::all(&ui, Set::Full(ROWS_MAX)) {
        println!("{:>7} bytes  {}", page.html.len(), page.name);
        if page.html.len() > PAGE_BYTES_MAX {
            large.push(format!("{} has {} bytes", page.name, page.html.len()));
        }
    }
    assert!(large.is_empty(), "{}", large.join("\n"));
}

/// Prints how long pages take; says nothing about how long they may take, because the
/// machine that runs the tests does other things too.
#[test]
fn render_times_are_printed() {
    const ROUNDS: u32 = 5;
    let ui = Ui::new().unwrap();
    for rows in [12, ROWS_MAX] {
        let pages = fixtures::all(&ui, Set::Full(rows)).len();
        let start = Instant::now();
        for _ in 0..ROUNDS {
            assert_eq!(fixtures::all(&ui, Set::Full(rows)).len(), pages);
        }
        let each = start.elapsed() / ROUNDS / u32::try_from(pages).unwrap();
        println!("{rows:>3} rows: {each:?} a page, its model and a copy as JSON included");
    }
}
