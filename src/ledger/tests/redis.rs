//! The ledger in a real Redis, which the tests start and end.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use super::stores::{self, Stand};
use super::*;
use crate::ledger::redis::Leases;
use crate::setting::{Place, Reader, SecretReader};

/// A Redis of these tests' own, which keeps nothing on disk.
struct Server {
    port: u16,
    _process: Child,
}

impl Server {
    /// The one of this process; none where Redis is not installed, except in CI,
    /// where it is to be.
    fn get() -> Option<&'static Self> {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        let server = SERVER.get_or_init(Self::start).as_ref();
        assert!(
            server.is_some() || std::env::var_os("CI").is_none(),
            "install redis-server"
        );
        server
    }

    fn start() -> Option<Self> {
        let installed = Command::new("redis-server").arg("--version").output();
        installed.ok().filter(|told| told.status.success())?;
        // A port that was free a moment ago may be taken by now.
        (0..5).find_map(|_| Self::on_a_free_port())
    }

    fn on_a_free_port() -> Option<Self> {
        let port = {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        };
        // It ends with this process, however that ends.
        let run = format!(
            "redis-server --bind 127.0.0.1 --port {port} --save '' --dir / & \
             trap \"kill $!\" EXIT; read -r _"
        );
        let mut process = Command::new("sh")
            .args(["-c", &run])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(5) {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(Self {
                    port,
                    _process: process,
                });
            }
        }
        process.kill().unwrap();
        process.wait().unwrap();
        None
    }
}

/// Keys in the Redis that no other test has.
struct InRedis {
    server: &'static Server,
    prefix: String,
}

impl InRedis {
    fn new() -> Option<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let server = Server::get()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Some(Self {
            server,
            prefix: format!("test{number}:"),
        })
    }

    /// The configuration of a user, `name:password@` or nobody.
    fn config(&self, user: &str, when_away: &str) -> RedisConfig {
        let text = format!(
            "redis = {{ url = 'redis://{user}127.0.0.1:{}', prefix = '{}', timeout = '3s', \
             when_away = '{when_away}' }}",
            self.server.port, self.prefix
        );
        let table: toml::Table = text.parse().unwrap();
        let dict = figment::value::Value::serialize(&table)
            .unwrap()
            .into_dict()
            .unwrap();
        let reader = Reader::new("/", SecretReader::Process, Place::Nowhere, |_, _| {
            Place::Nowhere
        });
        RedisConfig::read(reader.document(dict).entry("redis").unwrap()).unwrap()
    }

    /// A ledger of the replica of this name.
    fn replica(&self, name: &str, retention: Duration) -> Arc<Ledger<u32>> {
        self.configured(name, retention, self.config("", "refuse"))
    }

    fn configured(&self, name: &str, retention: Duration, config: RedisConfig) -> Arc<Ledger<u32>> {
        let metrics = Metrics::new().unwrap().ledger().clone();
        let names = stores::names();
        let redis = done(async { Redis::open_as(Leases::of(name), config, names, metrics) });
        let ledger = stores::on(Store::Redis(redis), retention, 1000);
        // It counts as away until it is connected, and that takes a moment.
        let began = Instant::now();
        while let Err(away) = done(ledger.reserve(claim("connected"))) {
            assert!(began.elapsed().as_secs() < 40, "{away}");
        }
        ledger
    }

    /// A replica that is a user of its own, so that it alone can be refused.
    fn refusable(&self, when_away: &str) -> Refusable<'_> {
        let user = self.prefix.replace(':', when_away);
        self.ask(&format!(
            "ACL SETUSER {user} on >secret allkeys allcommands"
        ));
        let config = self.config(&format!("{user}:secret@"), when_away);
        Refusable {
            ledger: self.configured(&user, HOUR, config),
            user,
            stand: self,
        }
    }

    /// Has the Redis do something.
    fn ask(&self, words: &str) {
        let mut words = words.split(' ');
        let mut command = ::redis::cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        let address = format!("redis://127.0.0.1:{}", self.server.port);
        let client = ::redis::Client::open(address).unwrap();
        command.exec(&mut client.get_connection().unwrap()).unwrap();
    }
}

struct Refusable<'a> {
    ledger: Arc<Ledger<u32>>,
    user: String,
    stand: &'a InRedis,
}

impl Refusable<'_> {
    /// Whether Redis runs no script for it: it takes no lease and no record.
    fn set_refused(&self, refused: bool) {
        let sign = if refused { '-' } else { '+' };
        self.stand
            .ask(&format!("ACL SETUSER {} {sign}evalsha", self.user));
    }
}

