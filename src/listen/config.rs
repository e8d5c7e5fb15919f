use std::time::Duration;

use ipnet::IpNet;

use super::{Address, Door, Limits, Tls};
use crate::setting::{ByteSize, Entry, Section, Setting};

/// `[server]`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// Where requests come in.
    pub listen: Address,
    /// Certificate and key; plain HTTP without.
    pub tls: Option<Tls>,
    /// The largest body.
    pub max_body: ByteSize,
    /// How long a head may take to come.
    pub header_timeout: Duration,
    /// How long a body may take to come.
    pub body_timeout: Duration,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// From the first byte of the head to the answer.
    pub request_timeout: Duration,
    /// Connections at one time; further ones wait unaccepted.
    pub max_connections: usize,
    /// Requests at one time; past it: 503.
    pub max_in_flight: usize,
    /// Memory for bodies; past it: 503.
    pub max_buffered: ByteSize,
    /// How long everything goes on after SIGTERM.
    pub drain_delay: Duration,
    /// How long what is in flight may take when the listener is closed.
    pub shutdown_timeout: Duration,
    /// Whose X-Forwarded-For is read.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether the file is looked at for changes.
    pub watch: bool,
}

/// When Svix gives up on a request.
const SVIX_PATIENCE: Duration = Duration::from_secs(15);

impl ServerConfig {
    /// Reads `[server]`, with certificate and key unless files are not to be
    /// read, and checks the limits against one another.
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let seconds = Duration::from_secs;
        let listen = section.entry("listen");
        let listen = match listen {
            Some(entry) => entry.read(),
            None => Some(Address::Tcp(([0, 0, 0, 0], 8080).into())),
        };
        // Read before anything can end the reading, so that no key goes unasked
        // for and every problem is told.
        let tls = section.entry("tls").map(|entry| {
            let section = entry.section()?;
            Tls::read(section)
        });
        let max_body = Limit::read(section, "max_body", ByteSize::mib(1));
        let header_timeout = Limit::read(section, "header_timeout", seconds(5));
        let body_timeout = Limit::read(section, "body_timeout", seconds(10));
        let idle_timeout = Limit::read(section, "idle_timeout", seconds(75));
        let request_timeout = Limit::read(section, "request_timeout", seconds(12));
        let max_connections = Limit::read(section, "max_connections", 10_000);
        let max_in_flight = Limit::read(section, "max_in_flight", 1024);
        let max_buffered = Limit::read(section, "max_buffered", ByteSize::mib(256));
        let drain_delay = section.get_or("drain_delay", Duration::ZERO);
        let shutdown_timeout = Limit::read(section, "shutdown_timeout", seconds(20));
        let trusted_proxies = section.items("trusted_proxies");
        let watch = section.get_or("watch", false);

        for limit in [
            &header_timeout,
            &body_timeout,
            &idle_timeout,
            &request_timeout,
        ] {
            limit.must_not_be(Duration::ZERO, "nothing could ever be answered");
        }
        max_body.must_not_be(ByteSize(0), "every body would be refused");
        max_connections.must_not_be(0, "nobody could ever connect");
        max_in_flight.must_not_be(0, "every request would be refused");
        check_buffer(&max_body, &max_buffered);
        check_times(&header_timeout, &body_timeout, &request_timeout);
        if shutdown_timeout.value < request_timeout.value {
            shutdown_timeout.warn(
                "is shorter than `request_timeout`: a request accepted just before SIGTERM may be cut",
                "at least as long as `request_timeout`",
            );
        }
        let trusted_proxies = trusted_proxies.iter().filter_map(|entry| {
            let network: IpNet = entry.read()?;
            if network.prefix_len() == 0 {
                entry.warn(
                    "trusts everybody: any sender can say that it is somebody else",
                    "name the networks of the proxies alone",
                );
            }
            Some(network)
        });
        let trusted_proxies = trusted_proxies.collect();
        Some(Self {
            listen: listen?,
            tls: match tls {
                Some(tls) => Some(tls?),
                None => None,
            },
            max_body: max_body.value,
            header_timeout: header_timeout.value,
            body_timeout: body_timeout.value,
            idle_timeout: idle_timeout.value,
            request_timeout: request_timeout.value,
            max_connections: max_connections.value,
            max_in_flight: max_in_flight.value,
            max_buffered: max_buffered.value,
            drain_delay,
            shutdown_timeout: shutdown_timeout.value,
            trusted_proxies,
            watch,
        })
    }

    /// What a new connection finds. None when certificate and key were not
    /// read: then nothing can be served, and least of all without TLS.
    pub fn door(&self) -> Option<Door> {
        let tls = match &self.tls {
            None => None,
            Some(tls) => Some(tls.config()?.clone()),
        };
        let limits = Limits {
            header_timeout: self.header_timeout,
            idle_timeout: self.idle_timeout,
            crowded_timeout: self.header_timeout,
            max_connections: self.max_connections,
        };
        Some(Door { limits, tls })
    }
}

