//! Reads through a cache: of many callers that miss, one computes the value.
//!
//! ```text
//! pinion serve --dev &
//! cargo run -p pinion-client --example cache_aside
//! ```

use std::time::Duration;

use pinion_client::{
    Cache, Client, ClientConfig, Condition, LeaseOptions, Leased, RequestError, SetOptions,
};

async fn price(cache: &Cache, item: &str) -> Result<String, RequestError> {
    match cache.get_or_lease(item, LeaseOptions::default()).await? {
        Leased::Value(entry) => Ok(String::from_utf8_lossy(&entry.value).into_owned()),
        Leased::Fill { lease, .. } => {
            println!("{item}: computed by this caller");
            let value = format!("price of {item}");
            let options = SetOptions {
                ttl: Some(Duration::from_secs(30)),
                condition: Condition::Lease(lease),
            };
            cache.set_with(item, &value, options).await?;
            Ok(value)
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(ClientConfig::from_env_or_dev()?.name("cache_aside")).await?;
    let cache = client.cache("examples/prices").await?;
    let callers: Vec<_> = (0..5)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { price(&cache, "bolt").await })
        })
        .collect();
    for caller in callers {
        println!("{}", caller.await??);
    }
    let mut scan = cache.scan("");
    while let Some(page) = scan.next_page().await? {
        for entry in page {
            println!("{:?} version {}", entry.key, entry.version);
        }
    }
    client.close().await;
    Ok(())
}
