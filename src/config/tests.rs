use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::document::Document;
use super::load::read;
use super::{AdminConfig, Arguments, Config, Environment, Origin};
use crate::setting::{Problems, SecretReader};

type Loaded = Result<(Config, Problems), Problems>;

const SMALL: &str = "[sources.clerk]\nsecrets = 'env:CLERK'\nto = 'app'\n\
     [destinations.app]\ntype = 'http'\nurl = 'http://127.0.0.1:3000/'\n";

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Loads `text` as if it stood in `hookward.toml`, reading no secrets.
fn load(text: &str) -> Loaded {
    load_with(text, &[])
}

fn load_with(text: &str, environment: &[(&str, &str)]) -> Loaded {
    let path = Path::new("hookward.toml");
    let origin = Origin {
        file: None,
        environment: environment.iter().copied().collect(),
        secrets: SecretReader::Skip,
    };
    read(Document::parse(path, text)?, Some(path.into()), &origin)
}

/// Everything that is told about a configuration: problems and summary.
fn told(loaded: &Loaded) -> String {
    match loaded {
        Ok((config, warnings)) => {
            let summary = config.summary();
            let json = serde_json::to_string(&summary).unwrap();
            format!("{warnings}\n{summary}\n{json}\n{config:?}")
        }
        Err(problems) => problems.to_string(),
    }
}

fn refused(loaded: Loaded) -> String {
    match loaded {
        Ok(_) => panic!("was taken"),
        Err(problems) => problems.to_string(),
    }
}

fn taken(loaded: Loaded) -> Config {
    match loaded {
        Ok((config, _)) => config,
        Err(problems) => panic!("was refused:\n{problems}"),
    }
}

/// The TOML files of a folder, by name.
fn toml_files(name: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{name} is empty");
    files
}

/// A file of the test data is loaded with the environment its first lines tell:
/// `#env NAME=VALUE`; and with its secrets where one is `#secrets`.
fn load_case(path: &Path) -> Loaded {
    let text = fs::read_to_string(path).unwrap();
    let variables = text.lines().map_while(|line| line.strip_prefix('#'));
    let environment: Environment = variables
        .filter_map(|line| line.strip_prefix("env ")?.split_once('='))
        .collect();
    let secrets = if text.starts_with("#secrets\n") {
        SecretReader::Process
    } else {
        SecretReader::Skip
    };
    let origin = Origin {
        file: None,
        environment,
        secrets,
    };
    let shown = PathBuf::from(path.file_name().unwrap());
    read(Document::parse(&shown, &text)?, Some(shown), &origin)
}

#[test]
fn what_is_wrong_is_told_in_exactly_these_words() {
    for path in toml_files("tests/data/config/invalid") {
        let told = refused(load_case(&path)) + "\n";
        let beside = path.with_extension("txt");
        // `BLESS=1 cargo test` writes what is told now; read it before it is committed.
        if std::env::var_os("BLESS").is_some() {
            fs::write(&beside, &told).unwrap();
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        assert_eq!(told, expected, "{}", path.display());
    }
}

#[test]
fn what_is_right_is_taken_with_exactly_these_warnings() {
    for path in toml_files("tests/data/config/valid") {
        let (config, warnings) = match load_case(&path) {
            Ok(loaded) => loaded,
            Err(problems) => panic!("{}:\n{problems}", path.display()),
        };
        let told = match warnings.is_empty() {
            true => format!("{}", config.summary()),
            false => format!("{warnings}\n\n{}", config.summary()),
        };
        let beside = path.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&beside, &told).unwrap();
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        assert_eq!(told, expected, "{}", path.display());
    }
}

#[test]
fn every_example_is_taken_without_a_word() {
    for path in toml_files("config/examples") {
        let origin = Origin {
            file: Some(path.clone()),
            environment: Environment::default(),
            secrets: SecretReader::Skip,
        };
        let (_, warnings) = Config::load(&origin).unwrap_or_else(|problems| {
            panic!("{}:\n{problems}", path.display());
        });
        assert_eq!(warnings.to_string(), "", "{}", path.display());
    }
}

