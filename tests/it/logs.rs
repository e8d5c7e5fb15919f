//! What is logged, and what never is (§10).

use serde_json::Value;

use crate::support::{Gateway, KEY, Message, OTHER_KEY, Reply, TOKEN, Upstream, clerk_to};

/// Every log line so far, as JSON.
fn lines(gateway: &Gateway) -> Vec<Value> {
    let stderr = gateway.stderr();
    let json = stderr.lines().filter(|line| line.starts_with('{'));
    json.map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn a_refusal_is_one_line_with_its_fields_and_success_is_none() {
    let upstream = Upstream::sequence(vec![Reply::Status(200), Reply::Status(500)]).await;
    let gateway = Gateway::start(&crate::support::clerk_to(upstream.url())).await;

    let good = gateway.send(&Message::new("msg_good")).await;
    let again = gateway.send(&Message::new("msg_good")).await;
    let refused = gateway
        .post("/clerk", &Message::new("msg_forged").seal().body("{}"))
        .await;
    let changed = Message::new("msg_good").body("{\"type\":\"other\"}");
    let conflict = gateway.send(&changed).await;
    let failed = gateway.send(&Message::new("msg_failed")).await;

    let request = failed.header("hookward-request").unwrap();
    gateway.line(&[request]).await;
    let lines = lines(&gateway);
    let of = |answer: &crate::support::Answer| {
        let request = answer.header("hookward-request").unwrap();
        let own = lines.iter().filter(|line| line["request"] == request);
        own.collect::<Vec<_>>()
    };
    assert!(of(&good).is_empty());
    assert!(of(&again).is_empty());
    let [refused] = of(&refused)[..] else {
        panic!("{lines:?}")
    };
    assert_eq!(refused["level"], "INFO");
    assert_eq!(refused["source"], "clerk");
    assert_eq!(refused["id"], "msg_forged");
    assert_eq!(refused["result"], "unverified");
    assert_eq!(refused["reason"], "no_key_matched");
    assert!(refused.get("elapsed").is_some());
    let [conflict] = of(&conflict)[..] else {
        panic!("{lines:?}")
    };
    assert_eq!(conflict["level"], "INFO");
    assert_eq!(conflict["reason"], "conflict");
    let [failed] = of(&failed)[..] else {
        panic!("{lines:?}")
    };
    assert_eq!(failed["level"], "WARN");
    assert_eq!(failed["type"], "user.created");
    assert_eq!(failed["result"], "failed");
    assert!(failed.to_string().contains("app"), "{failed}");
}

#[tokio::test]
async fn all_requests_are_logged_where_that_is_asked_for() {
    let upstream = Upstream::start().await;
    let config = format!(
        "log.requests = \"all\"\n{}",
        crate::support::clerk_to(upstream.url())
    );
    let gateway = Gateway::start(&config).await;

    let answer = gateway.send(&Message::new("msg_1")).await;

    let request = answer.header("hookward-request").unwrap();
    let line: Value = serde_json::from_str(&gateway.line(&[request]).await).unwrap();
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["result"], "delivered");
    assert_eq!(line["type"], "user.created");
}

