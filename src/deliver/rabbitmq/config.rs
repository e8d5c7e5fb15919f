use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ::http::HeaderValue;
use lapin::types::ShortString;
use lapin::uri::AMQPUri;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::deliver::config::positive;
use crate::deliver::http::{self, Ca};
use crate::message::Family;
use crate::setting::{Entry, SafeUrl, Secret, SecretReader, SecretSource, Section};

use super::template::Template;

/// A RabbitMQ destination as it was configured and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct RabbitConfig {
    /// The nodes of the broker, tried one after the other; at least one.
    pub nodes: Vec<Node>,
    /// Where on the broker events go.
    pub target: RabbitTarget,
    /// The `message_id` of what is published.
    pub message_id: Template,
    /// Set on everything that is published.
    pub headers: Vec<(ShortString, Secret)>,
    /// For a whole batch, from the first byte to its last confirm.
    pub confirm_timeout: Duration,
    /// The authorities trusted in place of the system's.
    pub ca: Option<Ca>,
    /// What hookward shows who it is.
    pub client: Option<ClientCertificate>,
    /// What is declared before anything is published; nothing by default.
    pub declare: Option<Declare>,
}

/// Where on the broker events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RabbitTarget {
    /// To an exchange, under a routing key.
    Exchange {
        /// Its name.
        exchange: Template,
        /// The routing key.
        routing_key: Template,
    },
    /// To a queue, through the default exchange.
    Queue {
        /// The empty name of the default exchange.
        default_exchange: Template,
        /// Its name.
        queue: Template,
    },
}

impl RabbitTarget {
    /// Exchange and routing key.
    pub(super) fn templates(&self) -> (&Template, &Template) {
        match self {
            RabbitTarget::Exchange {
                exchange,
                routing_key,
            } => (exchange, routing_key),
            RabbitTarget::Queue {
                default_exchange,
                queue,
            } => (default_exchange, queue),
        }
    }
}

impl fmt::Display for RabbitTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RabbitTarget::Exchange {
                exchange,
                routing_key,
            } => write!(f, "exchange {exchange} as {routing_key}"),
            RabbitTarget::Queue { queue, .. } => write!(f, "queue {queue}"),
        }
    }
}

/// A node of the broker: its URL, which may be a secret.
#[derive(Clone, PartialEq)]
pub struct Node {
    secret: Secret,
    /// Nothing when secrets were not to be read.
    url: Option<(SafeUrl, AMQPUri)>,
}

impl Node {
    /// Where it is, if that was read. It holds a password.
    pub(super) fn uri(&self) -> Option<&AMQPUri> {
        self.url.as_ref().map(|(_, uri)| uri)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.url, self.secret.source()) {
            (Some((url, _)), _) => url.fmt(f),
            (None, source) => source.fmt(f),
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({self})")
    }
}

/// A certificate and its key, by which a broker knows hookward.
#[derive(PartialEq)]
pub struct ClientCertificate {
    cert: PathBuf,
    key: PathBuf,
    /// Empty, and without a key, when files were not to be read.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) secret: Option<PrivateKeyDer<'static>>,
}

impl Clone for ClientCertificate {
    fn clone(&self) -> Self {
        Self {
            cert: self.cert.clone(),
            key: self.key.clone(),
            chain: self.chain.clone(),
            secret: self.secret.as_ref().map(PrivateKeyDer::clone_key),
        }
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCertificate({})", self.cert.display())
    }
}

/// What is to be on the broker. What is there already is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declare {
    /// The exchange, durable, of this type; none where events go to a queue.
    pub exchange: Option<(ShortString, String)>,
    /// The queue, durable; none where only an exchange is declared.
    pub queue: Option<ShortString>,
    /// `quorum`, `classic` or `stream`.
    pub queue_type: String,
    /// The keys by which the queue is bound to the exchange.
    pub bind: Vec<ShortString>,
    /// Further arguments of the queue.
    pub arguments: Vec<(ShortString, Argument)>,
}

/// An argument of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// True or false.
    Truth(bool),
}

const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

const URL: &str = "as in `\"amqp://user:password@broker:5672/%2f\"`, best as `\"env:NAME\"`";
const PLACES: &str =
    "the places are `{source}`, `{type}` and `{id}`; a brace is written `{{` or `}}`";
/// Any other is a plugin's; the broker ends the connection over one it does not know.
const EXCHANGE_TYPES: [&str; 4] = ["topic", "direct", "fanout", "headers"];
const QUEUE_TYPES: [&str; 3] = ["quorum", "classic", "stream"];

