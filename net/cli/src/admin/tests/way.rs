//! What happens on the way: lost connections, busy nodes, strange answers, TLS.

use std::sync::{Arc, Mutex};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{Reply, Script, Server, reply_of, run, serve};

fn lost() -> Reply {
    Reply {
        lost: true,
        ..Reply::default()
    }
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_asked_again_under_its_number() {
    let server = Server::start(vec![lost(), lost(), reply_of("201 @4 {}")]).await;
    let (out, failure) = run(&server, "pinion admin tenant create acme").await;
    assert_eq!(
        (out.as_str(), failure),
        ("tenant acme: created, version 4\n", None)
    );
    let ids: Vec<_> = server
        .asked()
        .iter()
        .map(|one| one.header("x-request-id").map(str::to_owned))
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(
        ids.iter().all(|id| id.is_some() && *id == ids[0]),
        "{ids:?}"
    );
}

#[tokio::test]
async fn two_writes_have_two_numbers_and_a_chosen_one_is_kept() {
    let server = Server::start(vec![
        reply_of("201 {}"),
        reply_of("201 {}"),
        reply_of("201 {}"),
    ])
    .await;
    run(&server, "pinion admin tenant create a").await;
    run(&server, "pinion admin tenant create b").await;
    let chosen = "0123456789abcdef0123456789abcdef";
    run(
        &server,
        &format!("pinion admin tenant create c --request-id {chosen}"),
    )
    .await;
    let asked = server.asked();
    assert_ne!(
        asked[0].header("x-request-id"),
        asked[1].header("x-request-id")
    );
    assert_eq!(asked[2].header("x-request-id"), Some(chosen));
}

#[tokio::test]
async fn when_the_answer_stays_away_the_number_is_told() {
    let server = Server::start((0..20).map(|_| lost()).collect()).await;
    let (_, failure) = run(&server, "pinion admin tenant create acme --timeout 300ms").await;
    let failure = failure.expect("lost");
    let asked = server.asked();
    let id = asked[0].header("x-request-id").expect("a write");
    assert!(
        failure.contains("whether it was done is not known"),
        "{failure}"
    );
    assert!(failure.contains(id), "{failure}");
}

#[tokio::test]
async fn a_busy_node_is_asked_again_when_it_says_and_other_refusals_stand() {
    let busy = Reply {
        headers: vec![("retry-after", "0".to_owned())],
        ..reply_of(r#"503 {"code":"no_leader","message":"nobody leads"}"#)
    };
    let server = Server::start(vec![busy.clone(), reply_of("200 {}")]).await;
    let (_, failure) = run(&server, "pinion admin tenant get acme").await;
    assert_eq!(failure, None);
    assert_eq!(server.asked().len(), 2);

    let long = Reply {
        headers: vec![("retry-after", "3600".to_owned())],
        ..busy
    };
    let server = Server::start(vec![long]).await;
    let (_, failure) = run(&server, "pinion admin tenant get acme").await;
    assert_eq!(failure.as_deref(), Some("nobody leads (no_leader)"));

    for status in [400, 401, 403, 404, 409, 412, 500] {
        let reply = format!(r#"{status} {{"code":"c","message":"m"}}"#);
        let server = Server::start(vec![reply_of(&reply)]).await;
        let (_, failure) = run(&server, "pinion admin tenant get acme").await;
        assert_eq!(failure.as_deref(), Some("m (c)"));
        assert_eq!(server.asked().len(), 1, "{status} was asked again");
    }
}

#[tokio::test]
async fn strange_answers_are_failures_and_not_believed() {
    for (reply, why) in [
        ("200 <html>", "answered 200, and not in JSON"),
        ("404 <html>", "the node answered 404"),
        ("500 []", "the node answered 500"),
        (r#"200 {"tenants":"all"}"#, "answered without tenants"),
        ("302 {}", "the node answered 302"),
    ] {
        let server = Server::start(vec![reply_of(reply)]).await;
        let (_, failure) = run(&server, "pinion admin tenant list").await;
        let failure = failure.expect(reply);
        assert!(failure.contains(why), "{reply}: {failure}");
    }
    let endless = r#"200 {"tenants":[{"name":"a"}],"next_page_token":"same"}"#;
    let server = Server::start((0..4).map(|_| reply_of(endless)).collect()).await;
    let (out, _) = run(&server, "pinion admin tenant list --json").await;
    assert_eq!(out.lines().count(), 2, "a token that stays ends the walk");
}

#[tokio::test]
async fn an_answer_without_an_end_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.expect("a client");
        let mut head = [0; 1024];
        drop(tcp.read(&mut head).await);
        let begin = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n[";
        drop(tcp.write_all(begin).await);
        let blanks = vec![b' '; 64 << 10];
        while tcp.write_all(&blanks).await.is_ok() {}
    });
    let server = Server {
        address,
        script: Arc::new(Mutex::new(Script::default())),
    };
    let (_, failure) = run(&server, "pinion admin tenant get acme").await;
    let failure = failure.expect("too long");
    assert!(failure.contains("more than 16777216 bytes"), "{failure}");
}

#[tokio::test]
async fn a_node_that_says_nothing_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let server = Server {
        address: listener.local_addr().expect("bound"),
        script: Arc::new(Mutex::new(Script::default())),
    };
    // Its backlog takes the connection; nobody ever reads.
    let (_, failure) = run(&server, "pinion admin tenant get acme --timeout 200ms").await;
    let failure = failure.expect("silent");
    assert!(failure.ends_with("within 200ms"), "{failure}");
    drop(listener);
}

#[tokio::test]
async fn without_tls_nobody_but_this_machine_is_spoken_to() {
    // Of the range for documents (RFC 5737): whoever spoke to it would time out.
    for (more, why) in [
        (
            "--cleartext",
            "without TLS only a node on this machine is spoken to",
        ),
        ("", "no CA certificate"),
    ] {
        let line = format!("pinion admin tenant get acme --server 192.0.2.1:8080 {more}");
        let cli: super::Cli = clap::Parser::try_parse_from(super::words(&line)).expect(&line);
        let super::Command::Admin(args) = cli.command;
        let done = super::super::execute(&args, &mut crate::output::Printer::kept()).await;
        let failure = done.expect_err("not loopback").to_string();
        assert!(failure.contains(why), "{failure}");
    }
}

/// A command over TLS with what the node gave for `--ca`; the name that its certificate carries.
async fn over_tls(name: &str, ca: Option<&str>, more: &str) -> Result<(), String> {
    let certified = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a key");
    let own = certified.cert.pem();
    let config = pinion_quic::tls::server_config_pem(
        own.as_bytes(),
        certified.signing_key.serialize_pem().as_bytes(),
    );
    let mut config = config.expect("good");
    Arc::make_mut(&mut config).alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(config);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let script = Arc::new(Mutex::new(Script::default()));
    script
        .lock()
        .expect("no panic")
        .replies
        .push_back(reply_of("200 {}"));
    let shared = Arc::clone(&script);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(tls) = acceptor.accept(tcp).await {
                assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
                serve(TokioIo::new(tls), Arc::clone(&shared)).await;
            }
        }
    });
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, ca.unwrap_or(&own)).expect("written");
    let line = format!(
        "pinion admin tenant get acme --server {address} --ca {} {more}",
        file.display()
    );
    let cli: super::Cli = clap::Parser::try_parse_from(super::words(&line)).expect(&line);
    let super::Command::Admin(args) = cli.command;
    let done = super::super::execute(&args, &mut crate::output::Printer::kept()).await;
    done.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_node_is_believed_only_with_a_certificate_of_the_authority_and_its_name() {
    over_tls("127.0.0.1", None, "").await.expect("its own name");
    over_tls("node.example", None, "--server-name node.example")
        .await
        .expect("the name that was said");
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a key");
    for (name, ca) in [
        ("127.0.0.1", Some(other.cert.pem())),
        ("node.example", None),
    ] {
        let failure = over_tls(name, ca.as_deref(), "").await.expect_err(name);
        assert!(failure.contains("no TLS with"), "{failure}");
    }
    let failure = over_tls("127.0.0.1", None, "--cleartext").await;
    assert!(failure.is_err(), "cleartext to a port of TLS");
}
