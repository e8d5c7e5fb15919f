use std::net::SocketAddr;

use tokio::sync::watch;

use super::audit::holds_no_secret;
use crate::support::{Gateway, KEY, Setup, TOKEN, before_the_next_look, within};

/// A secret that goes with every delivery, and stands nowhere else.
pub const MARKER: &str = "marker-6ZsQyT1kW0bVn8Lr";

/// Where hookward is in its present life; none while it is dead.
pub type Place = watch::Receiver<Option<At>>;

/// A life of hookward, and where it is.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub life: u32,
    pub address: SocketAddr,
}

/// hookward, life after life in one folder.
pub struct Lives {
    present: Present,
    life: u32,
    place: watch::Sender<Option<At>>,
}

enum Present {
    Dead(Setup),
    Alive(Box<Gateway>),
    Between,
}

impl Lives {
    /// With this configuration, not yet alive. It is given its life in the
    /// environment as `LIFE`, and a secret as `MARKER`.
    pub fn of(config: &str) -> Self {
        Self::with(Gateway::with(&format!(
            "admin.token = \"env:TOKEN\"\n{config}"
        )))
    }

    /// To be started like this, not yet alive.
    pub fn with(setup: Setup) -> Self {
        Self {
            present: Present::Dead(setup.env("MARKER", MARKER)),
            life: 0,
            place: watch::Sender::new(None),
        }
    }

    /// Where senders find it.
    pub fn place(&self) -> Place {
        self.place.subscribe()
    }

    /// The living one.
    pub fn gateway(&self) -> &Gateway {
        match &self.present {
            Present::Alive(gateway) => gateway,
            _ => panic!("it is dead"),
        }
    }

    /// Starts the next life, and waits until it is ready.
    pub async fn start(&mut self) {
        let setup = match std::mem::replace(&mut self.present, Present::Between) {
            Present::Dead(setup) => setup,
            _ => panic!("it lives"),
        };
        self.life += 1;
        let gateway = setup.env("LIFE", &self.life.to_string()).start().await;
        within("it to be ready", async {
            while gateway.ask("GET", "/readyz", None).await.status != 200 {
                before_the_next_look().await;
            }
        })
        .await;
        self.place.send_replace(Some(At {
            life: self.life,
            address: gateway.address(),
        }));
        self.present = Present::Alive(Box::new(gateway));
    }

    /// Waits until it has ended of its own accord, and lets nobody find it.
    pub async fn ended(&mut self) {
        if let Present::Alive(gateway) = &mut self.present {
            gateway.ended().await;
        }
        self.place.send_replace(None);
    }

    /// Ends its life without a word, if it has not ended by now. What it wrote, and
    /// all that it tells when asked before, holds no secret.
    pub async fn kill(&mut self) {
        let gateway = match std::mem::replace(&mut self.present, Present::Between) {
            Present::Alive(gateway) => gateway,
            _ => panic!("it is dead"),
        };
        self.place.send_replace(None);
        let (setup, written) = gateway.killed().await;
        holds_no_secret(&written, &[KEY, TOKEN, MARKER]);
        self.present = Present::Dead(setup);
    }

    /// Asks the living one for all that it tells, which holds no secret.
    pub async fn tells_no_secret(&self) {
        for path in ["/metrics", "/status", "/refusals", "/readyz"] {
            let answer = self.gateway().ask("GET", path, Some(TOKEN)).await;
            assert_eq!(answer.status, 200, "{path}");
            holds_no_secret(&answer.text(), &[KEY, TOKEN, MARKER]);
        }
    }
}

/// Waits for a place where it is alive.
pub async fn alive(place: &mut Place) -> At {
    let there = place.wait_for(Option::is_some);
    let there = within("another life", there).await;
    there.unwrap().unwrap()
}
