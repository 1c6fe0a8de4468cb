//! Every key can be said by the file and by a variable, and means the same.
#![allow(clippy::unwrap_used, clippy::result_large_err)] // figment's closure signature

use std::collections::BTreeMap;

use figment::Jail;
use serde_json::Value;

use super::documented::keys;
use super::{Config, Flags};

/// A value for every key, none of them the default. Tables that are lists are one key.
const ALL: &str = r#"
    listen = "127.0.0.1:7420"
    data_dir = "elsewhere"
    data_cores = [0, 1]
    control_core = 2
    placement = "shared"
    spin_us = 7
    steering = "forward"
    dev = true
    drain_timeout_ms = 1
    memory_bytes = 2
    [tls]
    cert = "node.pem"
    key = "node.key"
    client_ca = "clients.pem"
    client = [{ trust_domain = "cluster.local", tenant = "shop", operators = ["spiffe://cluster.local/ops"] }]
    [cluster]
    name = "shop"
    node = "n1"
    initial = ["n1=10.0.0.1:8080", "n2=10.0.0.2:8080"]
    ca = "ca.pem"
    cert = "n1.pem"
    key = "n1.key"
    advertise = "10.0.0.1:8080"
    observer = true
    region = "eu"
    zone = "a"
    [limits]
    connections_max = 3
    handshakes_max = 4
    retry_above = 5
    prefix_burst = 6
    prefix_rate = 7
    [defaults]
    stream_shards = 8
    stream_ring_bytes = 9
    stream_tail_bytes = 10
    queue_memory_bytes = 11
    cache_bytes = 12
    [storage]
    segment_bytes = 8388608
    checkpoint_every_bytes = 13
    [backup]
    bytes_per_second = 14
    time_max_s = 61
    held_bytes_max = 15
    [admin]
    enabled = false
    cleartext_on_loopback = true
    reads_per_second = 16
    writes_per_second = 17
    [auth]
    master_key_file = "master.key"
    token_life_s = 60
    idp_ca = "idp.pem"
    allow_addresses = ["10.0.0.0/8"]
    allow_http = true
    bootstrap_listen = "127.0.0.1:9"
    bootstrap_token_file = "secret"
    [dashboard]
    public_url = "https://pinion.shop.example"
    oidc = [{ id = "corp", label = "Corp", tenant = "shop", issuer = "https://id.shop.example", client_id = "pinion", client_secret_file = "client.secret", scopes = ["openid", "groups"] }]
    [heartbeat]
    interval_ms = 101
    missed = 4
    [deletion]
    grace_ms = 18
    [audit]
    keep_days = 19
    keep_bytes = 4194305
"#;

/// In a variable of this name the client commands look for their token, and secrets of a
/// node are no variables.
const OF_THE_FILE: &[&str] = &["token"];

/// The keys of a configuration and what they are, a table that is a list as one.
fn values(config: &Config) -> BTreeMap<String, Value> {
    let whole = serde_json::to_value(config).unwrap();
    let of = |key: &String| {
        let path = format!("/{}", key.replace('.', "/"));
        whole.pointer(&path).cloned().unwrap_or_default()
    };
    keys()
        .into_iter()
        .map(|key| (key.clone(), of(&key)))
        .collect()
}

/// As a variable has it.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(all) => {
            let all: Vec<String> = all.iter().map(nested).collect();
            format!("[{}]", all.join(", "))
        }
        value => value.to_string(),
    }
}

fn nested(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            // What is not said has no value to write.
            let said = fields.iter().filter(|(_, value)| !value.is_null());
            let fields: Vec<String> = said
                .map(|(name, value)| format!("{name}={}", nested(value)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(all) => {
            let all: Vec<String> = all.iter().map(nested).collect();
            format!("[{}]", all.join(", "))
        }
        value => value.to_string(),
    }
}

#[test]
fn every_key_is_said_by_a_variable_as_by_the_file() {
    let mut resource = "[[resource]]\nkind = \"queue\"\nname = \"a/b\"\nshards = 3\n".to_owned();
    resource.push_str("[resource.queue]\nmax_attempts = 2\n");
    let mut by_file = None;
    Jail::expect_with(|jail| {
        jail.create_file("p.toml", &format!("{ALL}\n{resource}"))?;
        let config = Some("p.toml".into());
        let flags = Flags {
            config,
            ..Flags::default()
        };
        by_file = Some(Config::load(&flags).unwrap());
        Ok(())
    });
    let by_file = values(&by_file.unwrap());
    let default = values(&Config::default());
    let same = by_file
        .iter()
        .filter(|(key, value)| default[*key] == **value);
    let same: Vec<&str> = same.map(|(key, _)| key.as_str()).collect();
    assert_eq!(same, OF_THE_FILE, "these say nothing here");
    Jail::expect_with(|jail| {
        for (key, value) in by_file.iter().filter(|(key, _)| *key != "token") {
            let name = format!("PINION_{}", key.replace('.', "__").to_uppercase());
            jail.set_env(name, text(value));
        }
        let by_variables = Config::load(&Flags::default()).unwrap();
        assert_eq!(values(&by_variables), by_file);
        Ok(())
    });
}