mod reference {
    use super::*;

    fn text() -> String {
        fs::read_to_string(folder("config/hookward.toml")).unwrap()
    }

    /// The reference with the keys un-commented that `which` takes; it is told
    /// whether the key is an example, and not the default.
    fn uncommented(which: impl Fn(bool) -> bool) -> String {
        let mut example = false;
        let mut lines = Vec::new();
        for line in text().lines() {
            match line.strip_prefix('#') {
                Some(key) if key.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => {
                    lines.push(if which(example) { key } else { line }.to_owned());
                }
                _ => {
                    example = line.ends_with("Example:")
                        || (example && !line.is_empty() && !line.starts_with('['));
                    lines.push(line.to_owned());
                }
            }
        }
        lines.join("\n")
    }

    /// The reference with every key un-commented.
    pub(super) fn whole() -> String {
        uncommented(|_| true)
    }

    #[test]
    fn is_taken_as_it_is_and_with_every_key() {
        taken(load(&text()));
        taken(load(&whole()));
    }

    #[test]
    fn tells_the_defaults_as_they_are() {
        let defaults = uncommented(|example| !example);
        let keys = |text: &str| text.lines().filter(|line| line.contains(" = ")).count();
        assert!(keys(&defaults) > keys(&text()));
        let mut said = taken(load(&defaults));
        let unsaid = taken(load(&text()));
        for (said, unsaid) in said.sources.iter_mut().zip(&unsaid.sources) {
            assert_eq!(said.event_type(), unsaid.event_type());
            said.written_type = unsaid.written_type.clone();
        }
        assert_eq!(said, unsaid);
    }

    /// Keys of later versions, which this one knows only to refuse them well.
    const LATER: [&str; 8] = [
        "journal",
        "redis",
        "type",
        "url",
        "queue",
        "prefetch",
        "retry_delay",
        "max_attempts",
    ];

    #[test]
    fn leaves_no_key_out() {
        let whole = whole();
        for (table, later) in [
            ("server", &[][..]),
            ("admin", &[]),
            ("log", &[]),
            ("ledger", &LATER[..2]),
            ("sources.clerk", &LATER[2..]),
            ("destinations.app", &[]),
            ("destinations.archive", &[]),
        ] {
            let heading = format!("[{table}]\n");
            let asked = format!("{heading}zzzzzzzzzzzzzzzz = 1\n");
            let told = refused(load(&whole.replace(&heading, &asked)));
            let known = told.split_once("known here: ").unwrap().1;
            let known = known.lines().next().unwrap().replace('`', "");
            let section = whole.split_once(&heading).unwrap().1;
            let section = section.split("\n[").next().unwrap();
            for key in known.split(", ").filter(|key| !later.contains(key)) {
                let common =
                    key == "required" || key == "max_in_flight" || key == "circuit_breaker";
                let elsewhere = table == "destinations.archive" && common;
                let named = section
                    .lines()
                    .any(|line| line.starts_with(&format!("{key} = ")))
                    || whole.contains(&format!("[{table}.{key}]"))
                    || whole.contains(&format!("\n{key} = ")) && key == "ca";
                assert!(
                    named || elsewhere,
                    "`{table}.{key}` is not in config/hookward.toml"
                );
            }
        }
    }
}

#[test]
fn seven_mistakes_are_seven_problems() {
    let text = "[server]\nlisten = 'here'\nmax_bodi = 1\n\
         [ledger]\nretention = 'soon'\n\
         [sources.clerk]\npath = 'clerk'\n\
         [destinations.app]\ntype = 'http'\nurl = 'ftp://app/'\n\
         [[routes]]\nto = 'ap'\n";
    let Err(problems) = load(text) else {
        panic!("was taken")
    };
    assert_eq!(problems.errors().count(), 7, "{problems}");
}

