use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::{Notify, watch};

use super::config::{RedisConfig, WhenAway};
use super::leases::Leases;
use super::link::{Failed, Link};
use super::script::Script;
use crate::ledger::claim::IdDigest;
use crate::observe::LedgerMetrics;

/// What the store and its supervisor share.
pub(super) struct Inner {
    pub(super) config: ArcSwap<RedisConfig>,
    /// What every key begins with, as long as the process lives.
    pub(super) prefix: String,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) leases: Leases,
    /// Keys in the database, as of the last heartbeat.
    pub(super) entries: AtomicU64,
    pub(super) metrics: LedgerMetrics,
    /// There are leases to be given back.
    pub(super) given_back: Notify,
    /// There is another configuration.
    pub(super) changed: Notify,
    /// Whether it was last told to be there; nothing was told yet at first.
    pub(super) told_there: Mutex<Option<bool>>,
}

/// How it stands with Redis.
#[derive(Clone)]
pub(super) enum Standing {
    /// Not known yet, and soon to be: who asks waits.
    Connecting,
    Ready(Arc<Link>),
    Away(Arc<str>),
}

impl Standing {
    /// Whether it is this connection that is ready.
    pub(super) fn is(&self, number: u64) -> bool {
        matches!(self, Standing::Ready(link) if link.number == number)
    }
}

/// Characters of an id's key after the prefix.
pub(super) const KEY: usize = 22;

impl Inner {
    pub(super) fn new(leases: Leases, config: RedisConfig, metrics: LedgerMetrics) -> Self {
        metrics.up.set(0);
        Self {
            prefix: config.prefix.clone(),
            config: ArcSwap::from_pointee(config),
            standing: watch::Sender::new(Standing::Connecting),
            leases,
            entries: AtomicU64::new(0),
            metrics,
            given_back: Notify::new(),
            changed: Notify::new(),
            told_there: Mutex::default(),
        }
    }

    /// The keys of an id: its record, who runs it, how it ended.
    pub(super) fn keys(&self, id: IdDigest) -> [String; 3] {
        let record = format!("{}{}", self.prefix, URL_SAFE_NO_PAD.encode(id.bytes()));
        let run = format!("{record}:run");
        let end = format!("{record}:end");
        [record, run, end]
    }

    /// Gives back the leases of runs that ended without anything to keep.
    pub(super) async fn give_back(&self, link: &Link) -> Result<(), Failed> {
        for (id, token) in self.leases.freed() {
            let arguments: [&[u8]; 6] = [token.as_bytes(), b"", b"", b"", b"", b""];
            link.run::<(u8, Vec<u8>)>(Script::Settle, &self.keys(id), &arguments)
                .await?;
        }
        Ok(())
    }

    pub(super) fn run_key(&self, id: IdDigest) -> String {
        let [_, run, _] = self.keys(id);
        run
    }

    /// The connection. Waits for one that is being made.
    pub(super) async fn link(&self) -> Result<Arc<Link>, Failed> {
        let mut standing = self.standing.subscribe();
        let known = standing.wait_for(|standing| !matches!(standing, Standing::Connecting));
        match known.await.as_deref() {
            Ok(Standing::Ready(link)) => Ok(Arc::clone(link)),
            Ok(Standing::Away(why)) => Err(Failed::Refused(why.to_string())),
            Ok(Standing::Connecting) | Err(_) => Err(Failed::Refused("connecting".into())),
        }
    }

    pub(super) fn stand(&self, standing: Standing) {
        self.standing.send_replace(standing);
    }

    /// Something asked over this connection failed: another is to be made.
    pub(super) fn suspect(&self, number: u64) {
        self.standing.send_if_modified(|standing| {
            let suspected = standing.is(number);
            if suspected {
                *standing = Standing::Connecting;
            }
            suspected
        });
    }

    pub(super) fn here(&self, link: Arc<Link>) {
        self.stand(Standing::Ready(link));
        self.metrics.up.set(1);
        if self.is_news(true) {
            tracing::info!(redis = %self.config.load(), "the ledger's Redis is there");
        }
    }

    pub(super) fn away(&self, why: String) {
        self.metrics.up.set(0);
        if self.is_news(false) {
            let config = self.config.load();
            let then = match config.when_away {
                WhenAway::Refuse => "events are refused until it is back",
                WhenAway::Memory => {
                    "this replica goes on alone: an id may be delivered by others too"
                }
            };
            tracing::error!(redis = %config, reason = why, "the ledger's Redis is away: {then}");
        }
        self.stand(Standing::Away(why.into()));
    }

    /// Whether that it is there, or is not, was not the last thing told.
    fn is_news(&self, there: bool) -> bool {
        let mut told = self
            .told_there
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        told.replace(there) != Some(there)
    }
}
