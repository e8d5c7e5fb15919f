use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use http::HeaderValue;

use super::client::Target;
use super::print::{Complaint, Print};
use crate::config::{AdminConfig, Origin};
use crate::listen::Address;
use crate::setting::{Secret, SecretReader};

/// The way out when nobody listens there.
pub(super) const NOBODY: &str =
    "is hookward running, and is its admin listener (`admin.listen`) where this asks?";

/// Which admin listener to ask.
#[derive(Args)]
pub(super) struct Admin {
    /// The configuration [default: $HOOKWARD_CONFIG, ./hookward.toml, /etc/hookward/hookward.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the admin listener is, instead of what the configuration says
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

impl Admin {
    /// The admin listener, to be asked for `path`, and the token that the
    /// configuration has for it where `secrets` are read.
    pub(super) fn find(
        &self,
        path: &str,
        secrets: SecretReader,
        print: &mut Print<'_>,
    ) -> Result<(Target, Option<Secret>), Complaint> {
        if let Some(url) = &self.url {
            let target = Target::parse(url).and_then(|target| match target.is_root() {
                true => target.with_path(path),
                false => Err("names the listener alone, without a path".to_owned()),
            });
            // A listener named by hand is not given this configuration's token.
            return match target {
                Ok(target) => Ok((target, None)),
                Err(problem) => Err(Complaint::usage(format!("`--url` {problem}"))),
            };
        }
        let (admin, problems) = AdminConfig::load(&Origin::new(self.config.clone(), secrets))?;
        // Who reads no secret needs no more of `[admin]` than where it is.
        if secrets == SecretReader::Process && admin.token.is_none() && problems.any_error() {
            return Err(problems.into());
        }
        print.problems(&problems);
        let target = match &admin.listen {
            Some(Address::Tcp(bound)) => {
                let address = SocketAddr::new(reachable(bound.ip()), bound.port());
                Target::parse(&format!("http://{address}{path}"))
            }
            Some(Address::Unix(socket)) => Target::unix(socket, path),
            None => {
                return Err(Complaint::usage(
                    "`admin.listen` is `\"off\"`: there is no admin listener to ask",
                )
                .hint("give it an address, or name another listener with `--url`"));
            }
        };
        match target {
            Ok(target) => Ok((target, admin.token)),
            Err(problem) => Err(Complaint::usage(format!("`admin.listen` {problem}"))),
        }
    }
}

/// Where somebody on this machine reaches a listener bound to `ip`.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// The header value that carries a token; it does not show in Debug.
pub(super) fn bearer(token: &str) -> Result<HeaderValue, Complaint> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
        Complaint::usage("the admin token holds characters that a header cannot carry")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> (Result<(Target, Option<Secret>), Complaint>, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hookward.toml");
        std::fs::write(&path, text).unwrap();
        let admin = Admin {
            config: Some(path),
            url: None,
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut print = Print::new(&mut out, &mut err);
        let found = admin.find("/healthz", SecretReader::Process, &mut print);
        (found, String::from_utf8(err).unwrap())
    }

    #[test]
    fn the_listener_is_where_the_configuration_says() {
        for (text, shown) in [
            ("", "http://127.0.0.1:9464/healthz"),
            (
                "[admin]\nlisten = '0.0.0.0:7'",
                "http://127.0.0.1:7/healthz",
            ),
            ("[admin]\nlisten = '[::]:7'", "http://[::1]:7/healthz"),
            (
                "[admin]\nlisten = '10.0.0.1:7'",
                "http://10.0.0.1:7/healthz",
            ),
            ("[admin]\nlisten = 'unix:/a'", "unix:/a:/healthz"),
        ] {
            let (found, told) = found(text);
            assert_eq!(found.unwrap().0.shown(), shown);
            assert!(told.is_empty(), "{told}");
        }
    }

    #[test]
    fn a_mistake_elsewhere_keeps_nobody_from_asking() {
        let text =
            "[server]\nlisten = 7\n[admin]\ntoken = 'sixteen-bytes-ok'\nlisten = '127.0.0.1:7'";
        let (found, _) = found(text);
        let (target, token) = found.unwrap();
        assert_eq!(target.shown(), "http://127.0.0.1:7/healthz");
        assert_eq!(token.unwrap().expose(), Some("sixteen-bytes-ok"));
    }

    #[test]
    fn a_listener_named_by_hand_is_named_without_a_path() {
        let found = |url: &str| {
            let admin = Admin {
                config: None,
                url: Some(url.to_owned()),
            };
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut print = Print::new(&mut out, &mut err);
            admin.find("/healthz", SecretReader::Skip, &mut print)
        };
        for url in ["http://127.0.0.1:7", "http://127.0.0.1:7/"] {
            assert_eq!(found(url).unwrap().0.shown(), "http://127.0.0.1:7/");
        }
        for url in ["http://127.0.0.1:7/readyz", "http://127.0.0.1:7/?strict"] {
            let refused = found(url).map(drop).unwrap_err();
            assert_eq!(refused.exit().code(), 64, "{url}");
        }
    }

    #[test]
    fn a_token_that_cannot_be_read_is_a_bad_configuration() {
        for text in [
            "admin.token = 'env:HOOKWARD_TEST_UNSET'",
            "[admin]\ntoken = 'sixteen-bytes-ok",
        ] {
            let refused = found(text).0.map(drop).unwrap_err();
            assert_eq!(refused.exit().code(), 64, "{text}");
            assert!(!refused.to_string().contains("sixteen"), "{refused}");
        }
    }

    #[test]
    fn a_listener_that_is_off_cannot_be_asked() {
        let refused = found("[admin]\nlisten = 'off'").0.map(drop).unwrap_err();
        assert_eq!(refused.exit().code(), 64);
        let told = refused.to_string();
        assert!(
            told.contains("there is no admin listener to ask\nhint: "),
            "{told}"
        );
    }
}