/// A value with its place, for problems that show only beside other values.
struct Limit<'a, T> {
    value: T,
    entry: Option<Entry<'a>>,
}

impl<'a, T: Setting + PartialEq> Limit<'a, T> {
    fn read(section: &mut Section<'a>, key: &'static str, default: T) -> Self {
        let entry = section.entry(key);
        match entry.as_ref().map(Entry::read) {
            Some(Some(value)) => Self { value, entry },
            // Not there, or told already: nothing more is to be said of it.
            _ => Self {
                value: default,
                entry: None,
            },
        }
    }

    fn must_not_be(&self, value: T, why: &str) {
        if self.value == value {
            self.error(format!("is zero: {why}"), T::FORM);
        }
    }

    fn is_set(&self) -> bool {
        self.entry.is_some()
    }

    fn error(&self, message: impl Into<String>, hint: &str) {
        if let Some(entry) = &self.entry {
            entry.error(message, hint);
        }
    }

    fn warn(&self, message: impl Into<String>, hint: &str) {
        if let Some(entry) = &self.entry {
            entry.warn(message, hint);
        }
    }
}

fn check_buffer(max_body: &Limit<'_, ByteSize>, max_buffered: &Limit<'_, ByteSize>) {
    if max_buffered.value >= max_body.value {
        return;
    }
    let (body, buffered) = (max_body.value, max_buffered.value);
    if max_buffered.is_set() {
        max_buffered.error(
            format!("is smaller than `max_body` ({body}): a body of that size never fits"),
            "room for many bodies, as in `\"256 MiB\"`",
        );
    } else {
        max_body.error(
            format!("is larger than `max_buffered` ({buffered}): a body of that size never fits"),
            "set `max_buffered` too",
        );
    }
}

fn check_times(
    header_timeout: &Limit<'_, Duration>,
    body_timeout: &Limit<'_, Duration>,
    request_timeout: &Limit<'_, Duration>,
) {
    let request = request_timeout.value;
    let inside = [
        (header_timeout, header_timeout.value >= request, "a head"),
        (body_timeout, body_timeout.value > request, "a body"),
    ];
    for (timeout, is_over, what) in inside {
        if !is_over {
            continue;
        }
        if timeout.is_set() {
            timeout.warn(
                format!(
                    "does not fit into `request_timeout` ({}), which ends first",
                    humantime::format_duration(request)
                ),
                "leave time for the deliveries",
            );
        } else {
            request_timeout.warn(
                format!(
                    "is over before {what} may have come ({})",
                    humantime::format_duration(timeout.value)
                ),
                "lower `header_timeout` and `body_timeout` with it",
            );
        }
    }
    if request >= SVIX_PATIENCE {
        request_timeout.warn(
            "is not shorter than 15s, when Svix gives up: it would send again what is still running",
            "`\"12s\"` leaves time for the way",
        );
    }
}

#[cfg(test)]
mod tests {
    use figment::value::Value;

    use super::*;
    use crate::setting::{Place, Reader, SecretReader};

    fn read_with(secrets: SecretReader, text: &str) -> (Option<ServerConfig>, String) {
        let table: toml::Table = text.parse().unwrap();
        let dict = Value::serialize(&table).unwrap().into_dict().unwrap();
        let reader = Reader::new("/etc/hookward", secrets, Place::Nowhere, |_, _| {
            Place::Nowhere
        });
        let mut document = reader.document(dict);
        let config = ServerConfig::read(&mut document.section("server"));
        drop(document);
        (config, reader.into_problems().to_string())
    }

    fn read(text: &str) -> (ServerConfig, String) {
        let (config, problems) = read_with(SecretReader::Skip, &format!("[server]\n{text}"));
        (config.unwrap(), problems)
    }

    #[test]
    fn an_empty_section_has_the_defaults_and_no_problem() {
        let (config, problems) = read("");
        assert_eq!(problems, "");
        assert_eq!(config.listen.to_string(), "0.0.0.0:8080");
        assert_eq!(config.max_body, ByteSize::mib(1));
        assert_eq!(config.header_timeout, Duration::from_secs(5));
        assert_eq!(config.body_timeout, Duration::from_secs(10));
        assert_eq!(config.idle_timeout, Duration::from_secs(75));
        assert_eq!(config.request_timeout, Duration::from_secs(12));
        assert_eq!(config.max_connections, 10_000);
        assert_eq!(config.max_in_flight, 1024);
        assert_eq!(config.max_buffered, ByteSize::mib(256));
        assert_eq!(config.drain_delay, Duration::ZERO);
        assert_eq!(config.shutdown_timeout, Duration::from_secs(20));
        assert!(config.trusted_proxies.is_empty() && !config.watch);
        assert!(config.door().unwrap().tls.is_none());
    }

