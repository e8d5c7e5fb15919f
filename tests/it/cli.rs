//! Every verb, as a process (§3).

use std::path::Path;

use crate::support::{Gateway, KEY, Message, Reply, TOKEN, Upstream, clerk_to, hookward, now};

/// What a run of a command came to.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

async fn run(folder: &Path, args: &[&str], input: &str) -> Ran {
    let output = hookward(folder, args, input.as_bytes()).await;
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a command where there is nothing else.
async fn run_anywhere(args: &[&str], input: &str) -> Ran {
    run(tempfile::tempdir().unwrap().path(), args, input).await
}

/// The headers that `sign` printed.
fn headers(stdout: &str) -> Vec<(String, String)> {
    let lines = stdout.lines().map(|line| line.split_once(": ").unwrap());
    lines.map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

#[tokio::test]
async fn every_verb_explains_itself_with_an_example() {
    for verb in [
        "serve", "demo", "init", "check", "route", "sign", "verify", "send", "health", "forget",
    ] {
        let ran = run_anywhere(&[verb, "--help"], "").await;
        assert_eq!(ran.code, Some(0), "{verb}");
        assert!(
            ran.stdout.contains(&format!("hookward {verb}")),
            "{}",
            ran.stdout
        );
        assert!(ran.stdout.contains("xample"), "{verb}: {}", ran.stdout);
    }
    let ran = run_anywhere(&["--version"], "").await;
    assert_eq!(
        ran.stdout.trim(),
        format!("hookward {}", env!("CARGO_PKG_VERSION"))
    );
}

#[tokio::test]
async fn bad_usage_is_64() {
    for args in [
        &["nonsense"][..],
        &[],
        &["serve", "--nonsense"],
        &["sign"],
        &["send"],
        &["route"],
        &["forget"],
        &["sign", "--secret", "env:NOT_SET_ANYWHERE"],
        &["sign", "--secret", "whsec_!!!"],
    ] {
        let ran = run_anywhere(args, "{}").await;
        assert_eq!(ran.code, Some(64), "{args:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{args:?}");
        assert!(!ran.stderr.is_empty(), "{args:?}");
    }
}

#[tokio::test]
async fn sign_prints_what_the_official_sdks_would() {
    let vector = [
        "sign",
        "--secret",
        KEY,
        "--id",
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        "--timestamp",
        "1649367553",
        "-",
    ];
    let body = r#"{"email":"test@example.com","username":"test_user"}"#;

    let ran = run_anywhere(&vector, body).await;

    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(
        ran.stdout,
        "svix-id: msg_27UH4WbU6Z5A5EzD8u03UvzRbpk\nsvix-timestamp: 1649367553\nsvix-signature: v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=\n"
    );
}

#[tokio::test]
async fn what_sign_signed_now_verifies_with_both_sdks_and_with_verify() {
    let folder = tempfile::tempdir().unwrap();
    let body = "{\"a\": 1}\n";
    std::fs::write(folder.path().join("body.json"), body).unwrap();
    for family in ["svix", "webhook"] {
        let args = [
            "sign",
            "--secret",
            "env:KEY",
            "--family",
            family,
            "body.json",
        ];
        let ran = run(folder.path(), &args, "").await;
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let headers = headers(&ran.stdout);
        assert_eq!(headers.len(), 3);

        let map: http::HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                let name: http::HeaderName = name.parse().unwrap();
                (name, value.parse().unwrap())
            })
            .collect();
        if family == "svix" {
            let sdk = svix::webhooks::Webhook::new(KEY).unwrap();
            sdk.verify(body.as_bytes(), &map).unwrap();
        } else {
            let sdk = standardwebhooks::Webhook::new(KEY).unwrap();
            sdk.verify(body.as_bytes(), &map).unwrap();
        }
        let mut args = vec!["verify", "--secret", "env:KEY"];
        let lines: Vec<&str> = ran.stdout.lines().collect();
        for line in &lines {
            args.extend(["--header", line]);
        }
        args.push("body.json");
        let ran = run(folder.path(), &args, "").await;
        assert_eq!(
            (ran.code, ran.stdout.trim()),
            (Some(0), "valid"),
            "{}",
            ran.stderr
        );
    }
}

