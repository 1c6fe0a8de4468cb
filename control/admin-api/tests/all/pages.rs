//! The dashboard's pages of data, beside a real data core: they have what the core says, and
//! nothing of anybody else's.

use core::time::Duration;
use std::time::Instant;

use pinion_admin_ui::links::ROUTES;
use pinion_admin_ui::model::{PAGE_BYTES_MAX, ROWS_MAX};
use pinion_wire::message::Request;
use serde_json::json;

use crate::domains::{CLIENT, Place, tell};
use crate::host::OPERATOR;
use crate::roles::{ROLES, key};
use crate::support::browser::{Browser, Page, kept, rows};

/// What a page may take. 5 ms in a release build on a quiet machine; a debug build that
/// shares two processors with others takes many times as long, so this finds what is wrong
/// by orders of magnitude alone.
const PAGE_TIME: Duration = Duration::from_secs(2);

/// Longest that a page may go on saying what was.
const PATIENCE: Duration = Duration::from_secs(20);

const QUEUE: &str = "/ui/queues/acme/pay/eu/jobs";
const LETTERS: &str = "/ui/dead-letters/acme/pay/eu/jobs";

/// Everything that a page could show.
fn furnish(place: &Place) {
    place.publish(0, &["first", "<script>alert(1)</script>"]);
    place.publish(1, &["other \u{1b}[31m"]);
    place.put(0, &["{\"to\":\"ana\"}", "two", "three"]);
    place.kill(0, "<b>no such user</b>");
    place.take(0);
    place.set("k");
    place.data.connect(0, CLIENT);
}

/// Every page, of what there is.
fn paths() -> impl Iterator<Item = (&'static str, String)> {
    ROUTES.into_iter().map(|(name, route)| {
        let resource = match name {
            "stream" => "orders",
            "cache" => "hot",
            _ => "eu/jobs",
        };
        let path = route
            .replace("{tenant}", "acme")
            .replace("{namespace}", "pay");
        (name, path.replace("{*name}", resource))
    })
}

#[test]
fn every_page_is_there_small_and_soon() {
    tell(|place| async move {
        furnish(&place);
        let mut browser = Browser::of(&place.ops, OPERATOR).await;
        for (name, path) in paths() {
            let begun = Instant::now();
            let page = browser.get(&path).await.is(200);
            let took = begun.elapsed();
            println!("{name}: {} bytes, {took:?}", page.html.len());
            assert!(
                page.html.len() <= PAGE_BYTES_MAX,
                "{name}: {} bytes",
                page.html.len()
            );
            assert!(took < PAGE_TIME, "{name}: {took:?}");
            page.has("class=\"fresh\"");
            assert!(!page.html.contains("<script>alert"), "{name}");
        }
    });
}

