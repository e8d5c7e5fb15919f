use std::path::PathBuf;

use clap::Args;
use http::HeaderValue;

use super::client::Target;
use super::print::{Complaint, Print};
use super::signing;

/// The way out when nobody listens there.
pub(super) const NOBODY: &str =
    "is hookward running, and is its admin listener (`admin.listen`) where this asks?";

/// Which admin listener to ask.
#[derive(Args)]
pub(super) struct Admin {
    /// The configuration that says where the admin listener is
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the admin listener is, instead of what the configuration says
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

impl Admin {
    /// The admin listener, to be asked for `path`.
    pub(super) fn target(&self, path: &str, _print: &mut Print<'_>) -> Result<Target, Complaint> {
        let url = self.url.as_deref().unwrap_or("http://127.0.0.1:9464");
        Target::parse(url)
            .and_then(|target| target.with_path(path))
            .map_err(|problem| Complaint::usage(format!("`--url` {problem}")))
    }

    /// What shows that one may do more than ask for health: `given`, else what
    /// the configuration says.
    pub(super) fn bearer(
        &self,
        given: Option<&str>,
        _print: &mut Print<'_>,
    ) -> Result<Option<HeaderValue>, Complaint> {
        let Some(given) = given else {
            return Ok(None);
        };
        let token = signing::secret("--token", given)?;
        bearer(token.expose().unwrap_or_default()).map(Some)
    }
}

/// The header value that carries a token; it does not show in Debug.
fn bearer(token: &str) -> Result<HeaderValue, Complaint> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
        Complaint::usage("the admin token holds characters that a header cannot carry")
    })?;
    value.set_sensitive(true);
    Ok(value)
}
