//! The route of backups: meant, recorded, one at a time, and let go with its client.

use http_body_util::BodyExt;
use hyper::body::Bytes;
use pinion_admin_api::{ApiConfig, BackupFront, BackupRefused, BackupStream, backup_front};
use serde_json::json;
use tokio::sync::mpsc;

use crate::http::{Client, config, tell_with};

/// Some bytes of an archive.
fn piece(byte: u8, len: usize) -> Bytes {
    vec![byte; len].into()
}

fn with_front() -> (ApiConfig, BackupFront) {
    let (backup, front) = backup_front();
    let config = ApiConfig { backup, ..config() };
    (config, front)
}

/// Rows about backups: what was asked for and what came of it.
async fn rows(ops: &Client) -> Vec<(String, String)> {
    let page = ops.get("/v1/audit?action=backup").await.is(200);
    let rows = page.body["rows"].as_array().unwrap().clone();
    let told = rows.iter().map(|row| {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        (text("target"), text("result"))
    });
    told.collect()
}

#[test]
fn an_archive_is_passed_on_as_it_is_made_and_has_a_row() {
    let (config, mut front) = with_front();
    tell_with(config, |ops, _| async move {
        let sure = ops.with("x-confirm", "true");
        ops.post("/v1/backup", json!({}))
            .await
            .refused(428, "confirmation_required");
        ops.with("x-confirm", "yes")
            .post("/v1/backup", json!({}))
            .await
            .refused(428, "confirmation_required");
        sure.post("/v1/backup", json!({ "all": true }))
            .await
            .refused(400, "unknown_field");
        assert_eq!(rows(&ops).await, []);

        let body = json!({ "secrets": true }).to_string();
        let asking = sure.send("POST", "/v1/backup", Some(body));
        let making = async {
            let ask = front.asked().await;
            assert!(ask.secrets);
            let (sender, pieces) = mpsc::channel(1);
            let stream = BackupStream {
                bytes: 300_000,
                name: "n1.tar".into(),
                pieces,
            };
            ask.answer.send(Ok(stream)).unwrap();
            sender
        };
        let (response, sender) = tokio::join!(asking, making);
        assert_eq!(response.status(), 200);
        let header = |name| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-length"), "300000");
        assert_eq!(header("content-type"), "application/x-tar");
        assert!(header("content-disposition").contains("n1.tar"));
        let sending = async move {
            for byte in 0..3 {
                sender.send(piece(byte, 100_000)).await.unwrap();
            }
        };
        let (collected, ()) = tokio::join!(response.into_body().collect(), sending);
        let bytes = collected.unwrap().to_bytes();
        assert_eq!((bytes.len(), bytes[0], bytes[299_999]), (300_000, 0, 2));
        let rows = rows(&ops).await;
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert!(rows[0].0.ends_with("with secrets"), "{rows:?}");
        assert_eq!(rows[0].1, "done");
    });
}

#[test]
fn what_is_refused_is_told_and_an_archive_that_ends_early_is_cut_off() {
    let (config, mut front) = with_front();
    tell_with(config, |ops, _| async move {
        let sure = ops.with("x-confirm", "TRUE");
        for (refused, status, code) in [
            (BackupRefused::Busy, 409, "backup_pending"),
            (BackupRefused::NotReady, 503, "not_ready"),
            (BackupRefused::Failed("no".into()), 503, "backup_failed"),
        ] {
            let answering = async {
                let ask = front.asked().await;
                assert!(!ask.secrets);
                ask.answer.send(Err(refused)).unwrap();
            };
            let asking = sure.post("/v1/backup", json!({}));
            let (answered, ()) = tokio::join!(asking, answering);
            answered.refused(status, code);
        }
        assert_eq!(rows(&ops).await.len(), 3, "each has its row");

        // Whoever makes it gives up in the middle.
        let asking = sure.send("POST", "/v1/backup", Some("{}".into()));
        let making = async {
            let (sender, pieces) = mpsc::channel(1);
            let stream = BackupStream {
                bytes: 300_000,
                name: String::from("a \"name\"\n"),
                pieces,
            };
            front.asked().await.answer.send(Ok(stream)).unwrap();
            sender
        };
        let (response, sender) = tokio::join!(asking, making);
        sender.send(piece(1, 1_000)).await.unwrap();
        drop(sender);
        response.into_body().collect().await.unwrap_err();
    });
}

#[test]
fn a_client_that_goes_is_noticed() {
    let (config, mut front) = with_front();
    tell_with(config, |ops, _| async move {
        let sure = ops.with("x-confirm", "true");
        let asking = sure.send("POST", "/v1/backup", Some("{}".into()));
        let making = async {
            let (sender, pieces) = mpsc::channel(1);
            let stream = BackupStream {
                bytes: u64::MAX / 2,
                name: "n1.tar".into(),
                pieces,
            };
            front.asked().await.answer.send(Ok(stream)).unwrap();
            sender
        };
        let (response, sender) = tokio::join!(asking, making);
        sender.send(piece(1, 1_000)).await.unwrap();
        drop(response);
        // Nobody takes it any more: whoever makes it is told by its channel.
        sender.closed().await;
    });
}