#[test]
fn pages_have_what_the_core_says() {
    tell(|place| async move {
        furnish(&place);
        let mut browser = Browser::of(&place.ops, OPERATOR).await;
        // Two partitions with three records together.
        let streams = until(&mut browser, "/ui/streams", "data-live=\"n\">3<").await;
        streams.has("href=\"/ui/streams/acme/pay/orders\"");
        row(&streams, "acme/pay/orders").has("data-live=\"n\">3<");
        let stream = browser.get("/ui/streams/acme/pay/orders").await.is(200);
        stream
            .has("first")
            .has("&lt;script&gt;alert(1)&lt;/script&gt;");
        // What would steer a terminal is shown as its bytes.
        stream.has("6f 74 68 65 72 20 1b 5b 33 31 6d");
        stream.has("in memory").has("No cursor");
        let queues = browser.get("/ui/queues").await.is(200);
        let jobs = row(&queues, "acme/pay/eu%2Fjobs");
        jobs.has("data-live=\"r\">1<").has("data-live=\"f\">1<");
        jobs.has("href=\"/ui/dead-letters/acme/pay/eu/jobs\" data-live=\"x\">1<");
        let queue = browser.get(QUEUE).await.is(200);
        queue
            .has("Nobody asks for messages")
            .has("no_consumers")
            .has("Start a consumer");
        let flying = browser.get("/ui/in-flight/acme/pay/eu/jobs").await.is(200);
        flying.has("<code>0/1</code>");
        let letters = browser.get(LETTERS).await.is(200);
        letters
            .has("<code>0/0</code>")
            .has("&lt;b&gt;no such user&lt;/b&gt;")
            .has("failed");
        letters.has("{&quot;to&quot;:&quot;ana&quot;}");
        let caches = browser.get("/ui/caches").await.is(200);
        row(&caches, "acme/pay/hot").has("data-live=\"n\">1<");
        browser
            .get("/ui/caches/acme/pay/hot")
            .await
            .is(200)
            .has("Declared as");
        let sessions = browser.get("/ui/sessions").await.is(200);
        sessions.has("invoices").has("quic").has("close_session");
        let metrics = browser.get("/ui/metrics?q=pinion_uptime").await.is(200);
        metrics.has("<code>pinion_uptime_seconds</code>");
        let tenants = until(&mut browser, "/ui/tenants", "acme").await;
        // One who said HELLO as one of this tenant.
        let acme = tenants
            .html
            .split("/ui/tenants/")
            .find(|part| part.starts_with("acme/"));
        // One namespace, and one connection.
        let ones = acme.unwrap().matches("<td class=\"n\">1</td>").count();
        assert!(ones >= 2, "{tenants:#?}");
        let overview = browser.get("/").await.is(200);
        overview
            .has("Dead letters in acme/pay/eu/jobs")
            .has("its data core answers");
        // One of three asks for nobody: a tenant has one stream.
        row(&overview, "domain-Streams-live").has("data-live=\"n\">3<");
        // One value was set: nothing that is told of it is large.
        let caches = row(&overview, "domain-Caches-live");
        assert!(!caches.html.contains("T/s"), "{caches:#?}");
    });
}

#[test]
fn lists_are_searched_sorted_and_told_in_parts() {
    tell(|place| async move {
        furnish(&place);
        let mut browser = Browser::of(&place.ops, OPERATOR).await;
        let found = browser.get("/ui/queues?q=jobs").await.is(200);
        found.has("eu/jobs").has("value=\"jobs\"");
        let none = browser.get("/ui/queues?q=nothing-like-it").await.is(200);
        none.has("No queue here");
        for (list, columns) in [
            ("streams", "name partitions records size in out readers"),
            ("queues", "name ready delayed in_flight dead oldest put ack"),
            ("caches", "name entries used budget hits get set evicted"),
            ("sessions", "session who core connected idle received sent"),
        ] {
            for column in columns.split(' ').chain(["no-such-column"]) {
                for dir in ["asc", "desc"] {
                    let path = format!("/ui/{list}?sort={column}&dir={dir}&page=0");
                    browser.get(&path).await.is(200).has("<p>1 of 1</p>");
                }
            }
            // What is beyond the end has nothing, and a way back.
            let beyond = browser.get(&format!("/ui/{list}?page=100")).await.is(200);
            assert!(!beyond.html.contains("<p>1 of 1</p>"), "{list}");
        }
    });
}

/// Headings that sort, as their page has them.
fn sorting(page: &Page) -> Vec<String> {
    let links = page.html.split("<th scope=\"col\"").skip(1);
    let link = |cell: &str| {
        let (cell, _) = cell.split_once("</th>")?;
        let (_, rest) = cell.split_once("<a href=\"")?;
        let (link, _) = rest.split_once('"')?;
        Some(link.replace("&amp;", "&"))
    };
    links.filter_map(link).collect()
}

#[test]
fn every_heading_that_sorts_says_so_when_it_was_followed() {
    tell(|place| async move {
        furnish(&place);
        let mut browser = Browser::of(&place.ops, OPERATOR).await;
        let mut followed = 0;
        for (name, path) in paths() {
            let page = browser.get(&path).await.is(200);
            for link in sorting(&page) {
                let sorted = browser.get(&format!("{path}{link}")).await.is(200);
                let dir = match link.contains("dir=desc") {
                    true => "aria-sort=\"descending\"",
                    false => "aria-sort=\"ascending\"",
                };
                let marks = sorted.html.matches("aria-sort=").count();
                assert_eq!(marks, 1, "{name}{link}");
                sorted.has(dir);
                // Followed again it turns round: it is this column that was marked.
                let turned = sorting(&sorted);
                assert!(!turned.contains(&link), "{name}{link}: {turned:?}");
                followed += 1;
            }
        }
        assert!(followed > 20, "{followed}");
    });
}

