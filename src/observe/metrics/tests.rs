use super::*;
use crate::observe::RefusalReason;

#[test]
fn every_configured_label_set_starts_at_zero() {
    let metrics = Metrics::new().unwrap();
    metrics.source("clerk");
    metrics.destination("billing");
    metrics.route("clerk", "billing");
    let text = metrics.text().unwrap();
    for line in [
        r#"hookward_requests_total{result="delivered",source="clerk"} 0"#,
        r#"hookward_requests_total{result="unknown_path",source=""} 0"#,
        r#"hookward_refusals_total{reason="too_old",source="clerk"} 0"#,
        r#"hookward_deliveries_total{destination="billing",outcome="accepted",source="clerk"} 0"#,
        r#"hookward_attempts_total{destination="billing",outcome="late"} 0"#,
        r#"hookward_config_reloads_total{outcome="ok"} 0"#,
        "hookward_ledger_entries 0",
    ] {
        assert!(text.contains(line), "{line} in:\n{text}");
    }
    assert!(text.contains("\nprocess_"));
}

#[test]
fn counting_reaches_the_text() {
    let metrics = Metrics::new().unwrap();
    let source = metrics.source("clerk");
    source.answered(RequestResult::Late);
    source.refused(RefusalReason::InFlight);
    let text = metrics.text().unwrap();
    assert!(text.contains(r#"hookward_requests_total{result="late",source="clerk"} 1"#));
    assert!(text.contains(r#"hookward_refusals_total{reason="in_flight",source="clerk"} 1"#));
}

#[test]
fn the_time_of_the_last_message_never_goes_back() {
    use std::time::{Duration, UNIX_EPOCH};
    let metrics = Metrics::new().unwrap();
    let (source, key) = (metrics.source("clerk"), metrics.key("clerk", "1"));
    for second in [200, 100] {
        let at = UNIX_EPOCH + Duration::from_secs(second);
        source.verified(at);
        key.verified(at);
    }
    assert_eq!(
        (source.last_verified.get(), key.last_verified.get()),
        (200.0, 200.0)
    );
    assert_eq!(key.verified.get(), 2);
}
