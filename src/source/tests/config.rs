use super::*;
use crate::setting::{Name, Place, Reader, SecretReader};

/// Reads `text` as the table of a source named `clerk`.
pub(super) fn read(text: &str) -> (Option<SourceConfig>, String) {
    let table: toml::Table = text.parse().unwrap();
    let dict = figment::value::Value::serialize(&table)
        .unwrap()
        .into_dict()
        .unwrap();
    let nowhere = |_: &str, _| Place::Nowhere;
    let reader = Reader::new("/", SecretReader::Skip, Place::Nowhere, nowhere);
    let mut section = reader.document(dict);
    let name = Name::parse("clerk").unwrap();
    let way = WayIn::read(&mut section);
    let config = way.and_then(|way| SourceConfig::read(&name, way, &mut section));
    drop(section);
    (config, reader.into_problems().to_string())
}

#[test]
fn a_source_is_read_with_its_defaults() {
    let (config, told) = read("");
    assert_eq!(told, "");
    let expected = SourceConfig {
        path: Some("/clerk".to_owned()),
        event_type: TypeRule::default(),
        unmatched: Unmatched::Accept,
        max_in_flight: None,
        allow_from: Vec::new(),
        expect_every: None,
    };
    assert_eq!(config, Some(expected));
}

#[test]
fn every_key_of_a_source_is_read() {
    let (config, told) = read(
        "path = '/hooks/clerk%20a'\nevent_type = '{/a}.b'\nunmatched = 'refuse'\nmax_in_flight = 8\n\
         allow_from = ['10.0.0.0/8', '::1']\nexpect_every = '2h'",
    );
    assert_eq!(told, "");
    let config = config.unwrap();
    assert_eq!(config.path.as_deref(), Some("/hooks/clerk%20a"));
    assert_eq!(config.event_type, rule("{/a}.b"));
    assert_eq!(config.unmatched, Unmatched::Refuse);
    assert_eq!(config.max_in_flight, Some(8));
    assert_eq!(config.allow_from.len(), 2);
    assert_eq!(config.expect_every.unwrap().as_secs(), 7200);
}

#[test]
fn every_problem_of_a_source_is_told() {
    let (_, told) = read(
        "path = 'clerk'\nevent_type = ['/a', 'b', 'const:c', '/a']\nunmatched = 'maybe'\nmax_in_flight = 0\n\
         allow_from = ['10.0.0.0/33']\nexpect_every = '0s'\nunknown = 1",
    );
    for expected in [
        "error: `path` does not start with `/`",
        "error: `event_type[1]` is not a JSON pointer",
        "error: `event_type[2]` stands in a list",
        "warning: `event_type[3]` repeats",
        "error: `unmatched` is neither",
        "error: `max_in_flight` is zero",
        "error: `allow_from[0]` is not a network",
        "error: `expect_every` is zero",
        "error: `unknown` is not a key",
    ] {
        assert!(told.contains(expected), "{expected} in:\n{told}");
    }
    for path in ["", "/a?b", "/a#b", "/a b", "/a\\tb", "/ä"] {
        let (_, told) = read(&format!("path = \"{path}\""));
        assert!(told.contains("error: `path`"), "{path}: {told}");
    }
    let long = format!("path = '/{}'", "p".repeat(2048));
    assert!(read(&long).1.contains("longer than 2 KiB"));
    assert!(read("allow_from = []").1.contains("`allow_from` is empty"));
    assert!(read("event_type = []").1.contains("`event_type` is empty"));
    assert!(
        read("event_type = 'header:x-event'")
            .1
            .contains("warning: `event_type` takes the type from a header")
    );
}

#[test]
fn a_source_on_a_queue_has_no_path_and_no_sender() {
    let (config, told) = read("type = 'rabbitmq'\nmax_in_flight = 7");
    assert_eq!(told, "");
    let config = config.unwrap();
    assert_eq!((config.path, config.max_in_flight), (None, Some(7)));
    let (_, told) = read("type = 'rabbitmq'\npath = '/a'\nallow_from = '::1'");
    for key in ["path", "allow_from"] {
        assert!(
            told.contains(&format!("error: `{key}` has no meaning")),
            "{told}"
        );
    }
    let told = read("type = 'x'").1;
    assert!(told.contains("`type` is not a kind of source"), "{told}");
}