#[test]
fn what_is_kept_in_memory_is_nowhere_called_durable() {
    tell(|place| async move {
        furnish(&place);
        // One of each that is declared and that no core has.
        for (plural, name) in [("streams", "kept"), ("queues", "kept")] {
            let wanted = json!({
                "name": name,
                "spec": { "shards": 1, "durability": "durable" },
                "placement": { "pinned": "n1" },
            });
            let path = format!("/v1/tenants/acme/namespaces/pay/{plural}");
            place.ops.post(&path, wanted).await.is(201);
        }
        let (durable, live) = ("<td class=\"d\">durable</td>", "<td class=\"l\">live</td>");
        let mut browser = Browser::of(&place.ops, OPERATOR).await;
        for (list, memory) in [("streams", "orders"), ("queues", "eu%2Fjobs")] {
            let page = until(&mut browser, &format!("/ui/{list}"), "acme/pay/kept").await;
            row(&page, "acme/pay/kept").has(durable);
            row(&page, &format!("acme/pay/{memory}")).has(live);
        }
        // They are gathered together: who knows of the records knows of the rest.
        let overview = until(&mut browser, "/", "data-live=\"n\">3<").await;
        for (domain, items) in [("Streams", 3), ("Queues", 3), ("Caches", 1)] {
            let row = row(&overview, &format!("domain-{domain}-live"));
            row.has(live).has(&format!("data-live=\"n\">{items}<"));
            row.has("data-live=\"r\">1<");
        }
        for domain in ["Streams", "Queues"] {
            let row = row(&overview, &format!("domain-{domain}-durable"));
            row.has(durable).has("data-live=\"n\">0<");
            row.has("data-live=\"r\">1<");
        }
        assert!(!overview.html.contains("domain-Caches-durable"));
        // Of one that is in memory nothing is durable but what it was declared to be.
        let letters = browser.get(LETTERS).await.is(200);
        letters.has("<span class=\"kind live\">");
        for (path, marks) in [("/ui/streams/acme/pay/orders", 3), (QUEUE, 7)] {
            let page = browser.get(path).await.is(200);
            assert!(!page.html.contains("class=\"k durable\""), "{page:#?}");
            let live = page.html.matches("class=\"k live\"").count();
            assert!(live > marks, "{path}: {live}");
        }
        let kept = browser.get("/ui/streams/acme/pay/kept").await.is(200);
        kept.has("Declared as");
        for query in [
            "tenant=acme&queue=pay/eu/jobs&replay_dead_letter=0/0",
            "operation=redrive_dead_letters&target=pay/eu/jobs&tenant=acme",
        ] {
            let confirm = browser.confirm(query).await.is(200);
            confirm.has("<span class=\"kind live\">");
            assert!(!confirm.html.contains("kind durable"), "{query}");
        }
    });
}

#[test]
fn the_overview_draws_what_publishes_took() {
    tell(|place| async move {
        furnish(&place);
        let mut browser = Browser::of(&place.ops, OPERATOR).await;
        let overview = until(&mut browser, "/", "Publish, p99</h3>").await;
        let tile = |page: &Page| {
            let (_, rest) = page.html.split_once("data-row=\"latency\"").unwrap();
            rest.split_once("</p></div>").unwrap().0.to_owned()
        };
        assert!(
            tile(&overview).contains("the line goes by seconds"),
            "{overview:#?}"
        );
        let drawn = until(&mut browser, "/", "<title id=\"ctile-latencyt\">").await;
        let tile = tile(&drawn);
        assert!(
            tile.contains("role=\"img\"") && tile.contains("<desc"),
            "{tile}"
        );
        // And as a table for whoever does not see it.
        drawn.has("<th scope=\"col\" class=\"n\">Publish, p99</th>");
    });
}