impl RabbitConfig {
    pub(in crate::deliver) fn read(section: &mut Section<'_>) -> Option<Self> {
        let nodes = nodes(section);
        let target = target(section);
        let entry = section.entry("message_id");
        let message_id = template(entry.as_ref(), "{id}");
        if let (Some(entry), Some(message_id)) = (&entry, &message_id)
            && message_id.may_repeat()
        {
            entry.warn(
                "is the same for several events, which are then published one after the other",
                "let it have `{id}` in it",
            );
        }
        let headers = headers(section);
        let confirm_timeout = positive(section, "confirm_timeout", CONFIRM_TIMEOUT);
        let ca = http::ca(section);
        let client = client(section);
        let declare = match &target {
            Some(target) => declare(section, target),
            None => {
                // What it has to fit is not known.
                section.entry("declare");
                None
            }
        };
        let nodes = nodes?;
        if (matches!(ca, Some(Some(_))) || matches!(client, Some(Some(_))))
            && nodes.iter().filter_map(Node::uri).any(|uri| !is_tls(uri))
        {
            section.warn(
                "has certificates, and a `url` without TLS",
                "use `amqps://`",
            );
        }
        Some(Self {
            nodes,
            target: target?,
            message_id: message_id?,
            headers,
            confirm_timeout,
            ca: ca?,
            client: client?,
            declare: declare?,
        })
    }

    /// Whether a name on the broker, or the message's own, is made of the type.
    pub(in crate::deliver) fn needs_type(&self) -> bool {
        let (exchange, routing_key) = self.target.templates();
        [exchange, routing_key, &self.message_id]
            .iter()
            .any(|template| template.needs_type())
    }
}

impl fmt::Display for RabbitConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, node) in self.nodes.iter().enumerate() {
            let separator = if number > 0 { ", " } else { "" };
            write!(f, "{separator}{node}")?;
        }
        write!(f, " {}", self.target)
    }
}

pub(super) fn is_tls(uri: &AMQPUri) -> bool {
    uri.scheme == lapin::uri::AMQPScheme::AMQPS
}

fn nodes(section: &mut Section<'_>) -> Option<Vec<Node>> {
    let Some(entry) = section.entry("url") else {
        section.missing("url", URL);
        return None;
    };
    let place = entry.key().to_owned();
    let reader = entry.reader();
    let items = entry.items();
    if items.is_empty() {
        reader.error(&place, "names no broker", URL);
        return None;
    }
    let nodes: Vec<_> = items.iter().map(node).collect();
    nodes.into_iter().collect()
}

fn node(entry: &Entry<'_>) -> Option<Node> {
    let secret = Secret::of(entry)
        .map_err(|why| entry.error(why, URL))
        .ok()?;
    let Some(text) = secret.expose() else {
        // A literal is there to be looked at all the same.
        if *secret.source() != SecretSource::Literal {
            return Some(Node { secret, url: None });
        }
        let text = entry.text()?;
        return parse(entry, secret, &text);
    };
    let text = text.to_owned();
    parse(entry, secret, &text)
}

fn parse(entry: &Entry<'_>, secret: Secret, text: &str) -> Option<Node> {
    let told = |why: String| {
        let why = match secret.source() {
            SecretSource::Literal => why,
            source => format!("names `{source}`, which {why}"),
        };
        entry.error(why, URL);
    };
    let safe = SafeUrl::parse(text).map_err(told).ok()?;
    let url = safe.expose();
    if !matches!(url.scheme(), "amqp" | "amqps") {
        told("is neither amqp nor amqps".into());
        return None;
    }
    if url.host_str().is_none_or(str::is_empty) || url.port() == Some(0) {
        told("names no host and port".into());
        return None;
    }
    if url.path() == "/" || url.path().trim_start_matches('/').contains('/') {
        told("names no virtual host: `/%2f` is the usual one, `/` is the empty one".into());
        return None;
    }
    if url.query().is_some() || url.fragment().is_some() {
        told("has a part after `?` or `#`, which hookward sets itself".into());
        return None;
    }
    let Ok(uri) = text.trim().parse::<AMQPUri>() else {
        told("is not a URL of a broker".into());
        return None;
    };
    if uri.vhost.len() > super::template::LONGEST {
        told("names a virtual host of more than 255 bytes".into());
        return None;
    }
    if url.password().is_some() && *secret.source() == SecretSource::Literal {
        entry.warn(
            "holds the password itself",
            "keep it out of the file: `\"env:NAME\"` or `\"file:/path\"`, with the whole URL",
        );
    }
    Some(Node {
        secret,
        url: Some((safe, uri)),
    })
}

fn template(entry: Option<&Entry<'_>>, default: &str) -> Option<Template> {
    let Some(entry) = entry else {
        return Template::parse(default).ok();
    };
    let text: String = entry.read()?;
    match Template::parse(&text) {
        Ok(template) => Some(template),
        Err(why) => {
            entry.error(why, PLACES);
            None
        }
    }
}

