use figment::value::{Dict, Value};

use super::document::Document;
use crate::setting::Place;

/// A set-up without a file, as `serve` takes it: every event of every source
/// goes to one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// `--source NAME=REF`: names, and where the signing key of each is kept. A
    /// name that is there twice has two keys.
    pub sources: Vec<(String, String)>,
    /// `--to URL`
    pub to: String,
    /// `--listen ADDRESS`
    pub listen: Option<String>,
}

/// What the destination is called in logs and metrics.
const DESTINATION: &str = "service";

impl Arguments {
    /// What a file would have said.
    pub(super) fn document(&self) -> Document {
        let mut document = Document::default();
        let source = Place::Argument("--source");
        for (name, _) in &self.sources {
            let given = self.sources.iter().filter(|(other, _)| other == name);
            let secrets: Vec<&str> = given.map(|(_, reference)| reference.as_str()).collect();
            let table = Dict::from([
                ("secrets".to_owned(), Value::from(secrets)),
                ("to".to_owned(), Value::from(DESTINATION)),
            ]);
            document.set(&["sources", name], table.into(), source.clone());
        }
        let table = Dict::from([
            ("type".to_owned(), Value::from("http")),
            ("url".to_owned(), Value::from(self.to.as_str())),
        ]);
        let to = Place::Argument("--to");
        document.set(&["destinations", DESTINATION], table.into(), to);
        if let Some(listen) = &self.listen {
            let place = Place::Argument("--listen");
            document.set(&["server", "listen"], listen.as_str().into(), place);
        }
        document
    }
}
