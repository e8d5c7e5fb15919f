//! Any configuration: reading it ends, and nothing that could be a secret is in
//! what is told of it.
//!
//! The input is the file. What could be a secret is marked with `mArKeR`, put into
//! it by the corpus and the dictionary.
#![no_main]

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use hookward::config::{Config, Environment, Origin};
use hookward::setting::SecretReader;
use libfuzzer_sys::fuzz_target;
use toml::{Table, Value};

const MARKER: &str = "mArKeR";

/// Keys whose texts could be secrets.
const SECRET: [&str; 6] = ["secrets", "secret", "token", "sign", "headers", "url"];

/// Whether the marker stands in texts under such keys and nowhere else.
fn marks_secrets_alone(table: &Table, under_secret: bool) -> bool {
    table.iter().all(|(key, value)| {
        // The name of a key is there to be told, and so is where a URL leads.
        let under = (under_secret || SECRET.contains(&key.as_str())) && key != "name";
        let url = key == "url" && !value.as_str().is_some_and(marks_a_password_alone);
        !key.contains(MARKER) && marks(value, under && !url)
    })
}

/// Whether the marker stands before the `@` of a URL and nowhere else.
fn marks_a_password_alone(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    let end = rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len());
    let after = rest[..end].rfind('@').map_or(rest, |at| &rest[at..]);
    !scheme.contains(MARKER) && !after.contains(MARKER)
}

fn marks(value: &Value, under_secret: bool) -> bool {
    match value {
        // A reference is not the secret, and may be told.
        Value::String(text) => {
            let told = ["env:", "file:", "unix:"];
            let reference = told.iter().any(|prefix| text.trim().starts_with(prefix));
            !text.contains(MARKER) || (under_secret && !reference)
        }
        Value::Array(items) => items.iter().all(|item| marks(item, under_secret)),
        Value::Table(table) => marks_secrets_alone(table, under_secret),
        _ => true,
    }
}

fuzz_target!(|data: &[u8]| {
    let path: PathBuf = std::env::temp_dir().join(format!("hookward-{}.toml", std::process::id()));
    File::create(&path).unwrap().write_all(data).unwrap();
    let origin = Origin {
        file: Some(path),
        environment: Environment::default(),
        // Nothing a file names is opened: the input could name anything.
        secrets: SecretReader::Skip,
    };
    let told = match Config::load(&origin) {
        Ok((config, warnings)) => format!("{config:?}{warnings}{warnings:?}"),
        Err(problems) => {
            assert!(problems.any_error(), "refused without a reason");
            format!("{problems}{problems:?}")
        }
    };
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // What cannot be parsed could be a secret all over.
    let secret = match text.parse::<Table>() {
        Ok(table) => marks_secrets_alone(&table, false),
        Err(_) => true,
    };
    assert!(!secret || !told.contains(MARKER), "{told}");
});
