use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::thread::JoinHandle;

use super::*;

const KEY: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

struct Ran {
    exit: Exit,
    out: String,
    err: String,
}

fn hookward(args: &[&str]) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = ["hookward"].iter().chain(args).map(OsString::from);
    let exit = obey(args, Print::new(&mut out, &mut err));
    Ran {
        exit,
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    }
}

/// A folder with one file in it.
fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

/// One request as a [`Peer`] read it.
#[derive(Debug)]
struct Seen {
    line: String,
    headers: Vec<String>,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }
}

/// A server that gives these answers on one connection, then closes it, and
/// hands back what it was asked.
fn peer(answers: &'static [&'static str]) -> (String, JoinHandle<Vec<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        answers
            .iter()
            .map(|answer| {
                let mut head = Vec::new();
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    match line.trim_end() {
                        "" => break,
                        line => head.push(line.to_owned()),
                    }
                }
                let mut seen = Seen {
                    line: head.remove(0),
                    headers: head,
                    body: String::new(),
                };
                let length = seen.header("content-length").unwrap_or("0");
                let mut body = vec![0; length.parse().unwrap()];
                reader.read_exact(&mut body).unwrap();
                seen.body = String::from_utf8(body).unwrap();
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
                seen
            })
            .collect()
    });
    (url, asked)
}

const DELIVERED: &str =
    "HTTP/1.1 200 OK\r\nhookward-result: delivered\r\ncontent-length: 2\r\n\r\n{}";
const DUPLICATE: &str =
    "HTTP/1.1 200 OK\r\nhookward-result: duplicate\r\ncontent-length: 2\r\n\r\n{}";
const FAILED: &str =
    "HTTP/1.1 502 Bad Gateway\r\nhookward-result: failed\r\ncontent-length: 0\r\n\r\n";
const FOREIGN: &str = "HTTP/1.1 204 No Content\r\n\r\n";

#[test]
fn the_commands_hold_together() {
    use clap::CommandFactory as _;
    Command::command().debug_assert();
}

#[test]
fn every_verb_has_help_with_an_example() {
    use clap::CommandFactory as _;
    for verb in Command::command().get_subcommands() {
        let ran = hookward(&[verb.get_name(), "--help"]);
        assert_eq!(ran.exit, Exit::Yes);
        assert!(ran.err.is_empty());
        let example = format!("hookward {}", verb.get_name());
        let examples = ran.out.split("Examples:").nth(1).unwrap_or_default();
        assert!(examples.contains(&example), "{}", ran.out);
    }
}

#[test]
fn bad_usage_exits_64_on_stderr_and_help_exits_0_on_stdout() {
    for args in [&[][..], &["dance"], &["sign"], &["sign", "--secret"]] {
        let ran = hookward(args);
        assert_eq!(ran.exit.code(), 64, "{args:?}");
        assert!(ran.out.is_empty() && !ran.err.is_empty(), "{args:?}");
    }
    for args in [["--help"], ["--version"]] {
        let ran = hookward(&args);
        assert_eq!(ran.exit.code(), 0, "{args:?}");
        assert!(
            ran.err.is_empty() && ran.out.contains("hookward"),
            "{args:?}"
        );
    }
}

#[test]
fn sign_prints_the_published_vector() {
    let (_dir, body) = file(
        "body",
        r#"{"email":"test@example.com","username":"test_user"}"#,
    );
    let ran = hookward(&[
        "sign",
        "--secret",
        KEY,
        "--id",
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        "--timestamp",
        "1649367553",
        body.to_str().unwrap(),
    ]);
    assert_eq!(ran.exit, Exit::Yes);
    assert_eq!(
        ran.out,
        "svix-id: msg_27UH4WbU6Z5A5EzD8u03UvzRbpk\n\
         svix-timestamp: 1649367553\n\
         svix-signature: v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=\n"
    );
}

#[test]
fn sign_takes_only_ids_and_timestamps_that_a_gateway_takes() {
    for bad in [
        ["--id", "a.b"],
        ["--timestamp", "01"],
        ["--family", "other"],
    ] {
        let ran = hookward(&["sign", "--secret", KEY, bad[0], bad[1]]);
        assert_eq!(ran.exit.code(), 64, "{bad:?}");
        assert!(ran.out.is_empty());
    }
}

