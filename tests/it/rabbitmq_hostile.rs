//! A broker that says what none should costs its own events, and neither the memory
//! nor the process of the gateway (P5). The broker here is a script.

use crate::support::{Connection, Gateway, Message, Peer, Script};

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

/// Sends an event, which the broker takes.
async fn delivered(gateway: &Gateway, peer: &mut Peer) {
    let mut connection = Connection::open(gateway.address()).await;
    let message = Message::new("a").seal();
    let confirmed = async {
        let published = peer.published().await;
        peer.confirm(&published).await;
    };
    let (answer, ()) = tokio::join!(connection.post("/clerk", &message), confirmed);
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
