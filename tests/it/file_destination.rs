//! A file is a destination: one whole JSON object a line, synced before the
//! answer (§4).

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::{Gateway, Message, Sealed, TOKEN};

/// A source that writes to `events.jsonl` beside the configuration.
const TO_FILE: &str = r#"
[sources.clerk]
secrets = "env:KEY"
to = "log"
[destinations.log]
type = "file"
path = "events.jsonl"
"#;

fn lines(gateway: &Gateway) -> Vec<Value> {
    let text = std::fs::read_to_string(gateway.folder().join("events.jsonl")).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn an_event_is_one_line_with_everything_needed_to_verify_it_again() {
    let gateway = Gateway::start(TO_FILE).await;
    let body = "{\"type\":\"user.created\",\n \"é\": \"\\u00e9\"}";
    let message = Message::new("msg_1").body(body).seal();

    let answer = gateway.post("/clerk", &message).await;

    assert_eq!(answer.told(), (200, "delivered"));
    let lines = lines(&gateway);
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
    let mut expected = [
        "source",
        "id",
        "type",
        "timestamp",
        "received",
        "headers",
        "body",
    ];
    expected.sort_unstable();
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    assert_eq!(line["source"], "clerk");
    assert_eq!(line["id"], "msg_1");
    assert_eq!(line["type"], "user.created");
    assert_eq!(
        line["timestamp"].to_string(),
        message.header("svix-timestamp")
    );
    assert_eq!(line["body"], body);
    let received = line["received"].as_str().unwrap();
    assert!(received.ends_with('Z') && received.as_bytes()[19] == b'.' && received.len() == 24);
    let headers = &line["headers"];
    assert_eq!(headers["svix-signature"], message.header("svix-signature"));
    assert_eq!(headers["hookward-source"], "clerk");
    assert_eq!(headers["hookward-key"], "1");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(headers.get("authorization"), None);
}

#[tokio::test]
async fn the_file_is_for_its_owner_alone() {
    let gateway = Gateway::start(TO_FILE).await;
    gateway.send(&Message::new("msg_1")).await;

    let file = std::fs::metadata(gateway.folder().join("events.jsonl")).unwrap();

    assert_eq!(file.permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_body_that_is_no_text_is_written_as_base64_and_without_a_type() {
    let gateway = Gateway::start(TO_FILE).await;

    gateway
        .send(&Message::new("msg_1").body([0xff, 0x00, 0xfe]))
        .await;

    let line = &lines(&gateway)[0];
    assert_eq!(line["body_base64"], "/wD+");
    assert_eq!(line.get("body"), None);
    assert_eq!(line["type"], Value::Null);
}

#[tokio::test]
async fn a_duplicate_is_not_written_again() {
    let gateway = Gateway::start(TO_FILE).await;

    for id in ["msg_1", "msg_1", "msg_2", "msg_1"] {
        assert_eq!(gateway.send(&Message::new(id)).await.status, 200);
    }

    let lines = lines(&gateway);
    let ids: Vec<_> = lines
        .iter()
        .map(|line| line["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["msg_1", "msg_2"]);
}

#[tokio::test]
async fn many_at_once_are_whole_lines_each() {
    let gateway = Gateway::start(TO_FILE).await;
    let mut senders = tokio::task::JoinSet::new();
    for worker in 0..20 {
        let mut connection = gateway.connect().await;
        senders.spawn(async move {
            for number in 0..10 {
                let filler = "x".repeat(worker * 1000);
                let body = format!("{{\"type\":\"a\",\"filler\":\"{filler}\"}}");
                let message = Message::new(&format!("msg_{worker}_{number}")).body(body);
                let answer = connection.post("/clerk", &message.seal()).await;
                assert_eq!(answer.told(), (200, "delivered"));
            }
        });
    }
    senders.join_all().await;

    let ids: std::collections::HashSet<_> = lines(&gateway)
        .iter()
        .map(|line| line["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 200);
}

#[tokio::test]
async fn a_torn_last_line_is_cut_back_and_whole_ones_stay() {
    let whole = "{\"source\":\"clerk\",\"id\":\"msg_0\"}\n";
    let gateway = Gateway::with(TO_FILE)
        .file("events.jsonl", &format!("{whole}{{\"source\":\"cle"))
        .start()
        .await;

    gateway.send(&Message::new("msg_1")).await;

    let lines = lines(&gateway);
    let ids: Vec<_> = lines
        .iter()
        .map(|line| line["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["msg_0", "msg_1"]);
}

#[tokio::test]
async fn a_full_disk_is_a_failure_the_sender_is_told() {
    let gateway = Gateway::start(&TO_FILE.replace("events.jsonl", "/dev/full")).await;

    let answer = gateway.send(&Message::new("msg_1")).await;

    assert_eq!(answer.told(), (502, "failed"));
}

#[tokio::test]
async fn a_dash_is_stdout() {
    let gateway = Gateway::start(&TO_FILE.replace("events.jsonl", "-")).await;

    gateway.send(&Message::new("msg_1")).await;

    let lines = gateway.stdout_lines(1).await;
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(line["id"], "msg_1");
    assert_eq!(lines.len(), 1, "data alone goes to stdout");
}

#[tokio::test]
async fn a_file_moved_away_is_opened_anew_at_reload() {
    let config = format!("admin.token = \"env:TOKEN\"\n{TO_FILE}");
    let gateway = Gateway::start(&config).await;
    gateway.send(&Message::new("msg_1")).await;
    let path = gateway.folder().join("events.jsonl");
    std::fs::rename(&path, gateway.folder().join("events.1")).unwrap();

    let reloaded = gateway.ask("POST", "/reload", Some(TOKEN)).await;
    gateway.send(&Message::new("msg_2")).await;

    assert!(reloaded.status < 300, "{reloaded:?}");
    let lines = lines(&gateway);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["id"], "msg_2");
}

#[tokio::test]
async fn a_file_moved_away_is_opened_anew_also_when_the_configuration_is_refused() {
    let config = format!("admin.token = \"env:TOKEN\"\n{TO_FILE}");
    let gateway = Gateway::start(&config).await;
    gateway.send(&Message::new("msg_1")).await;
    let path = gateway.folder().join("events.jsonl");
    std::fs::rename(&path, gateway.folder().join("events.1")).unwrap();

    gateway.rewrite(&format!("nonsense = 1\n{config}"));
    let refused = gateway.ask("POST", "/reload", Some(TOKEN)).await;
    gateway.send(&Message::new("msg_2")).await;

    assert_eq!(refused.status, 422);
    let lines = lines(&gateway);
    assert_eq!((lines.len(), &lines[0]["id"]), (1, &"msg_2".into()));
}

#[tokio::test]
async fn an_open_source_is_written_without_an_id_of_its_own() {
    let config = TO_FILE.replace("env:KEY", "dangerously-unverified");
    let gateway = Gateway::start(&config).await;
    let bare = Sealed {
        headers: vec![("Content-Type".into(), "application/json".into())],
        body: br#"{"type":"a"}"#.to_vec(),
    };

    assert_eq!(
        gateway.post("/clerk", &bare).await.told(),
        (200, "delivered")
    );

    assert_eq!(lines(&gateway)[0]["body"], r#"{"type":"a"}"#);
}