#[test]
fn the_logs_of_the_control_plane_are_on_the_storage_page() {
    tell(|place| async move {
        let mut browser = Browser::of(&place.ops, OPERATOR).await;
        let page = browser.get("/ui/storage").await.is(200);
        for log in ["metadata", "audit"] {
            let row = row(&page, log);
            row.has("<small>control</small>").has("running");
            // What was made before is in both of them.
            for (cell, what) in [("s", "segments"), ("b", "bytes"), ("r", "records")] {
                assert!(
                    !row.html.contains(&format!("data-live=\"{cell}\">0<")),
                    "{what}: {row:#?}"
                );
                row.has(&format!("data-live=\"{cell}\">"));
            }
        }
        page.has("logs of the control plane").has("timed as one");
        assert!(!page.html.contains("No log is open"));
    });
}

#[test]
fn what_is_not_there_or_not_theirs_is_not_found() {
    tell(|place| async move {
        furnish(&place);
        let mut ops = Browser::of(&place.ops, OPERATOR).await;
        for path in [
            "/ui/streams/acme/pay/nothing",
            "/ui/streams/nobody/pay/orders",
            "/ui/queues/acme/pay/orders",
            "/ui/caches/acme/pay/cold",
            "/ui/in-flight/acme/pay/nothing",
            "/ui/dead-letters/acme/pay/nothing",
            "/ui/streams/acme/pay/%2e%2e",
        ] {
            ops.get(path).await.is(404).has("Not here");
        }
        for (role, status) in [("other tenant", 404), ("everything", 200)] {
            let at = ROLES.iter().position(|one| one.name == role).unwrap();
            let number = u8::try_from(at).unwrap() + 1;
            let token = key(&place.plane, number, &ROLES[at]).await;
            let mut browser = Browser::of(&place.ops, &token).await;
            for path in ["/ui/streams/acme/pay/orders", QUEUE, LETTERS] {
                browser.get(path).await.is(status);
            }
            let list = browser.get("/ui/streams").await.is(200);
            assert_eq!(
                list.html.contains("/ui/streams/acme/pay/orders"),
                status == 200,
                "{role}"
            );
            // Of the node itself a tenant is shown nothing.
            let overview = match status {
                200 => until(&mut browser, "/", "Dead letters in").await,
                _ => browser.get("/").await.is(200),
            };
            assert!(!overview.html.contains("id=\"cores\""), "{role}");
            let tells = overview.html.contains("Dead letters in");
            assert_eq!(tells, status == 200, "{role}");
            for path in ["/ui/storage", "/ui/metrics", "/ui/latency"] {
                browser.get(path).await.is(403);
            }
        }
    });
}

