//! No problem and no summary holds what could be a secret, wherever it stands.

use super::*;

const MARKER: &str = "HuSh7MaRkEr";

/// Values that a good configuration shows: files, types, names of headers, names on
/// a broker.
const SHOWN: [&str; 12] = [
    "journal",
    "listen",
    "path",
    "cert",
    "key",
    "ca",
    "types",
    "forward_headers",
    "exchange",
    "queue",
    "message_id",
    "routing_key",
];

fn hushed(loaded: &Loaded, shown: bool, what: &str) {
    let told = match loaded {
        Ok((_, warnings)) if shown => warnings.to_string(),
        loaded => told(loaded),
    };
    let told_in_any_case = told.to_ascii_lowercase();
    assert!(
        !told_in_any_case.contains(&MARKER.to_ascii_lowercase()),
        "{what}\n\n{told}"
    );
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
    for (number, key) in settings(&whole) {
        let shown = SHOWN.contains(&key);
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
            format!("\"unix:/run/app.sock:/a?b={MARKER}\""),
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
            hushed(&load(&with_line(&whole, number, &line)), shown, &line);
            tried += 1;
        }
        let unknown = format!("{key}z = \"{MARKER}\"");
        hushed(&load(&with_line(&whole, number, &unknown)), shown, &unknown);
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
            hushed(&load_with(SMALL, &[(&name, &value)]), false, &name);
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
            .filter(|(number, _)| !lines[*number].contains('{'))
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
