mod arguments;
mod environment;
mod finding;
mod hush;
mod reference;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::document::Document;
use super::load::{parse, read};
use super::{AdminConfig, Arguments, Config, Environment, Origin};
use crate::setting::{Problems, SecretReader};

type Loaded = Result<(Config, Problems), Problems>;

const SMALL: &str = "[sources.clerk]\nsecrets = 'env:CLERK'\nto = 'app'\n\
     [destinations.app]\ntype = 'http'\nurl = 'http://127.0.0.1:3000/'\n";

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Loads `text` as if it stood in `hookward.toml`, reading no secrets.
fn load(text: &str) -> Loaded {
    load_with(text, &[])
}

fn load_with(text: &str, environment: &[(&str, &str)]) -> Loaded {
    let origin = Origin {
        file: None,
        environment: environment.iter().copied().collect(),
        secrets: SecretReader::Skip,
    };
    parse("hookward.toml".into(), text, &origin)
}

/// Everything that is told about a configuration: problems and summary.
fn told(loaded: &Loaded) -> String {
    match loaded {
        Ok((config, warnings)) => {
            let summary = config.summary();
            let json = serde_json::to_string(&summary).unwrap();
            format!("{warnings}\n{summary}\n{json}\n{config:?}")
        }
        Err(problems) => {
            let json: Vec<_> = problems.iter().map(serde_json::to_value).collect();
            format!("{problems}\n{json:?}")
        }
    }
}

fn refused(loaded: Loaded) -> String {
    match loaded {
        Ok(_) => panic!("was taken"),
        Err(problems) => problems.to_string(),
    }
}

fn taken(loaded: Loaded) -> Config {
    match loaded {
        Ok((config, _)) => config,
        Err(problems) => panic!("was refused:\n{problems}"),
    }
}

/// The TOML files of a folder, by name.
fn toml_files(name: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{name} is empty");
    files
}

/// A file of the test data is loaded with the environment its first lines tell:
/// `#env NAME=VALUE`; and with its secrets where one is `#secrets`.
fn load_case(path: &Path) -> Loaded {
    let text = fs::read_to_string(path).unwrap();
    let variables = text.lines().map_while(|line| line.strip_prefix('#'));
    let environment: Environment = variables
        .filter_map(|line| line.strip_prefix("env ")?.split_once('='))
        .collect();
    let secrets = if text.starts_with("#secrets\n") {
        SecretReader::Process
    } else {
        SecretReader::Skip
    };
    let origin = Origin {
        file: None,
        environment,
        secrets,
    };
    let shown = PathBuf::from(path.file_name().unwrap());
    parse(shown, &text, &origin)
}

#[test]
fn what_is_wrong_is_told_in_exactly_these_words() {
    for path in toml_files("tests/data/config/invalid") {
        let told = refused(load_case(&path)) + "\n";
        let beside = path.with_extension("txt");
        // `BLESS=1 cargo test` writes what is told now; read it before it is committed.
        if std::env::var_os("BLESS").is_some() {
            fs::write(&beside, &told).unwrap();
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        assert_eq!(told, expected, "{}", path.display());
    }
}

#[test]
fn what_is_right_is_taken_with_exactly_these_warnings() {
    for path in toml_files("tests/data/config/valid") {
        let (config, warnings) = match load_case(&path) {
            Ok(loaded) => loaded,
            Err(problems) => panic!("{}:\n{problems}", path.display()),
        };
        let told = match warnings.is_empty() {
            true => format!("{}", config.summary()),
            false => format!("{warnings}\n\n{}", config.summary()),
        };
        let beside = path.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&beside, &told).unwrap();
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        assert_eq!(told, expected, "{}", path.display());
    }
}

#[test]
fn every_example_is_taken_without_a_word() {
    for path in toml_files("config/examples") {
        let origin = Origin {
            file: Some(path.clone()),
            environment: Environment::default(),
            secrets: SecretReader::Skip,
        };
        let (_, warnings) = Config::load(&origin).unwrap_or_else(|problems| {
            panic!("{}:\n{problems}", path.display());
        });
        assert_eq!(warnings.to_string(), "", "{}", path.display());
    }
}

#[test]
fn seven_mistakes_are_seven_problems() {
    let text = "[server]\nlisten = 'here'\nmax_bodi = 1\n\
         [ledger]\nretention = 'soon'\n\
         [sources.clerk]\npath = 'clerk'\n\
         [destinations.app]\ntype = 'http'\nurl = 'ftp://app/'\n\
         [[routes]]\nto = 'ap'\n";
    let Err(problems) = load(text) else {
        panic!("was taken")
    };
    assert_eq!(problems.errors().count(), 7, "{problems}");
}
