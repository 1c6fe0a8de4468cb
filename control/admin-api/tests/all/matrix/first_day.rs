//! The listener of first days: its secret is the only credential there, and nothing of it is
//! on the other listener.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use pinion_admin_api::first_day_routes;
use serde_json::json;

use super::{each_is_told, everybody};
use crate::http::Client;
use crate::roles::furnish;
use crate::support::town::{self, SECRET};

/// By what is shown, in the columns of the table of routes: nothing but what each has, a
/// guess, the secret; then the secret on the other listener.
const TABLE: &[(&str, [&str; 4])] = &[(
    "POST /internal/bootstrap/tenants/{t}/initialize",
    [
        "11111111111111",
        "11111111111111",
        "yyyyyyyyyyyyyy",
        "44444444444444",
    ],
)];

const HEADER: &str = "x-pinion-bootstrap-token";

#[test]
fn every_route_of_first_days_answers_everybody_as_the_table_says() {
    let mut table: BTreeMap<&str, [&str; 4]> = TABLE.iter().copied().collect();
    assert_eq!(table.len(), TABLE.len(), "each route once");
    let left = OnceLock::new();
    let leave = &left;
    let host = town::tell(|town| async move {
        furnish(&town.ops).await;
        let everybody = everybody(&town.ops, &town.plane).await;
        let (mut rows, mut refused, mut hidden) = (0, 0, 0);
        for route in first_day_routes() {
            let name = format!("{} {}", route.method.text(), route.path);
            let row = table.remove(name.as_str());
            let row = row.unwrap_or_else(|| panic!("{name} has no row in the table"));
            let path = route.path.replace("{t}", "acme");
            // Whoever is let in is told that nobody is to administer, and nothing is made.
            let body = json!({ "initial_admin_principals": ["nobody"] }).to_string();
            for (way, expected) in row.iter().enumerate() {
                assert_eq!(expected.len(), everybody.len(), "{name}");
                for ((who, client), expected) in everybody.iter().zip(expected.chars()) {
                    let address = match way {
                        3 => town.ops.address,
                        _ => town.first_days,
                    };
                    let client = Client {
                        address,
                        ..client.clone()
                    };
                    let client = match way {
                        0 => client,
                        1 => client.with(HEADER, "a guess"),
                        _ => client.with(HEADER, SECRET),
                    };
                    let method = route.method.text();
                    let status = client.raw(method, &path, Some(body.clone())).await.status;
                    let verdict = match status {
                        401 => '1',
                        403 => '3',
                        404 => '4',
                        400 => 'y',
                        other => panic!("{name} asked by {who}: {other}"),
                    };
                    assert_eq!(verdict, expected, "{name} asked by {who}: {status}");
                    rows += 1;
                    refused += usize::from(verdict == '1');
                    hidden += usize::from(verdict == '4');
                }
            }
        }
        assert!(table.is_empty(), "rows without a route: {table:?}");
        let all = refused + hidden;
        println!("authorisation matrix: {rows} rows of first days, {all} refused");
        leave.set((town.plane, refused)).unwrap();
    });
    each_is_told(host, &left);
}
