//! What routes take that list much.

use std::thread::sleep;
use std::time::{Duration, Instant};

use pinion_cli::bench::latency::Latency;
use pinion_cli::bench::measure::BenchError;
use pinion_cli::bench::target::NAMESPACE;

use super::https::Https;
use super::pages::{CONTROL, browser};
use super::place::TENANT;
use super::{Found, Stage};

pub(super) const NOTE: &str = "Half of them are streams, half queues, one partition each with a record or a message. One connection with TLS, one request after the other; the time is that of the client. \
     \"First\" is a request after nobody has looked for a while: a page of names waits until the data core has told of what is on it, one in the order of a number until it has told of every partition of that kind; \
     \"later\" comes more than a second after the one before it, the others within the second. Lists of the metadata read what is decided, so their token is that of the last page but one.";

const TIME_MAX_MS: f64 = 50.0;

/// Longer than it is gathered for somebody who looked: whoever comes now waits for the core.
const FIRST: Duration = Duration::from_millis(7_500);

/// What somebody looks at first: one that is a page of names, and one for which everything must
/// be known.
const FIRSTS: [&str; 2] = ["streams, first page", "dashboard: streams, largest first"];

/// More than a second: nothing is told from before.
const LATER: Duration = Duration::from_millis(1_050);

/// From one request to the next otherwise: below what one principal may ask.
const EVERY: Duration = Duration::from_millis(7);

/// Largest page that there is.
const PAGE: usize = 1_000;

/// A route, and whether a browser asks for it.
struct Route {
    what: &'static str,
    path: String,
    page: bool,
}

/// Who asks.
struct Clients {
    operator: Https,
    browser: Https,
}

impl Clients {
    /// How long one request takes, nanoseconds.
    fn took(&mut self, route: &Route) -> Result<u64, BenchError> {
        let client = if route.page {
            &mut self.browser
        } else {
            &mut self.operator
        };
        Ok(super::nanos(client.get(&route.path)?.took))
    }
}

fn route(what: &'static str, path: String) -> Route {
    Route {
        what,
        path,
        page: false,
    }
}

pub(super) fn play(stage: &Stage<'_>, found: &mut Found) -> Result<(), BenchError> {
    let place = stage.start()?;
    let total = stage.sizes.resources;
    let began = Instant::now();
    stage.declare(&place, total)?;
    let took = began.elapsed().as_secs_f64();
    found.told(
        format!("declaring {total} and putting something in each"),
        "s",
        vec![took],
    );
    let mut clients = Clients {
        operator: place.operator()?,
        browser: browser(&place.door)?,
    };
    let token = last_page(&mut clients.operator)?;
    let deep = total / 2 - 100;
    let of_tenant = format!("/v1/tenants/{TENANT}/namespaces/{NAMESPACE}/streams");
    let routes = [
        route(FIRSTS[0], "/api/v1/stream/streams?limit=100".to_owned()),
        route(
            "streams, last page",
            format!("/api/v1/stream/streams?limit=100&offset={deep}"),
        ),
        route(
            "streams, a part of the name",
            "/api/v1/stream/streams?limit=100&q=0999".to_owned(),
        ),
        route(
            "queues, last page of 1,000",
            format!(
                "/api/v1/queue/queues?limit={PAGE}&offset={}",
                total / 2 - PAGE
            ),
        ),
        route(
            "streams of an area, last page",
            format!(
                "/api/v1/stream/realms/{TENANT}/areas/{NAMESPACE}/resources?limit=100&offset={deep}"
            ),
        ),
        route("search over all kinds", "/api/v1/search?q=0999".to_owned()),
        route("troubleshooting", "/api/v1/troubleshooting".to_owned()),
        route(
            "metadata: streams, first page",
            format!("{of_tenant}?page_size=100"),
        ),
        route(
            "metadata: streams, last page",
            format!("{of_tenant}?page_size=100&page_token={token}"),
        ),
        route(
            "metadata: streams, a part of the name",
            format!("{of_tenant}?page_size=100&filter=0999"),
        ),
        route(
            "metadata: a part that no name has",
            format!("{of_tenant}?page_size=100&filter=nowhere"),
        ),
        route(
            "metadata: placements, first page",
            "/v1/placements?page_size=100".to_owned(),
        ),
        Route {
            what: FIRSTS[1],
            path: "/ui/streams?sort=size&dir=desc".to_owned(),
            page: true,
        },
        Route {
            what: "dashboard: queues, last page",
            path: format!("/ui/queues?page={}", total / 200),
            page: true,
        },
    ];
    for route in routes.iter().filter(|route| FIRSTS.contains(&route.what)) {
        let mut first = Latency::default();
        for _ in 0..stage.sizes.later {
            sleep(FIRST);
            first.record(clients.took(route)?);
        }
        let (first, what) = (first.summary(), route.what);
        found.held(
            format!("{what}, first look, p50 of {}", first.count),
            "ms",
            vec![first.p50_us / 1e3],
            TIME_MAX_MS,
        );
        found.told("the longest of them", "ms", vec![first.max_us / 1e3]);
    }
    let mut later: Vec<Latency> = routes.iter().map(|_| Latency::default()).collect();
    let mut soon = later.clone();
    let mut control = Latency::default();
    for _ in 0..stage.sizes.later {
        for (route, into) in routes.iter().zip(&mut later) {
            sleep(LATER);
            into.record(clients.took(route)?);
        }
    }
    for _ in 0..stage.sizes.soon {
        for (route, into) in routes.iter().zip(&mut soon) {
            sleep(EVERY);
            into.record(clients.took(route)?);
        }
        control.record(super::nanos(clients.operator.get(CONTROL)?.took));
    }
    let control = control.summary();
    found.told(
        format!("{CONTROL}: the control, p50"),
        "ms",
        vec![control.p50_us / 1e3],
    );
    for ((route, soon), later) in routes.iter().zip(&soon).zip(&later) {
        let (soon, later) = (soon.summary(), later.summary());
        let what = route.what;
        found.told(
            format!("{what}, p50 of {}", soon.count),
            "ms",
            vec![soon.p50_us / 1e3],
        );
        found.held(
            format!("{what}, p99"),
            "ms",
            vec![soon.p99_us / 1e3],
            TIME_MAX_MS,
        );
        found.held(
            format!("{what}, longest of {} later", later.count),
            "ms",
            vec![later.max_us / 1e3],
            TIME_MAX_MS,
        );
    }
    Ok(())
}

/// The token of the last page but one.
fn last_page(operator: &mut Https) -> Result<String, BenchError> {
    let path = format!("/v1/tenants/{TENANT}/namespaces/{NAMESPACE}/streams?page_size={PAGE}");
    let mut token = String::new();
    loop {
        let query = match token.is_empty() {
            true => path.clone(),
            false => format!("{path}&page_token={token}"),
        };
        let answer = operator.json(&query)?;
        sleep(EVERY);
        match answer["next_page_token"].as_str() {
            Some(next) if !next.is_empty() => token = next.to_owned(),
            _ => return Ok(token),
        }
    }
}
