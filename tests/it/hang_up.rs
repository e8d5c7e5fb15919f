//! A sender that hangs up does not cut what it sent (§5).

use crate::support::{Gateway, Message, Reply, Upstream, clerk_to};

/// Until the delivery to `app` has come out like this, and nobody is connected.
async fn ended(gateway: &Gateway, outcome: &str) {
    let labels = [
        ("source", "clerk"),
        ("destination", "app"),
        ("outcome", outcome),
    ];
    gateway
        .metrics_until("the delivery to end", |metrics| {
            metrics.value("hookward_deliveries_total", &labels) == 1.0
        })
        .await;
}

/// Until the sender's connection is gone.
async fn gone(gateway: &Gateway) {
    gateway
        .metrics_until("the connection to be gone", |metrics| {
            metrics.value("hookward_connections", &[]) == 0.0
        })
        .await;
}

/// Until a request with the id of one that runs waits for that.
async fn waits(gateway: &Gateway) {
    gateway
        .metrics_until("the retry to wait", |metrics| {
            metrics.value("hookward_in_flight", &[]) >= 2.0
        })
        .await;
}

/// A message whose sender hung up while the service had it, which answers with this
/// status when it is released.
async fn hung_up_on(status: u16) -> (Upstream, Gateway, Message) {
    let upstream = Upstream::always(Reply::Held(status)).await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let message = Message::new("msg_1");
    let mut connection = gateway.connect().await;
    connection.write(&message.seal().request("/clerk")).await;
    upstream.reached(1).await;
    drop(connection);
    gone(&gateway).await;
    (upstream, gateway, message)
}

#[tokio::test]
async fn what_was_sent_whole_arrives_and_the_retry_is_a_duplicate() {
    let (upstream, gateway, message) = hung_up_on(200).await;

    upstream.release(1);

    assert_eq!(gateway.send(&message).await.status, 200);
    assert_eq!(gateway.send(&message).await.told(), (200, "duplicate"));
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_retry_that_overtakes_the_first_is_told_its_outcome() {
    let upstream = Upstream::always(Reply::Held(200)).await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let message = Message::new("msg_1");
    let mut first = gateway.connect().await;
    first.write(&message.seal().request("/clerk")).await;
    upstream.reached(1).await;
    drop(first);

    let mut second = gateway.connect().await;
    second.write(&message.seal().request("/clerk")).await;
    waits(&gateway).await;
    upstream.release(1);

    assert_eq!(second.answer().await.status, 200);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_retry_that_waited_is_tried_itself_when_the_first_is_given_up() {
    let upstream = Upstream::sequence(vec![Reply::Held(503), Reply::Status(200)]).await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let message = Message::new("msg_1");
    let mut first = gateway.connect().await;
    first.write(&message.seal().request("/clerk")).await;
    upstream.reached(1).await;
    let mut second = gateway.connect().await;
    second.write(&message.seal().request("/clerk")).await;
    waits(&gateway).await;

    drop(first);
    gateway
        .metrics_until("the first to be gone", |metrics| {
            metrics.value("hookward_connections", &[]) == 1.0
        })
        .await;
    upstream.release(1);

    assert_eq!(second.answer().await.told(), (200, "delivered"));
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_body_cut_short_by_its_sender_reaches_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let request = Message::new("msg_1").seal().request("/clerk");
    let mut connection = gateway.connect().await;

    connection.write(&request[..request.len() - 1]).await;
    drop(connection);

    gateway
        .metrics_until("the connection to be gone", |metrics| {
            metrics.value("hookward_connections", &[]) == 0.0
                && metrics.value("hookward_in_flight", &[]) == 0.0
                && metrics.value("hookward_buffered_bytes", &[]) == 0.0
        })
        .await;
    assert_eq!(
        gateway.send(&Message::new("msg_1")).await.told(),
        (200, "delivered")
    );
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn no_new_attempt_starts_after_the_budget() {
    let upstream = Upstream::always(Reply::Held(503)).await;
    let config = format!(
        "server.request_timeout = \"1s\"\n{}timeout = \"30s\"\n",
        clerk_to(upstream.url())
    );
    let gateway = Gateway::start(&config).await;

    let answer = gateway.send(&Message::new("msg_1")).await;
    upstream.release(10);

    assert_eq!(answer.told(), (504, "late"));
    ended(&gateway, "refused").await;
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn no_new_attempt_starts_once_the_sender_hung_up() {
    // Which is tried once more, for a sender that waits.
    let (upstream, gateway, _) = hung_up_on(503).await;

    upstream.release(10);

    ended(&gateway, "refused").await;
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn an_event_is_held_for_nobody_who_hung_up() {
    // Bound and not listening: connecting is refused, and the port stays ours.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/hook", socket.local_addr().unwrap());
    let config = format!(
        "server.request_timeout = \"10m\"\n{}hold = \"10m\"\n",
        clerk_to(&url)
    );
    let gateway = Gateway::start(&config).await;
    let mut connection = gateway.connect().await;
    let message = Message::new("msg_1");
    connection.write(&message.seal().request("/clerk")).await;
    gateway
        .metrics_until("the event to wait", |metrics| {
            metrics.value("hookward_destination_in_flight", &[("destination", "app")]) == 1.0
        })
        .await;

    drop(connection);

    ended(&gateway, "failed").await;
    let upstream = Upstream::over(socket.listen(16).unwrap(), |_, _| Reply::Status(200));
    assert_eq!(gateway.send(&message).await.told(), (200, "delivered"));
    assert_eq!(upstream.count(), 1, "the retry alone");
}

#[tokio::test]
async fn what_is_not_required_is_tried_on_when_the_sender_has_its_answer() {
    let quick = Upstream::start().await;
    let slow = Upstream::sequence(vec![Reply::Held(503), Reply::Status(200)]).await;
    let config = format!(
        "sources.clerk.secrets = \"env:KEY\"\n\
         sources.clerk.to = [\"app\", \"audit\"]\n\
         [destinations.audit]\ntype = \"http\"\nurl = \"{}\"\nrequired = false\n\
         [destinations.app]\ntype = \"http\"\nurl = \"{}\"\n",
        slow.url(),
        quick.url()
    );
    let gateway = Gateway::start(&config).await;
    let mut connection = gateway.connect().await;
    let message = Message::new("msg_1").seal();
    connection.write(&message.request("/clerk")).await;
    assert_eq!(connection.answer().await.told(), (200, "delivered"));

    drop(connection);
    gone(&gateway).await;
    slow.release(1);

    slow.reached(2).await;
}
