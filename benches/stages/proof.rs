//! Head and signature: is it genuine and fresh?

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use hookward::key::SigningKey;
use hookward::message::{Headers, Origin, Protocol, Received, RequestId};
use hookward::observe::Metrics;
use hookward::setting::{OffOr, SecretSource};
use hookward::verify::{NamedKey, Verifier, VerifyConfig, VerifyKeys};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
const SIGNED: u64 = 1_649_367_553;
const SIZES: [(&str, usize); 3] = [
    ("1 KiB", 1024),
    ("16 KiB", 16 * 1024),
    ("256 KiB", 256 * 1024),
];

pub fn measure(criterion: &mut Criterion) {
    let verifier = verifier();
    let now = UNIX_EPOCH + Duration::from_secs(SIGNED + 1);
    let headers = headers(&body(1024));
    criterion.bench_function("head: family, form, window", |bencher| {
        bencher.iter(|| verifier.admit(black_box(&headers), now).unwrap());
    });
    signature(criterion);
    let mut group = criterion.benchmark_group("hmac, prepared key");
    for (name, size) in SIZES {
        let (key, body) = (key(), body(size));
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| key.mac(ID, "1649367553", black_box(&body)));
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("verify: window, signature, proof");
    for (name, size) in SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(name, |bencher| {
            let received = received(&verifier, &body(size), now);
            bencher.iter_batched(
                &received,
                // What it is made of goes after the clock has stopped.
                |received| verifier.verify(received, now).ok(),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// The same call as a token's, whose type is not public.
fn signature(criterion: &mut Criterion) {
    let text = STANDARD.encode([7; 32]);
    criterion.bench_function("signature: 44 characters of base64", |bencher| {
        let mut room = [0; 66];
        bencher.iter(|| STANDARD.decode_slice(black_box(&text), black_box(&mut room)));
    });
}

fn key() -> SigningKey {
    SigningKey::parse(SECRET).unwrap()
}

fn verifier() -> Verifier {
    let name: Arc<str> = "1".into();
    let config = VerifyConfig {
        keys: VerifyKeys::Keys(vec![NamedKey {
            name,
            source: SecretSource::Literal,
            keys: vec![key()],
        }]),
        tolerance: OffOr::On(Duration::from_secs(300)),
        future_tolerance: Duration::from_secs(300),
    };
    let metrics = Metrics::new().unwrap();
    Verifier::new(&config, |key| metrics.key("clerk", key))
}

fn body(size: usize) -> Vec<u8> {
    vec![b'x'; size]
}

/// The head of a webhook as Svix sends it.
fn headers(body: &[u8]) -> Headers {
    let signature = key().sign(ID, SIGNED, body).unwrap();
    let length = body.len().to_string();
    let pairs = [
        ("host", "hooks.example"),
        ("user-agent", "Svix-Webhooks/1.62.0"),
        ("accept", "*/*"),
        ("content-type", "application/json"),
        ("content-length", &length),
        ("svix-id", ID),
        ("svix-timestamp", "1649367553"),
        ("svix-signature", &signature),
    ];
    pairs.into_iter().collect()
}

/// Makes requests as they come to be verified.
fn received(verifier: &Verifier, body: &[u8], now: SystemTime) -> impl Fn() -> Received + use<> {
    let headers = headers(body);
    let envelope = verifier.admit(&headers, now).unwrap();
    let body = Bytes::copy_from_slice(body);
    let origin = Origin {
        request: RequestId::new(),
        client: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        protocol: Some(Protocol::Http),
    };
    let source: Arc<str> = "clerk".into();
    move || Received {
        source: Arc::clone(&source),
        origin: origin.clone(),
        envelope: envelope.clone(),
        headers: headers.clone(),
        body: body.clone(),
    }
}
