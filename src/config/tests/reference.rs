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

/// The reference with every key un-commented; of the two places for the ledger,
/// which cannot stand together, the second.
pub(super) fn whole() -> String {
    uncommented(|_| true).replace("\njournal = ", "\n#journal = ")
}

#[test]
fn is_taken_as_it_is_and_with_every_key() {
    taken(load(&text()));
    taken(load(&whole()));
    let other = uncommented(|_| true).replace("\nredis = ", "\n#redis = ");
    assert_eq!(taken(load(&other)).ledger.redis, None);
}

#[test]
fn tells_the_defaults_as_they_are() {
    let defaults = uncommented(|example| !example);
    let keys = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.filter(|line| line.contains(" = ")).count()
    };
    assert!(keys(&defaults) > keys(&text()));
    let mut said = taken(load(&defaults));
    let unsaid = taken(load(&text()));
    for (said, unsaid) in said.sources.iter_mut().zip(&unsaid.sources) {
        assert_eq!(said.event_type(), unsaid.event_type());
        said.written_type = unsaid.written_type.clone();
    }
    assert_eq!(said, unsaid);
}

#[test]
fn leaves_no_key_out() {
    let whole = whole();
    for (table, apart) in [
        ("server", &[][..]),
        ("admin", &[]),
        ("log", &[]),
        // It cannot stand beside `redis`.
        ("ledger", &["journal"]),
        // Only one that reads a queue has it.
        ("sources.clerk", &["type"]),
        ("sources.stored", &[]),
        ("destinations.app", &[]),
        // Beside `exchange` it cannot stand.
        ("destinations.events", &["queue"]),
        ("destinations.archive", &[]),
    ] {
        let heading = format!("[{table}]\n");
        let asked = format!("{heading}zzzzzzzzzzzzzzzz = 1\n");
        let told = refused(load(&whole.replace(&heading, &asked)));
        let known = told.split_once("known here: ").unwrap().1;
        let known = known.lines().next().unwrap().replace('`', "");
        let section_of = |heading: &str| {
            let section = whole.split_once(heading).unwrap().1;
            section.split("\n[").next().unwrap()
        };
        let has = |section: &str, key: &str| {
            let mut lines = section.lines();
            lines.any(|line| line.starts_with(&format!("{key} = ")))
        };
        let section = section_of(&heading);
        for key in known.split(", ").filter(|key| !apart.contains(key)) {
            let common = key == "required" || key == "max_in_flight" || key == "circuit_breaker";
            let elsewhere = table.starts_with("destinations.") && common
                || table == "sources.stored" && has(section_of("[sources.clerk]\n"), key);
            let named = has(section, key)
                || whole.contains(&format!("[{table}.{key}]"))
                || whole.contains(&format!("\n{key} = ")) && key == "ca";
            assert!(
                named || elsewhere,
                "`{table}.{key}` is not in config/hookward.toml"
            );
        }
    }
}
