mod admin;
mod configured;
mod sending;
mod signing;

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
fn a_secret_that_stands_where_it_does_not_belong_is_not_shown() {
    const PEM: &str = "-----BEGIN CERTIFICATE-----\nMfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";
    const BARE: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let ca = format!("--ca={PEM}");
    let send = ["send", "https://h:1", "--secret", KEY, "--type", "a"];
    for args in [
        &[&send[..], &[&ca]].concat()[..],
        &[&send[..], &["--ca", PEM]].concat(),
        &["sign", "--secret", "env:A", "body", KEY],
        &["sign", "--secret", KEY, BARE],
        &["verify", "--secret", KEY, KEY],
        &["check", BARE],
        &["forget", "clerk", "m", KEY],
        &[KEY],
    ] {
        let ran = hookward(args);
        assert_eq!(ran.exit.code(), 64, "{args:?}");
        for secret in [&KEY[6..], BARE] {
            assert!(!ran.err.contains(secret), "{args:?} {}", ran.err);
        }
        assert!(ran.err.contains("(not shown)"), "{args:?} {}", ran.err);
    }
}
