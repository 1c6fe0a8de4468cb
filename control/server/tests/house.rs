//! Holds the shape of the house: who may depend on whom, one owner per heavy
//! dependency, licences, what must not appear anywhere, and that what the documents name
//! exists.
//!
//! The rules are pure functions over plain facts ([`Member`], [`Link`]); the facts come
//! from `cargo metadata` and the source tree. Each rule over those facts has a test that
//! shows it catching an offender, so a rule that cannot fail is noticed.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use cargo_metadata::{CargoOpt, Metadata, MetadataCommand, Package};
use figment::Figment;
use figment::providers::{Format, Toml};
use serde::Deserialize;

// ------------------------------------------------------------------ directions

/// A crate of the workspace: its room (folder below the root), and the rooms of the
/// workspace crates that it names in any dependency table.
struct Member {
    room: String,
    uses: BTreeSet<String>,
}

/// Why one room may not use another; `None` when it may.
///
/// `engine` has not heard of the network, `net` knows the engine's types only, and
/// nobody builds on the binary.
fn forbidden(from: &str, to: &str) -> Option<&'static str> {
    if from == to {
        return None;
    }
    if to == "control/server" {
        return Some("nothing depends on control/server");
    }
    let top = |room: &str| room.split('/').next().unwrap_or_default().to_owned();
    match (top(from).as_str(), top(to).as_str()) {
        ("engine", "engine") | ("net", "net") | ("benches", _) => None,
        ("engine", _) => Some("engine depends on nothing outside engine"),
        ("net", _) if to == "engine/types" => None,
        ("net", _) => Some("net depends on engine/types and net only"),
        ("admin-ui", _) => Some("admin-ui depends on nothing"),
        ("control", "engine" | "net" | "admin-ui" | "control") => None,
        ("control", _) => Some("control depends on engine, net, admin-ui and control only"),
        _ => Some("this room has no row in the table of directions"),
    }
}

fn wrong_directions(members: &[Member]) -> Vec<String> {
    let mut found = Vec::new();
    for member in members {
        for to in &member.uses {
            if let Some(why) = forbidden(&member.room, to) {
                found.push(format!("{} uses {to}: {why}", member.room));
            }
        }
    }
    found
}

#[test]
fn rooms_depend_in_the_agreed_directions_only() {
    let members = members();
    let edges: usize = members.iter().map(|member| member.uses.len()).sum();
    assert!(
        members.len() >= 10 && edges >= 10,
        "the workspace was not read: {edges} edges"
    );
    assert_none(&wrong_directions(&members));
}

#[test]
fn a_dependency_against_the_directions_is_caught() {
    for (from, to) in [
        ("engine/types", "net/wire"),
        ("engine/reactor", "net/quic"),
        ("engine/shard", "benches/load"),
        ("net/session", "engine/domains"),
        ("net/client", "control/node"),
        ("net/client", "benches/load"),
        ("admin-ui", "engine/types"),
        ("control/node", "control/server"),
        ("control/server", "benches/load"),
        ("benches/load", "control/server"),
        ("tools/new", "engine/types"),
    ] {
        let member = Member {
            room: from.into(),
            uses: BTreeSet::from([to.into()]),
        };
        assert_eq!(
            wrong_directions(&[member]).len(),
            1,
            "{from} -> {to} must be refused"
        );
    }
}

#[test]
fn a_dependency_along_the_directions_passes() {
    for (from, to) in [
        ("engine/shard", "engine/types"),
        ("net/quic", "engine/types"),
        ("net/cli", "net/client"),
        ("control/server", "engine/reactor"),
        ("benches/load", "net/quic"),
        ("benches/micro", "engine/domains"),
    ] {
        let member = Member {
            room: from.into(),
            uses: BTreeSet::from([to.into()]),
        };
        assert_none(&wrong_directions(&[member]));
    }
}

// ---------------------------------------------------------------------- owners

/// One direct dependency in the resolved graph, by package name.
struct Link {
    from: String,
    to: String,
}

/// Links to a banned crate from one that is not among its wrappers.
fn strangers_to_owners(links: &[Link], bans: &[Ban]) -> Vec<String> {
    let mut found = Vec::new();
    for link in links {
        for ban in bans.iter().filter(|ban| ban.name == link.to) {
            if !ban.wrappers.contains(&link.from) {
                found.push(format!("{} uses {}: {}", link.from, link.to, ban.reason));
            }
        }
    }
    found
}