impl Stand for InRedis {
    fn open(&self, retention: Duration, _: u64) -> Arc<Ledger<u32>> {
        self.replica("one", retention)
    }
    fn counts(&self) -> bool {
        false
    }
}

#[test]
fn redis_does_what_the_model_does() {
    if InRedis::new().is_some() {
        model::holds(|| Box::new(InRedis::new().unwrap()), 64);
    }
}

#[test]
fn redis_holds_what_every_store_holds() {
    let Some(stand) = InRedis::new() else { return };
    stores::what_was_accepted_is_known_to_the_next_ledger(&stand);
    for hold in [
        stores::what_was_forgotten_stays_so,
        stores::more_ids_than_memory_holds_are_known,
        stores::what_has_expired_is_dropped,
    ] {
        hold(&InRedis::new().unwrap());
    }
}

fn two_replicas() -> Option<[Arc<Ledger<u32>>; 2]> {
    let stand = InRedis::new()?;
    Some(["one", "two"].map(|name| stand.replica(name, HOUR)))
}

fn claimed(ledger: &Arc<Ledger<u32>>, claim: Claim) -> Reserved<u32> {
    done(ledger.reserve(claim)).unwrap()
}

fn running(ledger: &Arc<Ledger<u32>>, claim: Claim) -> Reservation<u32> {
    match claimed(ledger, claim) {
        Reserved::Run(reservation) => reservation,
        other => panic!("does not run: {other:?}"),
    }
}

#[test]
fn who_waits_on_another_replica_is_told_the_outcome() {
    let Some([one, two]) = two_replicas() else {
        return;
    };
    let reservation = running(&one, claim("m"));
    let Reserved::Running(waiter) = claimed(&two, claim("m")) else {
        panic!("does not wait")
    };
    assert!(!waiter.body_differs());
    let Reserved::Running(second) = claimed(&two, claim("m")) else {
        panic!("does not wait")
    };
    let look = done(two.lookup("clerk", "m")).unwrap().unwrap();
    assert_eq!(look.state, LookState::Running);
    assert_eq!(done(two.forget("clerk", "m", None)), Ok(Forgotten::Running));
    done(reservation.settle(false, Some(502), at(1))).unwrap();
    assert_eq!(done(waiter.outcome()), Some(502));
    assert_eq!(done(second.outcome()), Some(502));
    drop(running(&two, claim("m")));
}

#[test]
fn who_waits_on_another_replica_for_what_has_no_answer_may_run_it() {
    let Some([one, two]) = two_replicas() else {
        return;
    };
    let reservation = running(&one, claim("m"));
    reservation.accept(&"billing".into(), at(1));
    let Reserved::Running(waiter) = claimed(&two, claim("m")) else {
        panic!("does not wait")
    };
    done(reservation.settle(false, None, at(1))).unwrap();
    assert_eq!(done(waiter.outcome()), None);
    assert!(running(&two, claim("m")).has_receipt("billing"));
}

#[test]
fn what_one_replica_gives_back_the_other_may_run() {
    let Some([one, two]) = two_replicas() else {
        return;
    };
    drop(running(&one, claim("m")));
    drop(running_soon(&two, "m"));
}

/// A run of an id whose lease another replica is about to give back.
fn running_soon(ledger: &Arc<Ledger<u32>>, id: &str) -> Reservation<u32> {
    if let Reserved::Running(waiter) = claimed(ledger, claim(id)) {
        // The supervisor of the other needs the runtime to give it back, and does not
        // need as long as a lease lasts by itself.
        let soon = Duration::from_secs(5);
        let outcome = done(async { tokio::time::timeout(soon, waiter.outcome()).await });
        assert_eq!(outcome, Ok(None), "{id}");
    }
    running(ledger, claim(id))
}

#[test]
fn an_id_whose_failure_could_not_be_written_is_given_back() {
    let Some(stand) = InRedis::new() else { return };
    let two = stand.replica("two", HOUR);
    for when_away in ["refuse", "memory"] {
        let one = stand.refusable(when_away);
        let [failed, broken_off, unchanged] =
            ["failed", "broken-off", "unchanged"].map(|what| format!("{what}-{when_away}"));
        let before = running(&one.ledger, claim(&unchanged));
        before.accept(&"billing".into(), at(1));
        done(before.settle(false, Some(502), at(1))).unwrap();
        for id in [&failed, &unchanged] {
            let reservation = running(&one.ledger, claim(id));
            one.set_refused(true);
            let settled = done(reservation.settle(false, Some(502), at(2)));
            one.set_refused(false);
            assert_eq!(settled.is_ok(), when_away == "memory");
            drop(running_soon(&two, id));
        }
        let reservation = running(&one.ledger, claim(&broken_off));
        done(async {
            let settling = Box::pin(reservation.settle(false, Some(502), at(2)));
            assert!(futures_util::poll!(settling).is_pending());
        });
        drop(running_soon(&two, &broken_off));
    }
}

