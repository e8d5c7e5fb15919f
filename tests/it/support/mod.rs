//! What every promise is tested with: the real binary as a process
//! ([`Gateway`]), somebody who sends ([`Message`], [`Connection`]) and a service
//! behind that does as it is told ([`Upstream`]).

mod amqp;
mod broker;
mod gateway;
mod queues;
mod redis;
mod sender;
mod upstream;

use std::future::Future;
use std::time::Duration;

pub use amqp::{Peer, Published, Script};
pub use broker::{Books, Broker, text};
pub use gateway::{Gateway, Metrics, Setup, command, hookward};
pub use queues::Rude;
pub use redis::Redis;
pub use sender::{Answer, Connection, Message, Sealed, sign};
pub use upstream::{Recorded, Reply, Upstream};

/// The key of every source unless a test says otherwise: `env:KEY`.
pub const KEY: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A second key: `env:OTHER_KEY`.
pub const OTHER_KEY: &str = "whsec_plJ3nmyCDGBKInavdOK15jslsslsslss";

/// The token of the admin listener: `env:TOKEN`.
pub const TOKEN: &str = "admin-token-for-the-tests";

/// How long a test waits for something that is to happen. Only a broken promise
/// takes this long.
pub const DEADLINE: Duration = Duration::from_secs(40);

/// Waits for `what`, or fails the test.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {DEADLINE:?} for {what}"),
    }
}

/// Lets a moment go by between two looks at something in another process that
/// cannot wake this one. Only for loops that `within` bounds.
pub async fn before_the_next_look() {
    const MOMENT: Duration = Duration::from_millis(20);
    let _ = tokio::time::timeout(MOMENT, std::future::pending::<()>()).await;
}

/// Raises what this process may open to what it may be raised to, for tests with
/// crowds of connections. Shells often begin with 1 024.
pub fn allow_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// Unix seconds.
pub fn now() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// A configuration with one source `clerk` and one HTTP destination `app`.
pub fn clerk_to(url: &str) -> String {
    format!(
        r#"
[sources.clerk]
secrets = "env:KEY"
to = "app"

[destinations.app]
type = "http"
url = "{url}"
"#
    )
}
