//! Writes every page with test data, and the static files, to a folder, to look at:
//! `cargo run -p pinion-admin-ui --example gallery -- FOLDER`. Links of the pages are those
//! of a node and lead nowhere there.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    dead_code,
    missing_docs
)]

#[path = "../tests/all/fixtures/mod.rs"]
mod fixtures;

use std::{env, fs, io, path::PathBuf};

use pinion_admin_ui::{Ui, assets};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| io::Error::other("which folder?"))?;
    fs::create_dir_all(folder.join("assets"))?;
    for asset in assets::ASSETS {
        fs::write(folder.join(asset.path.trim_start_matches('/')), asset.body)?;
    }
    let ui = Ui::new()?;
    for (set, data) in fixtures::Set::GOLDEN {
        for page in fixtures::all(&ui, data) {
            // Beside each other in a folder, files are found without the slash in front.
            let html = page.html.replace("\"/assets/", "\"assets/");
            fs::write(folder.join(format!("{}-{set}.html", page.name)), html)?;
        }
    }
    Ok(())
}