#[test]
fn heavy_dependencies_are_used_by_their_owner_only() {
    let links = links();
    assert!(
        links.len() > 200,
        "the graph was not read: {} links",
        links.len()
    );
    assert_none(&strangers_to_owners(&links, &policy().bans.deny));
}

/// The owners that the design names, and so must have a row in `deny.toml`.
#[test]
fn the_policy_names_the_agreed_owners() {
    let bans = policy().bans.deny;
    for (dependency, owner) in [
        ("glommio", "pinion-reactor"),
        ("io-uring", "pinion-reactor"),
        ("quinn-proto", "pinion-quic"),
        ("quinn", "pinion-client"),
        ("tokio", "pinion-client"),
        ("minijinja", "pinion-admin-ui"),
    ] {
        let ban = bans.iter().find(|ban| ban.name == dependency);
        let ban = ban.unwrap_or_else(|| panic!("deny.toml has no row for {dependency}"));
        assert!(
            ban.wrappers.iter().any(|name| name == owner),
            "{dependency}: {:?}",
            ban.wrappers
        );
        for pure in [
            "pinion-types",
            "pinion-domains",
            "pinion-shard",
            "pinion-wire",
            "pinion-auth",
            "pinion-node",
            "pinion-metadata",
            "pinion-plane",
        ] {
            assert!(
                !ban.wrappers.iter().any(|name| name == pure),
                "{pure} takes {dependency}"
            );
        }
    }
    for ban in &bans {
        assert!(
            !ban.reason.is_empty(),
            "{} is banned without a reason",
            ban.name
        );
    }
}

#[test]
fn a_second_user_of_a_heavy_dependency_is_caught() {
    let ban = Ban {
        name: "glommio".into(),
        wrappers: vec!["pinion-reactor".into()],
        reason: "one owner".into(),
    };
    let link = |from: &str| Link {
        from: from.into(),
        to: "glommio".into(),
    };
    assert_none(&strangers_to_owners(
        &[link("pinion-reactor")],
        std::slice::from_ref(&ban),
    ));
    assert_eq!(
        strangers_to_owners(&[link("pinion-node")], &[ban]),
        ["pinion-node uses glommio: one owner"]
    );
}

// -------------------------------------------------------------------- licences

/// Why a package's licence is not covered; `None` when it is.
fn licence_problem(name: &str, licence: Option<&str>, policy: &Licences) -> Option<String> {
    let Some(text) = licence else {
        return Some(format!("{name}: no licence stated"));
    };
    // Lax, because older crates write `MIT/Apache-2.0`.
    let expression = match spdx::Expression::parse_mode(text, spdx::ParseMode::LAX) {
        Ok(expression) => expression,
        Err(error) => {
            return Some(format!(
                "{name}: `{text}` is not an SPDX expression: {error}"
            ));
        }
    };
    let exceptions = policy
        .exceptions
        .iter()
        .filter(|exception| exception.name == name);
    let allowed: Vec<spdx::Licensee> = policy
        .allow
        .iter()
        .chain(exceptions.flat_map(|exception| &exception.allow))
        .map(|id| spdx::Licensee::parse(id).expect("deny.toml lists SPDX identifiers"))
        .collect();
    let covered = expression.evaluate(|required| allowed.iter().any(|one| one.satisfies(required)));
    (!covered).then(|| format!("{name}: `{text}` is not allowed by deny.toml"))
}

#[test]
fn every_licence_is_allowed_by_the_policy() {
    let policy = policy().licenses;
    let built = built_packages();
    assert!(
        built.len() > 100,
        "the graph was not read: {} packages",
        built.len()
    );
    let problems: Vec<String> = built
        .iter()
        .filter_map(|p| licence_problem(p.name.as_str(), p.license.as_deref(), &policy))
        .collect();
    assert_none(&problems);
}

#[test]
fn a_licence_outside_the_policy_is_caught() {
    let policy = Licences {
        allow: vec!["MIT".into(), "ISC".into()],
        exceptions: vec![LicenceException {
            name: "odd".into(),
            allow: vec!["MPL-2.0".into()],
        }],
    };
    let refused = |name, licence| licence_problem(name, licence, &policy).is_some();
    assert!(!refused("plain", Some("MIT")));
    assert!(!refused("choice", Some("GPL-3.0-only OR MIT")));
    assert!(!refused("old-style", Some("MIT/Apache-2.0")));
    assert!(!refused("odd", Some("MPL-2.0+")));
    assert!(
        refused("other", Some("MPL-2.0+")),
        "an exception is for one crate"
    );
    assert!(refused("both", Some("MIT AND GPL-3.0-only")));
    assert!(refused("silent", None));
}