#[test]
fn a_dead_letter_is_replayed_or_purged_from_its_confirm_page() {
    tell(|place| async move {
        place.put(0, &["one", "two"]);
        let first = place.kill(0, "timeout");
        let second = place.kill(0, "timeout");
        let mut browser = Browser::of(&place.ops, OPERATOR).await;
        let of = |word: &str, id: u64| format!("tenant=acme&queue=pay/eu/jobs&{word}=0/{id}");
        let confirm = browser
            .confirm(&of("replay_dead_letter", first))
            .await
            .is(200);
        confirm.has("Replay dead letter?").has("timeout").has("one");
        let row = format!("queue:acme/pay/eu/jobs family=0 message={first} confirmed");
        confirm.has(&row);
        assert_eq!(dead(&place), 2, "a page before it does nothing");
        let done = browser.perform(&confirm, &[]).await.is(303);
        assert_eq!(done.header("location"), LETTERS);
        browser.get(LETTERS).await.is(200).has("is ready again");
        assert_eq!(dead(&place), 1);
        // The same form again is refused, and nothing happens.
        browser.perform(&confirm, &[]).await.is(409);
        kept(&place.ops, 0, &confirm.promised()).await;
        let gone = browser.confirm(&of("replay_dead_letter", first)).await;
        gone.is(404);
        // What nothing brings back must be typed.
        let confirm = browser
            .confirm(&of("purge_dead_letter", second))
            .await
            .is(200);
        browser.perform(&confirm, &[("typed", "no")]).await.is(400);
        assert_eq!(dead(&place), 1);
        let confirm = browser
            .confirm(&of("purge_dead_letter", second))
            .await
            .is(200);
        let typed = format!("0/{second}");
        browser
            .perform(&confirm, &[("typed", &typed)])
            .await
            .is(303);
        assert_eq!(dead(&place), 0);
        kept(&place.ops, 0, &confirm.promised()).await;
        let audit = browser.get("/ui/audit").await.is(200);
        audit.has("queue.replay").has("queue.delete_letter");
        // Of a group that is not the default one.
        place.put(1, &["three"]);
        let third = place.kill_of(1, "archive", "timeout");
        let query = format!("tenant=acme&queue=pay/eu/jobs&replay_dead_letter=1/{third}@archive");
        let confirm = browser.confirm(&query).await.is(200);
        let before = rows(&place.ops, "queue.replay").await.len();
        browser.perform(&confirm, &[]).await.is(303);
        let promised = confirm.promised();
        assert!(promised.1[0].contains(" group=archive "), "{promised:?}");
        kept(&place.ops, before, &promised).await;
    });
}

#[test]
fn what_is_deleted_is_listed_until_its_data_goes_and_taken_back_from_its_page() {
    tell(|place| async move {
        let mut browser = Browser::of(&place.ops, OPERATOR).await;
        for (list, domain, word, name) in [
            ("streams", "stream/streams", "stream", "orders"),
            ("queues", "queue/queues", "queue", "eu/jobs"),
            ("caches", "cache/caches", "cache", "hot"),
        ] {
            let page = format!("/ui/{list}/acme/pay/{name}");
            let there = browser.get(&page).await.is(200);
            there.has("Delete…");
            assert!(!there.html.contains("Take back…"), "{page}");
            let restore = format!("operation=restore_{word}&target=pay/{name}&tenant=acme");
            browser.confirm(&restore).await.is(404);

            let delete = format!("operation=delete_{word}&target=pay/{name}&tenant=acme");
            let form = browser.confirm(&delete).await.is(200);
            let typed = format!("pay/{name}");
            let written = [("typed", &*typed), ("force", "yes")];
            browser.perform(&form, &written).await.is(303);
            let listed = until(&mut browser, &format!("/ui/{list}"), "goes in").await;
            let key = format!("acme/pay/{}", name.replace('/', "%2F"));
            row(&listed, &key)
                .has("deleted")
                .has(&format!("restore_{word}"));
            let rows = place.ops.get(&format!("/api/v1/{domain}")).await.is(200);
            let deleting = &rows.body[list][0]["deleting"];
            assert!(deleting["since"].is_string(), "{rows:#?}");
            assert!(deleting["purge_at"].is_string(), "{rows:#?}");
            // By whom is in the audit log, whose rows come a moment later.
            let by = "<dt>By</dt><dd><code>config:ops</code>";
            let deleted = until(&mut browser, &page, by).await;
            deleted.has("Data goes from").has("Take back…");
            assert!(!deleted.html.contains("Delete…"), "{page}");

            let form = browser.confirm(&restore).await.is(200);
            form.has("is there again").has("undelete");
            let done = browser.perform(&form, &[]).await.is(303);
            assert_eq!(done.header("location"), page);
            let back = until(&mut browser, &page, "Delete…").await;
            assert!(!back.html.contains("Take back…"), "{page}");
            browser.confirm(&restore).await.is(404);
        }
        let audit = browser.get("/ui/audit?operation=undelete").await.is(200);
        audit
            .has("stream/acme/pay/orders")
            .has("cache/acme/pay/hot");
        // What went with something else is taken back there.
        let namespace = "/v1/tenants/acme/namespaces/pay?force=true";
        place.ops.delete(namespace).await.is(202);
        let page = "/ui/streams/acme/pay/orders";
        let with = "<dt>With</dt><dd><code>namespace/acme/pay</code>";
        let deleted = until(&mut browser, page, with).await;
        deleted.has("href=\"/ui/tenants/acme/namespaces\"");
        assert!(!deleted.html.contains("Take back…"), "{deleted:#?}");
        let restore = "operation=restore_stream&target=pay/orders&tenant=acme";
        browser.confirm(restore).await.is(409);
        let of = browser.get("/ui/tenants/acme/namespaces").await.is(200);
        of.has("goes in").has("restore_namespace");
    });
}

