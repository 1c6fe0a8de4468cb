//! The same from the command line.

use super::{CLIENT, tell};
use crate::commands::Shell;

/// Whether one of the lines of an object is this field with this value.
fn says(text: &str, field: &str, value: &str) -> bool {
    let mut lines = text.lines();
    lines.any(|line| line.split_whitespace().eq([field, value]))
}

#[test]
fn what_runs_is_seen_and_changed_by_commands() {
    tell(|place| async move {
        place.publish(0, &["a", "b"]);
        place.put(0, &["1", "2", "3", "4", "5"]);
        let dead: Vec<u64> = (0..4).map(|_| place.kill(0, "no such user")).collect();
        place.take(0);
        place.set("k");
        place.data.connect(0, CLIENT);
        place.look_anew().await;
        let shell = Shell::new(place.ops.address);
        let run = async |line: &str| shell.run(&format!("{line} --tenant acme")).await;

        let streams = run("streams").await;
        assert!(
            streams.contains("\nacme            pay             orders "),
            "{streams}"
        );
        let orders = run("streams --resource pay/orders").await;
        assert!(says(&orders, "watermark", "2"), "{orders}");
        assert_eq!(
            run("streams --resource pay/orders --readers").await,
            "none\n"
        );
        assert_eq!(
            run("streams --resource pay/orders --cursors").await,
            "none\n"
        );
        let queues = shell.json("queues --tenant acme").await;
        assert_eq!(queues["messages_dead_lettered"], 4);
        assert!(
            run("queues --resource pay/eu/jobs --why")
                .await
                .contains("all_in_flight")
        );
        let groups = run("queues --resource pay/eu/jobs --groups").await;
        assert!(says(&groups, "messages_inflight", "1"), "{groups}");
        assert_eq!(
            shell.json("caches --resource pay/hot --tenant acme").await["keys_total"],
            1
        );
        let reserved = run("inflight --resource pay/eu/jobs").await;
        assert_eq!(reserved.lines().count(), 2, "{reserved}");
        assert_eq!(run("inflight").await.lines().count(), 2);
        assert!(run("stats").await.contains("streams_active"));
        assert!(
            run("stats --domain queue")
                .await
                .contains("messages_pending")
        );
        let found = run("search eu/jo").await;
        assert!(
            found.contains("queue      acme            pay             eu/jobs"),
            "{found}"
        );
        assert!(run("topology").await.contains("n1"));
        let storage = run("storage").await;
        assert!(says(&storage, "logs", "-"), "{storage}");
        assert!(run("troubleshoot").await.contains("dead_letters"));

        let listed = run("dlq list pay/eu/jobs --error no").await;
        assert_eq!(listed.lines().count(), 1 + dead.len(), "{listed}");
        assert!(listed.contains(" failed         no such user"), "{listed}");
        let one = format!("pay/eu/jobs {} --family 0", dead[0]);
        let said = run(&format!("dlq replay {one}")).await;
        let named = format!("dead letter {} of pay/eu/jobs#0", dead[0]);
        assert_eq!(said, format!("{named}: ready again\n"));
        let refused = shell
            .fails(&format!("dlq replay {one} --tenant acme"))
            .await;
        assert!(refused.contains("(not_found)"), "{refused}");
        run(&format!(
            "dlq delete pay/eu/jobs {} --family 0 --yes",
            dead[1]
        ))
        .await;
        let limited = run("dlq list pay/eu/jobs --limit 1").await;
        assert_eq!(limited.lines().count(), 2, "{limited}");
        let said = run("dlq redrive pay/eu/jobs --family 0 --error x --yes").await;
        assert_eq!(
            said,
            "dead letters of pay/eu/jobs#0: 0 become ready again\n"
        );
        let said = run("dlq purge pay/eu/jobs --family 0 --yes").await;
        assert_eq!(said, "dead letters of pay/eu/jobs#0: 2 are deleted\n");
        let refused = shell
            .fails("dlq purge pay/eu/jobs --family 0 --tenant acme")
            .await;
        assert!(refused.contains("--yes"), "{refused}");

        let sessions = run("sessions list --filter invoices").await;
        assert!(sessions.contains("\n0.0 "), "{sessions}");
        let refused = shell.fails("sessions end-subscription 0.0 9 --yes").await;
        assert!(refused.contains("(not_found)"), "{refused}");
        assert_eq!(
            run("sessions close 0.0 --yes").await,
            "session 0.0: closed\n"
        );
        assert_eq!(place.data.closed(), [0]);
    });
}
