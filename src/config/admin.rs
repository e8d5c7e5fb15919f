use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::listen::Address;
use crate::setting::{OffOr, Secret, Section};

/// `admin.*`: the listener for health, metrics and actions on the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminConfig {
    /// Where it listens. `None`: nowhere.
    pub listen: Option<Address>,
    /// Who may do more than read health and metrics. `None`: nobody.
    pub token: Option<Secret>,
}

/// Only this machine can ask, until somebody says otherwise.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);
/// A token shorter than this could be guessed (bytes).
const SHORTEST: usize = 16;

impl AdminConfig {
    /// Reads `[admin]`.
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let listen = section.get_or("listen", OffOr::On(Address::Tcp(LISTEN)));
        let entry = section.entry("token");
        let token = entry.as_ref().and_then(|entry| entry.read::<Secret>());
        let length = token.as_ref().and_then(Secret::expose).map(str::len);
        if let (Some(entry), Some(length)) = (entry, length)
            && length < SHORTEST
        {
            entry.error(
                format!("is shorter than {SHORTEST} bytes"),
                "make one with `openssl rand -hex 32`",
            );
        }
        Self {
            listen: listen.on(),
            token,
        }
    }
}
