//! Reloads that meet something else: whoever asked goes away, hookward starts or
//! stops, or the last step fails.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use rustix::process::Signal;

use crate::reload::guarded;
use crate::support::{
    Connection, Gateway, Message, OTHER_KEY, Reply, TOKEN, Upstream, before_the_next_look, within,
};

/// Puts a pipe in the place of the configuration, so that a reload waits in the
/// middle of reading it.
fn pipe(gateway: &Gateway) -> std::path::PathBuf {
    let path = gateway.folder().join("test.toml");
    std::fs::remove_file(&path).unwrap();
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
    path
}

/// The pipe's other end, once a reload reads this one.
async fn being_read(path: &Path) -> File {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    within("the reload to read its file", async {
        loop {
            let mut options = OpenOptions::new();
            match options.write(true).custom_flags(flags).open(path) {
                Ok(file) => return file,
                Err(_) => before_the_next_look().await,
            }
        }
    })
    .await
}

#[tokio::test]
async fn one_whose_asker_goes_away_is_finished_before_the_next_begins() {
    let upstream = Upstream::start().await;
    let config = guarded(upstream.url());
    let gateway = Gateway::start(&config).await;
    let path = pipe(&gateway);
    let mut asking = Connection::open(gateway.admin()).await;
    let ask = format!("POST /reload HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {TOKEN}\r\n");
    asking.write(format!("{ask}\r\n").as_bytes()).await;
    let mut slow = being_read(&path).await;
    drop(asking);

    // Another file is put in its place meanwhile, and is to be in force in the end.
    std::fs::remove_file(&path).unwrap();
    let at = |path: &str| {
        config.replace(
            "[sources.clerk]",
            &format!("[sources.clerk]\npath = {path:?}"),
        )
    };
    gateway.rewrite(&at("/second"));
    gateway.signal(Signal::HUP);
    slow.write_all(at("/first").as_bytes()).unwrap();
    drop(slow);

    gateway
        .metrics_until("both reloads", |metrics| {
            metrics.value("hookward_config_reloads_total", &[("outcome", "ok")]) == 2.0
        })
        .await;
    let sealed = Message::new("msg_1").seal();
    assert_eq!(
        gateway.post("/second", &sealed).await.told(),
        (200, "delivered")
    );
}

#[tokio::test]
async fn while_it_stops_nothing_is_changed_any_more() {
    let upstream = Upstream::start().await;
    let config = guarded(upstream.url());
    let mut gateway = Gateway::start(&format!("server.drain_delay = \"1s\"\n{config}")).await;
    let path = pipe(&gateway);
    gateway.signal(Signal::HUP);
    let mut slow = being_read(&path).await;
    gateway.signal(Signal::TERM);
    gateway.line(&["stopping", "1s"]).await;

    let moved = format!("server.listen = \"127.0.0.2:0\"\n{config}");
    slow.write_all(moved.as_bytes()).unwrap();
    drop(slow);

    gateway.line(&["hookward is stopping"]).await;
    let asked = gateway.ask("POST", "/reload", Some(TOKEN)).await;
    assert_eq!(
        (asked.status, asked.text().contains("draining")),
        (503, true)
    );
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn while_it_starts_nothing_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let journal = format!("ledger.journal = {:?}\n", dir.path().join("ids"));
    let config = journal + &guarded(upstream.url());
    let _first = Gateway::start(&config).await;
    let second = Gateway::start(&config).await;

    let asked = second.ask("POST", "/reload", Some(TOKEN)).await;

    assert_eq!(
        (asked.status, asked.text().contains("starting")),
        (503, true)
    );
    let metrics = second.metrics().await;
    let refused = metrics.value("hookward_config_reloads_total", &[("outcome", "refused")]);
    assert_eq!(refused, 0.0, "nothing is wrong with the file");
}

#[tokio::test]
async fn one_that_fails_at_its_last_step_has_changed_no_limit_and_shows_nothing_of_itself() {
    let upstream = Upstream::sequence(vec![Reply::Held(200), Reply::Held(200)]).await;
    let config = |address: &str, share: u32| {
        let config = guarded(upstream.url());
        let share = format!("[sources.clerk]\nmax_in_flight = {share}");
        let config = config.replace("[sources.clerk]", &share);
        format!("server.listen = \"{address}\"\nadmin.listen = \"127.0.0.1:0\"\n{config}")
    };
    let setup = Gateway::with(&config("127.0.0.1:0", 2)).addresses_of_file();
    let gateway = setup.start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (taken, address)).unwrap();
    let more = "[sources.other]\nsecrets = \"env:OTHER_KEY\"\nto = \"never\"\n\
        [destinations.never]\ntype = \"http\"\nurl = \"http://127.0.0.1:9/\"\n";
    gateway.rewrite(&(config(&taken.1.to_string(), 1) + more));

    let asked = gateway.ask("POST", "/reload", Some(TOKEN)).await;

    assert_eq!(asked.status, 422);
    let metrics = gateway.ask("GET", "/metrics", None).await.text();
    for of_it in ["\"other\"", "\"never\""] {
        assert!(!metrics.contains(of_it), "{metrics}");
    }
    let mut under_way = Vec::new();
    for id in ["msg_1", "msg_2"] {
        let mut connection = gateway.connect().await;
        connection
            .write(&Message::new(id).seal().request("/clerk"))
            .await;
        under_way.push(connection);
    }
    upstream.reached(2).await;
    upstream.release(2);
    for mut connection in under_way {
        assert_eq!(connection.answer().await.told(), (200, "delivered"));
    }
    // A good one is no worse for it.
    gateway.rewrite(&(config("127.0.0.1:0", 1) + more));
    let asked = gateway.ask("POST", "/reload", Some(TOKEN)).await;
    assert_eq!(asked.status, 200);
    let sealed = Message::new("msg_3").key(OTHER_KEY).seal();
    assert_eq!(gateway.post("/other", &sealed).await.status, 502);
    let metrics = gateway.metrics().await;
    let failed = [("source", "other"), ("result", "failed")];
    assert_eq!(metrics.value("hookward_requests_total", &failed), 1.0);
}