/// Runs `verify` on a message, at the time it was signed unless told otherwise.
async fn verify(message: &crate::support::Sealed, extra: &[&str]) -> Ran {
    let lines: Vec<String> = message
        .headers
        .iter()
        .filter(|(name, _)| name != "Content-Type")
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let mut args = vec!["verify", "--secret", "env:KEY"];
    for line in &lines {
        args.extend(["--header", line]);
    }
    args.extend(extra);
    args.push("-");
    run_anywhere(&args, std::str::from_utf8(&message.body).unwrap()).await
}

#[tokio::test]
async fn verify_names_every_check_that_fails() {
    let old = Message::new("msg_1").at(-4000).seal();
    let forged = Message::new("msg_1").seal().body("{}");
    let both = Message::new("msg_1").at(-4000).seal().body("{}");
    let missing = Message::new("msg_1").seal().without("svix-id");

    for (message, problems) in [(&old, 1), (&forged, 1), (&both, 2), (&missing, 1)] {
        let ran = verify(message, &[]).await;
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        let told: Vec<&str> = ran.stdout.lines().filter(|l| l.contains(": ")).collect();
        assert!(told.len() >= problems, "{}", ran.stdout);
        assert!(!ran.stdout.contains("valid\n"), "{}", ran.stdout);
    }
    let at = old.header("svix-timestamp").to_owned();
    let ran = verify(&old, &["--at", &at]).await;
    assert_eq!((ran.code, ran.stdout.trim()), (Some(0), "valid"));
}

#[tokio::test]
async fn verify_guesses_what_people_really_meet() {
    let message = Message::new("msg_1").body("{\"a\": 1}").seal();
    let newline = verify(&message.clone().body("{\"a\": 1}\n"), &[]).await;
    let rewritten = verify(&message.body("{\"a\":1}"), &[]).await;

    assert_eq!((newline.code, rewritten.code), (Some(1), Some(1)));
    assert!(newline.stdout.contains("line break"), "{}", newline.stdout);
    assert_ne!(newline.stdout, rewritten.stdout, "the hints differ");
}

#[tokio::test]
async fn send_signs_posts_and_tells_what_was_answered() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let url = format!("http://{}/clerk", gateway.address());
    let folder = tempfile::tempdir().unwrap();
    let send = async |extra: &[&str], input: &str| {
        let args = [&["send", &url, "--secret", "env:KEY"], extra].concat();
        run(folder.path(), &args, input).await
    };

    let typed = [
        "--type",
        "user.created",
        "--data",
        "{\"n\": 1}",
        "--id",
        "msg_1",
    ];
    let ran = send(&typed, "").await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let words: Vec<&str> = ran.stdout.split_whitespace().collect();
    assert_eq!(words[..3], ["200", "delivered", "msg_1"], "{}", ran.stdout);
    assert_eq!(words.len(), 4, "{}", ran.stdout);
    let request = upstream.only();
    assert_eq!(request.header("hookward-type"), Some("user.created"));
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["data"]["n"], 1);
    assert!(body["timestamp"].is_string());

    let ran = send(&["--id", "msg_2", "-"], "exactly this \n").await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(upstream.requests()[1].body, b"exactly this \n");

    for (extra, told) in [
        (&["--tamper", "--type", "a"][..], "401 unverified"),
        (&["--age", "10m", "--type", "a"], "401 unverified"),
    ] {
        let ran = send(extra, "").await;
        assert_eq!(ran.code, Some(1), "{extra:?}");
        assert!(ran.stdout.starts_with(told), "{}", ran.stdout);
    }
    let ran = send(&["--count", "3", "--type", "a"], "").await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(
        ran.stdout.matches("200 delivered").count(),
        3,
        "{}",
        ran.stdout
    );
    assert_eq!(upstream.count(), 5);

    let closed = [
        "send",
        "http://127.0.0.1:1/clerk",
        "--secret",
        "env:KEY",
        "--type",
        "a",
    ];
    let ran = run_anywhere(&closed, "").await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("127.0.0.1:1"), "{}", ran.stderr);
}

