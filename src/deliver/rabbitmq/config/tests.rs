use crate::deliver::fixture::read;
use crate::deliver::{DestinationConfig, KindConfig};
use crate::setting::SecretReader;

use super::*;

const TO: &str = "type = 'rabbitmq'\nurl = 'amqp://broker'\n";

fn good(text: &str) -> DestinationConfig {
    let (config, problems) = read(text, SecretReader::Process);
    assert_eq!(problems, "");
    config.unwrap()
}

fn rabbit(text: &str) -> RabbitConfig {
    let KindConfig::Rabbit(rabbit) = good(text).kind else {
        unreachable!()
    };
    *rabbit
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = good(&format!("{TO}exchange = 'events'"));
    assert_eq!(config.max_in_flight, 1024);
    assert!(config.needs_type());
    assert_eq!(
        config.summary(),
        "rabbitmq amqp://broker exchange events as {type}"
    );
    let rabbit = rabbit(&format!("{TO}queue = 'events'"));
    assert_eq!(rabbit.message_id.to_string(), "{id}");
    assert_eq!(rabbit.confirm_timeout, Duration::from_secs(5));
    assert_eq!(
        (rabbit.declare, rabbit.broker.ca, rabbit.broker.client),
        (None, None, None)
    );
    assert!(!good(&format!("{TO}queue = 'events'")).needs_type());
}

#[test]
fn what_is_declared_fits_what_is_published_to() {
    let declare = |text: &str| rabbit(&format!("{TO}{text}")).declare.unwrap();
    let names = |names: &[ShortString]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let all = declare("exchange = 'e'\ndeclare = { queue = 'q' }");
    assert_eq!(all.exchange.unwrap().1, "topic");
    assert_eq!(all.queue_type, "quorum");
    assert_eq!(names(&all.bind), ["#"]);
    let one = "exchange = 'e'\nrouting_key = 'k'\ndeclare = { queue = 'q' }";
    assert_eq!(names(&declare(one).bind), ["k"]);
    let alone = declare("exchange = 'e'\ndeclare = { exchange_type = 'fanout' }");
    assert_eq!((alone.queue, alone.bind.len()), (None, 0));
    let queue = declare(
        "queue = 'q'\ndeclare = { queue_type = 'classic', arguments = { x-max-length = 5, a = true, b = 'c' } }",
    );
    assert_eq!(queue.exchange, None);
    assert_eq!(queue.queue.unwrap().as_str(), "q");
    assert_eq!(queue.arguments.len(), 3);
}

#[test]
fn a_client_certificate_and_its_key_are_found_to_belong_together() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
    let pair = || rcgen::generate_simple_self_signed(vec!["hookward".into()]).unwrap();
    let (one, other) = (pair(), pair());
    write("cert", one.cert.pem());
    write("key", one.signing_key.serialize_pem());
    write("stranger", other.signing_key.serialize_pem());
    let at = |key: &str| {
        let folder = dir.path().display();
        format!(
            "type = 'rabbitmq'\nurl = 'amqps://broker'\nqueue = 'q'\ncert = '{folder}/cert'\nkey = '{folder}/{key}'"
        )
    };
    good(&at("key"));
    let (config, problems) = read(&at("stranger"), SecretReader::Process);
    assert_eq!(config, None);
    assert!(
        problems.contains("`key` names the file")
            && problems.contains("does not belong to the certificate"),
        "{problems}"
    );
}

