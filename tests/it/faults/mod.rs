//! What becomes of the promises when something breaks: hookward is killed, a disk
//! is full, a service or a broker is cut in the middle of a word, a sender writes
//! what can be read in two ways.
//!
//! Everything that happens is a [`facts::Fact`] in a journal on the disk, and one
//! audit ([`audit::Promises`]) judges them all: acknowledged ⊆ delivered; delivered
//! ⊆ validly signed, with the same bytes; one delivery for each destination and id
//! except after an attempt whose outcome nobody can know; no secret anywhere.
//!
//! A short run is part of the tests. A long one, and one with the seed of a run
//! that failed:
//!
//! ```sh
//! HOOKWARD_TEST_FAULTS=long cargo test --test it faults::
//! HOOKWARD_TEST_SEED=1234 cargo test --test it faults::
//! ```
//!
//! hookward is the binary that is shipped, and has no hooks for this. It is killed
//! at exact moments, and its disk fails, by a library that is loaded before its own
//! ([`shim`]): it stands where the system is called.

mod audit;
mod audit_tells;
mod corpus;
mod desync;
mod disk;
mod facts;
mod journal;
mod killed;
mod lives;
mod load;
mod moments;
mod proxies;
mod redis;
mod services;
mod shim;

use std::sync::Arc;

use self::facts::{Arrival, Fact, Fate, Journal};
use crate::support::{Recorded, Reply, Upstream};

/// Whether there is time for a long run.
fn long() -> bool {
    std::env::var_os("HOOKWARD_TEST_FAULTS").is_some_and(|wanted| wanted == "long")
}

/// What chance there is in a test follows from this; told when the test fails.
fn seeded() -> u64 {
    let given = std::env::var("HOOKWARD_TEST_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..1 << 32), |seed| seed.parse().unwrap());
    eprintln!("HOOKWARD_TEST_SEED={seed}");
    seed
}

/// A service that notes what reaches it before it answers.
async fn noting(journal: &Arc<Journal>) -> Upstream {
    let journal = Arc::clone(journal);
    let note = move |_, request: &Recorded| {
        journal.note(Fact::Arrived(Arrival::at("app", request, Fate::Accepted)));
        Reply::Status(204)
    };
    Upstream::scripted(note).await
}

/// A source to these destinations, of which `app` is that service and the others
/// are told by `more`. Each delivery tells the life of hookward and a secret.
fn to_app(service: &Upstream, to: &str, more: &str) -> String {
    format!(
        r#"
[sources.clerk]
secrets = "env:KEY"
to = {to}

[destinations.app]
type = "http"
url = "{}"
headers = {{ x-life = "env:LIFE", x-marker = "env:MARKER" }}
{more}
"#,
        service.url()
    )
}