fn target(section: &mut Section<'_>) -> Option<RabbitTarget> {
    let exchange = section.entry("exchange");
    let queue = section.entry("queue");
    let key = section.entry("routing_key");
    let routing_key = template(key.as_ref(), "{type}");
    match (exchange, queue) {
        (Some(exchange), None) => {
            let exchange = template(Some(&exchange), "")?;
            if exchange.constant() == Some("") {
                section.error(
                    "has an `exchange` without a name",
                    "to reach a queue directly, write `queue = \"NAME\"` instead",
                );
                return None;
            }
            Some(RabbitTarget::Exchange {
                exchange,
                routing_key: routing_key?,
            })
        }
        (None, Some(queue)) => {
            if let Some(key) = key {
                key.error(
                    "stands beside a `queue`",
                    "a queue is reached by its name alone: leave it out",
                );
                return None;
            }
            let queue = template(Some(&queue), "")?;
            if queue.constant() == Some("") {
                section.error("has a `queue` without a name", "");
                return None;
            }
            Some(RabbitTarget::Queue {
                default_exchange: Template::parse("").ok()?,
                queue,
            })
        }
        (Some(_), Some(_)) => {
            section.error(
                "has both an `exchange` and a `queue`",
                "publish to an exchange with a `routing_key`, or to a queue",
            );
            None
        }
        (None, None) => {
            section.error(
                "has neither an `exchange` nor a `queue`",
                "`exchange = \"NAME\"`, with `routing_key` (`\"{type}\"`), or `queue = \"NAME\"`",
            );
            None
        }
    }
}

fn headers(section: &mut Section<'_>) -> Vec<(ShortString, Secret)> {
    let mut headers: Vec<(ShortString, Secret)> = Vec::new();
    for (key, entry) in section.section("headers").rest() {
        let Ok(name) = ShortString::try_new(&*key) else {
            entry.error("is longer than the 255 bytes AMQP can carry", "");
            continue;
        };
        let lower = key.to_ascii_lowercase();
        let ours = lower.starts_with("hookward-")
            || Family::ALL
                .iter()
                .any(|family| family.names().contains(&lower.as_str()));
        if ours {
            entry.error("is set by hookward itself", "leave it out");
            continue;
        }
        let secret = match Secret::of(&entry) {
            Ok(secret) => secret,
            Err(why) => {
                entry.error(why, "the text, or `\"env:NAME\"` or `\"file:/path\"`");
                continue;
            }
        };
        if let Some(text) = secret.expose()
            && HeaderValue::from_str(text).is_err()
        {
            entry.error("holds a line end or another control character", "");
            continue;
        }
        headers.push((name, secret));
    }
    headers
}

