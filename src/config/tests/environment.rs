use super::*;
use crate::deliver::KindConfig;

#[test]
fn beats_the_file() {
    let config = taken(load_with(
        &format!("{SMALL}[server]\nlisten = '127.0.0.1:1'\nmax_in_flight = 7\n"),
        &[("HOOKWARD_SERVER__LISTEN", "127.0.0.1:2")],
    ));
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:2");
    assert_eq!(config.server.max_in_flight, 7);
}

#[test]
fn reaches_names_with_a_dash() {
    let text = SMALL.replace("clerk", "my-source");
    let variable = [("HOOKWARD_SOURCES__MY_SOURCE__PATH", "/other")];
    let config = taken(load_with(&text, &variable));
    assert_eq!(config.sources.len(), 1);
    assert_eq!(config.sources[0].source.path.as_deref(), Some("/other"));

    let both = format!("{text}[sources.my_source]\nsecrets = 'env:X'\nto = 'app'\n");
    let told = refused(load_with(&both, &variable));
    assert!(
        told.contains("names `sources.my-source` as well as `sources.my_source`"),
        "{told}"
    );
}

#[test]
fn names_a_header_with_dashes_unless_the_file_has_it_otherwise() {
    let text = format!("{SMALL}[destinations.app.headers]\nx_old = 'a'\n");
    let variables = [
        ("HOOKWARD_DESTINATIONS__APP__HEADERS__X_NEW", "b"),
        ("HOOKWARD_DESTINATIONS__APP__HEADERS__X_OLD", "c"),
    ];
    let config = taken(load_with(&text, &variables));
    let KindConfig::Http(http) = &config.destinations[0].kind else {
        panic!("it is of another kind");
    };
    let mut names: Vec<&str> = http.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["x-new", "x_old"]);
}

#[test]
fn alone_is_enough() {
    let origin = Origin {
        file: None,
        environment: [
            ("HOOKWARD_SOURCES__MY_SOURCE__SECRETS", "env:KEY"),
            ("HOOKWARD_SOURCES__MY_SOURCE__TO", "[\"app\"]"),
            ("HOOKWARD_DESTINATIONS__APP__TYPE", "http"),
            ("HOOKWARD_DESTINATIONS__APP__URL", "http://app/"),
            ("HOOKWARD_DESTINATIONS__APP__REQUIRED", "true"),
            ("HOOKWARD_DESTINATIONS__APP__MAX_IN_FLIGHT", "9"),
        ]
        .into_iter()
        .collect(),
        secrets: SecretReader::Skip,
    };
    let config = taken(read(Document::default(), None, &origin));
    assert_eq!(config.sources[0].name.as_str(), "my_source");
    assert_eq!(config.destinations[0].max_in_flight, 9);
}