#[test]
fn a_body_that_is_not_there_is_bad_usage() {
    let ran = hookward(&["sign", "--secret", KEY, "/no/such/body"]);
    assert_eq!(ran.exit.code(), 64);
    assert!(
        ran.err
            .contains("cannot read the body from `/no/such/body`")
    );
}

#[test]
fn send_posts_what_it_signed_and_prints_the_answer() {
    let (url, asked) = peer(&[DELIVERED]);
    let (_dir, body) = file("body", r#"{"type":"a"}"#);
    let url = format!("{url}/clerk?x=1");
    let ran = hookward(&[
        "send",
        &url,
        "--secret",
        KEY,
        "--id",
        "msg_1",
        body.to_str().unwrap(),
    ]);
    let seen = asked.join().unwrap().remove(0);
    assert_eq!(seen.line, "POST /clerk?x=1 HTTP/1.1");
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("svix-id"), Some("msg_1"));
    assert_eq!(seen.body, r#"{"type":"a"}"#);
    let signed: u64 = seen.header("svix-timestamp").unwrap().parse().unwrap();
    let key = crate::key::SigningKey::parse(KEY).unwrap();
    assert_eq!(
        seen.header("svix-signature"),
        key.sign("msg_1", signed, seen.body.as_bytes()).as_deref()
    );
    assert_eq!(ran.exit, Exit::Yes, "{}", ran.err);
    assert!(ran.out.starts_with("200 delivered msg_1 "), "{}", ran.out);
    assert!(ran.out.ends_with("ms\n"), "{}", ran.out);
}

#[test]
fn send_goes_on_over_one_connection_and_exits_1_when_one_answer_is_no() {
    let (url, asked) = peer(&[DELIVERED, FAILED, FOREIGN]);
    let ran = hookward(&[
        "send", &url, "--secret", KEY, "--type", "ping", "--count", "3",
    ]);
    let seen = asked.join().unwrap();
    assert_eq!(ran.exit, Exit::No);
    let lines: Vec<_> = ran.out.lines().collect();
    assert!(lines[0].starts_with("200 delivered msg_"), "{}", ran.out);
    assert!(lines[1].starts_with("502 failed msg_"), "{}", ran.out);
    assert!(lines[2].starts_with("204 - msg_"), "{}", ran.out);
    assert_ne!(seen[0].header("svix-id"), seen[1].header("svix-id"));
}

#[test]
fn one_id_sent_twice_is_the_same_message_twice() {
    let (url, asked) = peer(&[DELIVERED, DUPLICATE]);
    let ran = hookward(&[
        "send", &url, "--secret", KEY, "--type", "ping", "--count", "2", "--id", "msg_1",
    ]);
    let seen = asked.join().unwrap();
    assert_eq!(ran.exit, Exit::Yes);
    assert_eq!(seen[0].header("svix-id"), seen[1].header("svix-id"));
    assert_eq!(seen[0].body, seen[1].body);
    assert!(
        ran.out
            .lines()
            .nth(1)
            .unwrap()
            .starts_with("200 duplicate msg_1 ")
    );
}

#[test]
fn a_made_body_has_type_timestamp_and_data() {
    let (url, asked) = peer(&[DELIVERED]);
    hookward(&[
        "send",
        &url,
        "--secret",
        KEY,
        "--type",
        "user.created",
        "--data",
        r#"{"n": 1.0}"#,
    ]);
    let body = asked.join().unwrap().remove(0).body;
    assert!(
        body.starts_with(r#"{"type":"user.created","timestamp":"20"#),
        "{body}"
    );
    assert!(body.ends_with(r#"Z","data":{"n": 1.0}}"#), "{body}");
}

#[test]
fn a_tampered_body_is_not_the_one_that_was_signed() {
    let (url, asked) = peer(&[FAILED]);
    let ran = hookward(&["send", &url, "--secret", KEY, "--type", "ping", "--tamper"]);
    assert_eq!(ran.exit, Exit::No);
    let seen = asked.join().unwrap().remove(0);
    let signed: u64 = seen.header("svix-timestamp").unwrap().parse().unwrap();
    let key = crate::key::SigningKey::parse(KEY).unwrap();
    let id = seen.header("svix-id").unwrap();
    assert_ne!(
        seen.header("svix-signature"),
        key.sign(id, signed, seen.body.as_bytes()).as_deref()
    );
}

#[test]
fn an_aged_message_was_signed_that_long_ago() {
    let (url, asked) = peer(&[FAILED]);
    hookward(&[
        "send", &url, "--secret", KEY, "--type", "ping", "--age", "10m",
    ]);
    let seen = asked.join().unwrap().remove(0);
    let signed: u64 = seen.header("svix-timestamp").unwrap().parse().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!((now - 605..=now - 600).contains(&signed), "{signed} {now}");
}

#[test]
fn nobody_listening_is_told_with_the_way_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://me:hush@{}/x?hush", listener.local_addr().unwrap());
    drop(listener);
    let ran = hookward(&["send", &url, "--secret", KEY, "--type", "ping"]);
    assert_eq!(ran.exit, Exit::No);
    assert!(ran.err.contains("connection refused"), "{}", ran.err);
    assert!(ran.err.contains("hint: is hookward running"), "{}", ran.err);
    assert!(!ran.err.contains("hush"), "{}", ran.err);
}

#[test]
fn what_cannot_be_sent_is_bad_usage() {
    for args in [
        &["ftp://a", "--type", "ping"][..],
        &["http://127.0.0.1:1", "--type", " x"],
        &["http://127.0.0.1:1", "--type", "x", "--data", "{"],
        &["http://127.0.0.1:1", "--data", "{}"],
        &["http://127.0.0.1:1", "--type", "x", "--count", "0"],
        &["http://127.0.0.1:1", "--type", "x", "--age", "soon"],
        &["http://127.0.0.1:1", "--type", "x", "body.json"],
        &["unix:/tmp/x:no-slash", "--type", "x"],
    ] {
        let ran = hookward(&[&["send", "--secret", KEY], args].concat());
        assert_eq!(ran.exit.code(), 64, "{args:?} {}", ran.err);
    }
}

#[test]
fn what_sign_prints_is_valid_to_verify() {
    for family in ["svix", "webhook"] {
        let (_dir, body) = file("body", "{}\n");
        let body = body.to_str().unwrap();
        let signed = hookward(&["sign", "--secret", KEY, "--family", family, body]).out;
        let mut args = vec!["verify", "--secret", KEY, body];
        args.extend(signed.lines().flat_map(|line| ["--header", line]));
        let ran = hookward(&args);
        assert_eq!(
            (ran.exit, ran.out.as_str()),
            (Exit::Yes, "valid\n"),
            "{}",
            ran.err
        );
    }
}

/// Verifies the first published vector with something else about it.
fn verify_vector(body: &str, more: &[&str]) -> Ran {
    let (_dir, body) = file("body", body);
    let args = [
        "verify",
        "--secret",
        KEY,
        "-H",
        "svix-id: msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        "-H",
        "Svix-Timestamp:1649367553",
        "-H",
        "svix-signature: v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        body.to_str().unwrap(),
    ];
    hookward(&[&args, more].concat())
}

const VECTOR: &str = r#"{"email":"test@example.com","username":"test_user"}"#;

#[test]
fn an_old_request_is_valid_as_of_its_arrival() {
    assert_eq!(
        verify_vector(VECTOR, &["--at", "1649367853"]).out,
        "valid\n"
    );
    let ran = verify_vector(VECTOR, &["--at", "2022-04-07T21:44:14Z"]);
    assert_eq!(ran.exit, Exit::No);
    assert!(!ran.out.contains("valid\n"));
    assert_eq!(
        verify_vector(VECTOR, &["--tolerance", "off"]).out,
        "valid\n"
    );
    assert_eq!(verify_vector(VECTOR, &[]).exit, Exit::No);
}

#[test]
fn a_changed_body_is_told_as_problem_and_hint_and_exits_1() {
    let ran = verify_vector(&format!("{VECTOR}\n"), &["--at", "1649367553"]);
    assert_eq!(ran.exit, Exit::No);
    assert!(!ran.out.is_empty() && ran.err.is_empty());
}

#[test]
fn a_header_that_cannot_be_one_is_bad_usage() {
    for bad in ["svix-id", "sv ix: 1", "svix-id: a\nb"] {
        let ran = verify_vector(VECTOR, &["--header", bad]);
        assert_eq!(ran.exit.code(), 64, "{bad}");
    }
}

#[test]
fn health_says_what_healthz_says() {
    let (url, asked) = peer(&["HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n"]);
    let ran = hookward(&["health", "--url", &url]);
    assert_eq!(asked.join().unwrap()[0].line, "GET /healthz HTTP/1.1");
    assert_eq!(
        (ran.exit, ran.out.as_str()),
        (Exit::Yes, "ok\n"),
        "{}",
        ran.err
    );

    let (url, _asked) = peer(&[FAILED]);
    let ran = hookward(&["health", "--url", &url]);
    assert_eq!(ran.exit, Exit::No);
    assert!(ran.out.is_empty() && ran.err.contains("502"), "{}", ran.err);
}

#[test]
fn a_hookward_that_does_not_run_is_not_healthy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let ran = hookward(&["health", "--url", &url]);
    assert_eq!(ran.exit, Exit::No);
    assert!(ran.err.contains("connection refused"), "{}", ran.err);
    assert!(ran.err.contains("hint: "), "{}", ran.err);
}

/// Asks a scripted admin listener to forget something.
fn forget(answer: &'static [&'static str], args: &[&str]) -> (Ran, Seen) {
    let (url, asked) = peer(answer);
    let token = ["forget", "--token", "sixteen-bytes-ok", "--url", &url];
    let ran = hookward(&[&token, args].concat());
    (ran, asked.join().unwrap().remove(0))
}

#[test]
fn forget_names_id_and_destination_and_shows_the_token() {
    const DONE: &str = "HTTP/1.1 204 No Content\r\n\r\n";
    let (ran, seen) = forget(&[DONE], &["clerk", "a/b?c"]);
    assert_eq!(seen.line, "DELETE /ledger/clerk/a%2Fb%3Fc HTTP/1.1");
    assert_eq!(
        seen.header("authorization"),
        Some("Bearer sixteen-bytes-ok")
    );
    assert_eq!(ran.out, "forgot a/b?c of clerk\n");
    let (ran, seen) = forget(&[DONE], &["clerk", "m", "--destination", "billing"]);
    assert_eq!(
        seen.line,
        "DELETE /ledger/clerk/m?destination=billing HTTP/1.1"
    );
    assert_eq!(ran.out, "forgot that billing accepted m of clerk\n");
}

#[test]
fn forgetting_by_time_tells_how_many() {
    const COUNT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"forgotten\":3}";
    let (ran, seen) = forget(&[COUNT], &["clerk", "--since", "90m"]);
    assert_eq!(seen.line, "DELETE /ledger/clerk?since=1h%2030m HTTP/1.1");
    assert_eq!(ran.out, "forgot 3 ids of clerk\n", "{}", ran.err);
}

#[test]
fn what_cannot_be_forgotten_is_told_with_the_way_out() {
    for (answer, word) in [
        (
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n",
            "--token",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
            "set `admin.token`",
        ),
        (
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            "no record of `m`",
        ),
        (
            "HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\n\r\n",
            "try again",
        ),
        (
            "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n",
            "answers 500",
        ),
    ] {
        let (ran, _) = forget(Vec::leak(vec![answer]), &["clerk", "m"]);
        assert_eq!(ran.exit, Exit::No);
        assert!(ran.out.is_empty());
        assert!(ran.err.contains(word), "{}", ran.err);
        assert!(!ran.err.contains("sixteen"), "{}", ran.err);
    }
}

#[test]
fn forget_wants_an_id_or_a_time_and_not_both() {
    for args in [
        &["clerk"][..],
        &["clerk", "m", "--since", "1h"],
        &["Bad", "m"],
    ] {
        let ran = hookward(&[&["forget"], args].concat());
        assert_eq!(ran.exit.code(), 64, "{args:?}");
    }
}