#[tokio::test]
async fn route_tells_where_an_event_would_go_and_by_which_rule_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let config = clerk_to("http://127.0.0.1:9/")
        .replace("to = \"app\"\n", "")
        .replace("env:KEY", "env:NOT_SET_ANYWHERE")
        + "[[routes]]\nfrom = \"clerk\"\ntypes = \"user.*\"\nto = \"app\"\n";
    std::fs::write(folder.path().join("hookward.toml"), config).unwrap();
    std::fs::write(folder.path().join("body"), r#"{"type":"user.created"}"#).unwrap();

    let by_type = ["route", "--source", "clerk", "--type", "user.created"];
    let ran = run(folder.path(), &by_type, "").await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(
        ran.stdout.contains("app") && ran.stdout.contains("routes[0]"),
        "{}",
        ran.stdout
    );

    let by_body = ["route", "--source", "clerk", "--body", "body"];
    let ran = run(folder.path(), &by_body, "").await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("app"), "{}", ran.stdout);

    let none = ["route", "--source", "clerk", "--type", "order.paid"];
    let ran = run(folder.path(), &none, "").await;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(!ran.stdout.contains("app"), "{}", ran.stdout);

    let unknown = ["route", "--source", "clark", "--type", "user.created"];
    let ran = run(folder.path(), &unknown, "").await;
    assert_eq!(ran.code, Some(64), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("clerk"),
        "names those there are: {}",
        ran.stderr
    );
}

#[tokio::test]
async fn check_sums_up_what_is_configured_and_shows_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        clerk_to("http://127.0.0.1:9/hook") + "headers = { authorization = \"Bearer hidden\" }\n";
    std::fs::write(folder.path().join("hookward.toml"), config).unwrap();

    let ran = run(folder.path(), &["check"], "").await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for part in ["clerk", "env:KEY", "app", "127.0.0.1:9/hook"] {
        assert!(ran.stdout.contains(part), "{part} in {}", ran.stdout);
    }
    let told = format!("{}{}", ran.stdout, ran.stderr);
    assert!(
        !told.contains("hidden") && !told.contains(&KEY[6..]),
        "{told}"
    );

    let ran = run(folder.path(), &["check", "--format", "json"], "").await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(json.to_string().contains("clerk"), "{json}");

    std::fs::write(folder.path().join("hookward.toml"), "nonsense = 1\n").unwrap();
    let ran = run(folder.path(), &["check", "--format", "json"], "").await;
    assert_eq!(ran.code, Some(64));
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(json.to_string().contains("nonsense"), "{json}");
}

#[tokio::test]
async fn the_file_is_found_where_the_contract_says() {
    let folder = tempfile::tempdir().unwrap();
    for (name, source) in [
        ("hookward.toml", "here"),
        ("env.toml", "byenv"),
        ("flag.toml", "byflag"),
    ] {
        let config = clerk_to("http://127.0.0.1:9/").replace("clerk", source);
        std::fs::write(folder.path().join(name), config).unwrap();
    }
    let check = async |environment: Option<&str>, args: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_hookward"));
        command.arg("check").args(args).current_dir(folder.path());
        command.env("KEY", KEY).env_remove("HOOKWARD_CONFIG");
        if let Some(path) = environment {
            command.env("HOOKWARD_CONFIG", path);
        }
        String::from_utf8(command.output().await.unwrap().stdout).unwrap()
    };

    assert!(check(None, &[]).await.contains("here"));
    assert!(check(Some("env.toml"), &[]).await.contains("byenv"));
    let flag = ["--config", "flag.toml"];
    assert!(check(Some("env.toml"), &flag).await.contains("byflag"));
}

#[tokio::test]
async fn init_prints_a_file_that_check_takes() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), &["init"], "").await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains('#'), "commented");
    std::fs::write(folder.path().join("hookward.toml"), &ran.stdout).unwrap();

    let ran = run(folder.path(), &["check", "--no-secrets"], "").await;

    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[tokio::test]
async fn health_asks_a_running_gateway() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let folder = tempfile::tempdir().unwrap();
    let config = |address: &str| {
        let file = format!(
            "admin.listen = \"{address}\"\n{}",
            clerk_to("http://127.0.0.1:9/")
        );
        std::fs::write(folder.path().join("hookward.toml"), file).unwrap();
    };

    config(&gateway.admin().to_string());
    let ran = run(folder.path(), &["health"], "").await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    config("127.0.0.1:1");
    let ran = run(folder.path(), &["health"], "").await;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
}

