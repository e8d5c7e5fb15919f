use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::Method;

use super::admin::Admin;
use super::client::{self, Client};
use super::print::{Complaint, Exit, Print};
use crate::setting::SecretReader;

/// Container runtimes ask every few seconds, and a live process answers at once.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Ask a running hookward whether it is alive, for HEALTHCHECK and exec probes
///
/// Reads no secret. Exits 0 when `/healthz` of the admin listener answers 2xx
/// within 2 seconds, else 1.
#[derive(Args)]
#[command(after_help = "Examples:
  hookward health
  hookward health --config /etc/hookward/hookward.toml
  hookward health --url http://127.0.0.1:9464")]
pub(super) struct Health {
    #[command(flatten)]
    admin: Admin,
}

impl Health {
    pub(super) fn run(self, print: &mut Print<'_>) -> Result<Exit, Complaint> {
        let (target, _) = self.admin.find("/healthz", SecretReader::Skip, print)?;
        let mut client = Client::new(target, TIMEOUT, None)?;
        let answer = client::block_on(async {
            let asked = client.ask(Method::GET, [], Bytes::new()).await;
            asked.map_err(|trouble| trouble.complaint(super::admin::NOBODY))
        })?;
        if !answer.status.is_success() {
            return Err(Complaint::failed(format!(
                "the admin listener answers {}",
                answer.status.as_u16()
            )));
        }
        print.data("ok");
        Ok(Exit::Yes)
    }
}
