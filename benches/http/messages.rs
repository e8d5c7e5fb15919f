use std::fmt::Write as _;
use std::ops::Range;
use std::rc::Rc;
use std::time::UNIX_EPOCH;

use hookward::key::SigningKey;

/// The secret of every source here.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What a body keeps of memory at most, over all that are told apart (bytes).
const POOL: usize = 16 * 1024 * 1024;

/// Makes requests that nobody has sent before, signed: a sender at its desk.
pub struct Sender {
    key: SigningKey,
    bodies: Rc<[Vec<u8>]>,
    paths: Vec<String>,
    made: u64,
}

/// Requests, in the order in which they are sent.
pub struct Messages {
    heads: Vec<u8>,
    each: Vec<(Range<usize>, usize)>,
    bodies: Rc<[Vec<u8>]>,
}

impl Sender {
    /// One whose bodies are of this type and exactly so many bytes, to these paths
    /// in turn.
    pub fn new(event_type: &str, bytes: usize, paths: &[String]) -> Self {
        let Ok(key) = SigningKey::parse(SECRET) else {
            unreachable!("a key in good form")
        };
        let count = (POOL / bytes).clamp(4, 256);
        Self {
            key,
            bodies: (0..count).map(|_| body(event_type, bytes)).collect(),
            paths: paths.to_vec(),
            made: fastrand::u64(..) << 32,
        }
    }

    /// So many more, signed now.
    pub fn sign(&mut self, count: usize) -> Messages {
        let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
        let mut heads = String::with_capacity(count * 420);
        let mut each = Vec::with_capacity(count);
        for number in 0..count {
            let at = number % self.bodies.len();
            let body = &self.bodies[at];
            let id = format!("msg_{:026x}", self.made);
            self.made += 1;
            let signature = self.key.sign(&id, now, body).unwrap();
            let path = &self.paths[number % self.paths.len()];
            let began = heads.len();
            write!(
                heads,
                "POST {path} HTTP/1.1\r\nHost: hooks.example\r\nUser-Agent: Svix-Webhooks/1.62.0 (sender-bench; +https://www.svix.com/http-sender/)\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: {}\r\nSvix-Id: {id}\r\nSvix-Timestamp: {now}\r\nSvix-Signature: {signature}\r\n\r\n",
                body.len()
            )
            .unwrap();
            each.push((began..heads.len(), at));
        }
        Messages {
            heads: heads.into_bytes(),
            each,
            bodies: Rc::clone(&self.bodies),
        }
    }

    /// How long the HMAC of one message takes on the core that calls
    /// (microseconds): what verifying cannot cost less than.
    pub fn hmac(&self) -> f64 {
        let body = &self.bodies[0];
        let times = (4 * 1024 * 1024 / (body.len() + 512)).clamp(8, 4096);
        let began = std::time::Instant::now();
        for _ in 0..times {
            std::hint::black_box(self.key.mac("msg_0", "1649367553", body));
        }
        began.elapsed().as_secs_f64() * 1e6 / times as f64
    }
}

impl Messages {
    pub fn len(&self) -> usize {
        self.each.len()
    }

    /// Head and body of one.
    pub fn request(&self, number: usize) -> (&[u8], &[u8]) {
        let (head, body) = &self.each[number];
        (&self.heads[head.clone()], &self.bodies[*body])
    }
}

/// A JSON event of exactly so many bytes, nested as events are.
fn body(event_type: &str, bytes: usize) -> Vec<u8> {
    let word = |length| -> String { (0..length).map(|_| fastrand::alphanumeric()).collect() };
    let mut body = format!(r#"{{"type":"{event_type}","data":{{"id":"in_{}""#, word(6));
    if bytes > 420 {
        write!(
            body,
            r#","object":"invoice","customer":"cus_{}","currency":"eur","amount_due":{},"paid":true,"discount":null,"tax_percent":19.0,"metadata":{{"note":"caf\u00e9 \"{}\""}},"lines":["#,
            word(14),
            fastrand::u32(..900_000),
            word(5),
        )
        .unwrap();
        let mut comma = "";
        loop {
            let line = format!(
                r#"{comma}{{"id":"il_{}","amount":{},"quantity":{},"description":"Seat {} (monthly)","proration":false}}"#,
                word(14),
                fastrand::u32(..100_000),
                fastrand::u8(1..9),
                word(4),
            );
            if body.len() + line.len() + 20 > bytes {
                break;
            }
            body.push_str(&line);
            comma = ",";
        }
        body.push(']');
    }
    let around = r#","p":"""#.len() + "}}".len();
    let rest = bytes.checked_sub(body.len() + around);
    let rest = rest.expect("a body has at least 100 bytes");
    write!(body, r#","p":"{}"}}}}"#, word(rest)).unwrap();
    assert_eq!(body.len(), bytes);
    body.into_bytes()
}
