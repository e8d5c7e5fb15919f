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
fn nothing_at_all_is_told_where_it_was_looked_for() {
    let told = refused(read(Document::default(), None, &origin(None, None)));
    assert!(
        told.contains("no file was found: name one with `--config`"),
        "{told}"
    );
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