// --------------------------------------------------------------------- sources

#[test]
fn every_package_is_ours_or_from_the_public_registry() {
    let strangers: Vec<String> = built_packages()
        .into_iter()
        .filter(|package| match &package.source {
            Some(source) => !source.is_crates_io(),
            None => !package.manifest_path.starts_with(&METADATA.workspace_root),
        })
        .map(|package| format!("{} comes from {:?}", package.name, package.source))
        .collect();
    assert_none(&strangers);
}

/// Rooms that may hold `unsafe`; every block there carries its proof.
const UNSAFE_ROOMS: [&str; 1] = ["engine/reactor"];

#[test]
fn unsafe_is_forbidden_in_every_crate_but_the_kernel_room() {
    let mut lacking = Vec::new();
    for package in METADATA.workspace_packages() {
        if UNSAFE_ROOMS.contains(&room_of(package).as_str()) {
            continue;
        }
        for target in package
            .targets
            .iter()
            .filter(|target| target.is_lib() || target.is_bin())
        {
            let source = fs::read_to_string(&target.src_path).unwrap();
            if !source
                .lines()
                .any(|line| line.trim() == "#![forbid(unsafe_code)]")
            {
                lacking.push(format!("{} lacks #![forbid(unsafe_code)]", target.src_path));
            }
        }
    }
    assert_none(&lacking);
}

#[test]
fn every_member_takes_the_lint_table_of_the_workspace() {
    #[derive(Deserialize)]
    struct Manifest {
        lints: Option<Lints>,
    }
    #[derive(Deserialize)]
    struct Lints {
        #[serde(default)]
        workspace: bool,
    }
    let outside: Vec<String> = METADATA
        .workspace_packages()
        .into_iter()
        .filter(|package| {
            let manifest: Manifest = toml(package.manifest_path.as_std_path());
            !manifest.lints.is_some_and(|lints| lints.workspace)
        })
        .map(|package| format!("{} has lints of its own", package.name))
        .collect();
    assert_none(&outside);
}

/// The same code runs under the server and under a simulation: a switch at compile time
/// would mean that what was simulated is not what is shipped.
#[test]
fn no_source_is_compiled_differently_for_a_simulation() {
    // In two parts, or this file would find itself.
    let needle = concat!("cfg(", "simulator");
    let mut sources = Vec::new();
    collect_sources(root(), &mut sources);
    assert!(
        sources.len() > 20,
        "the tree was not read: {} files",
        sources.len()
    );
    let found: Vec<String> = sources
        .iter()
        .filter(|path| fs::read_to_string(path).unwrap().contains(needle))
        .map(|path| format!("{} has {needle}…)", path.display()))
        .collect();
    assert_none(&found);
}

/// Top-level folders, each with its row in the code map of `docs/ARCHITECTURE.md` once
/// it exists.
const TOP_LEVEL: [&str; 8] = [
    "admin-ui", "benches", "control", "deploy", "docs", "engine", "net", "scripts",
];

/// What builds and runs leave behind; `.gitignore` lists them.
const LEFT_BEHIND: [&str; 2] = ["target", "pinion-data"];

#[test]
fn top_level_folders_are_the_agreed_ones() {
    let strangers: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && !LEFT_BEHIND.contains(&name.as_str()))
        .filter(|name| !TOP_LEVEL.contains(&name.as_str()))
        .map(|name| format!("{name}/ is not a folder of the house"))
        .collect();
    assert_none(&strangers);
}

// ---------------------------------------------------------------- the documents

/// Places of the form `path/to/file.rs::test_name` in backticks, and why they are wrong.
fn missing_tests(text: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut missing = Vec::new();
    for place in text.split('`').skip(1).step_by(2) {
        let Some((path, test)) = place.split_once(".rs::") else {
            continue;
        };
        let path = format!("{path}.rs");
        match read(&path) {
            None => missing.push(format!("{place}: there is no {path}")),
            Some(source) if !source.contains(&format!("fn {test}(")) => {
                missing.push(format!("{place}: {path} has no such function"));
            }
            Some(_) => {}
        }
    }
    missing
}

#[test]
fn every_test_named_in_the_specification_exists() {
    let text = fs::read_to_string(root().join("docs/SPECIFICATION.md")).unwrap();
    assert!(text.contains(".rs::"), "the specification names no test");
    assert_none(&missing_tests(&text, |path| {
        fs::read_to_string(root().join(path)).ok()
    }));
}

