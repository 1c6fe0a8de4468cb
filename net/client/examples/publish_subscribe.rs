//! Publishes ten records to a stream and reads them back.
//!
//! ```text
//! pinion serve --dev &
//! cargo run -p pinion-client --example publish_subscribe
//! ```

use pinion_client::{
    Client, ClientConfig, Event, PublisherOptions, Record, StartFrom, SubscribeOptions,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = ClientConfig::from_env_or_dev()?.name("publish_subscribe");
    let client = Client::connect(config).await?;
    let stream = client.stream("examples/greetings").await?;
    let mut subscription = stream
        .subscribe(SubscribeOptions {
            start: StartFrom::Latest,
            ..Default::default()
        })
        .await?;

    let publisher = stream.publisher(PublisherOptions::default());
    for i in 0..10 {
        let record = Record::new(format!("hello {i}")).key(format!("guest-{}", i % 3));
        let ticket = publisher.publish(record).await?;
        // Awaiting each ticket here would make every record a batch of its own.
        tokio::spawn(async move {
            match ticket.await {
                Ok(ack) => println!("stored: partition {} offset {}", ack.partition, ack.offset),
                Err(error) => eprintln!("{:?}: {error}", error.outcome()),
            }
        });
    }
    publisher.flush().await?;

    let mut received = 0;
    while received < 10 {
        match subscription.next().await {
            Some(Ok(Event::Record(record))) => {
                received += 1;
                println!("{record:?} {}", String::from_utf8_lossy(&record.value));
            }
            Some(Ok(other)) => println!("{other:?}"),
            Some(Err(error)) => return Err(error.into()),
            None => break,
        }
    }
    client.close().await;
    Ok(())
}
