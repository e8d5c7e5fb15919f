//! What can be read in two ways: as one request or as two, up to here or up to
//! there. Straight, and behind proxies that may read it in the other way.
//!
//! Whatever is written, what hookward forwards is one proven message as it was
//! signed, or nothing; what is hidden in a message never becomes a second one; and
//! nobody is given the answer to what another sent.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use svix::webhooks::Webhook;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::corpus::{Ambiguous, corpus};
use super::proxies::Proxy;
use crate::support::{Answer, Connection, Gateway, KEY, Message, Upstream, clerk_to};

/// How long a proxy may think about what it makes of a request. What comes later
/// is not waited for.
const THOUGHT: Duration = Duration::from_millis(500);

async fn gateway(upstream: &Upstream) -> Gateway {
    let config = format!(
        "server.header_timeout = \"1s\"\nserver.body_timeout = \"1s\"\n{}",
        clerk_to(upstream.url())
    );
    Gateway::start(&config).await
}

/// The id an answer is about, if it names one.
fn about(answer: &Answer) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    Some(json.get("id")?.as_str()?.to_owned())
}

/// Writes it, and a message behind it on the same connection: every answer until
/// that of the message, or the end of the connection.
async fn straight(address: SocketAddr, ambiguous: &Ambiguous, behind: &str) -> Vec<Answer> {
    let mut connection = Connection::open(address).await;
    let mut answers = Vec::new();
    // The other side may have closed by now.
    let _ = connection.try_write(&ambiguous.bytes).await;
    let message = Message::new(behind).seal().request("/clerk");
    let _ = connection.try_write(&message).await;
    while let Ok(answer) = connection.try_answer().await {
        let last = about(&answer).as_deref() == Some(behind);
        // To go on is no answer yet.
        if answer.status != 100 {
            answers.push(answer);
        }
        if last {
            break;
        }
    }
    answers
}

/// What reached the service is whole and genuine, each once, and nothing of it was
/// hidden in another.
fn nothing_hidden_arrived(upstream: &Upstream, all: &[Ambiguous]) {
    let sdk = Webhook::new(KEY).unwrap();
    let hidden = |id: &str| all.iter().find(|a| a.hidden == id && !a.apart);
    let mut times: HashMap<String, usize> = HashMap::new();
    for request in upstream.requests() {
        let id = request.id();
        if let Some(ambiguous) = hidden(id) {
            panic!("{}: what was hidden arrived", ambiguous.what);
        }
        let count = times.entry(id.to_owned()).or_default();
        *count += 1;
        assert_eq!(*count, 1, "{id}");
        sdk.verify(&request.body, &request.map()).unwrap();
        if let Some(outer) = all.iter().find(|a| a.outer.header("svix-id") == id) {
            assert_eq!(request.body, outer.outer.body, "{}", outer.what);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn straight_from_a_sender_it_is_one_proven_message_or_nothing() {
    let upstream = Upstream::start().await;
    let gateway = gateway(&upstream).await;
    let address = gateway.address();
    let mut senders = JoinSet::new();
    for (number, ambiguous) in corpus("straight").into_iter().enumerate() {
        senders.spawn(async move {
            let behind = format!("behind_{number}");
            let answers = straight(address, &ambiguous, &behind).await;
            (ambiguous, behind, answers)
        });
    }
    let mut all = Vec::new();
    let mut delivered = 0;

    for (ambiguous, behind, answers) in senders.join_all().await {
        let what = &ambiguous.what;
        let outer = ambiguous.outer.header("svix-id");
        let named: Vec<String> = answers.iter().filter_map(about).collect();
        let apart = ambiguous.apart.then_some(ambiguous.hidden.as_str());
        let mut in_turn = vec![outer];
        in_turn.extend(apart);
        in_turn.push(&behind);
        assert!(answers.len() <= in_turn.len(), "{what}: {answers:?}");
        in_turn.retain(|id| named.iter().any(|name| name == id));
        assert_eq!(named, in_turn, "{what}");
        let arrived = upstream.requests().iter().any(|r| r.id() == outer);
        assert_eq!(arrived, named.iter().any(|name| name == outer), "{what}");
        delivered += usize::from(arrived);
        all.push(ambiguous);
    }

    nothing_hidden_arrived(&upstream, &all);
    // Some of it is in order, if odd.
    assert!(delivered > 5 && delivered < all.len() / 2, "{delivered}");
    let after = gateway.send(&Message::new("after")).await;
    assert_eq!(after.told(), (200, "delivered"));
}

/// Sends the whole corpus through a proxy, each followed by others' messages on the
/// connection it left behind.
async fn behind(proxy: &Proxy, prefix: &str) -> Vec<Ambiguous> {
    let all = corpus(prefix);
    let mut served = 0;
    for (number, ambiguous) in all.iter().enumerate() {
        let what = &ambiguous.what;
        let mut attacker = Connection::open(proxy.address()).await;
        let _ = attacker.try_write(&ambiguous.bytes).await;
        if let Ok(Ok(answer)) = timeout(THOUGHT, attacker.try_answer()).await {
            let outer = ambiguous.outer.header("svix-id");
            assert!(
                about(&answer).is_none_or(|id| id == outer),
                "{what}: {answer:?}"
            );
        }
        for victim in 0..3 {
            let id = format!("{prefix}_victim_{number}_{victim}");
            let message = Message::new(&id).seal();
            let mut connection = Connection::open(proxy.address()).await;
            connection.write(&message.request("/clerk")).await;
            let answer = connection.try_answer().await;
            let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
            if let Some(about) = about(&answer) {
                assert_eq!(about, id, "{what}");
                assert_eq!(answer.told(), (200, "delivered"), "{what}");
                served += 1;
            } else {
                // By the proxy, over a connection that hookward closed.
                assert!(
                    answer.status >= 500 && answer.word().is_empty(),
                    "{what}: {answer:?}"
                );
            }
        }
    }
    assert!(served > all.len() * 2, "{served} of {}", all.len() * 3);
    all
}

#[tokio::test]
async fn through_nginx_no_message_becomes_two_and_no_answer_goes_astray() {
    let upstream = Upstream::start().await;
    let gateway = gateway(&upstream).await;
    let proxy = Proxy::nginx(gateway.address()).await;

    let all = behind(&proxy, "nginx").await;

    nothing_hidden_arrived(&upstream, &all);
}

#[tokio::test]
async fn through_haproxy_no_message_becomes_two_and_no_answer_goes_astray() {
    let upstream = Upstream::start().await;
    let gateway = gateway(&upstream).await;
    let proxy = Proxy::haproxy(gateway.address(), "").await;

    let all = behind(&proxy, "haproxy").await;

    nothing_hidden_arrived(&upstream, &all);
}

#[tokio::test]
async fn through_a_proxy_that_takes_anything_no_answer_goes_astray() {
    let upstream = Upstream::start().await;
    let gateway = gateway(&upstream).await;
    let lax = "option accept-invalid-http-request";
    let proxy = Proxy::haproxy(gateway.address(), lax).await;

    // It makes two requests of some itself, and sends on what is out of form.
    behind(&proxy, "lax").await;
}
