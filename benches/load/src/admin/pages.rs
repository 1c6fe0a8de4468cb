//! What the dashboard's pages take.

use std::thread::sleep;
use std::time::{Duration, Instant};

use pinion_admin_ui::assets::ASSETS;
use pinion_admin_ui::links::{ROUTES, actions};
use pinion_cli::bench::latency::Latency;
use pinion_cli::bench::measure::BenchError;
use pinion_cli::bench::target::NAMESPACE;

use super::https::{Body, Https};
use super::place::{Door, TENANT};
use super::{Found, Stage, nanos};
use crate::scale::name_of_many;

pub(super) const NOTE: &str = "One connection with TLS 1.3 that stays, one request after the other. The time of the server is what the node says in Server-Timing: \
     from the head of the request to the whole answer. That of the client is from the first byte sent to the last one taken, so it has the network of this \
     machine, TLS and the client's share of the processor in it; both have the turns of the data plane's client in them, which goes first on that processor. \
     Requests are 7 ms apart, below what one principal may ask, pages and the control in turns, and 500 requests for data a second are made meanwhile. \
     The data core is asked a little more often than once a second; no request waits for it. \
     Bytes are those of the answer as it is sent, before TLS, with its head; what a browser loads for a page that it has never seen is the page and all files.";

/// What a page may take, and its bytes with all files.
const TIME_MAX_MS: f64 = 5.0;
const BYTES_MAX_KB: f64 = 60.0;

/// From one request to the next: below the 200 a second that one may ask.
const EVERY: Duration = Duration::from_millis(7);

/// A route that takes nothing and asks nobody.
pub(super) const CONTROL: &str = "/livez";

/// What browsers say that they take.
const ENCODINGS: &str = "gzip, deflate, br, zstd";

/// Every page that there is, about something that there is.
fn paths() -> Vec<(&'static str, String)> {
    let of = |(name, route): (&'static str, &str)| {
        let resource = match name {
            "stream" => name_of_many(0),
            "queue" | "in_flight" | "dead_letters" => name_of_many(1),
            _ => "beside".to_owned(),
        };
        let path = route.replace("{tenant}", TENANT);
        let path = path.replace("{namespace}", NAMESPACE);
        (name, path.replace("{*name}", &resource))
    };
    ROUTES.into_iter().map(of).collect()
}

/// A browser that has logged in with the operator's token.
///
/// # Errors
/// The node does not let it in.
pub(super) fn browser(door: &Door) -> Result<Https, BenchError> {
    let mut browser = Https::connect(door)?;
    browser.say("Accept-Encoding", "identity");
    let form = browser.get(actions::LOGIN)?.answer;
    let page = String::from_utf8_lossy(&form.body).into_owned();
    let csrf = between(&page, "name=\"csrf\" value=\"", "\"");
    let cookie = cookie(&form.head);
    let (Some(csrf), Some(cookie)) = (csrf, cookie) else {
        return Err(BenchError::Options(
            "the page of the login has no form".to_owned(),
        ));
    };
    browser.say("Cookie", &cookie);
    browser.say("Origin", &format!("https://{}", door.address));
    let fields = format!("csrf={csrf}&token={}", door.token);
    let entered = browser.ask("POST", actions::LOGIN, Body::Form(&fields))?;
    let Some(session) = self::cookie(&entered.answer.head) else {
        return Err(BenchError::Options(format!(
            "the node answered {} to a login",
            entered.answer.status
        )));
    };
    let mut browser = Https::connect(door)?;
    browser.say("Cookie", &session);
    browser.say("Accept-Encoding", ENCODINGS);
    Ok(browser)
}

/// The first cookie that an answer sets.
fn cookie(head: &str) -> Option<String> {
    let lower = head.to_ascii_lowercase();
    let at = lower.find("\r\nset-cookie: ")? + "\r\nset-cookie: ".len();
    head[at..].split(['\r', ';']).next().map(str::to_owned)
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let at = text.find(before)? + before.len();
    text[at..].split(after).next()
}

/// Times and size of one page.
struct Page {
    name: &'static str,
    server: Latency,
    client: Latency,
    bytes: usize,
}

