//! Every event goes to all destinations its rules name, and to no other (§4).

use crate::support::{Gateway, Message, Upstream};

/// A source, three destinations that all post to one service under their own
/// paths, and these routes.
fn routed(upstream: &Upstream, source: &str, routes: &str) -> String {
    let mut config = format!("[sources.clerk]\nsecrets = \"env:KEY\"\n{source}\n");
    for name in ["a", "b", "c"] {
        config.push_str(&format!(
            "[destinations.{name}]\ntype = \"http\"\nurl = \"http://{}/{name}\"\n",
            upstream.address()
        ));
    }
    config + routes
}

/// Sends a body and gives the answer, and where it arrived.
async fn sent(gateway: &Gateway, upstream: &Upstream, id: &str, body: &str) -> (String, String) {
    let answer = gateway.send(&Message::new(id).body(body)).await;
    let requests = upstream.requests();
    let mut paths: Vec<&str> = requests
        .iter()
        .filter(|request| request.id() == id)
        .map(|request| &request.path[1..])
        .collect();
    paths.sort_unstable();
    (
        format!("{} {}", answer.status, answer.word()),
        paths.concat(),
    )
}

const ROUTES: &str = r#"
[[routes]]
from = "clerk"
types = ["user.*", "session.created"]
to = "a"
[[routes]]
types = ["user.created", "org.**"]
to = ["a", "b"]
[[routes]]
otherwise = true
to = "c"
"#;

#[tokio::test]
async fn all_matching_routes_count_and_a_destination_gets_the_event_once() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&routed(&upstream, "", ROUTES)).await;

    for (event_type, arrived) in [
        ("user.created", "ab"),
        ("user.deleted", "a"),
        ("session.created", "a"),
        ("org", "ab"),
        ("org.member.added", "ab"),
        ("user", "c"),
        ("user.created.now", "c"),
        ("User.created", "c"),
        ("session.ended", "c"),
    ] {
        let body = format!("{{\"type\":\"{event_type}\"}}");
        let id = event_type.replace('.', "-");
        let told = sent(&gateway, &upstream, &id, &body).await;
        assert_eq!(
            told,
            ("200 delivered".into(), arrived.into()),
            "{event_type}"
        );
    }
}

#[tokio::test]
async fn what_no_rule_wants_is_accepted_or_refused_as_the_source_says() {
    for (source, told) in [
        ("", "200 unmatched"),
        ("unmatched = \"accept\"", "200 unmatched"),
        ("unmatched = \"refuse\"", "422 unmatched"),
    ] {
        let upstream = Upstream::start().await;
        let routes = "[[routes]]\ntypes = \"user.*\"\nto = \"a\"\n";
        let gateway = Gateway::start(&routed(&upstream, source, routes)).await;

        let answer = sent(&gateway, &upstream, "msg_1", r#"{"type":"order.paid"}"#).await;

        assert_eq!(answer, (told.into(), String::new()), "{source}");
    }
}

#[tokio::test]
async fn an_event_without_a_type_matches_only_routes_without_types() {
    let upstream = Upstream::start().await;
    let typed = "[[routes]]\ntypes = \"user.*\"\nto = \"a\"\n";
    let all = "[[routes]]\nto = \"b\"\n";
    let only_typed = Gateway::start(&routed(&upstream, "", typed)).await;
    let both = Gateway::start(&routed(&upstream, "", &format!("{typed}{all}"))).await;
    // A member given twice, no text, no JSON, more than one text, an array.
    for (number, body) in [
        r#"{"data":1}"#,
        r#"{"type":"user.a","type":"user.a"}"#,
        r#"{"type":7}"#,
        r#"{"type":""}"#,
        r#"{"type":" user.a"}"#,
        r#"{"type":"user.ä"}"#,
        r#"{"type":"user.a"} {}"#,
        r#"{"type":"user.a""#,
        r#"["type","user.a"]"#,
        "\u{feff}{\"type\":\"user.a\"}",
        "",
    ]
    .iter()
    .enumerate()
    {
        let id = format!("msg_{number}");
        let answer = sent(&only_typed, &upstream, &id, body).await;
        assert_eq!(answer, ("422 untyped".into(), String::new()), "{body}");
        let answer = sent(&both, &upstream, &id, body).await;
        assert_eq!(answer, ("200 delivered".into(), "b".into()), "{body}");
    }
    let metrics = only_typed.metrics().await;
    assert_eq!(metrics.refused("untyped"), 11.0);
    only_typed.only_this_in_the_ledger().await;
}

#[tokio::test]
async fn the_type_is_read_where_the_source_says() {
    for (rule, body, event_type) in [
        ("", r#"{"eventType":"a.b"}"#, Some("a.b")),
        ("", r#"{"event_type":"a.b"}"#, Some("a.b")),
        ("", r#"{"event_type":"no","type":"yes"}"#, Some("yes")),
        ("", r#"{"x":{"type":"no"},"type":"\u0079es"}"#, Some("yes")),
        (
            "\"/meta/kind\"",
            r#"{"meta":{"kind":"deep"}}"#,
            Some("deep"),
        ),
        ("\"/a~1b/0\"", r#"{"a/b":["first"]}"#, Some("first")),
        (
            "\"{/source}.{/action}\"",
            r#"{"source":"git","action":"push"}"#,
            Some("git.push"),
        ),
        ("\"{/source}.{/action}\"", r#"{"source":"git"}"#, None),
        ("\"header:X-Event\"", r#"{}"#, Some("from.header")),
        ("\"const:always\"", r#"not json"#, Some("always")),
    ] {
        let upstream = Upstream::start().await;
        let source = match rule {
            "" => "to = \"a\"".to_owned(),
            rule => format!("event_type = {rule}\nto = \"a\""),
        };
        let gateway = Gateway::start(&routed(&upstream, &source, "")).await;
        let message = Message::new("msg_1").body(body).seal();

        let answer = gateway
            .post("/clerk", &message.and("X-Event", "from.header"))
            .await;

        assert_eq!(answer.told(), (200, "delivered"), "{rule} {body}");
        assert_eq!(
            upstream.only().header("hookward-type"),
            event_type,
            "{rule} {body}"
        );
    }
}

#[tokio::test]
async fn routes_take_events_of_the_sources_they_name() {
    let upstream = Upstream::start().await;
    let config = routed(
        &upstream,
        "[sources.other]\nsecrets = \"env:KEY\"\npath = \"/hooks/other\"",
        "[[routes]]\nfrom = \"clerk\"\nto = \"a\"\n[[routes]]\nfrom = [\"other\"]\nto = \"b\"\n[[routes]]\nto = \"c\"\n",
    );
    let gateway = Gateway::start(&config).await;
    let message = Message::new("msg_1").seal();

    assert_eq!(gateway.post("/clerk", &message).await.status, 200);
    assert_eq!(gateway.post("/hooks/other", &message).await.status, 200);
    assert_eq!(gateway.post("/other", &message).await.status, 404);

    let mut paths: Vec<(String, String)> = upstream
        .requests()
        .iter()
        .map(|r| {
            (
                r.header("hookward-source").unwrap().to_owned(),
                r.path.clone(),
            )
        })
        .collect();
    paths.sort();
    let expected = [
        ("clerk", "/a"),
        ("clerk", "/c"),
        ("other", "/b"),
        ("other", "/c"),
    ];
    assert_eq!(paths, expected.map(|(s, p)| (s.to_owned(), p.to_owned())));
}