/// `None` when it is wrong, `Some(None)` when it is not there.
fn client(section: &mut Section<'_>) -> Option<Option<ClientCertificate>> {
    let cert = section.entry("cert");
    let key = section.entry("key");
    let (cert, key) = match (cert, key) {
        (None, None) => return Some(None),
        (Some(cert), Some(key)) => (cert, key),
        (Some(_), None) => {
            section.missing("key", "the key of `cert`, a file in PEM form");
            return None;
        }
        (None, Some(_)) => {
            section.missing("cert", "the certificate of `key`, a file in PEM form");
            return None;
        }
    };
    let cert_path: PathBuf = cert.read()?;
    let key_path: PathBuf = key.read()?;
    cert.reader().depends_on(&cert_path);
    key.reader().depends_on(&key_path);
    let mut read = ClientCertificate {
        cert: cert_path,
        key: key_path,
        chain: Vec::new(),
        secret: None,
    };
    if cert.reader().secrets() == SecretReader::Skip {
        return Some(Some(read));
    }
    let chain = CertificateDer::pem_file_iter(&read.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .ok()
        .filter(|chain| !chain.is_empty());
    let secret = PrivateKeyDer::from_pem_file(&read.key).ok();
    if chain.is_none() {
        let path = read.cert.display();
        cert.error(
            format!("names the file `{path}`, in which no certificate can be read"),
            "a file of certificates in PEM form",
        );
    }
    if secret.is_none() {
        let path = read.key.display();
        key.error(
            format!("names the file `{path}`, in which no key can be read"),
            "a file with a private key in PEM form",
        );
    }
    read.chain = chain?;
    read.secret = Some(secret?);
    Some(Some(read))
}

/// `None` when it is wrong, `Some(None)` when it is not there.
fn declare(section: &mut Section<'_>, target: &RabbitTarget) -> Option<Option<Declare>> {
    let Some(entry) = section.entry("declare") else {
        return Some(None);
    };
    if !entry.is_table() {
        entry.error(
            "is not a table",
            "as in `{ exchange_type = \"topic\", queue = \"events\", bind = [\"user.#\"] }`",
        );
        return None;
    }
    let mut table = entry.section()?;
    let exchange_type = match table.entry("exchange_type") {
        None => Some(None),
        Some(entry) => match entry.text() {
            Some(kind) if EXCHANGE_TYPES.contains(&&*kind) || kind.starts_with("x-") => {
                Some(Some(kind))
            }
            _ => {
                entry.error(
                    "is no type of exchange",
                    "`\"topic\"`, `\"direct\"`, `\"fanout\"`, `\"headers\"`, or one of a plugin, `\"x-…\"`",
                );
                None
            }
        },
    };
    let queue = match table.entry("queue") {
        None => Some(None),
        Some(entry) => name(&entry).map(Some),
    };
    let queue_type = match table.entry("queue_type") {
        None => Some("quorum".to_owned()),
        Some(entry) => match entry.text() {
            Some(kind) if QUEUE_TYPES.contains(&&*kind) => Some(kind),
            _ => {
                entry.error(
                    "is no type of queue",
                    "`\"quorum\"`, `\"classic\"` or `\"stream\"`",
                );
                None
            }
        },
    };
    let bind = table.entry("bind");
    let bind_is_there = bind.is_some();
    let bind = bind.map(Entry::items).unwrap_or_default();
    let bind: Option<Vec<_>> = bind.iter().map(name).collect();
    let arguments = arguments(&mut table);
    let (exchange, queue, bind) = match target {
        RabbitTarget::Exchange {
            exchange,
            routing_key,
        } => {
            let Some(exchange) = exchange.constant() else {
                table.error(
                    "cannot declare an exchange whose name is made of the event",
                    "declare it on the broker",
                );
                return None;
            };
            let queue = queue?;
            let mut bind = bind?;
            if queue.is_none() && bind_is_there {
                table.error("binds no queue", "name it: `queue = \"NAME\"`");
                return None;
            }
            if queue.is_some() && !bind_is_there {
                // All that is published here: its one key, or everything.
                let all = routing_key.constant().unwrap_or("#");
                bind.push(ShortString::try_new(all).ok()?);
            }
            let kind = exchange_type?.unwrap_or_else(|| "topic".to_owned());
            (
                Some((ShortString::try_new(exchange).ok()?, kind)),
                queue,
                bind,
            )
        }
        RabbitTarget::Queue { queue: own, .. } => {
            if exchange_type?.is_some() || bind_is_there || queue?.is_some() {
                table.error(
                    "speaks of an exchange, and events go to a `queue`",
                    "here it takes `queue_type` and `arguments`",
                );
                return None;
            }
            let Some(own) = own.constant() else {
                table.error(
                    "cannot declare a queue whose name is made of the event",
                    "declare it on the broker",
                );
                return None;
            };
            (None, Some(ShortString::try_new(own).ok()?), Vec::new())
        }
    };
    Some(Some(Declare {
        exchange,
        queue,
        queue_type: queue_type?,
        bind,
        arguments: arguments?,
    }))
}

fn name(entry: &Entry<'_>) -> Option<ShortString> {
    let text: String = entry.read()?;
    match ShortString::try_new(text) {
        Ok(name) => Some(name),
        Err(_) => {
            entry.error("is longer than the 255 bytes AMQP can carry", "");
            None
        }
    }
}

fn arguments(table: &mut Section<'_>) -> Option<Vec<(ShortString, Argument)>> {
    let read = |(key, entry): (String, Entry<'_>)| {
        if key == "x-queue-type" {
            entry.error("is set by `queue_type`", "leave it out");
            return None;
        }
        let Ok(name) = ShortString::try_new(key) else {
            entry.error("is longer than the 255 bytes AMQP can carry", "");
            return None;
        };
        let argument = if let Some(text) = entry.text() {
            Argument::Text(text)
        } else if let Some(truth) = entry.truth() {
            Argument::Truth(truth)
        } else if let Some(number) = entry.integer().and_then(|n| i64::try_from(n).ok()) {
            Argument::Number(number)
        } else {
            entry.error("is neither a text, a whole number, true nor false", "");
            return None;
        };
        Some((name, argument))
    };
    let all: Vec<_> = table
        .section("arguments")
        .rest()
        .into_iter()
        .map(read)
        .collect();
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use crate::deliver::fixture::read;
    use crate::deliver::{DestinationConfig, KindConfig};

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
            (rabbit.declare, rabbit.ca, rabbit.client),
            (None, None, None)
        );
        assert!(!good(&format!("{TO}queue = 'events'")).needs_type());
    }

    #[test]
    fn what_is_declared_fits_what_is_published_to() {
        let declare = |text: &str| rabbit(&format!("{TO}{text}")).declare.unwrap();
        let names =
            |names: &[ShortString]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
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
        let text =
            "type = 'rabbitmq'\nurl = ['amqps://me:hush@a/%2f', 'amqp://b:5673/x']\nqueue = 'q'";
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
}