#[tokio::test]
async fn health_asks_where_the_environment_says_whatever_became_of_the_file() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hookward.toml");
    for text in [
        None,
        Some(&b"admin.listen = \"127.0.0.1:1\"\nx ="[..]),
        Some(b"\xff"),
    ] {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let asked = crate::support::command()
            .args(["health", "--config"])
            .arg(&file)
            .env("HOOKWARD_ADMIN__LISTEN", gateway.admin().to_string())
            .output();
        let asked = asked.await.unwrap();
        let told = String::from_utf8_lossy(&asked.stderr);
        assert_eq!(asked.status.code(), Some(0), "{told}");
    }
}

#[tokio::test]
async fn forget_lets_an_id_be_delivered_again() {
    let upstream = Upstream::start().await;
    let config = format!("admin.token = \"env:TOKEN\"\n{}", clerk_to(upstream.url()));
    let gateway = Gateway::start(&config).await;
    let folder = tempfile::tempdir().unwrap();
    let own = format!("admin.listen = \"{}\"\n{config}", gateway.admin());
    std::fs::write(folder.path().join("hookward.toml"), own).unwrap();
    gateway.send(&Message::new("msg_1")).await;

    let ran = run(folder.path(), &["forget", "clerk", "msg_1"], "").await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(
        gateway.send(&Message::new("msg_1")).await.told(),
        (200, "delivered")
    );
    let ran = run(folder.path(), &["forget", "clerk", "msg_unknown"], "").await;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let ran = run(folder.path(), &["forget", "clerk", "--since", "1h"], "").await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(
        gateway.send(&Message::new("msg_1")).await.told(),
        (200, "delivered")
    );
    assert_eq!(upstream.count(), 3);
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(TOKEN));
}

#[tokio::test]
async fn serve_needs_no_file_where_source_and_to_say_it_all() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with("")
        .arguments(&[
            "--source",
            "clerk=env:KEY",
            "--source",
            "other=env:OTHER_KEY",
            "--to",
            upstream.url(),
        ])
        .start()
        .await;

    assert_eq!(
        gateway.send(&Message::new("msg_1")).await.told(),
        (200, "delivered")
    );
    let other = Message::new("msg_1").key(crate::support::OTHER_KEY).seal();
    assert_eq!(
        gateway.post("/other", &other).await.told(),
        (200, "delivered")
    );
    assert_eq!(
        gateway.post("/clerk", &other).await.told(),
        (401, "unverified")
    );
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn demo_shows_the_four_requests_and_what_arrived() {
    let ran = run_anywhere(&["demo"], "").await;

    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let told = format!("{}{}", ran.stdout, ran.stderr);
    for word in ["delivered", "duplicate", "unverified", "200", "401"] {
        assert!(told.contains(word), "{word} in {told}");
    }
    assert!(
        told.matches("401").count() >= 2,
        "tampered and stale: {told}"
    );
}

#[tokio::test]
async fn demo_can_go_on_serving() {
    use rustix::process::{Pid, Signal, kill_process};
    use tokio::io::AsyncReadExt as _;

    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_hookward"))
        .args(["demo", "--keep"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    // It has shown everything once the stale request is answered.
    let mut told = Vec::new();
    crate::support::within("the demonstration", async {
        while String::from_utf8_lossy(&told).matches("401").count() < 2 {
            assert_ne!(stdout.read_buf(&mut told).await.unwrap(), 0);
        }
    })
    .await;
    assert!(child.try_wait().unwrap().is_none(), "it goes on");

    let pid = i32::try_from(child.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();

    let status = crate::support::within("it to end", child.wait()).await;
    assert_eq!(status.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_command_whose_reader_has_gone_ends_quietly() {
    use tokio::io::AsyncReadExt as _;

    let upstream = Upstream::always(Reply::Status(200)).await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let url = format!("http://{}/clerk", gateway.address());
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_hookward"))
        .args([
            "send", &url, "--secret", KEY, "--type", "a", "--count", "50",
        ])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();

    drop(child.stdout.take());

    let mut stderr = String::new();
    let mut reader = child.stderr.take().unwrap();
    reader.read_to_string(&mut stderr).await.unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
    crate::support::within("it to end", child.wait())
        .await
        .unwrap();
}

#[tokio::test]
async fn sign_gives_an_id_and_the_present_time_by_itself() {
    let ran = run_anywhere(&["sign", "--secret", "env:KEY", "-"], "{}").await;

    let headers = headers(&ran.stdout);
    assert!(headers[0].1.starts_with("msg_"), "{headers:?}");
    let at: i64 = headers[1].1.parse().unwrap();
    assert!((at - now()).abs() < 60);
}
