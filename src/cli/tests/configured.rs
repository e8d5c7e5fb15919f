use super::*;

#[test]
fn what_init_prints_is_a_good_configuration() {
    let (_dir, path) = file("hookward.toml", &hookward(&["init"]).out);
    let ran = hookward(&["check", "--no-secrets", "--config", path.to_str().unwrap()]);
    assert_eq!(ran.exit, Exit::Yes, "{}", ran.err);
    assert!(ran.err.is_empty(), "{}", ran.err);
    assert!(ran.out.contains("env:CLERK_SECRET"), "{}", ran.out);
}

const ROUTES: &str = "
    sources.clerk.secrets = 'env:HOOKWARD_TEST_UNSET'
    sources.strict = { secrets = 'env:HOOKWARD_TEST_UNSET', unmatched = 'refuse' }
    destinations.users = { type = 'file', path = 'users' }
    destinations.audit = { type = 'file', path = 'audit', required = false }
    destinations.rest = { type = 'file', path = 'rest' }
    routes = [
        { from = 'clerk', types = ['user.*'], to = ['users', 'audit'] },
        { from = 'clerk', types = 'user.created', to = 'users' },
        { from = 'clerk', types = '**', otherwise = true, to = 'rest' },
        { from = 'strict', types = 'a', to = 'rest' },
    ]";

#[test]
fn every_problem_is_told_with_exit_64_and_without_a_secret() {
    let wrong = "nonsense = 1\n[sources.clerk]\nsecrets = 'whsec_hush'\nto = 'nobody'\n";
    let (_dir, path) = file("hookward.toml", wrong);
    let ran = hookward(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(ran.exit.code(), 64);
    assert!(ran.out.is_empty());
    for told in ["`nonsense`", "`sources.clerk.secrets`", "`nobody`"] {
        assert!(ran.err.contains(told), "{told}: {}", ran.err);
    }
    assert!(!ran.err.contains("hush"), "{}", ran.err);
}

#[test]
fn a_secret_that_is_not_there_is_told_unless_none_are_read() {
    let (_dir, path) = file("hookward.toml", ROUTES);
    let path = path.to_str().unwrap();
    assert_eq!(hookward(&["check", "--config", path]).exit.code(), 64);
    let ran = hookward(&["check", "--config", path, "--no-secrets"]);
    assert_eq!(ran.exit, Exit::Yes, "{}", ran.err);
}

#[test]
fn check_tells_a_program_the_same() {
    let (_dir, path) = file("hookward.toml", ROUTES);
    let path = path.to_str().unwrap();
    let check = |more: &[&str]| {
        let args = ["check", "--config", path, "--format", "json"];
        let ran = hookward(&[&args, more].concat());
        assert!(ran.err.is_empty(), "{}", ran.err);
        let told: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        (ran.exit, told)
    };
    let (exit, told) = check(&[]);
    assert_eq!(exit.code(), 64);
    assert_eq!(told["ok"], false);
    assert_eq!(told["problems"][0]["severity"], "error");
    assert_eq!(told["problems"][0]["key"], "sources.clerk.secrets");
    assert!(
        told["problems"][0]["place"]
            .as_str()
            .unwrap()
            .ends_with(":2")
    );
    assert!(told["summary"].is_null());

    let (exit, told) = check(&["--no-secrets"]);
    assert_eq!(exit, Exit::Yes);
    assert_eq!(told["ok"], true);
    assert_eq!(told["summary"]["sources"][0]["name"], "clerk");
}

fn route(args: &[&str]) -> Ran {
    let (_dir, path) = file("hookward.toml", ROUTES);
    hookward(&[&["route", "--config", path.to_str().unwrap()], args].concat())
}

#[test]
fn route_tells_each_destination_once_and_every_rule_that_names_it() {
    let ran = route(&["--source", "clerk", "--type", "user.created"]);
    assert_eq!(ran.exit, Exit::Yes, "{}", ran.err);
    assert_eq!(
        ran.out,
        "audit  routes[0] (user.*)  not required\n\
         users  routes[0] (user.*), routes[1] (user.created)\n"
    );
    let ran = route(&["--source", "clerk", "--type", "order.paid"]);
    assert_eq!(ran.out, "rest  routes[2] (**, otherwise)\n");
}

#[test]
fn route_finds_the_type_in_a_body_as_the_source_does() {
    let (_dir, body) = file("body", r#"{"a":1,"type":"user.deleted"}"#);
    let ran = route(&["--source", "clerk", "--body", body.to_str().unwrap()]);
    assert!(
        ran.out.contains("users  routes[0]"),
        "{}{}",
        ran.out,
        ran.err
    );
    let (_dir, body) = file("body", "no JSON");
    let ran = route(&["--source", "clerk", "--body", body.to_str().unwrap()]);
    assert_eq!(ran.exit, Exit::No);
    assert!(ran.err.contains("422 untyped"), "{}", ran.err);
}

#[test]
fn an_event_that_nobody_takes_exits_1_and_tells_the_answer() {
    let ran = route(&["--source", "strict", "--type", "b"]);
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::No, ""));
    assert!(ran.err.contains("422 unmatched"), "{}", ran.err);
}

#[test]
fn an_unknown_source_is_bad_usage_and_the_known_are_told() {
    let ran = route(&["--source", "clark", "--type", "a"]);
    assert_eq!(ran.exit.code(), 64);
    assert!(
        ran.err.contains("hint: sources are `clerk`, `strict`"),
        "{}",
        ran.err
    );
}

#[test]
fn the_demo_goes_as_promised() {
    let ran = hookward(&["demo"]);
    assert_eq!(ran.exit, Exit::Yes, "{}{}", ran.out, ran.err);
    assert!(ran.err.is_empty(), "{}", ran.err);
    let answers: Vec<&str> = ["200 delivered", "200 duplicate", "401 unverified"]
        .into_iter()
        .filter(|answer| ran.out.contains(answer))
        .collect();
    assert_eq!(answers.len(), 3, "{}", ran.out);
    assert_eq!(ran.out.matches("nothing\n").count(), 3, "{}", ran.out);
    assert!(ran.out.contains("hookward-source: demo"), "{}", ran.out);
}

#[test]
fn a_key_where_the_name_of_a_source_belongs_is_not_shown() {
    for given in [
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDAA==",
        "C2FVsBQIhrscChlQIMV+b5sSYspob7oDAAA=",
    ] {
        let ran = hookward(&["serve", "--source", given, "--to", "http://127.0.0.1:1"]);
        assert_eq!(ran.exit.code(), 64);
        assert!(ran.err.starts_with("error: `--source` "), "{}", ran.err);
        assert!(ran.err.contains("\nhint: "), "{}", ran.err);
        assert!(!ran.err.contains("C2FV"), "{}", ran.err);
    }
}

#[test]
fn serve_refuses_a_bad_configuration_and_mixed_set_ups() {
    let (_dir, path) = file("hookward.toml", "nonsense = 1");
    let path = path.to_str().unwrap();
    for args in [
        &["--config", path][..],
        &["--config", "/no/such/file"],
        &["--config", path, "--to", "http://127.0.0.1:1"],
        &["--source", "clerk=env:A"],
        &["--to", "http://127.0.0.1:1"],
        &["--source", "clerk", "--to", "http://127.0.0.1:1"],
    ] {
        let ran = hookward(&[&["serve"], args].concat());
        assert_eq!(ran.exit.code(), 64, "{args:?}");
        assert!(ran.err.starts_with("error: "), "{args:?} {}", ran.err);
    }
}