pub(super) fn play(stage: &Stage<'_>, found: &mut Found) -> Result<(), BenchError> {
    let place = stage.start()?;
    stage.declare(&place, stage.sizes.few)?;
    let traffic = stage.traffic(&place)?;
    let mut browser = browser(&place.door)?;
    let mut files = 0;
    for asset in ASSETS {
        files += browser.get(asset.path)?.bytes;
    }
    let mut control = Latency::default();
    let mut pages: Vec<Page> = Vec::new();
    for (name, path) in paths() {
        let page = browser.get(&path)?;
        pages.push(Page {
            name,
            server: Latency::default(),
            client: Latency::default(),
            bytes: page.bytes,
        });
    }
    let mut due = Instant::now();
    for _ in 0..stage.sizes.requests {
        for (page, (_, path)) in pages.iter_mut().zip(paths()) {
            sleep(due.saturating_duration_since(Instant::now()));
            due = due.max(Instant::now()) + EVERY;
            let asked = browser.get(&path)?;
            page.client.record(nanos(asked.took));
            let Some(server) = asked.server() else {
                return Err(BenchError::Options(format!(
                    "the node does not say how long {path} took it"
                )));
            };
            page.server.record(nanos(server));
            page.bytes = page.bytes.max(asked.bytes);
        }
        // Nobody has to say who they are for it, so it is counted by address: 20 a second.
        for _ in 0..2 {
            sleep(due.saturating_duration_since(Instant::now()));
            due = due.max(Instant::now()) + EVERY;
            control.record(nanos(browser.get(CONTROL)?.took));
        }
    }
    traffic.end()?;
    let control = control.summary();
    let what = format!("{CONTROL}: the control, of {}", control.count);
    found.told(format!("{what}, p50"), "ms", vec![control.p50_us / 1e3]);
    found.told("its p99", "ms", vec![control.p99_us / 1e3]);
    let each = stage.sizes.requests;
    for page in &pages {
        let (server, client) = (page.server.summary(), page.client.summary());
        let name = page.name;
        let held = [
            (format!("{name}, server, p50 of {each}"), server.p50_us),
            (format!("{name}, server, p99"), server.p99_us),
            (format!("{name}, client, p50"), client.p50_us),
        ];
        for (what, us) in held {
            found.held(what, "ms", vec![us / 1e3], TIME_MAX_MS);
        }
        let p99 = vec![client.p99_us / 1e3];
        found.told(format!("{name}, client, p99"), "ms", p99);
    }
    #[allow(clippy::cast_precision_loss, reason = "bytes of a page")]
    let kb = |bytes: usize| bytes as f64 / 1e3;
    found.told("style sheet, script and picture", "kB", vec![kb(files)]);
    for page in &pages {
        let name = page.name;
        found.told(format!("{name}, bytes"), "kB", vec![kb(page.bytes)]);
        let all = vec![kb(page.bytes + files)];
        found.held(format!("{name} with all files"), "kB", all, BYTES_MAX_KB);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_becomes_a_path_without_a_hole() {
        let all = paths();
        assert_eq!(all.len(), ROUTES.len());
        for (name, path) in all {
            assert!(!path.contains(['{', '}', '*']), "{name}: {path}");
        }
    }

    #[test]
    fn the_time_of_the_server_is_read() {
        let asked = |head: &str| super::super::https::Asked {
            answer: crate::answer::Answer {
                status: 200,
                head: head.to_owned(),
                body: Vec::new(),
            },
            bytes: 0,
            took: Duration::ZERO,
        };
        let head = "HTTP/1.1 200 OK\r\nServer-Timing: page;dur=1.250\r\nA: b\r\n\r\n";
        assert_eq!(asked(head).server(), Some(Duration::from_micros(1_250)));
        assert_eq!(asked("HTTP/1.1 200 OK\r\n\r\n").server(), None);
        let head = "HTTP/1.1 200 OK\r\nserver-timing: page;dur=-1\r\n\r\n";
        assert_eq!(asked(head).server(), None);
    }

    #[test]
    fn a_cookie_and_a_token_are_found() {
        let head = "HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nset-cookie: c=d\r\n\r\n";
        assert_eq!(cookie(head).as_deref(), Some("a=b"));
        assert_eq!(cookie("HTTP/1.1 200 OK\r\n\r\n"), None);
        let page = "<input name=\"csrf\" value=\"abc\">";
        assert_eq!(between(page, "value=\"", "\""), Some("abc"));
    }
}