mod environment {
    use super::*;

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
        assert_eq!(config.sources[0].source.path, "/other");

        let both = format!("{text}[sources.my_source]\nsecrets = 'env:X'\nto = 'app'\n");
        let told = refused(load_with(&both, &variable));
        assert!(
            told.contains("names `sources.my-source` as well as `sources.my_source`"),
            "{told}"
        );
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
}

mod finding {
    use super::*;

    fn origin(file: Option<PathBuf>, named: Option<&Path>) -> Origin {
        let variable = named.map(|path| ("HOOKWARD_CONFIG", path.to_owned()));
        Origin {
            file,
            environment: variable.into_iter().collect(),
            secrets: SecretReader::Skip,
        }
    }

    #[test]
    fn the_argument_beats_the_variable() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one.toml"), dir.path().join("other.toml"));
        fs::write(&one, SMALL).unwrap();
        fs::write(&other, SMALL).unwrap();
        let config = taken(Config::load(&origin(Some(one.clone()), Some(&other))));
        assert_eq!(config.file, Some(one));
        let config = taken(Config::load(&origin(None, Some(&other))));
        assert_eq!(config.file, Some(other));
    }

    #[test]
    fn a_named_file_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing.toml");
        for origin in [
            origin(Some(missing.clone()), None),
            origin(None, Some(&missing)),
        ] {
            let told = refused(Config::load(&origin));
            assert!(told.contains("the configuration is not there"), "{told}");
            assert!(told.contains("missing.toml"), "{told}");
        }
    }

    #[test]
    fn what_is_no_text_or_too_long_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        fs::write(&file, b"a = 1\nb = '\xff'\n").unwrap();
        let told = refused(Config::load(&origin(Some(file.clone()), None)));
        assert!(told.contains("is not UTF-8 in line 2"), "{told}");
        fs::write(&file, vec![b'\n'; 5 << 20]).unwrap();
        let told = refused(Config::load(&origin(Some(file), None)));
        assert!(told.contains("is over 4 MiB"), "{told}");
        let told = refused(Config::load(&origin(Some(dir.path().into()), None)));
        assert!(told.contains("is a folder"), "{told}");
    }

    #[test]
    fn paths_in_the_file_are_relative_to_it_and_those_of_the_environment_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        fs::write(&file, SMALL.replace("env:CLERK", "file:key")).unwrap();
        let mut origin = origin(Some(file), None);
        let config = taken(Config::load(&origin));
        assert_eq!(config.files, [dir.path().join("key")]);
        origin.environment = [("HOOKWARD_SOURCES__CLERK__SECRETS", "file:key")]
            .into_iter()
            .collect();
        let config = taken(Config::load(&origin));
        assert_eq!(config.files, [PathBuf::from("key")]);
    }
}

mod arguments {
    use super::*;

    fn load(sources: &[(&str, &str)], environment: Environment) -> Loaded {
        let arguments = Arguments {
            sources: sources
                .iter()
                .map(|(name, reference)| ((*name).into(), (*reference).into()))
                .collect(),
            to: "http://127.0.0.1:3000/hooks".into(),
            listen: None,
        };
        let origin = Origin {
            file: None,
            environment,
            secrets: SecretReader::Skip,
        };
        Config::from_arguments(&arguments, &origin)
    }

    #[test]
    fn are_a_whole_set_up() {
        let keys = [
            ("clerk", "env:NEW"),
            ("resend", "env:R"),
            ("clerk", "env:OLD"),
        ];
        let config = taken(load(&keys, Environment::default()));
        let told = config.summary().to_string();
        assert!(
            told.contains("clerk  /clerk  keys env:NEW, env:OLD"),
            "{told}"
        );
        assert_eq!(config.routes.len(), 2);
    }