#[test]
fn of_others_is_left_alone() {
    let others = [
        ("HOOKWARD_PORT", "tcp://10.0.0.1:80"),
        ("HOOKWARD_SERVICE_HOST", "10.0.0.1"),
        ("HOOKWARD_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("HOOKWARD_ROUTES", "none"),
        ("XHOOKWARD_SERVER__LISTEN", "none"),
        ("hookward_server__listen", "none"),
    ];
    let loaded = load_with(SMALL, &others).unwrap();
    assert!(loaded.1.is_empty(), "{}", loaded.1);
}

#[test]
fn problems_name_the_variable_and_not_its_value() {
    for (name, value, expected) in [
        (
            "HOOKWARD_SERVER__LISTEN",
            "HUSH",
            "`server.listen` is neither",
        ),
        (
            "HOOKWARD_SERVER__LISTEN",
            "[HUSH",
            "is not a value as TOML has them",
        ),
        (
            "HOOKWARD_SERVER__LISTEN",
            "{HUSH}.x",
            "is not a value as TOML has them",
        ),
        (
            "HOOKWARD_SERVER__HUHU",
            "HUSH",
            "`server.huhu` is not a key",
        ),
        ("HOOKWARD_SERVER__", "HUSH", "a part of it is empty"),
        ("HOOKWARD_ROUTES__0__TO", "HUSH", "sets a route"),
        ("HOOKWARD_LOG", "HUSH", "is not a log filter"),
        ("HOOKWARD_LOG_FORMAT", "HUSH", "is not a log format"),
    ] {
        let told = refused(load_with(SMALL, &[(name, value)]));
        assert!(told.contains(expected), "{name}:\n{told}");
        assert!(
            told.contains(&format!("--> environment variable {name}")),
            "{name}:\n{told}"
        );
        assert!(!told.contains("HUSH"), "{name}:\n{told}");
    }
}

#[test]
fn is_told_beside_a_file_that_cannot_be_read() {
    let variables = [
        ("HOOKWARD_LOG", "HUSH"),
        ("HOOKWARD_ROUTES__0__TO", "HUSH"),
        ("HOOKWARD_SERVER__IDLE_TIMEOUT", "HUSH"),
        ("HOOKWARD_DESTINATIONS__APP__TIMEOUT", "HUSH"),
        // Good, and what else they need may stand in the file.
        ("HOOKWARD_SERVER__TLS__CERT", "cert.pem"),
        ("HOOKWARD_SOURCES__OTHER__TO", "app"),
    ];
    let broken = SMALL.replace("'env:CLERK'", "'env:CLERK");
    let told = refused(load_with(&broken, &variables));
    assert!(told.contains("hookward.toml:2"), "{told}");
    for key in [
        "HOOKWARD_LOG",
        "HOOKWARD_ROUTES__0__TO",
        "server.idle_timeout",
        "destinations.app.timeout",
    ] {
        assert!(told.contains(&format!("error: `{key}` ")), "{key}:\n{told}");
    }
    assert_eq!(told.matches("error: ").count(), 5, "{told}");
    assert!(!told.contains("HUSH"), "{told}");

    let origin = Origin {
        file: Some("/no/such/file".into()),
        environment: variables.into_iter().collect(),
        secrets: SecretReader::Skip,
    };
    let told = refused(Config::load(&origin));
    assert!(told.contains("the configuration is not there"), "{told}");
    assert!(told.contains("`server.idle_timeout`"), "{told}");
}

#[test]
fn a_list_is_set_as_a_whole() {
    let text = SMALL.replace("'env:CLERK'", "['env:NEW', 'env:OLD']");
    let told = refused(load_with(
        &text,
        &[("HOOKWARD_SOURCES__CLERK__SECRETS__0", "env:X")],
    ));
    assert!(
        told.contains("reaches into `sources.clerk.secrets`, which is a list"),
        "{told}"
    );
    let config = taken(load_with(
        &text,
        &[(
            "HOOKWARD_SOURCES__CLERK__SECRETS",
            "['env:A', 'env:B', 'env:C']",
        )],
    ));
    assert!(told_keys(&config).contains("env:A, env:B, env:C"));
}

fn told_keys(config: &Config) -> String {
    config.summary().to_string()
}

#[test]
fn that_is_not_utf8_is_told_by_name() {
    use std::os::unix::ffi::OsStringExt as _;
    let bad = OsString::from_vec(b"\xffHUSH".to_vec());
    let origin = Origin {
        file: None,
        environment: [(OsString::from("HOOKWARD_SERVER__LISTEN"), bad)]
            .into_iter()
            .collect(),
        secrets: SecretReader::Skip,
    };
    let document = Document::parse(Path::new("a.toml"), SMALL).unwrap();
    let told = refused(read(document, None, &origin));
    assert!(
        told.contains("`HOOKWARD_SERVER__LISTEN` is not UTF-8"),
        "{told}"
    );
    assert!(!told.contains("HUSH"));
}

#[test]
fn sets_the_log() {
    let variables = [
        ("HOOKWARD_LOG", "hookward::deliver=debug"),
        ("HOOKWARD_LOG_FORMAT", "json"),
    ];
    let config = taken(load_with(SMALL, &variables));
    assert_eq!(config.log.options.filter, "hookward::deliver=debug");
}