#[test]
fn every_mistake_is_told_with_its_key() {
    for (text, told) in [
        ("", "has neither an `exchange` nor a `queue`"),
        (
            "exchange = 'a'\nqueue = 'b'",
            "has both an `exchange` and a `queue`",
        ),
        ("exchange = ''", "has an `exchange` without a name"),
        ("queue = ''", "has a `queue` without a name"),
        (
            "queue = 'q'\nrouting_key = 'k'",
            "`routing_key` stands beside a `queue`",
        ),
        ("exchange = '{kind}'", "`exchange` has a place that is none"),
        (
            "exchange = 'e'\nrouting_key = '{type'",
            "`routing_key` has a `{`",
        ),
        ("queue = 'q'\nmessage_id = 'i}'", "`message_id` has a `}`"),
        (
            "queue = 'q'\nmessage_id = 'i'",
            "`message_id` is the same for several",
        ),
        (
            "queue = 'q'\nconfirm_timeout = '0s'",
            "`confirm_timeout` is no time",
        ),
        (
            "queue = 'q'\nheaders = { Svix-Id = 'a' }",
            "`headers.Svix-Id` is set by hookward",
        ),
        (
            "queue = 'q'\nheaders = { a = \"b\\n\\u0001c\" }",
            "`headers.a` holds a line end",
        ),
        ("queue = 'q'\ncert = 'a'", "`key` is missing"),
        ("queue = 'q'\nkey = 'a'", "`cert` is missing"),
        (
            "queue = 'q'\ncert = 'no'\nkey = 'such'",
            "in which no certificate can be read",
        ),
        ("queue = 'q'\ndeclare = true", "`declare` is not a table"),
        (
            "queue = 'q'\ndeclare = { bind = 'a' }",
            "`declare` speaks of an exchange",
        ),
        (
            "queue = 'q{type}'\ndeclare = {}",
            "`declare` cannot declare a queue",
        ),
        (
            "exchange = '{type}'\ndeclare = {}",
            "`declare` cannot declare an exchange",
        ),
        (
            "exchange = 'e'\ndeclare = { bind = 'a' }",
            "`declare` binds no queue",
        ),
        (
            "queue = 'q'\ndeclare = { queue_type = 'fast' }",
            "`declare.queue_type` is no type",
        ),
        (
            "exchange = 'e'\ndeclare = { exchange_type = 'topik' }",
            "`declare.exchange_type` is no type",
        ),
        (
            "queue = 'q'\ndeclare = { arguments = { x = 1.5 } }",
            "`declare.arguments.x` is neither",
        ),
        ("queue = 'q'\nexchnge = 'e'", "`exchnge` is not a key"),
    ] {
        let problems = read(&format!("{TO}{text}"), SecretReader::Process).1;
        assert!(problems.contains(told), "{told} in:\n{problems}");
    }
}

#[test]
fn a_wrong_url_is_told_without_its_secrets() {
    for (url, told) in [
        ("http://me:hush@broker", "is neither amqp nor amqps"),
        ("amqp://me:hush@broker/", "names no virtual host"),
        ("amqp://me:hush@broker/a/b", "names no virtual host"),
        ("amqp://me:hush@broker?heartbeat=5", "has a part after"),
        ("amqp://me:hush@broker:0", "names no host and port"),
        ("amqp://", "names no host and port"),
        ("hush", "is not a URL"),
        ("env:HUSH_UNSET", "names the environment variable"),
        ("amqp://me:hush@broker/%2f", "holds the password itself"),
    ] {
        let text = format!("type = 'rabbitmq'\nurl = '{url}'\nqueue = 'q'");
        let problems = read(&text, SecretReader::Process).1;
        assert!(problems.contains(told), "{told} in:\n{problems}");
        assert!(!problems.contains("hush"), "{problems}");
    }
}

#[test]
fn several_nodes_are_summed_up_without_their_passwords() {
    let text = "type = 'rabbitmq'\nurl = ['amqps://me:hush@a/%2f', 'amqp://b:5673/x']\nqueue = 'q'";
    let (config, _) = read(text, SecretReader::Process);
    let config = config.unwrap();
    assert_eq!(
        config.summary(),
        "rabbitmq amqps://a/%2f, amqp://b:5673/x queue q"
    );
    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn without_secrets_neither_variable_nor_file_is_read() {
    let (config, problems) = read(
        "type = 'rabbitmq'\nurl = 'env:UNSET'\nqueue = 'q'\nca = '/no'\ncert = '/no'\nkey = '/no'",
        SecretReader::Skip,
    );
    assert_eq!(problems, "");
    assert_eq!(config.unwrap().summary(), "rabbitmq env:UNSET queue q");
}
