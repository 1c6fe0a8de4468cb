//! What holds for every page: they are as they were reviewed, harmless whatever is in
//! them, well-formed, readable, small.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss
)]

mod contrast;
mod escaping;
mod fixtures;
mod golden;
mod html;
mod live;
mod shape;
mod size;

use pinion_admin_ui::Ui;

/// Every page with every set of data that is reviewed.
fn every_page() -> Vec<fixtures::Shown> {
    let ui = Ui::new().unwrap();
    fixtures::Set::GOLDEN
        .into_iter()
        .flat_map(|(_, set)| fixtures::all(&ui, set))
        .collect()
}
