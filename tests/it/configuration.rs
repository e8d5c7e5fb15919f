//! A bad configuration never starts, and all its problems are told at once (P6).

use std::path::Path;

use crate::support::{Gateway, Message, Upstream, clerk_to, hookward};

/// Runs a command on a configuration: exit code, stdout, stderr.
async fn run(folder: &Path, config: &str, args: &[&str]) -> (Option<i32>, String, String) {
    std::fs::write(folder.join("hookward.toml"), config).unwrap();
    let output = hookward(folder, args, b"").await;
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Seven mistakes of seven kinds, with secrets near each of them.
const SEVEN: &str = r#"
[server]
max_boddy = "1 MiB"
idle_timeout = "secret-marker-1"

[sources.clerk]
secrets = "whsec_secret-marker-2-is-not-base64!"
to = "billng"

[destinations.billing]
type = "http"
url = "ftp://user:secret-marker-3@host/"

[destinations.other]
type = "carrier-pigeon"

[[routes]]
types = ["user.cre*ted"]
to = "billing"
"#;

#[tokio::test]
async fn seven_mistakes_are_seven_problems_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["check", "serve"] {
        let (code, stdout, stderr) = run(folder.path(), SEVEN, &[command]).await;

        assert_eq!(code, Some(64), "{command}");
        let told = format!("{stdout}{stderr}");
        let problems = told.lines().filter(|line| line.starts_with("error: "));
        let problems: Vec<&str> = problems.collect();
        for key in [
            "`server.max_boddy`",
            "`server.idle_timeout`",
            "`sources.clerk.secrets`",
            "`sources.clerk.to`",
            "`destinations.billing.url`",
            "`destinations.other.type`",
            "`routes[0].types",
        ] {
            let own = problems.iter().filter(|line| line.contains(key)).count();
            assert_eq!(own, 1, "{command}: {key} in\n{told}");
        }
        assert_eq!(problems.len(), 7, "{told}");
        assert!(told.contains("hookward.toml"), "{told}");
        assert!(told.contains("hint: did you mean `max_body`?"), "{told}");
        for marker in ["secret-marker-1", "secret-marker-2", "secret-marker-3"] {
            assert!(!told.contains(marker), "{marker} in\n{told}");
        }
    }
}

#[tokio::test]
async fn a_file_that_is_no_toml_is_told_with_its_line_and_without_its_text() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        "[server]\nlisten = \"127.0.0.1:0\"\n\n[sources.clerk]\nsecrets = \"whsec_secret-marker\n";

    let (code, stdout, stderr) = run(folder.path(), config, &["check"]).await;

    assert_eq!(code, Some(64));
    assert_eq!(stdout, "");
    assert!(stderr.contains("hookward.toml:5"), "{stderr}");
    assert!(!stderr.contains("secret-marker"), "{stderr}");
}

#[tokio::test]
async fn a_file_that_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();

    let output = hookward(folder.path(), &["serve", "--config", "nowhere.toml"], b"").await;

    assert_eq!(output.status.code(), Some(64));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("nowhere.toml")
    );
}

#[tokio::test]
async fn an_address_already_taken_is_told_and_is_no_mistake_of_configuration() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let address = taken.local_addr().unwrap();
    let config = format!(
        "server.listen = \"{address}\"\nadmin.listen = \"off\"\n{}",
        clerk_to("http://127.0.0.1:9/")
    );

    let (code, _, stderr) = run(folder.path(), &config, &["serve"]).await;

    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains(&address.to_string()), "{stderr}");
}

#[tokio::test]
async fn all_that_cannot_be_opened_is_told_in_one_start() {
    let taken = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [server, admin] = taken.each_ref().map(|it| it.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes"), "not events").unwrap();
    let config = format!(
        "server.listen = \"{server}\"\nadmin.listen = \"{admin}\"\n{}\
         [destinations.notes]\ntype = \"file\"\npath = \"notes\"\n",
        clerk_to("http://127.0.0.1:9/")
    );

    let (code, _, stderr) = run(folder.path(), &config, &["serve"]).await;

    assert_eq!(code, Some(1), "{stderr}");
    for key in ["`server.listen`", "`admin.listen`", "`destinations.notes`"] {
        assert!(stderr.contains(&format!("error: {key}")), "{key}: {stderr}");
    }
}

#[tokio::test]
async fn a_pipe_is_no_file_for_events_and_check_says_so_without_waiting_for_its_reader() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("events");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
    let config = "[sources.clerk]\nsecrets = \"env:KEY\"\nto = \"record\"\n\
                  [destinations.record]\ntype = \"file\"\npath = \"events\"\n";

    let (code, _, stderr) = run(folder.path(), config, &["check"]).await;

    assert_eq!(code, Some(64), "{stderr}");
    assert!(
        stderr.contains("`destinations.record.path` is a pipe"),
        "{stderr}"
    );
}

#[tokio::test]
async fn a_secret_that_is_not_there_keeps_it_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let config = clerk_to("http://127.0.0.1:9/").replace("env:KEY", "env:NOT_SET_ANYWHERE");

    let (code, _, stderr) = run(folder.path(), &config, &["serve"]).await;

    assert_eq!(code, Some(64), "{stderr}");
    assert!(stderr.contains("NOT_SET_ANYWHERE"), "{stderr}");
    let (code, _, stderr) = run(folder.path(), &config, &["check", "--no-secrets"]).await;
    assert_eq!(code, Some(0), "{stderr}");
}

