//! What is wrong, too large, too slow, or of others.

use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use pinion_admin_api::limits::{
    BODY_BYTES_MAX, CONNECTIONS_PER_ADDRESS_MAX, HEADER_BYTES_MAX, HEADER_WAIT,
    PUBLIC_BODY_BYTES_MAX,
};
use pinion_admin_api::{ApiConfig, Cleartext, Rate};
use pinion_types::ErrorCode;
use pinion_wire::frame::{Split, split};
use pinion_wire::message::{Hello, MAGIC, Reply, Request};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::http::{Client, config, tell, tell_with, tell_with_access};

/// Sends bytes, and gives all that comes back before the connection is closed.
async fn speak(client: &Client, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(client.address).await.unwrap();
    // It may be hung up on before it has said everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

fn status_line(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    text.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn bodies_and_queries_are_read_strictly() {
    tell(|ops, _| async move {
        let tenants = "/v1/tenants";
        for (body, code) in [
            (r#"{"name":"a","nam":1}"#, "unknown_field"),
            (r#"{"name":"a","quotas":{"max_stream":1}}"#, "unknown_field"),
            (r#"{"name":"a","name":"b"}"#, "bad_body"),
            (r#"{"name":"a","quotas":{"max_streams":-1}}"#, "bad_body"),
            (r#"{"name":"a","quotas":{"max_streams":1.5}}"#, "bad_body"),
            (r#"{"name":null}"#, "bad_body"),
            (r#"{"name":"a"} x"#, "bad_body"),
            (r#"[]"#, "bad_body"),
            ("", "bad_body"),
            ("{", "bad_body"),
            (r#"{"name":"A"}"#, "bad_name"),
            (r#"{"name":"*"}"#, "bad_name"),
            (r#"{"name":"a/b"}"#, "bad_name"),
            (r#"{"name":"a","description":"\u0000"}"#, "bad_text"),
        ] {
            let answered = ops.raw("POST", tenants, Some(body.to_owned())).await;
            answered.refused(400, code);
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        ops.raw("POST", tenants, Some(deep))
            .await
            .refused(400, "bad_body");
        let bytes = ops.with("content-type", "text/plain");
        let bytes = bytes.post(tenants, json!({ "name": "a" })).await;
        bytes.refused(415, "unsupported_media_type");
        for (path, code) in [
            ("/v1/tenants?page=1", "unknown_parameter"),
            ("/v1/tenants?page_size=0", "bad_parameter"),
            ("/v1/tenants?page_size=1001", "bad_parameter"),
            ("/v1/tenants?page_size=x", "bad_parameter"),
            ("/v1/tenants?page_size=1&page_size=1", "bad_parameter"),
            ("/v1/tenants?page_token=%25", "bad_parameter"),
            ("/v1/tenants?page_token=eA", "bad_parameter"),
            ("/v1/tenants?consistency=eventual", "bad_parameter"),
            ("/v1/tenants/%ff", "bad_path"),
            ("/v1/metadata/watch", "bad_parameter"),
            ("/v1/metadata/watch?from_version=-1", "bad_parameter"),
            (
                "/v1/metadata/watch?from_version=0&cluster_id=x",
                "bad_parameter",
            ),
            ("/v1/placements?kind=topic", "bad_parameter"),
            ("/v1/placements?namespace=n", "bad_parameter"),
            ("/v1/audit?from=yesterday", "bad_parameter"),
            ("/v1/audit?limit=1001", "bad_parameter"),
        ] {
            ops.get(path).await.refused(400, code);
        }
        ops.with("x-request-id", "zz")
            .get(tenants)
            .await
            .refused(400, "bad_request_id");
        let weak = ops
            .with("if-match", "W/\"1\"")
            .delete("/v1/tenants/default")
            .await;
        weak.refused(400, "bad_if_match");
        let missing = ops.get("/v1/tenant").await.refused(404, "unknown_path");
        drop(missing);
        let wrong = ops
            .raw("PUT", tenants, None)
            .await
            .refused(405, "method_not_allowed");
        assert_eq!(wrong.header("allow"), "GET, POST");
        let one = ops.raw("POST", "/v1/tenants/a%2Fb", None).await;
        let one = one.refused(405, "method_not_allowed");
        assert_eq!(one.header("allow"), "GET, PATCH, DELETE");
    });
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    tell(|ops, _| async move {
        let large = " ".repeat(10 << 20);
        let refused = ops.raw("POST", "/v1/tenants", Some(large)).await;
        refused.refused(413, "body_too_large");
        // Of no length that is told.
        let mut chunked =
            b"POST /v1/tenants HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
            transfer-encoding: chunked\r\nauthorization: Bearer "
                .to_vec();
        chunked.extend_from_slice(crate::host::OPERATOR.as_bytes());
        chunked.extend_from_slice(b"\r\n\r\n");
        let chunk = vec![b' '; 64 << 10];
        for _ in 0..=BODY_BYTES_MAX / chunk.len() {
            chunked.extend_from_slice(b"10000\r\n");
            chunked.extend_from_slice(&chunk);
            chunked.extend_from_slice(b"\r\n");
        }
        let answer = speak(&ops, &chunked).await;
        assert!(
            status_line(&answer).contains("413"),
            "{}",
            status_line(&answer)
        );
        let mut head = b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: ".to_vec();
        head.resize(2 * HEADER_BYTES_MAX, b'x');
        head.extend_from_slice(b"\r\n\r\n");
        let answer = speak(&ops, &head).await;
        assert!(
            status_line(&answer).contains("431"),
            "{}",
            status_line(&answer)
        );
        // A body that may not be sent is not waited for.
        let body = " ".repeat(BODY_BYTES_MAX);
        let nobody = ops
            .showing_nothing()
            .raw("POST", "/v1/tenants", Some(body))
            .await;
        nobody.refused(401, "unauthenticated");
        // What anybody may send is shorter, and as long as what may be asked for.
        let exchange = "/v1/tenants/acme/token/exchange";
        let body = " ".repeat(PUBLIC_BODY_BYTES_MAX + 1);
        let nobody = ops.showing_nothing();
        let large = nobody.raw("POST", exchange, Some(body)).await;
        let large = large.refused(413, "body_too_large");
        assert_eq!(large.body["details"]["limit"], PUBLIC_BODY_BYTES_MAX);
        let (part, rest) = ("x".repeat(63), "x".repeat(60));
        let object = format!("stream:{part}/{part}/{part}/{part}/{part}/{rest}");
        let wanted = json!({
            "requested": vec!["rbac.assignment.manage"; 64],
            "resources": vec![object; 64],
        });
        let wanted = nobody.post(exchange, wanted).await;
        wanted.refused(401, "unauthenticated");
    });
}

#[test]
fn what_is_neither_tls_nor_http_is_hung_up_on() {
    tell(|ops, _| async move {
        for first in [
            &b"\x00\x00\x00\x10"[..],
            b"\x0f",
            b"get / HTTP/1.1\r\n\r\n",
            b"\xff\xfe",
            b"\n",
        ] {
            let answer = speak(&ops, first).await;
            assert!(answer.is_empty(), "{first:?}: {answer:?}");
        }
        // TLS, where there is no certificate.
        assert!(speak(&ops, b"\x16\x03\x01\x00\x05hello").await.is_empty());
        let answer = speak(&ops, b"GARBAGE\r\n\r\n").await;
        assert!(
            status_line(&answer).contains("400"),
            "{}",
            status_line(&answer)
        );
        ops.get("/healthz").await.is(200);
    });
}

#[test]
fn who_speaks_the_wire_protocol_over_tcp_is_told_so_in_it() {
    for cleartext in [Cleartext::Never, Cleartext::Loopback] {
        let config = ApiConfig {
            cleartext,
            ..config()
        };
        tell_with(config, |ops, _| async move {
            // Of a length that begins as nothing, as HTTP, and as TLS does.
            for token in [&b"x"[..], &[b'x'; 46], &[b'x'; 255]] {
                let hello = Hello {
                    magic: MAGIC,
                    version_min: 1,
                    version_max: 1,
                    capabilities: 0,
                    token,
                    client_name: "test",
                };
                let mut frame = Vec::new();
                Request::Hello(hello).encode(77, &mut frame).unwrap();
                let answer = speak(&ops, &frame).await;
                let Ok(Split::Frame {
                    header,
                    body,
                    consumed,
                }) = split(&answer)
                else {
                    panic!("{answer:?}")
                };
                assert_eq!((header.correlation, consumed), (77, answer.len()));
                let reply = Reply::decode(header.opcode, body).unwrap();
                let Reply::Error(refusal) = reply else {
                    panic!("{reply:?}")
                };
                assert_eq!(refusal.code, ErrorCode::Unsupported);
            }
        });
    }
}

#[test]
fn without_tls_nobody_is_let_in_where_that_is_not_said() {
    let config = ApiConfig {
        cleartext: Cleartext::Never,
        ..config()
    };
    tell_with(config, |ops, _| async move {
        let answer = speak(&ops, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let text = String::from_utf8(answer).unwrap();
        assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
        assert!(text.ends_with("use https\n"), "{text}");
    });
}

#[test]
fn an_address_has_so_many_connections_and_those_beyond_are_hung_up_on() {
    tell(|ops, _| async move {
        let mut all = Vec::new();
        for _ in 0..CONNECTIONS_PER_ADDRESS_MAX {
            all.push(TcpStream::connect(ops.address).await.unwrap());
        }
        assert!(
            speak(&ops, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
                .await
                .is_empty()
        );
        drop(all);
        // Gone as soon as the listener has seen them go.
        let begun = Instant::now();
        let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        while speak(&ops, request).await.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(10));
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_head_that_drips_is_cut_off_while_others_are_served() {
    tell(|ops, _| async move {
        let begun = Instant::now();
        let mut slow = TcpStream::connect(ops.address).await.unwrap();
        slow.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        let drip = async {
            let mut byte = [0];
            loop {
                tokio::select! {
                    read = slow.read(&mut byte) => {
                        if read.is_ok_and(|read| read > 0) {
                            continue;
                        }
                        return;
                    }
                    () = tokio::time::sleep(Duration::from_millis(500)) => {}
                }
                if slow.write_all(b"x: y\r\n").await.is_err() {
                    return;
                }
            }
        };
        let others = async {
            for _ in 0..20 {
                ops.get("/healthz").await.is(200);
            }
        };
        tokio::join!(drip, others);
        let took = begun.elapsed();
        assert!(took < HEADER_WAIT + Duration::from_secs(10), "{took:?}");
    });
}

/// Answers that came on one connection.
fn answers(bytes: &[u8]) -> usize {
    String::from_utf8_lossy(bytes).matches("HTTP/1.1 ").count()
}

#[test]
fn a_request_whose_end_two_would_see_in_two_places_is_the_last_of_its_connection() {
    tell(|ops, _| async move {
        let smuggled = "GET /healthz HTTP/1.1\r\nhost: x\r\nx-smuggled: 1\r\n\r\n";
        for (head, body) in [
            ("content-length: 5\r\ncontent-length: 6", "12345"),
            ("content-length: 5, 6", "12345"),
            ("content-length: +5", "12345"),
            ("content-length: 0x5", "12345"),
            ("content-length : 5", "12345"),
            ("content-length: 5\r\n folded: 1", "12345"),
            ("transfer-encoding: xchunked", "0\r\n\r\n"),
            ("transfer-encoding: chunked, identity", "0\r\n\r\n"),
            ("transfer-encoding : chunked", "0\r\n\r\n"),
            ("x\0: y", ""),
        ] {
            for path in ["/v1/tenants", "/ui/login"] {
                let request = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n");
                let all = format!("{request}{body}{smuggled}");
                let answer = speak(&ops, all.as_bytes()).await;
                let line = status_line(&answer);
                assert!(line.contains(" 400 "), "{head:?}: {line}");
                assert_eq!(answers(&answer), 1, "{head:?}");
            }
        }
        // A length beside chunks counts for nothing, and the connection ends.
        for head in [
            "content-length: 5\r\ntransfer-encoding: chunked",
            "transfer-encoding: chunked\r\ncontent-length: 3",
            "transfer-encoding: chunked",
        ] {
            let request = format!("POST /v1/tenants HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n");
            let all = format!("{request}0\r\n\r\n{smuggled}");
            let answer = speak(&ops, all.as_bytes()).await;
            assert_eq!(answers(&answer), 1, "{head:?}");
        }
        // Sizes of chunks are numbers on lines of their own, and what stands beside them has
        // an end: then they make a tenant, and otherwise none.
        let chunked = async |body: &str| {
            let mut request = b"POST /v1/tenants HTTP/1.1\r\nhost: x\r\n\
                content-type: application/json\r\ntransfer-encoding: chunked\r\n\
                authorization: Bearer "
                .to_vec();
            request.extend_from_slice(crate::host::OPERATOR.as_bytes());
            let rest = format!("\r\n\r\n{body}{smuggled}");
            request.extend_from_slice(rest.as_bytes());
            let answer = speak(&ops, &request).await;
            assert!(answers(&answer) <= 1, "{body:.40?}");
            status_line(&answer)
        };
        let json = "{\"name\":\"s\"}";
        let extended = format!("c;{}=y\r\n{json}\r\n0\r\n\r\n", "x".repeat(64 << 10));
        for body in [
            &format!("c\n{json}\r\n0\r\n\r\n"),
            &format!("c\r\n{json}\n0\r\n\r\n"),
            &format!("+c\r\n{json}\r\n0\r\n\r\n"),
            &format!("0xc\r\n{json}\r\n0\r\n\r\n"),
            &format!(" c\r\n{json}\r\n0\r\n\r\n"),
            &format!("-1\r\n{json}\r\n0\r\n\r\n"),
            &format!("1000000000000000c\r\n{json}\r\n0\r\n\r\n"),
            &format!("c\r\n{json}x\r\n0\r\n\r\n"),
            &extended,
        ] {
            let line = chunked(body).await;
            let refused = line.is_empty() || line.contains(" 400 ");
            assert!(refused, "{body:.40?}: {line}");
            ops.get("/v1/tenants/s").await.is(404);
        }
        let line = chunked(&format!("c;a=b\r\n{json}\r\n0\r\n\r\n")).await;
        assert!(line.contains(" 201 "), "{line}");
        // Of the older protocol nobody expects chunks.
        let old = "POST /v1/tenants HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
        let answer = speak(&ops, old.as_bytes()).await;
        assert!(status_line(&answer).contains(" 400 "));
        ops.get("/healthz").await.is(200);
    });
}

#[test]
fn a_request_is_for_one_host_and_its_lines_end_where_lines_end() {
    tell(|ops, _| async move {
        let smuggled = "GET /healthz HTTP/1.1\r\nhost: x\r\nx-smuggled: 1\r\n\r\n";
        for (line, head) in [
            ("GET /healthz", ""),
            ("GET /healthz", "host: x\r\nhost: x"),
            ("GET /healthz", "host: x\r\nhost: y"),
            ("GET http://evil.example/healthz", "host: x"),
            ("GET http://evil.example/ui/login", "host: x"),
            (
                "POST http://evil.example/ui/login",
                "host: x\r\ncontent-length: 0",
            ),
            ("GET http://x:1/v1/tenants", "host: x"),
        ] {
            let head = format!("{line} HTTP/1.1\r\n{head}\r\n");
            let all = format!("{}\r\n{smuggled}", head.replace("\r\n\r\n", "\r\n"));
            let answer = speak(&ops, all.as_bytes()).await;
            assert!(status_line(&answer).contains(" 400 "), "{head:?}");
            assert_eq!(answers(&answer), 1, "{head:?}");
            let text = String::from_utf8_lossy(&answer);
            assert!(text.contains("bad_host"), "{head:?}: {text}");
        }
        // Said twice, and the same.
        let twice = "GET http://x/healthz HTTP/1.1\r\nhost: X\r\nconnection: close\r\n\r\n";
        let answer = speak(&ops, twice.as_bytes()).await;
        assert!(status_line(&answer).contains(" 200 "));
        // A line may end with LF alone (RFC 9112 §2.2), and that ends no more than it: what
        // stands in a value is no line, and a value goes on nowhere.
        for (head, status) in [
            (
                "GET /healthz HTTP/1.1\nhost: x\nconnection: close\n\n",
                " 200 ",
            ),
            (
                "GET /healthz HTTP/1.1\r\nhost: x\r\nx: a\rb: c\r\n\r\n",
                " 400 ",
            ),
            (
                "GET /healthz HTTP/1.1\r\nhost: x\r\nx: a\r\n b: c\r\n\r\n",
                " 400 ",
            ),
            ("GET /healthz HTTP/1.1\r\n host: x\r\n\r\n", " 400 "),
            ("GET /healthz\tHTTP/1.1\r\nhost: x\r\n\r\n", " 400 "),
            ("GET /healthz HTTP/1.1 HTTP/1.0\r\nhost: x\r\n\r\n", " 400 "),
            ("GET /healthz HTTP/9.9\r\nhost: x\r\n\r\n", " 400 "),
        ] {
            let all = format!("{head}{smuggled}");
            let answer = speak(&ops, all.as_bytes()).await;
            assert!(status_line(&answer).contains(status), "{head:?}");
            assert_eq!(answers(&answer), 1, "{head:?}");
        }
        ops.get("/healthz").await.is(200);
    });
}

#[test]
fn five_hundred_that_drip_hold_up_nobody_else() {
    const EACH: usize = CONNECTIONS_PER_ADDRESS_MAX - 3;
    tell(|ops, _| async move {
        let mut slow = Vec::new();
        for address in 2..=5 {
            for _ in 0..EACH {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(([127, 0, 0, address], 0).into()).unwrap();
                let mut stream = socket.connect(ops.address).await.unwrap();
                let head = b"POST /ui/login HTTP/1.1\r\nhost: x\r\n";
                stream.write_all(head).await.unwrap();
                slow.push(stream);
            }
        }
        assert_eq!(slow.len(), 500);
        let begun = Instant::now();
        for _ in 0..20 {
            ops.get("/healthz").await.is(200);
            ops.get("/ui/login").await.is(200);
            for stream in slow.iter_mut().step_by(25) {
                stream.write_all(b"x: y\r\n").await.unwrap();
            }
        }
        // Loose: it is a debug build, on a machine that may be busy.
        let took = begun.elapsed();
        assert!(took < HEADER_WAIT / 2, "{took:?}");
        for mut stream in slow {
            let mut answer = Vec::new();
            let ended = stream.read_to_end(&mut answer);
            tokio::time::timeout(2 * HEADER_WAIT, ended)
                .await
                .expect("those that drip are cut off")
                .ok();
        }
        let took = begun.elapsed();
        assert!(took < HEADER_WAIT + Duration::from_secs(10), "{took:?}");
    });
}

#[test]
fn who_asks_too_often_waits_and_others_do_not() {
    let rate = |per_second, burst| Rate { per_second, burst };
    let config = ApiConfig {
        reads: rate(1, 3),
        strangers: rate(1, 2),
        ..config()
    };
    tell_with(config, |ops, _| async move {
        for _ in 0..3 {
            ops.get("/v1/tenants").await.is(200);
        }
        let often = ops.get("/v1/tenants").await.refused(429, "rate_limited");
        assert_eq!(often.header("retry-after"), "1");
        // Writes are counted by themselves, others by theirs.
        ops.post("/v1/tenants", json!({ "name": "a" }))
            .await
            .is(201);
        ops.showing(crate::host::PLAIN)
            .get("/v1/tenants")
            .await
            .is(200);
        // Guesses are counted by address, with what is open to all.
        let guess = ops.showing("a guess");
        guess
            .get("/v1/tenants")
            .await
            .refused(401, "unauthenticated");
        ops.get("/healthz").await.is(200);
        guess.get("/v1/tenants").await.refused(429, "rate_limited");
        ops.get("/nowhere").await.refused(429, "rate_limited");
    });
}

#[test]
fn a_watch_gives_every_change_once_and_of_the_future_nothing() {
    use http_body_util::BodyExt;
    tell(|ops, _| async move {
        ops.post("/v1/tenants", json!({ "name": "a" }))
            .await
            .is(201);
        let snapshot = ops.get("/v1/metadata/snapshot").await.is(200);
        let version = snapshot.body["version"].as_u64().unwrap();
        let cluster = snapshot.body["cluster_id"].as_str().unwrap().to_owned();
        let keys = snapshot.body["objects"].as_array().unwrap().iter();
        let keys: Vec<_> = keys.map(|object| object["key"].as_str().unwrap()).collect();
        assert_eq!(keys[..2], ["tenant/a", "tenant/default"]);
        assert!(keys.contains(&"broker/n1"), "{keys:?}");

        let from = |version: u64| format!("/v1/metadata/watch?from_version={version}");
        let path = format!("{}&cluster_id={cluster}", from(version));
        let mut body = ops.send("GET", &path, None).await.into_body();
        for name in ["b", "c"] {
            ops.post("/v1/tenants", json!({ "name": name }))
                .await
                .is(201);
        }
        let mut text = String::new();
        while text.matches("event: change").count() < 2 {
            let frame = body.frame().await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let events: Vec<serde_json::Value> = data
            .map(|data| serde_json::from_str(data).unwrap())
            .collect();
        for (at, (event, name)) in (1..).zip(events.iter().zip(["b", "c"])) {
            assert_eq!(event["version"].as_u64(), Some(version + at));
            assert_eq!(event["type"], "create");
            assert_eq!(event["key"], format!("tenant/{name}"));
            assert_eq!(event["object"]["name"], name);
        }
        for path in [
            from(version + 100),
            from(u64::MAX),
            format!("{}&cluster_id={}", from(version), "0".repeat(32)),
        ] {
            let response = ops.send("GET", &path, None).await;
            assert_eq!(response.status(), 200);
            // It ends by itself.
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            assert!(
                text.starts_with("event: resnapshot_required\n"),
                "{path}: {text}"
            );
            assert_eq!(text.matches("event:").count(), 1);
        }
        // The story ends with a watch under way: the API ends all the same.
    });
}

#[test]
fn a_watch_of_events_ends_when_its_credential_does_and_says_so() {
    use http_body_util::BodyExt;
    tell_with_access(config(), |ops, access| async move {
        let path = "/v1/metadata/watch?from_version=0";
        let mut body = ops.send("GET", path, None).await.into_body();
        // It follows by now.
        let first = body.frame().await.unwrap().unwrap();
        assert!(!first.data_ref().unwrap().is_empty());
        // The token is taken out of the configuration.
        access.send_replace(Arc::default());
        let rest = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(rest.to_vec()).unwrap();
        let (_, last) = text.rsplit_once("event: ").unwrap();
        let (event, data) = last.split_once("\ndata: ").unwrap();
        assert_eq!(event, "refused", "{text}");
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["code"], "unauthenticated");
    });
}