#[test]
fn a_redrive_is_of_every_partition_and_group_and_says_what_it_did() {
    tell(|place| async move {
        place.put(0, &["a"]);
        place.put(1, &["one", "two"]);
        place.kill(0, "timeout");
        place.kill(1, "timeout");
        place.kill(1, "no such user");
        place.kill_of(1, "archive", "timeout");
        let all = dead(&place);
        assert_eq!(all, 4);
        let mut browser = Browser::of(&place.ops, OPERATOR).await;
        let query = "operation=redrive_dead_letters&target=pay/eu/jobs&tenant=acme";
        let queue = "queue:acme/pay/eu/jobs";
        let confirm = browser.confirm(query).await.is(200);
        let every = ["family=0", "family=1", "family=1 group=archive"];
        let every = every.map(|one| format!("{queue} {one} confirmed"));
        assert_eq!(confirm.promised(), ("queue.redrive".into(), every.to_vec()));
        let wrong = [("family", "none")];
        browser.perform(&confirm, &wrong).await.is(400);
        // What is filled in is shown before it is done.
        for (filled, target) in [
            ([("family", "1"), ("group", "*"), ("rate", "7")], None),
            ([("family", "*"), ("group", "archive"), ("rate", "0")], None),
            (
                [("family", "1"), ("group", ""), ("rate", "0")],
                Some(format!("{queue} family=1 confirmed")),
            ),
        ] {
            let confirm = browser.confirm(query).await.is(200);
            let again = browser.perform(&confirm, &filled).await.is(200);
            again.has("Nothing was done yet.");
            for (name, value) in filled {
                again.has(&format!("name=\"{name}\" value=\"{value}\""));
            }
            assert_eq!(dead(&place), all);
            let promised = again.promised();
            let Some(target) = target else {
                let rate = promised.1.iter().all(|one| one.contains(" rate=7 "));
                let group = promised.1.iter().all(|one| one.contains(" group=archive "));
                assert!(rate || group, "{promised:?}");
                continue;
            };
            assert_eq!(promised.1, [target]);
            browser.perform(&again, &filled).await.is(303);
            kept(&place.ops, 0, &promised).await;
            let told = browser.get(LETTERS).await.is(200);
            told.has("2 dead letters of pay/eu/jobs are being given back (partition 1: 2).");
        }
        assert_eq!(dead(&place), all - 2);
        // All that are left, whose error begins so.
        let matching = format!("{query}&q=time");
        let confirm = browser.confirm(&matching).await.is(200);
        let before = rows(&place.ops, "queue.redrive").await.len();
        browser.perform(&confirm, &[]).await.is(303);
        let promised = confirm.promised();
        assert_eq!(promised.1.len(), 2);
        assert!(
            promised.1[0].ends_with(" family=0 error=time confirmed"),
            "{promised:?}"
        );
        kept(&place.ops, before, &promised).await;
        let told = browser.get(LETTERS).await.is(200);
        told.has("(partition 0: 1; partition 1, group archive: 1).");
        assert_eq!(dead(&place), 0);
        // Nothing is left: no row is promised and none is written.
        let confirm = browser.confirm(query).await.is(200);
        confirm.has("no row is written");
        browser.perform(&confirm, &[]).await.is(303);
        let told = browser.get(LETTERS).await.is(200);
        told.has("pay/eu/jobs has no dead letter to give back.");
        assert_eq!(rows(&place.ops, "queue.redrive").await.len(), before + 4);
    });
}