#[tokio::test]
async fn a_password_in_a_url_is_sent_elsewhere_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let config = clerk_to("http://user:secret-marker@127.0.0.1:9/");

    let (code, stdout, stderr) = run(folder.path(), &config, &["check"]).await;

    assert_eq!(code, Some(64), "{stderr}");
    assert!(stderr.contains("`destinations.app.url`"), "{stderr}");
    assert!(
        !format!("{stdout}{stderr}").contains("secret-marker"),
        "{stderr}"
    );
}

#[tokio::test]
async fn the_environment_overrides_the_file_and_only_with_two_underscores() {
    let upstream = Upstream::start().await;
    let config = clerk_to("http://127.0.0.1:9/unused").replace("clerk", "my-clerk");
    let gateway = Gateway::with(&config)
        .env("HOOKWARD_DESTINATIONS__APP__URL", upstream.url())
        .env("HOOKWARD_SERVER__MAX_BODY", "64 B")
        .env("HOOKWARD_SOURCES__MY_CLERK__PATH", "/elsewhere")
        // Kubernetes sets such for a service named hookward.
        .env("HOOKWARD_SERVICE_HOST", "10.0.0.1")
        .env("HOOKWARD_PORT", "tcp://10.0.0.1:8080")
        .start()
        .await;

    let small = Message::new("msg_1").body(r#"{"type":"a"}"#).seal();
    let large = Message::new("msg_2").body(vec![b'x'; 65]).seal();

    assert_eq!(
        gateway.post("/elsewhere", &small).await.told(),
        (200, "delivered")
    );
    assert_eq!(
        gateway.post("/elsewhere", &large).await.told(),
        (413, "too_large")
    );
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_mistake_in_the_environment_is_told_with_the_name_of_its_variable() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("hookward.toml"),
        clerk_to("http://127.0.0.1:9/"),
    )
    .unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_hookward"));
    let output = command
        .arg("check")
        .current_dir(folder.path())
        .env("KEY", crate::support::KEY)
        .env("HOOKWARD_SERVER__MAX_BODY", "secret-marker")
        .output()
        .await
        .unwrap();

    assert_eq!(output.status.code(), Some(64));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("`server.max_body`"), "{told}");
    assert!(told.contains("HOOKWARD_SERVER__MAX_BODY"), "{told}");
    assert!(!told.contains("secret-marker"), "{told}");
}

#[tokio::test]
async fn what_is_doubtful_is_a_warning_and_starts() {
    let folder = tempfile::tempdir().unwrap();
    let config = clerk_to("http://127.0.0.1:9/").replace("env:KEY", crate::support::KEY)
        + "[sources.unused]\nsecrets = \"env:KEY\"\nevent_type = \"header:X-Type\"\n";

    let (code, stdout, stderr) = run(folder.path(), &config, &["check"]).await;

    assert_eq!(code, Some(0), "{stderr}");
    let told = format!("{stdout}{stderr}");
    for key in [
        "`sources.clerk.secrets` ",
        "`sources.unused` ",
        "`sources.unused.event_type` ",
    ] {
        assert!(
            told.contains(&format!("warning: {key}")),
            "{key} in\n{told}"
        );
    }
    assert!(!told.contains(&crate::support::KEY[6..]), "{told}");
}

#[tokio::test]
async fn promises_that_would_contradict_each_other_are_errors() {
    let base = clerk_to("http://127.0.0.1:9/");
    let folder = tempfile::tempdir().unwrap();
    for (config, key) in [
        (
            format!("ledger.retention = \"9m\"\n{base}"),
            "`ledger.retention`",
        ),
        (base.clone() + "required = false\n", "`sources.clerk.to`"),
        (
            base.clone() + "forward_headers = [\"cookie\"]\n",
            "`destinations.app.forward_headers",
        ),
        (
            base.clone() + "forward_headers = [\"Hookward-Id\"]\n",
            "`destinations.app.forward_headers",
        ),
        (
            base.clone()
                + "[sources.other]\nsecrets = \"env:KEY\"\npath = \"/clerk\"\nto = \"app\"\n",
            "path`",
        ),
        (format!("admin.token = \"short\"\n{base}"), "`admin.token`"),
        (
            base.replace("env:KEY", "whsk_C2FVsBQIhrscChlQIMV+b5sS"),
            "`sources.clerk.secrets`",
        ),
        (
            base.replace("\"env:KEY\"", "[\"env:KEY\", \"dangerously-unverified\"]"),
            "`sources.clerk.secrets",
        ),
        (base.replace("clerk", "my__clerk"), "my__clerk"),
    ] {
        let (code, _, stderr) = run(folder.path(), &config, &["check"]).await;
        assert_eq!(code, Some(64), "{key}: {stderr}");
        let errors = stderr.lines().filter(|line| line.starts_with("error: "));
        let errors: Vec<&str> = errors.collect();
        assert!(
            errors.iter().any(|line| line.contains(key)),
            "{key} in\n{stderr}"
        );
    }
}
