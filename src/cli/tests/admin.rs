use super::*;

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
fn a_token_that_was_not_given_is_asked_for() {
    let (url, _asked) = peer(&["HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n"]);
    let ran = hookward(&["forget", "clerk", "m", "--url", &url]);
    assert_eq!(ran.exit, Exit::No);
    assert!(ran.err.contains("wants a token"), "{}", ran.err);
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
