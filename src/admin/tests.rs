use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use super::*;
use crate::listen::{Incoming, Target};
use crate::setting::{Place, Problem, Severity};

/// A running hookward as these tests need one.
#[derive(Default)]
struct Still {
    readiness: Readiness,
    token: Option<&'static str>,
    bad_configuration: bool,
}

fn away() -> LedgerAway {
    LedgerAway {
        reason: "on purpose".into(),
    }
}

impl Subject for Still {
    fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }
    fn metrics(&self) -> Option<String> {
        Some("hookward_in_flight 0\n".into())
    }
    fn status(&self) -> Status {
        Status {
            version: "0.0.0",
            sources: vec![],
            destinations: vec![],
        }
    }
    fn refusals(&self) -> Vec<RecentRefusal> {
        vec![RecentRefusal {
            time: UNIX_EPOCH,
            source: "clerk".into(),
            reason: "too_old",
            id: Some("msg_1".into()),
        }]
    }
    async fn look_up(&self, _: &str, id: &str) -> Result<Option<Look>, LedgerAway> {
        match id {
            "away" => Err(away()),
            _ => Ok(None),
        }
    }
    async fn forget(
        &self,
        source: &str,
        id: &str,
        destination: Option<&str>,
    ) -> Result<Forgotten, LedgerAway> {
        match (source, id, destination) {
            ("clerk", "a/b c", None) | ("clerk", "m", Some("billing")) => Ok(Forgotten::Done),
            ("clerk", "running", _) => Ok(Forgotten::Running),
            ("clerk", "away", _) => Err(away()),
            _ => Ok(Forgotten::Unknown),
        }
    }
    async fn forget_since(
        &self,
        source: &str,
        since: SystemTime,
    ) -> Result<Option<u64>, LedgerAway> {
        let expected = UNIX_EPOCH + Duration::from_secs(1_000_000 - 7200);
        Ok((source == "clerk" && since == expected).then_some(3))
    }
    async fn reload(&self) -> Result<Problems, Problems> {
        let mut problems = Problems::default();
        if self.bad_configuration {
            problems.push(Problem {
                severity: Severity::Error,
                key: "routes".into(),
                message: "is bad".into(),
                place: Place::Nowhere,
                hint: None,
            });
            problems.push(Problem {
                severity: Severity::Warning,
                key: "log".into(),
                message: "is odd".into(),
                place: Place::Nowhere,
                hint: None,
            });
            return Err(problems);
        }
        Ok(problems)
    }
    fn allows(&self, given: &[u8]) -> Option<bool> {
        self.token.map(|token| same_token(given, token))
    }
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000)
    }
}

const TOKEN: &str = "sixteen-bytes-ok";

async fn ask(subject: Still, method: &str, path: &str, token: Option<&str>) -> (u16, String) {
    let token = token.map(|token| ("authorization", format!("Bearer {token}")));
    let request = Request {
        method: method.parse().unwrap(),
        target: Target::new(path.to_owned().into()),
        headers: token.into_iter().collect(),
        body: Incoming::here(Bytes::new()),
    };
    let answer = answer(Arc::new(subject), request).await;
    let status = answer.status.as_u16();
    (status, String::from_utf8(answer.body.to_vec()).unwrap())
}

fn guarded() -> Still {
    Still {
        token: Some(TOKEN),
        ..Still::default()
    }
}

#[tokio::test]
async fn health_readiness_and_metrics_are_open() {
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(ask(guarded(), "GET", path, None).await.0, 200, "{path}");
        assert_eq!(ask(guarded(), "POST", path, None).await.0, 405, "{path}");
    }
}

#[tokio::test]
async fn everything_else_wants_the_token() {
    for (method, path) in [
        ("GET", "/status"),
        ("GET", "/refusals"),
        ("GET", "/ledger/clerk/m"),
        ("DELETE", "/ledger/clerk/m"),
        ("DELETE", "/ledger/clerk?since=2h"),
        ("POST", "/reload"),
        ("GET", "/reload"),
        ("GET", "/nothing"),
    ] {
        let without = ask(Still::default(), method, path, Some(TOKEN)).await;
        assert_eq!(without.0, 403, "{path}");
        assert_eq!(ask(guarded(), method, path, None).await.0, 401, "{path}");
        for wrong in ["", "sixteen-bytes-no", "sixteen-bytes-ok-and-more"] {
            assert_eq!(ask(guarded(), method, path, Some(wrong)).await.0, 401);
        }
    }
    assert_eq!(ask(guarded(), "GET", "/status", Some(TOKEN)).await.0, 200);
}

#[tokio::test]
async fn readiness_names_what_is_away_and_is_strict_when_asked() {
    let away = || Still {
        readiness: Readiness {
            not_ready: None,
            degraded: vec!["destination `billing`: circuit open".into()],
        },
        ..Still::default()
    };
    let (status, body) = ask(away(), "GET", "/readyz", None).await;
    assert_eq!(
        (status, &*body),
        (200, "degraded: destination `billing`: circuit open\n")
    );
    assert_eq!(ask(away(), "GET", "/readyz?strict", None).await.0, 503);
    assert_eq!(ask(away(), "GET", "/readyz?strict=1", None).await.0, 503);
    let draining = Still {
        readiness: Readiness {
            not_ready: Some("draining"),
            degraded: vec![],
        },
        ..Still::default()
    };
    assert_eq!(
        ask(draining, "GET", "/readyz", None).await,
        (503, "draining\n".into())
    );
}

#[tokio::test]
async fn an_id_is_percent_decoded_and_forgotten() {
    let token = Some(TOKEN);
    for (path, status) in [
        ("/ledger/clerk/a%2Fb%20c", 204),
        ("/ledger/clerk/m?destination=billing", 204),
        ("/ledger/clerk/running", 409),
        ("/ledger/clerk/other", 404),
        ("/ledger/clerk/away", 503),
        ("/ledger/clerk?since=2h", 200),
        ("/ledger/other?since=2h", 404),
        ("/ledger/clerk?since=soon", 400),
        ("/ledger/clerk?since=2h&destination=billing", 400),
        ("/ledger/clerk?since=1h&since=2h", 400),
        ("/ledger/clerk/m?destinatoin=billing", 400),
        ("/ledger/clerk/m?destination=billing&since=2h", 400),
        ("/ledger/clerk", 400),
    ] {
        assert_eq!(
            ask(guarded(), "DELETE", path, token).await.0,
            status,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_bad_reload_is_told_with_its_problems_and_apart_from_them_its_warnings() {
    let subject = Still {
        bad_configuration: true,
        ..guarded()
    };
    let (status, body) = ask(subject, "POST", "/reload", Some(TOKEN)).await;
    assert_eq!(status, 422);
    let told: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        told,
        serde_json::json!({
            "error": "refused",
            "problems": ["error: `routes` is bad"],
            "warnings": ["warning: `log` is odd"],
        })
    );
}

#[tokio::test]
async fn unknown_paths_are_not_found() {
    for path in ["/", "/nothing", "/ledger", "/status/more"] {
        assert_eq!(
            ask(guarded(), "GET", path, Some(TOKEN)).await.0,
            404,
            "{path}"
        );
    }
}
