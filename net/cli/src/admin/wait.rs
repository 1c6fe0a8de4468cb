//! `--wait`: until every broker that is up has seen a change.
//!
//! An answer says that most members of the control plane have a change; the others follow within
//! moments. Each broker is asked itself, at the address that it registered with.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::list::{ListArgs, Pages};
use super::{BASE, Context};
use crate::failure::Failure;
use crate::http::Ask;
use crate::human;

/// Pause between two questions to one broker.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks until all have `version`, at most for `time`.
pub(super) async fn until_seen(
    context: &mut Context,
    version: u64,
    time: Duration,
) -> Result<(), Failure> {
    let end = Instant::now() + time;
    let args = ListArgs::default();
    let mut pages = Pages::new(Ask::get(&[BASE, "brokers"]), "brokers", &args);
    while let Some(page) = pages.next(&mut context.http, u64::MAX).await? {
        for broker in page.iter().filter(|broker| broker["status"] != "down") {
            one(context, broker, version, end, time).await?;
        }
    }
    Ok(())
}

async fn one(
    context: &Context,
    broker: &Value,
    version: u64,
    end: Instant,
    time: Duration,
) -> Result<(), Failure> {
    let name = broker["name"].as_str().unwrap_or("?");
    let Some(address) = broker["address"].as_str() else {
        return Err(Failure::Incomplete(format!("broker {name} has no address")));
    };
    let ask = Ask::get(&[BASE, "system", "info"]);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let why = if left.is_zero() {
            "it did not say so in time".to_owned()
        } else {
            let mut http = super::node::at(&context.http, address, left)?;
            match http.ask(&ask).await {
                Ok(answer) if answer.body["version"].as_u64() >= Some(version) => return Ok(()),
                Ok(_) => "it has an earlier one".to_owned(),
                Err(error) => error.to_string(),
            }
        };
        if Instant::now() + PAUSE >= end {
            let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            return Err(Failure::Incomplete(format!(
                "it is done as version {version}, and broker {name} at {address} has not shown it within {}: {why}",
                human::span(ms)
            )));
        }
        sleep(PAUSE).await;
    }
}