#[tokio::test]
async fn a_log_nobody_reads_holds_up_no_request() {
    use std::process::Stdio;
    use tokio::io::{AsyncBufReadExt as _, BufReader};

    let upstream = Upstream::start().await;
    let config = crate::support::clerk_to(upstream.url());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hookward.toml"), config).unwrap();
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_hookward"))
        .args(["serve"])
        .current_dir(folder.path())
        .env("KEY", KEY)
        .env("HOOKWARD_SERVER__LISTEN", "127.0.0.1:0")
        .env("HOOKWARD_ADMIN__LISTEN", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    // Read as far as the address, then never again.
    let mut stderr = BufReader::with_capacity(1, child.stderr.take().unwrap()).lines();
    let address = loop {
        let line = crate::support::within("the address", stderr.next_line()).await;
        let line = line.unwrap().unwrap();
        if let Some((_, rest)) = line.split_once("http://")
            && let Some((address, _)) = rest.split_once("/clerk")
        {
            break address.parse().unwrap();
        }
    };
    let mut connection = crate::support::Connection::open(address).await;
    let forged = Message::new(&"x".repeat(200)).seal().body("{}");

    // Far more than a pipe holds.
    for _ in 0..2000 {
        let answer = connection.post("/clerk", &forged).await;
        assert_eq!(answer.status, 401);
    }

    let good = connection
        .post("/clerk", &Message::new("msg_1").seal())
        .await;
    assert_eq!(good.told(), (200, "delivered"));
}

#[tokio::test]
async fn no_secret_signature_or_body_is_ever_written_anywhere() {
    const BODY_MARKER: &str = "marker-in-a-body";
    const UPSTREAM_MARKER: &str = "marker-from-upstream";
    let upstream = Upstream::scripted(|number, request| match (number % 5, request.id()) {
        (_, "msg_away") => Reply::Reset,
        (0, _) => Reply::Status(200),
        (1, _) => Reply::Raw(format!(
            "HTTP/1.1 500 {UPSTREAM_MARKER}\r\nx-{UPSTREAM_MARKER}: a\r\ncontent-length: 20\r\n\r\n{UPSTREAM_MARKER}"
        )),
        (2, _) => Reply::Raw(format!("{UPSTREAM_MARKER}\r\n\r\n")),
        (3, _) => Reply::ResetInHead,
        _ => Reply::Never,
    })
    .await;
    let url = upstream.url();
    let config = format!(
        r#"
log.requests = "all"
admin.token = "env:TOKEN"
[sources.clerk]
secrets = [{{ name = "file", secret = "file:key" }}, "env:KEY"]
to = "app"
[destinations.app]
type = "http"
url = "{url}"
timeout = "300ms"
sign = "env:SIGN"
headers = {{ "x-api-key" = "env:API" }}
"#
    );
    let third = "whsec_bWFya2VyLW1hcmtlci1tYXJrZXItbWFya2Vy";
    let gateway = Gateway::with(&config)
        .file("key", third)
        .env("SIGN", OTHER_KEY)
        .env("API", "api-key-marker")
        .env("HOOKWARD_LOG", "trace")
        .start()
        .await;
    let mut told = String::new();
    let mut signatures = Vec::new();
    for number in 0..30 {
        let id = if number == 20 {
            "msg_away".into()
        } else {
            format!("msg_{number}")
        };
        let message = Message::new(&id)
            .body(format!("{{\"type\":\"a.b\",\"x\":\"{BODY_MARKER}\"}}"))
            .at(if number % 7 == 3 { -4000 } else { 0 })
            .seal();
        signatures.push(message.header("svix-signature")[3..].to_owned());
        let message = match number % 6 {
            4 => message.body(format!("{BODY_MARKER} {number}")),
            5 => message.and("svix-signature", "v1,twice"),
            _ => message,
        };
        let answer = gateway.post("/clerk", &message).await;
        told.push_str(&format!("{:?}{}", answer.headers, answer.text()));
    }
    for (method, path) in [
        ("GET", "/status"),
        ("GET", "/refusals"),
        ("GET", "/ledger/clerk/msg_0"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("POST", "/reload"),
    ] {
        let answer = gateway.ask(method, path, Some(TOKEN)).await;
        told.push_str(&format!("{:?}{}", answer.headers, answer.text()));
    }
    gateway.rewrite(&config.replace("to = \"app\"", "to = \"nowhere\"\nbad = \"secret-marker\""));
    let refused = gateway.ask("POST", "/reload", Some(TOKEN)).await;
    assert!(refused.status >= 400);
    told.push_str(&refused.text());
    gateway.line(&["nowhere"]).await;

    told.push_str(&gateway.stderr());
    told.push_str(&gateway.stdout());
    let mut hidden = vec![
        BODY_MARKER,
        UPSTREAM_MARKER,
        TOKEN,
        "api-key-marker",
        "secret-marker",
    ];
    hidden.extend([KEY, OTHER_KEY, third].map(|key| &key["whsec_".len()..]));
    hidden.extend(signatures.iter().map(String::as_str));
    for marker in hidden {
        let at = told.find(marker);
        let around = at.map(|at| &told[at.saturating_sub(200)..(at + 40).min(told.len())]);
        assert!(at.is_none(), "{marker} in …{}…", around.unwrap_or_default());
    }
}

#[tokio::test]
async fn a_message_for_another_source_is_named_in_the_log_and_nowhere_else() {
    let upstream = Upstream::start().await;
    let config = format!(
        r#"admin.token = "env:TOKEN"
        {}
        [sources.billing]
        secrets = [{{ name = "newest", secret = "env:OTHER_KEY" }}]
        to = "app"
        "#,
        clerk_to(upstream.url())
    );
    let gateway = Gateway::start(&config).await;

    let message = Message::new("msg_1").key(OTHER_KEY).seal();
    let misled = gateway.post("/clerk", &message).await;
    let request = misled.header("hookward-request").unwrap().to_owned();
    let line = gateway.line(&["\"WARN\"", &request, "billing"]).await;

    assert!(line.contains("newest") && line.contains("msg_1"), "{line}");
    // Answered as any forgery, and counted for nobody.
    let forged = gateway
        .send(&Message::new("msg_2").key("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"))
        .await;
    assert_eq!(
        misled.without_what_is_its_own(),
        forged.without_what_is_its_own()
    );
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.refused("no_key_matched"), 2.0);
    let key = [("source", "billing"), ("key", "newest")];
    assert_eq!(metrics.value("hookward_key_verified_total", &key), 0.0);
    assert_eq!(upstream.count(), 0);
}
