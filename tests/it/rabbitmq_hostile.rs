//! A broker that says what none should costs its own events, and neither the memory
//! nor the process of the gateway (P5). The broker here is a script.

use crate::support::{Connection, Gateway, Message, Peer, Script, within};

/// A source that publishes to the script.
fn config(url: &str) -> String {
    format!(
        r#"
[sources.clerk]
secrets = "env:KEY"
to = "events"
[destinations.events]
type = "rabbitmq"
url = "{url}"
exchange = "events"
"#
    )
}

/// Sends an event, which the broker takes once both channels are open.
async fn delivered(gateway: &Gateway, peer: &mut Peer) {
    for _ in 0..2 {
        peer.until_ready().await;
    }
    let mut connection = Connection::open(gateway.address()).await;
    let message = Message::new("a").seal();
    let confirmed = async {
        let published = peer.published().await;
        peer.confirm(&published).await;
    };
    let both = async { tokio::join!(connection.post("/clerk", &message), confirmed) };
    let (answer, ()) = within("an event to be delivered", both).await;
    assert_eq!(answer.told(), (200, "delivered"));
}

#[tokio::test]
async fn frames_have_a_bound_whatever_the_broker_offers() {
    // "No limit", more than any needs, and less than hookward asks for.
    for (offered, chosen) in [(0, 131_072), (u32::MAX, 131_072), (8_192, 8_192)] {
        let script = Script::listen().await;
        let gateway = Gateway::start(&config(&script.url())).await;
        let mut peer = script.greet(b"").await;
        peer.expect((10, 11)).await;
        assert_eq!(peer.tune(offered).await, chosen, "of {offered}");
        delivered(&gateway, &mut peer).await;
    }
}

#[tokio::test]
async fn tables_in_tables_end_the_connection_at_most() {
    let mut deep = Vec::new();
    for _ in 0..5_000 {
        deep = [b"\0F", &long(&deep)[..]].concat();
    }
    let script = Script::listen().await;
    let gateway = Gateway::start(&config(&script.url())).await;
    // Before any login it is not gone into.
    let mut peer = script.greet(&deep).await;
    peer.expect((10, 11)).await;
    peer.tune(131_072).await;
    peer.until_ready().await;

    // queue.declare, which only a client says.
    let declare = [b"\0\0\x01q\0", &long(&deep)[..]].concat();
    peer.method(1, (50, 10), &declare).await;

    gateway.line(&["only a client says (method 50.10)"]).await;
    let mut peer = script.accept().await;
    delivered(&gateway, &mut peer).await;
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
}