    #[test]
    fn are_still_under_the_environment() {
        let variable = ("HOOKWARD_SERVER__LISTEN", "127.0.0.1:9");
        let config = taken(load(
            &[("clerk", "env:NEW")],
            [variable].into_iter().collect(),
        ));
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:9");
    }

    #[test]
    fn are_told_where_they_are_wrong() {
        let told = refused(load(&[("Clerk", "env:NEW")], Environment::default()));
        assert!(told.contains("--> --source"), "{told}");
        let (_, warnings) = load(&[("clerk", "whsec_HUSH")], Environment::default()).unwrap();
        let told = warnings.to_string();
        assert!(told.contains("holds the secret itself"), "{told}");
        assert!(!told.contains("HUSH"), "{told}");
    }
}

/// No problem and no summary holds what could be a secret, wherever it stands.
mod hush {
    use super::*;

    const MARKER: &str = "HuSh7MaRkEr";

    /// Values that are shown: names of files. A secret has no business there.
    const SHOWN: [&str; 4] = ["path", "cert", "key", "ca"];

    fn hushed(loaded: &Loaded, what: &str) {
        let told = told(loaded);
        assert!(!told.contains(MARKER), "{what}\n\n{told}");
    }

    /// The lines of the whole reference that set a key, with the key.
    fn settings(text: &str) -> impl Iterator<Item = (usize, &str)> {
        let lines = text.lines().enumerate();
        lines.filter_map(|(number, line)| {
            let key = line.split_once(" = ")?.0;
            let plain = |b: u8| b.is_ascii_lowercase() || b == b'_';
            key.bytes().all(plain).then_some((number, key))
        })
    }

    fn with_line(text: &str, number: usize, line: &str) -> String {
        let mut lines: Vec<&str> = text.lines().collect();
        lines[number] = line;
        lines.join("\n")
    }

    #[test]
    fn whatever_stands_for_a_value() {
        let whole = reference::whole();
        let mut tried = 0;
        for (number, key) in settings(&whole).filter(|(_, key)| !SHOWN.contains(key)) {
            for value in [
                format!("\"{MARKER}\""),
                format!("'''\n{MARKER}'''"),
                format!("[\"{MARKER}\"]"),
                format!("[[\"{MARKER}\"]]"),
                format!("{{ name = \"a\", secret = \"{MARKER}\" }}"),
                format!("{{ name = \"{MARKER}\", secret = \"{MARKER}\" }}"),
                format!("{{ failures = \"{MARKER}\", open_for = \"{MARKER}\" }}"),
                format!("\"http://{MARKER}@localhost/\""),
                format!("\"https://a:{MARKER}@localhost/\""),
                format!("\"https://localhost/?a={MARKER}\""),
                format!("\"https://localhost/#{MARKER}\""),
                format!("\"https://{MARKER} {MARKER}/\""),
                format!("\"https://localhost:{MARKER}/\""),
                format!("\"{MARKER}://localhost/\""),
                format!("\"{MARKER}:localhost\""),
                format!("\"const: {MARKER}\u{e4}\""),
                format!("\"header: {MARKER} {MARKER}\""),
                format!("\"{{/{MARKER}\""),
                format!("\"whsec_{MARKER}\""),
                format!("\"whsk_{MARKER}\""),
                // Broken from here on.
                MARKER.to_owned(),
                format!("\"{MARKER}"),
                format!("'{MARKER}"),
                format!("\"\\{MARKER}\""),
                format!("[{MARKER}"),
                format!("\"\"\"{MARKER}"),
                format!("12{MARKER}"),
                format!("2025-{MARKER}"),
                format!("\"x\" {MARKER}"),
                format!("{{ {MARKER}"),
            ] {
                let line = format!("{key} = {value}");
                hushed(&load(&with_line(&whole, number, &line)), &line);
                tried += 1;
            }
            let unknown = format!("{key}z = \"{MARKER}\"");
            hushed(&load(&with_line(&whole, number, &unknown)), &unknown);
        }
        assert!(tried > 1_000, "{tried}");
    }