#[test]
fn an_invented_test_name_is_caught() {
    let read = |path: &str| (path == "a.rs").then(|| "fn there() {}".to_owned());
    assert_none(&missing_tests("`a.rs::there` and `a.rs`", read));
    assert_eq!(missing_tests("`a.rs::gone`, `b.rs::there`", read).len(), 2);
}

/// Targets of `[text](target)` that lead to a file of this tree.
fn local_links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .collect()
}

/// Every Markdown file in `folder` and the folders in it.
fn markdown_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            markdown_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut documents = vec![
        root().join("README.md"),
        root().join("control/server/data/README.md"),
    ];
    markdown_below(&root().join("docs"), &mut documents);
    for known in ["docs/benchmarks/README.md", "docs/decisions"] {
        let known = root().join(known);
        assert!(
            documents
                .iter()
                .any(|document| document.starts_with(&known)),
            "{} was not read",
            known.display()
        );
    }
    let mut broken = Vec::new();
    for document in &documents {
        let text = fs::read_to_string(document).unwrap();
        for target in local_links(&text) {
            if !document.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn a_link_is_read_without_its_anchor() {
    let text = "[a](x.md#part) [b](https://example.org/y.md) [c](#here) [d](../z)";
    assert_eq!(local_links(text), ["x.md", "../z"]);
}

// ------------------------------------------------------------------- the facts

static METADATA: LazyLock<Metadata> = LazyLock::new(|| {
    MetadataCommand::new()
        .manifest_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml"))
        .features(CargoOpt::AllFeatures)
        .other_options([
            "--locked".to_owned(),
            // As `[graph] targets` of deny.toml: what other systems pull in is not built.
            "--filter-platform=x86_64-unknown-linux-gnu".to_owned(),
        ])
        .exec()
        .expect("cargo metadata runs wherever cargo test does")
});

fn root() -> &'static Path {
    METADATA.workspace_root.as_std_path()
}

/// Folder of a workspace package below the root, such as `engine/types`.
fn room_of(package: &Package) -> String {
    let folder = package
        .manifest_path
        .parent()
        .expect("a manifest lies in a folder");
    folder
        .strip_prefix(&METADATA.workspace_root)
        .expect("members lie below the root")
        .to_string()
}

fn members() -> Vec<Member> {
    let packages = METADATA.workspace_packages();
    let rooms: BTreeMap<&str, String> = packages
        .iter()
        .map(|package| (package.name.as_str(), room_of(package)))
        .collect();
    packages
        .iter()
        .map(|package| Member {
            room: room_of(package),
            uses: package
                .dependencies
                .iter()
                .filter_map(|dependency| rooms.get(dependency.name.as_str()).cloned())
                .collect(),
        })
        .collect()
}

fn built_packages() -> Vec<&'static Package> {
    let nodes = &METADATA
        .resolve
        .as_ref()
        .expect("metadata with dependencies")
        .nodes;
    nodes.iter().map(|node| &METADATA[&node.id]).collect()
}

fn links() -> Vec<Link> {
    let nodes = &METADATA
        .resolve
        .as_ref()
        .expect("metadata with dependencies")
        .nodes;
    nodes
        .iter()
        .flat_map(|node| {
            node.deps.iter().map(|dependency| Link {
                from: METADATA[&node.id].name.to_string(),
                to: METADATA[&dependency.pkg].name.to_string(),
            })
        })
        .collect()
}

fn collect_sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && !name.starts_with('.') && !LEFT_BEHIND.contains(&name.as_str()) {
            collect_sources(&entry.path(), into);
        } else if kind.is_file() && name.ends_with(".rs") {
            into.push(entry.path());
        }
    }
}

/// The parts of `deny.toml` that are held here.
#[derive(Deserialize)]
struct Policy {
    licenses: Licences,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
    exceptions: Vec<LicenceException>,
}

#[derive(Deserialize)]
struct LicenceException {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    #[serde(default)]
    wrappers: Vec<String>,
    reason: String,
}

fn policy() -> Policy {
    toml(&root().join("deny.toml"))
}

fn toml<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    Figment::from(Toml::file_exact(path))
        .extract()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[track_caller]
fn assert_none(problems: &[String]) {
    assert!(
        problems.is_empty(),
        "{} found:\n  {}",
        problems.len(),
        problems.join("\n  ")
    );
}
