//! What the official SDKs of PyPI and npm sign is delivered, and verifies again
//! behind with the very same SDK. `tests/sdk/setup.sh` installs them; where they
//! are missing this fails.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::support::{Gateway, KEY, Message, OTHER_KEY, Upstream, clerk_to, now, within};

/// JSON that does not survive being parsed and written again, and some that does.
const BODIES: [&str; 4] = [
    r#"{"type":"user.created","data":{"id":1}}"#,
    "{ \"type\" : \"user.created\",\t\"n\": 1.10e+2, \"u\":\"\\u00e9 é \\/ 😀\",\r\n\"n2\":100000000000000000000001 }\n",
    "  {\"b\":1,\"a\":2,\"b\":3}",
    "[]",
];

/// Where `tests/sdk/setup.sh` installs to.
fn installed() -> PathBuf {
    let target = option_env!("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target"),
        PathBuf::from,
    );
    target.join("sdk")
}

/// Runs an SDK on messages.
async fn run(language: &str, sdk: &str, action: &str, messages: &Value) -> Vec<Value> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk");
    let mut command = match language {
        "python" => {
            let mut command = Command::new(installed().join("python/bin/python"));
            command.arg(scripts.join("python/sdk.py"));
            command
        }
        _ => {
            let mut command = Command::new("node");
            command
                .arg(scripts.join("js/sdk.cjs"))
                .arg(installed().join("js"));
            command
        }
    };
    let mut child = command
        .args([sdk, action])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|e| panic!("{e}: run tests/sdk/setup.sh first"));
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(messages.to_string().as_bytes())
        .await
        .unwrap();
    drop(stdin);
    let output = within("the SDK", child.wait_with_output()).await.unwrap();
    assert!(
        output.status.success(),
        "{language} {sdk}: run tests/sdk/setup.sh first"
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Signs with an SDK, sends through hookward, and verifies behind with the SDK.
async fn through_and_back(language: &str, sdk: &str, family: &str) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let at = now();
    let messages: Vec<Value> = BODIES
        .iter()
        .enumerate()
        .map(|(n, body)| json!({"secret": KEY, "id": format!("msg_{n}"), "timestamp": at, "body": body}))
        .collect();

    let signatures = run(language, sdk, "sign", &json!(messages)).await;

    for (message, signature) in messages.iter().zip(&signatures) {
        let body = message["body"].as_str().unwrap();
        let mut sealed = Message::new(message["id"].as_str().unwrap()).body(body);
        if family == "webhook" {
            sealed = sealed.webhook();
        }
        let sealed = sealed
            .seal()
            .with(&format!("{family}-timestamp"), &at.to_string())
            .with(&format!("{family}-signature"), signature.as_str().unwrap());
        let tampered = sealed.clone().body(format!("{body} "));
        assert_eq!(
            gateway.post("/clerk", &tampered).await.told(),
            (401, "unverified")
        );
        assert_eq!(
            gateway.post("/clerk", &sealed).await.told(),
            (200, "delivered")
        );
    }
    let arrived = |secret: &str| -> Value {
        let requests = upstream.requests();
        let messages = requests.iter().map(|request| {
            let headers: serde_json::Map<String, Value> = request
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), json!(value)))
                .collect();
            let body = std::str::from_utf8(&request.body).unwrap();
            json!({"secret": secret, "headers": headers, "body": body})
        });
        messages.collect()
    };
    assert_eq!(run(language, sdk, "verify", &arrived(KEY)).await, [true; 4]);
    assert_eq!(
        run(language, sdk, "verify", &arrived(OTHER_KEY)).await,
        [false; 4]
    );
}

#[tokio::test]
async fn pypi_svix_signs_and_verifies_again_behind() {
    through_and_back("python", "svix", "svix").await;
}

#[tokio::test]
async fn pypi_standardwebhooks_signs_and_verifies_again_behind() {
    through_and_back("python", "standardwebhooks", "webhook").await;
}

#[tokio::test]
async fn npm_svix_signs_and_verifies_again_behind() {
    through_and_back("js", "svix", "svix").await;
}

#[tokio::test]
async fn npm_standardwebhooks_signs_and_verifies_again_behind() {
    through_and_back("js", "standardwebhooks", "webhook").await;
}
