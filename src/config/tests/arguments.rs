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
        told.contains("clerk   /clerk   keys env:NEW, env:OLD"),
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