#[test]
fn an_id_whose_receipts_there_is_no_room_to_owe_is_given_back() {
    let Some(stand) = InRedis::new() else { return };
    let (one, two) = (stand.refusable("memory"), stand.replica("two", HOUR));
    let reservation = running(&one.ledger, claim("m"));
    reservation.accept(&"billing".into(), at(1));
    {
        let mut shard = one.ledger.shard(IdDigest::of("clerk", "m"));
        let record = Record::new(&claim("m"), 0, 0);
        for number in 0..sharing::OWED_ALONE / SHARDS {
            let id = IdDigest::of("clerk", number.to_string());
            shard.owed.insert(id, record.clone());
        }
    }
    one.set_refused(true);
    done(reservation.settle(true, Some(200), at(1))).unwrap();
    one.set_refused(false);
    drop(running_soon(&two, "m"));
}

#[test]
fn an_id_whose_receipts_are_owed_is_kept_until_they_are_written() {
    let Some(stand) = InRedis::new() else { return };
    let (one, two) = (stand.refusable("refuse"), stand.replica("two", HOUR));
    let reservation = running(&one.ledger, claim("m"));
    reservation.accept(&"billing".into(), at(1));
    one.set_refused(true);
    done(reservation.settle(true, Some(200), at(1))).unwrap_err();
    // Whoever retries here is told that it is away, and takes nothing from it.
    done(one.ledger.reserve(claim("m"))).unwrap_err();
    one.set_refused(false);
    let Reserved::Running(waiter) = claimed(&two, claim("m")) else {
        panic!("does not wait")
    };
    let outcome = done(async {
        let writing = async {
            // The other has looked more than once by then.
            tokio::time::sleep(Duration::from_millis(100)).await;
            one.ledger.upkeep().await;
        };
        futures_util::join!(waiter.outcome(), writing).0
    });
    assert_eq!(outcome, Some(200));
    assert!(is_duplicate(&claimed(&two, claim("m"))));
}

#[test]
fn what_is_renewed_while_it_is_settled_does_not_run_for_ever_elsewhere() {
    let Some([one, two]) = two_replicas() else {
        return;
    };
    for id in ["settled-first", "renewed-first"] {
        let reservation = running(&one, claim(id));
        reservation.accept(&"billing".into(), at(1));
        let settling = reservation.settle(true, Some(200), at(1));
        let renewing = one.store.shared().unwrap().renew();
        // What is asked first comes first.
        match id {
            "settled-first" => done(async { futures_util::join!(settling, renewing).0 }),
            _ => done(async { futures_util::join!(renewing, settling).1 }),
        }
        .unwrap();
        assert!(is_duplicate(&claimed(&two, claim(id))), "{id}");
    }
}

#[test]
fn a_run_whose_lease_was_taken_away_loses_no_receipt() {
    let Some(stand) = InRedis::new() else { return };
    // Two that count as one take each other's leases.
    let [one, other] = ["same"; 2].map(|name| stand.replica(name, HOUR));
    let first = running(&one, claim("m"));
    let second = running(&other, claim("m"));
    first.accept(&"billing".into(), at(1));
    second.accept(&"audit".into(), at(2));
    done(first.settle(false, Some(502), at(3))).unwrap();
    done(second.settle(true, Some(200), at(3))).unwrap();
    let look = done(one.lookup("clerk", "m")).unwrap().unwrap();
    assert_eq!(look.state, LookState::Delivered);
    let mut told: Vec<_> = look.destinations.iter().map(|(d, _)| &**d).collect();
    told.sort_unstable();
    assert_eq!(told, ["audit", "billing"]);
    assert_eq!(look.first, Some(at(1)));
}

#[test]
fn a_resend_on_one_replica_is_no_second_one_on_the_other() {
    let Some([one, two]) = two_replicas() else {
        return;
    };
    let first = running(&one, claim("m"));
    first.accept(&"billing".into(), at(0));
    done(first.settle(true, Some(200), at(0))).unwrap();
    let resend = running(&two, resend(70, 70));
    assert!(resend.is_resend() && !resend.has_receipt("billing"));
    assert!(matches!(
        claimed(&one, super::resend(71, 71)),
        Reserved::Running(_)
    ));
    resend.accept(&"billing".into(), at(71));
    done(resend.settle(true, Some(200), at(71))).unwrap();
    assert!(is_duplicate(&claimed(&one, super::resend(71, 72))));
    assert!(is_duplicate(&claimed(&one, claim("m"))));
}
