//! What tells an operator before users do: every metric that the alerts and the
//! dashboard ask for is there, and both are read by what they are written for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Gateway, Message, Upstream, clerk_to, within};

/// What Prometheus itself puts on every series, or makes of histograms.
const ITS_OWN_LABELS: [&str; 3] = ["job", "instance", "le"];

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap()
}

/// What is asked for: a metric with a label and the values it is to have. Without
/// a label, only the metric.
type Asked = BTreeSet<(String, Option<(String, Vec<String>)>)>;

/// Every metric in `text`, each with what is asked of its labels.
fn asked(text: &str) -> Asked {
    let mut asked = Asked::new();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for prefix in ["hookward_", "process_"] {
        for (at, _) in text.match_indices(prefix) {
            if text[..at].ends_with(is_word) {
                continue;
            }
            let rest = &text[at..];
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let (name, rest) = rest.split_at(end);
            asked.insert((name.to_owned(), None));
            let Some(matchers) = rest.strip_prefix('{') else {
                continue;
            };
            let matchers = &matchers[..matchers.find('}').unwrap()];
            for matcher in matchers.split(',') {
                let (label, value) = matcher.split_once(['=', '!']).unwrap();
                let value = value.trim_start_matches(['=', '~']);
                let value = value.trim_matches(['"', '\\']);
                // Filled in by Grafana.
                let filled = value.starts_with('$') || value.is_empty();
                let values = value.split('|').filter(|_| !filled);
                let values = values.map(str::to_owned).collect();
                asked.insert((name.to_owned(), Some((label.to_owned(), values))));
            }
        }
    }
    asked
}

/// The labels that series are put together by.
fn grouped(text: &str) -> BTreeSet<String> {
    let mut labels = BTreeSet::new();
    for word in ["by (", "on (", "group_left ("] {
        for (at, _) in text.match_indices(word) {
            let list = &text[at + word.len()..];
            let list = &list[..list.find(')').unwrap()];
            let list = list.split(',').map(str::trim).filter(|l| !l.is_empty());
            labels.extend(list.map(str::to_owned));
        }
    }
    labels
}

/// What a gateway tells: the labels of each metric, with all values they have.
fn told(metrics: &str) -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let mut told: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let known = told.entry(name.to_owned()).or_default();
        for label in labels.trim_end_matches('}').split(',') {
            if let Some((label, value)) = label.split_once('=') {
                let values = known.entry(label.to_owned()).or_default();
                values.insert(value.trim_matches('"').to_owned());
            }
        }
    }
    told
}

#[tokio::test]
async fn no_alert_and_no_panel_asks_for_what_is_not_there() {
    let upstream = Upstream::start().await;
    let config = clerk_to(upstream.url()).replace("to =", "expect_every = \"1h\"\nto =");
    let gateway = Gateway::start(&config).await;
    gateway.send(&Message::new("msg_1")).await;
    let told = told(&gateway.metrics().await.0);

    for path in [
        "config/prometheus/alerts.yml",
        "config/grafana/hookward.json",
    ] {
        let text = read(path);
        let asked = asked(&text);
        assert!(asked.len() > 20, "{asked:?}");
        for (name, label) in asked {
            let labels = told.get(&name);
            let labels = labels.unwrap_or_else(|| panic!("{path}: there is no `{name}`"));
            let Some((label, wanted)) = label else {
                continue;
            };
            if ITS_OWN_LABELS.contains(&label.as_str()) {
                continue;
            }
            let values = labels.get(&label);
            let values = values.unwrap_or_else(|| panic!("{path}: `{name}` has no `{label}`"));
            for value in wanted {
                assert!(
                    values.contains(&value),
                    "{path}: `{name}` is never of `{label}` `{value}`: {values:?}"
                );
            }
        }
        for label in grouped(&text) {
            assert!(
                ITS_OWN_LABELS.contains(&label.as_str())
                    || told.values().any(|labels| labels.contains_key(&label)),
                "{path}: nothing has a label `{label}`"
            );
        }
    }
}

#[test]
fn what_is_asked_for_is_found_in_any_form() {
    let text = r#"rate(hookward_a_total{of=~"x|y",job="$job"}[5m]) > my_hookward_b + process_c"#;
    let of = |label: &str, values: &[&str]| {
        let values = values.iter().map(|v| (*v).to_owned()).collect();
        (
            "hookward_a_total".to_owned(),
            Some((label.to_owned(), values)),
        )
    };
    let expected = Asked::from([
        ("hookward_a_total".into(), None),
        of("of", &["x", "y"]),
        of("job", &[]),
        ("process_c".into(), None),
    ]);
    assert_eq!(asked(text), expected);
}

/// Prometheus' own reader of rules, as `tests/run` installs it.
async fn promtool(arguments: &[&str]) {
    let installed = file("target/promtool/usr/bin/promtool");
    let program = if installed.exists() {
        installed
    } else {
        PathBuf::from("promtool")
    };
    let mut command = tokio::process::Command::new(program);
    let running = command.args(arguments).kill_on_drop(true).output();
    let output = within("promtool", running).await;
    let output = output.expect("no promtool: tests/run installs it");
    let text = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "promtool {arguments:?}: {}",
        String::from_utf8_lossy(&text)
    );
}

#[tokio::test]
async fn prometheus_takes_the_alerts_and_each_one_fires_on_what_it_is_for_and_on_nothing_else() {
    let rules = file("config/prometheus/alerts.yml");
    promtool(&["check", "rules", rules.to_str().unwrap()]).await;
    let mut tests = String::new();
    for name in ["alerts.yml", "alerts-of-days.yml"] {
        let path = format!("tests/data/prometheus/{name}");
        promtool(&["test", "rules", file(&path).to_str().unwrap()]).await;
        tests += &read(&path);
    }
    let rules = std::fs::read_to_string(rules).unwrap();
    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        let tried: Vec<&str> = tests
            .split("alertname=\"")
            .filter(|tried| tried.starts_with(&format!("{alert}\"")))
            .collect();
        let fires = |tried: &&&str| tried.contains("value: 1");
        assert!(
            tried.iter().any(|tried| fires(&tried)),
            "{alert} never fires"
        );
        assert!(
            tried.iter().any(|tried| tried.contains("exp_samples: []")),
            "{alert} is never quiet"
        );
    }
}

#[tokio::test]
async fn the_dashboard_is_whole_and_prometheus_understands_all_that_it_asks() {
    let text = read("config/grafana/hookward.json");
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let variables: Vec<&str> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    let mut rules = String::from("groups:\n- name: panels\n  rules:\n");
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        assert!(!panel["title"].as_str().unwrap().is_empty());
        let at = |edge: &str| panel["gridPos"][edge].as_u64().unwrap();
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(
                    x < 24 && taken.insert((x, y)),
                    "one lies over another: {panel}"
                );
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{panel}");
        for target in targets {
            let asked = target["expr"].as_str().unwrap();
            let asked = asked.replace("$__rate_interval", "5m");
            for variable in asked.split('$').skip(1) {
                let end = variable.find(|c: char| !c.is_ascii_alphanumeric());
                let name = &variable[..end.unwrap_or(variable.len())];
                assert!(variables.contains(&name), "`{name}` is not a variable");
            }
            let number = rules.lines().count();
            rules.push_str(&format!(
                "  - {{ record: 'panel{number}', expr: '{asked}' }}\n"
            ));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("panels.yml");
    std::fs::write(&file, rules).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()]).await;
}