    #[test]
    fn whatever_the_environment_says() {
        for key in [
            "SERVER__LISTEN",
            "SERVER__TLS",
            "SERVER__TRUSTED_PROXIES",
            "ADMIN__TOKEN",
            "LOG__LEVEL",
            "LEDGER__RETENTION",
            "SOURCES__CLERK__SECRETS",
            "SOURCES__CLERK__SECRETS__NAME",
            "SOURCES__CLERK__TO",
            "SOURCES__OTHER__PATH",
            "DESTINATIONS__APP__URL",
            "DESTINATIONS__APP__TYPE",
            "DESTINATIONS__APP__HEADERS",
            "DESTINATIONS__APP__HEADERS__AUTHORIZATION",
            "DESTINATIONS__APP__SIGN",
            "DESTINATIONS__APP__CIRCUIT_BREAKER",
            "ROUTES__0__TO",
            "UNKNOWN__KEY",
        ] {
            for value in [
                MARKER.to_owned(),
                format!("[\"{MARKER}\"]"),
                format!("[{MARKER}"),
                format!("{{ a = \"{MARKER}\" }}"),
                format!("\"{MARKER}"),
                format!("https://a:{MARKER}@localhost/?{MARKER}"),
            ] {
                let name = format!("HOOKWARD_{key}");
                hushed(&load_with(SMALL, &[(&name, &value)]), &name);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// A slip of the pen anywhere inside of any value.
        #[test]
        fn wherever_a_value_breaks(
            line in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            slip in prop::sample::select(vec!["", "\"", "'", "\\", "]", "#", "\"\"\"", "\u{0}", ","]),
        ) {
            let whole = reference::whole();
            let lines: Vec<&str> = whole.lines().collect();
            let settings: Vec<usize> = settings(&whole)
                .filter(|(number, key)| !SHOWN.contains(key) && !lines[*number].contains('{'))
                .map(|(number, _)| number)
                .collect();
            let number = settings[line.index(settings.len())];
            let start = lines[number].find(" = ").unwrap() + 3;
            let value = &lines[number][start..];
            let at = start + at.index(value.len() + 1);
            // With the secret in the value, and the slip somewhere in it.
            let mut broken = lines[number].to_owned();
            broken.insert_str(at, &format!("{MARKER}{slip}{MARKER}"));
            let Err(problems) = load(&with_line(&whole, number, &broken)) else {
                return Ok(());
            };
            prop_assert!(!problems.to_string().contains(MARKER), "{broken}\n\n{problems}");
        }
    }
}

#[test]
fn the_admin_section_can_be_read_past_mistakes_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hookward.toml");
    let admin = |text: &str, environment: &[(&str, &str)]| {
        fs::write(&path, text).unwrap();
        AdminConfig::load(&Origin {
            file: Some(path.clone()),
            environment: environment.iter().copied().collect(),
            secrets: SecretReader::Skip,
        })
    };
    let told = |config: &AdminConfig| config.listen.as_ref().map(ToString::to_string);

    let wrong = "nonsense = 1\n[admin]\nlisten = '127.0.0.1:7'\n[sources.A]\n";
    let (config, problems) = admin(wrong, &[]).unwrap();
    assert_eq!(told(&config).as_deref(), Some("127.0.0.1:7"));
    assert!(problems.is_empty(), "{problems}");

    let (config, problems) = admin("[admin", &[("HOOKWARD_ADMIN__LISTEN", "off")]).unwrap();
    assert_eq!(told(&config), None);
    assert!(problems.any_error());

    let missing = Origin {
        file: Some(dir.path().join("other.toml")),
        environment: Environment::default(),
        secrets: SecretReader::Skip,
    };
    assert!(AdminConfig::load(&missing).is_err());
}
