//! Pages as they were reviewed: `tests/golden/PAGE.SET.html`. Of each the title and what is
//! inside of `main`; of one the whole document.
//!
//! `PINION_UI_GOLDEN=write cargo test -p pinion-admin-ui golden` writes them anew; the
//! difference is then reviewed like code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use pinion_admin_ui::Ui;

use crate::fixtures::{self, Set};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn expected() -> BTreeMap<String, String> {
    let ui = Ui::new().unwrap();
    let mut files = BTreeMap::new();
    for (word, set) in Set::GOLDEN {
        for page in fixtures::all(&ui, set) {
            let main = page.html.find("<main").unwrap();
            let end = page.html.find("</main>").unwrap();
            let body = format!(
                "<!-- {} -->\n{}</main>\n",
                page.title.replace("--", "- -"),
                &page.html[main..end]
            );
            files.insert(format!("{}.{word}.html", page.name), body);
            if page.name == "overview" && word == "full" {
                files.insert("document.html".to_owned(), page.html);
            }
        }
    }
    files
}

#[test]
fn golden_pages_are_as_they_were_reviewed() {
    let files = expected();
    if env::var("PINION_UI_GOLDEN").is_ok_and(|what| what == "write") {
        fs::create_dir_all(folder()).unwrap();
        for entry in fs::read_dir(folder()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for (name, body) in &files {
            fs::write(folder().join(name), body).unwrap();
        }
        return;
    }
    let mut there: BTreeMap<String, String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read_to_string(entry.path()).unwrap(),
            )
        })
        .collect();
    let mut differing = Vec::new();
    for (name, body) in &files {
        match there.remove(name) {
            Some(reviewed) if reviewed == *body => {}
            Some(reviewed) => differing.push(first_difference(name, &reviewed, body)),
            None => differing.push(format!("{name}: nobody has reviewed it")),
        }
    }
    differing.extend(
        there
            .into_keys()
            .map(|name| format!("{name}: there is no such page")),
    );
    assert!(
        differing.is_empty(),
        "{}\nPINION_UI_GOLDEN=write writes them anew",
        differing.join("\n")
    );
}

fn first_difference(name: &str, reviewed: &str, now: &str) -> String {
    let lines = reviewed.lines().zip(now.lines()).enumerate();
    let found = lines
        .into_iter()
        .find(|(_, (before, after))| before != after);
    match found {
        Some((line, (before, after))) => format!("{name}:{}\n  - {before}\n  + {after}", line + 1),
        None => format!("{name}: one is longer"),
    }
}
