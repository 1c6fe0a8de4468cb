//! Whoever shows a certificate of the clients' authority needs no token: what its id may, it
//! may, at the data plane as at the administrators' door.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use pinion_client::{Client, ClientConfig, ConnectError, ErrorCode, Record, RequestError};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use support::process::{Home, Node};
use support::run;

const ORDERS: &str = "spiffe://cluster.local/ns/shop/sa/orders";

struct Shop {
    dir: tempfile::TempDir,
    node: Node,
}

fn pinion(dir: &Path, words: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinion"));
    for (name, _) in std::env::vars() {
        if name.starts_with("PINION_") {
            command.env_remove(name);
        }
    }
    let output = command.current_dir(dir).args(words).output().unwrap();
    let said = [&output.stdout[..], &output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into(),
    )
}

/// A certificate of the authority in `pki` that names nobody.
fn certify_nobody(pki: &Path) {
    let key = std::fs::read_to_string(pki.join("client-ca.key")).unwrap();
    let mut authority = CertificateParams::default();
    authority.distinguished_name = rcgen::DistinguishedName::new();
    let name = "pinion clients of pinion";
    authority.distinguished_name.push(DnType::CommonName, name);
    let issuer = Issuer::new(authority, KeyPair::from_pem(&key).unwrap());
    let mut params = CertificateParams::new(vec!["orders.example".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(pki.join("nobody.pem"), certificate.pem()).unwrap();
    std::fs::write(pki.join("nobody.key"), key.serialize_pem()).unwrap();
}

impl Shop {
    fn open() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let certify = |words: &str| {
            let words: Vec<&str> = words.split(' ').collect();
            let (made, said) = pinion(dir.path(), &words);
            assert!(made, "{said}");
        };
        certify("cert ca --clients");
        certify("cert ca --clients --dir other");
        for (name, id) in [
            ("orders", ORDERS),
            ("ops", "spiffe://cluster.local/ops"),
            ("idle", "spiffe://cluster.local/ns/shop/sa/idle"),
            ("elsewhere", "spiffe://elsewhere/ns/shop/sa/orders"),
        ] {
            certify(&format!("cert client {name} --id {id}"));
        }
        certify(&format!("cert client orders --id {ORDERS} --dir other"));
        let pki = dir.path().join("pki");
        certify_nobody(&pki);
        let config = format!(
            "data_cores = [0]\n[storage]\nsegment_bytes = 4194304\n[tls]\nclient_ca = {:?}\n\
             [[tls.client]]\ntrust_domain = \"cluster.local\"\ntenant = \"default\"\n\
             operators = [\"spiffe://cluster.local/ops\"]\n",
            pki.join("client-ca.pem"),
        );
        let node = Home::new(dir.path(), &config, &[]).start(&[]);
        std::fs::write(dir.path().join("ca.pem"), node.ca()).unwrap();
        Self { dir, node }
    }

    fn file(&self, dir: &str, name: &str) -> PathBuf {
        self.dir.path().join(dir).join(name)
    }

    fn config(&self, dir: &str, name: &str) -> ClientConfig {
        let read = |ending| std::fs::read(self.file(dir, &format!("{name}.{ending}"))).unwrap();
        ClientConfig::new(self.node.address.to_string())
            .ca_pem(self.node.ca())
            .certificate_pem(read("pem"), read("key"))
    }

    /// Publishes one record, as whoever has that certificate and nothing else.
    async fn publish(&self, name: &str) -> Result<(), RequestError> {
        let client = Client::connect(self.config("pki", name)).await?;
        let stream = client.stream("shop/orders").await?;
        let publisher = stream.publisher(Default::default());
        let done = match publisher.publish(Record::new("one")).await {
            Ok(ticket) => ticket.await.map(|_| ()),
            Err(error) => Err(error),
        };
        client.close().await;
        done
    }

    /// A command for administrators, by certificate alone.
    fn admin(&self, certificate: Option<&str>, words: &str) -> (bool, String) {
        let address = self.node.address.to_string();
        let mut all = vec!["admin"];
        all.extend(words.split(' '));
        all.extend(["--server", &address, "--ca", "ca.pem"]);
        let files = certificate.map(|name| (format!("pki/{name}.pem"), format!("pki/{name}.key")));
        if let Some((pem, key)) = &files {
            all.extend(["--client-cert", pem, "--client-key", key]);
        }
        pinion(self.dir.path(), &all)
    }
}

#[test]
fn a_workload_does_what_its_id_may_and_nobody_else_gets_in() {
    let shop = Shop::open();
    // Whoever runs the cluster does so by certificate, too.
    let (done, said) = shop.admin(Some("ops"), "namespace create shop");
    assert!(done, "{said}");
    let (done, said) = shop.admin(Some("ops"), "stream create shop/orders");
    assert!(done, "{said}");
    let policy = format!("rbac policy add {ORDERS} stream.publish stream:default/shop/orders");
    let (done, said) = shop.admin(Some("ops"), &policy);
    assert!(done, "{said}");
    for (who, why) in [
        (None, "unauthenticated"),
        (Some("nobody"), "unauthenticated"),
        (Some("elsewhere"), "unauthenticated"),
        (Some("orders"), "forbidden"),
    ] {
        let (done, said) = shop.admin(who, "broker list");
        assert!(!done, "{who:?}: {said}");
        assert!(said.contains(why), "{who:?}: {said}");
    }

    run(async {
        // The policy was answered when it was decided; a core may hear of it a moment later.
        let began = std::time::Instant::now();
        while let Err(error) = shop.publish("orders").await {
            assert_eq!(error.code(), Some(ErrorCode::Forbidden), "{error}");
            assert!(began.elapsed().as_secs() < 10, "{error}");
        }
        let idle = shop.publish("idle").await.unwrap_err();
        assert_eq!(idle.code(), Some(ErrorCode::Forbidden), "{idle}");
        for who in ["elsewhere", "nobody"] {
            let refused = shop.publish(who).await.unwrap_err();
            assert_eq!(refused.code(), Some(ErrorCode::Unauthenticated), "{who}");
        }
        let stranger = Client::connect(shop.config("other", "orders")).await;
        let refused = stranger.unwrap_err();
        let by_tls = matches!(refused, ConnectError::Handshake { .. }) && !refused.is_transient();
        assert!(by_tls, "{refused}");
        // A token that is shown as well is what counts.
        let both = shop.config("pki", "idle").token(shop.node.token());
        let client = Client::connect(both).await.unwrap();
        client.stream("shop/orders").await.unwrap();
        client.close().await;
    });
    assert_eq!(shop.node.stop().code, 0);
}

#[test]
fn files_and_domains_that_make_no_sense_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("empty.pem");
    std::fs::write(&file, "").unwrap();
    let refused = |code: i32, tls: &str| {
        let ended = Home::new(dir.path(), &format!("data_cores = [0]\n{tls}"), &[]).refused();
        assert_eq!(ended.code, code, "{}", ended.said);
        ended.said
    };
    let client = "[[tls.client]]\ntrust_domain = \"d\"\ntenant = \"default\"\n";
    let said = refused(2, client);
    assert!(said.contains("tls.client_ca and [[tls.client]]"), "{said}");
    let said = refused(1, &format!("[tls]\nclient_ca = {file:?}\n{client}"));
    assert!(
        said.contains("empty.pem") && said.contains("pinion cert ca"),
        "{said}"
    );
}