#[test]
fn a_connection_is_closed_from_its_confirm_page_and_recorded() {
    tell(|place| async move {
        place.data.connect(0, CLIENT);
        let mut browser = Browser::of(&place.ops, OPERATOR).await;
        let sessions = until(&mut browser, "/ui/sessions", "target=").await;
        let (_, rest) = sessions.html.split_once("target=").unwrap();
        let (id, _) = rest.split_once('"').unwrap();
        let query = format!("operation=close_session&target={id}");
        let confirm = browser.confirm(&query).await.is(200);
        confirm.has("invoices");
        let promised = confirm.promised();
        assert!(
            promised.1[0].contains(" principal=invoices"),
            "{promised:?}"
        );
        browser.perform(&confirm, &[]).await.is(303);
        assert_eq!(place.data.closed(), [0]);
        kept(&place.ops, 0, &promised).await;
    });
}

#[test]
fn the_audit_log_is_read_back_page_by_page_and_a_search_looks_further() {
    tell(|place| async move {
        let many = 170;
        let create = async |number: usize| {
            let name = json!({ "name": format!("n{number:03}") });
            let path = "/v1/tenants/acme/namespaces";
            place.ops.post(path, name).await.is(201);
        };
        for number in 0..many {
            create(number).await;
        }
        let mut browser = Browser::of(&place.ops, OPERATOR).await;
        let of = |number: usize| format!("acme/n{number:03}");
        until(&mut browser, "/ui/audit", &of(many - 1)).await;
        // Page after page to the first row: each is there once, the newest first.
        let mut found: Vec<String> = Vec::new();
        let (mut page, mut pages) = (browser.get("/ui/audit").await.is(200), 1);
        loop {
            let rows = page.html.lines().filter(|line| line.starts_with("<tr><td"));
            let name = |row: &str| Some(row[row.find("acme/n")?..][..9].to_owned());
            found.extend(rows.filter_map(name));
            let Some((before, _)) = page.html.split_once("\">Next</a>") else {
                break;
            };
            let (_, link) = before.rsplit_once("href=\"").unwrap();
            let link = link.replace("&amp;", "&");
            page = browser.get(&format!("/ui/audit{link}")).await.is(200);
            pages += 1;
        }
        let wanted: Vec<String> = (0..many).rev().map(of).collect();
        assert_eq!(found, wanted);
        assert!(pages > many / ROWS_MAX, "{pages}");
        // A search finds what no first look would.
        let rare = browser.get("/ui/audit?q=n001").await.is(200);
        rare.has(&of(1));
        assert!(!rare.html.contains(&of(2)));
    });
}

/// A page, once it has something: its numbers may be a second old.
async fn until(browser: &mut Browser, path: &str, text: &str) -> Page {
    let begun = Instant::now();
    loop {
        let page = browser.get(path).await.is(200);
        if page.html.contains(text) {
            return page;
        }
        assert!(begun.elapsed() < PATIENCE, "no {text:?} in {page:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Dead letters of the queue, as the core has them at this moment.
fn dead(place: &Place) -> u64 {
    let info = |partition| {
        let asked = Request::QueueInfo(pinion_wire::message::QueueInfo {
            handle: pinion_wire::message::Handle(0),
            partition: pinion_types::PartitionId(partition),
        });
        let frame = place.data.ask(place.jobs, partition, &asked);
        let pinion_wire::message::Reply::QueueStatus(status) = crate::support::data::reply(&frame)
        else {
            panic!("no counts");
        };
        status.groups.iter().map(|group| group.dead).sum::<u64>()
    };
    info(0) + info(1)
}

/// The row of a table that belongs to something.
fn row(page: &Page, key: &str) -> Page {
    let mark = format!("data-row=\"{key}\"");
    let (_, rest) = page
        .html
        .split_once(&mark)
        .unwrap_or_else(|| panic!("no row {key} in {page:#?}"));
    let (row, _) = rest.split_once("</tr>").unwrap();
    Page {
        status: page.status,
        headers: page.headers.clone(),
        html: row.to_owned(),
    }
}
