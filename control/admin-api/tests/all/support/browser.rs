//! What a browser does with the dashboard: keeps cookies, follows links, sends forms.

use core::time::Duration;
use std::collections::BTreeMap;
use std::time::Instant;

use http_body_util::BodyExt;

use crate::http::Client;

/// Longest that rows of the audit log may be on their way.
const PATIENCE: Duration = Duration::from_secs(10);

/// One browser, with or without somebody in front of it.
pub(crate) struct Browser {
    pub(crate) client: Client,
    pub(crate) cookies: BTreeMap<String, String>,
}

/// What it was answered.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) html: String,
}

impl Browser {
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            client: client.showing_nothing(),
            cookies: BTreeMap::new(),
        }
    }

    /// Somebody who is logged in.
    pub(crate) async fn of(client: &Client, token: &str) -> Self {
        let mut browser = Self::new(client);
        browser.log_in(token).await.is(303);
        browser
    }

    /// The same cookies in another window.
    pub(crate) fn stolen(&self) -> Self {
        Self {
            client: self.client.clone(),
            cookies: self.cookies.clone(),
        }
    }

    pub(crate) fn origin(&self) -> String {
        "http://localhost".to_owned()
    }

    pub(crate) fn asking(&self) -> Client {
        let pairs: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        match pairs.is_empty() {
            true => self.client.clone(),
            false => self.client.with("cookie", pairs.join("; ")),
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Page {
        self.send("GET", path, None, &[]).await
    }

    /// Sends a form as a page of this node does.
    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let origin = self.origin();
        self.post_from(path, fields, &[("origin", &origin)]).await
    }

    /// Sends a form with these headers.
    pub(crate) async fn post_from(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&'static str, &str)],
    ) -> Page {
        let pairs: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        self.send("POST", path, Some(pairs.join("&")), headers)
            .await
    }

    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: Option<String>,
        headers: &[(&'static str, &str)],
    ) -> Page {
        let mut client = self.asking();
        if body.is_some() {
            client = client.with("content-type", "application/x-www-form-urlencoded");
        }
        for (name, value) in headers {
            client = client.with(name, *value);
        }
        let (head, body) = client.send(method, path, body).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        for line in head.headers.get_all("set-cookie") {
            self.keep(line.to_str().unwrap());
        }
        // Of what is packed only the headers are read.
        let html = match head.headers.get("content-encoding") {
            Some(_) => String::new(),
            None => String::from_utf8(bytes.to_vec()).unwrap(),
        };
        Page {
            status: head.status.as_u16(),
            headers: head.headers,
            html,
        }
    }

    fn keep(&mut self, line: &str) {
        let (pair, rest) = line.split_once(';').unwrap();
        let (name, value) = pair.split_once('=').unwrap();
        if rest.contains("Max-Age=0") {
            self.cookies.remove(name);
        } else {
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }

    pub(crate) async fn log_in(&mut self, token: &str) -> Page {
        let form = self.get("/ui/login").await.is(200);
        let csrf = form.field("csrf");
        self.post("/ui/login", &[("csrf", &csrf), ("token", token)])
            .await
    }

    /// Looks at what an action would do.
    pub(crate) async fn confirm(&mut self, query: &str) -> Page {
        self.get(&format!("/ui/confirm?{query}")).await
    }

    /// Sends the form of a confirm page, with what somebody wrote into it.
    pub(crate) async fn perform(&mut self, confirm: &Page, written: &[(&str, &str)]) -> Page {
        let names = ["csrf", "operation", "target", "request_id"];
        let own = names.map(|name| (name, confirm.field(name)));
        let mut fields: Vec<(&str, &str)> =
            own.iter().map(|(name, value)| (*name, &**value)).collect();
        fields.extend(written);
        self.post("/ui/do", &fields).await
    }
}

impl Page {
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn has(&self, text: &str) -> &Self {
        assert!(self.html.contains(text), "no {text:?} in {self:#?}");
        self
    }

    /// What a confirm page says that the audit log will say: the operation, and the target of
    /// each row.
    #[track_caller]
    pub(crate) fn promised(&self) -> (String, Vec<String>) {
        let (_, rest) = self.html.split_once("<h2 id=\"audit\">").unwrap();
        let (rows, _) = rest.split_once("</dl>").unwrap();
        let mut texts = rows.split("<code>").skip(1).map(|code| {
            let (text, _) = code.split_once("</code>").unwrap();
            let text = text.replace("&quot;", "\"").replace("&#x27;", "'");
            let text = text.replace("&lt;", "<").replace("&gt;", ">");
            text.replace("&amp;", "&")
        });
        (texts.next().unwrap(), texts.collect())
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// The value of a hidden field.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> String {
        let mark = format!("name=\"{name}\" value=\"");
        let (_, rest) = self
            .html
            .split_once(&mark)
            .unwrap_or_else(|| panic!("no field {name} in {self:#?}"));
        let (value, _) = rest.split_once('"').unwrap();
        value.replace("&amp;", "&").replace("&quot;", "\"")
    }
}

/// Targets of the rows that the audit log has of an operation, the oldest first.
pub(crate) async fn rows(ops: &Client, operation: &str) -> Vec<String> {
    let path = format!("/v1/audit?limit=1000&action={operation}");
    let page = ops.get(&path).await.is(200);
    let rows = page.body["rows"].as_array().unwrap();
    let target = |row: &serde_json::Value| row["target"].as_str().unwrap().to_owned();
    rows.iter().map(target).collect()
}

/// The audit log has what was promised, in that order and nothing else, besides the rows that
/// it had `before`. They come a moment after what they are of.
pub(crate) async fn kept(ops: &Client, before: usize, promised: &(String, Vec<String>)) {
    let (operation, targets) = promised;
    let begun = Instant::now();
    loop {
        let mut new = rows(ops, operation).await.split_off(before);
        // What runs has a row when it is begun, and one when it is done.
        new.dedup();
        if new == *targets {
            return;
        }
        let late = begun.elapsed() > PATIENCE;
        assert!(!late, "{operation}: {new:?} and not {targets:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Percent-encoded, every letter that could mean something.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}