    #[test]
    fn a_unix_socket_is_relative_to_the_file() {
        let (config, problems) = read("listen = 'unix:run/in.sock'");
        assert_eq!(problems, "");
        assert_eq!(
            config.listen,
            Address::Unix("/etc/hookward/run/in.sock".into())
        );
        let (config, problems) = read_with(SecretReader::Skip, "[server]\nlisten = 'unix:'");
        assert!(config.is_none());
        assert!(problems.contains("`server.listen` names a unix socket without a path"));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let (_, problems) = read(
            "max_body = 0\nheader_timeout = '0s'\nmax_connections = 0\nmax_in_flight = 0\n\
             trusted_proxies = ['10.0.0.0/8', 'here', '::/0']\nmax_bodi = 1",
        );
        for expected in [
            "error: `server.max_body` is zero: every body would be refused",
            "error: `server.header_timeout` is zero",
            "error: `server.max_connections` is zero",
            "error: `server.max_in_flight` is zero",
            "error: `server.trusted_proxies[1]` is not a network",
            "warning: `server.trusted_proxies[2]` trusts everybody",
            "error: `server.max_bodi` is not a key hookward knows",
        ] {
            assert!(problems.contains(expected), "{expected} in:\n{problems}");
        }
    }

    #[test]
    fn a_buffer_that_holds_no_whole_body_is_an_error() {
        let (_, problems) = read("max_buffered = '512 KiB'");
        assert!(
            problems.starts_with("error: `server.max_buffered` is smaller than `max_body` (1 MiB)")
        );
        let (_, problems) = read("max_body = '1 GiB'");
        assert!(
            problems
                .starts_with("error: `server.max_body` is larger than `max_buffered` (256 MiB)")
        );
    }

    #[test]
    fn times_that_do_not_fit_into_one_another_are_warned_of() {
        for (text, expected) in [
            (
                "body_timeout = '13s'",
                "warning: `server.body_timeout` does not fit into `request_timeout` (12s)",
            ),
            (
                "request_timeout = '4s'",
                "warning: `server.request_timeout` is over before a head may have come (5s)",
            ),
            (
                "request_timeout = '15s'",
                "warning: `server.request_timeout` is not shorter than 15s",
            ),
            (
                "shutdown_timeout = '5s'",
                "warning: `server.shutdown_timeout` is shorter than `request_timeout`",
            ),
        ] {
            let (_, problems) = read(text);
            assert!(problems.contains(expected), "{expected} in:\n{problems}");
        }
    }

    #[test]
    fn certificate_and_key_are_read_and_found_to_belong_together() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let pair = || rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let (one, other) = (pair(), pair());
        let cert = write("cert", &one.cert.pem());
        let key = write("key", &one.signing_key.serialize_pem());
        let stranger = write("stranger", &other.signing_key.serialize_pem());
        let text =
            |cert: &str, key: &str| format!("[server]\ntls = {{ cert = '{cert}', key = '{key}' }}");
        let read = |text: &str| read_with(SecretReader::Process, text);

        let (config, problems) = read(&text(&cert, &key));
        assert_eq!(problems, "");
        let config = config.unwrap();
        assert!(config.door().unwrap().tls.is_some());
        assert_eq!(Some(&config), read(&text(&cert, &key)).0.as_ref());

        for (cert, key, expected) in [
            (&cert, &stranger, "which does not belong to the certificate"),
            (&key, &key, "which holds no certificate"),
            (&cert, &cert, "which holds no private key"),
            (
                &cert,
                &"gone".into(),
                "which cannot be read: entity not found",
            ),
        ] {
            let (config, problems) = read(&text(cert, key));
            assert!(config.is_none());
            assert!(problems.contains(expected), "{expected} in:\n{problems}");
        }
        // The key itself, in the place of its file.
        let pem = one.signing_key.serialize_pem();
        let (config, problems) = read(&text(&cert, &format!("''{pem}''")));
        assert!(config.is_none());
        assert!(
            problems.contains("`server.tls.key` is not a path"),
            "{problems}"
        );
        let line = pem.lines().nth(1).unwrap();
        assert!(!problems.contains(line), "the key is told");

        let (config, problems) = read("[server.tls]\ncert = 'c'\nkei = 'k'");
        assert!(config.is_none());
        assert!(problems.contains("`server.tls.key` is missing"));

        let (config, problems) = read_with(SecretReader::Skip, &text("gone", "gone"));
        assert_eq!(problems, "");
        assert!(
            config.unwrap().door().is_none(),
            "never without TLS instead"
        );
    }
}
