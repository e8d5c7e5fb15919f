//! The bodies that were signed when the one at hand was not: what editors,
//! shells, frameworks and proxies make of bytes.

use base64::Engine as _;

use super::json;
use super::secret::STANDARD_ANY;

/// The way out of nearly all of them.
const RAW: &str = "verify the raw body, the very bytes that came in, before anything reads, parses or stores them";

/// Bodies that may have been signed instead of `body`, each with the cause.
/// Those that are the body itself are left out.
pub(super) fn variants(body: &[u8]) -> impl Iterator<Item = (Vec<u8>, String)> + '_ {
    lines(body)
        .into_iter()
        .chain(encodings(body))
        .map(|(variant, cause)| (variant, format!("{cause}: {RAW}")))
        .chain(
            json::rewritten(body)
                .map(|(variant, cause)| (variant, format!("the body was parsed and written again ({cause}): {RAW} (a framework's `req.body` or `request.json` is not that)"))),
        )
        .filter(move |(variant, _)| variant != body)
}

type Variant = (Vec<u8>, &'static str);

/// White space at the ends, and line ends.
fn lines(body: &[u8]) -> Vec<Variant> {
    let mut variants: Vec<Variant> = vec![(
        Vec::new(),
        "an empty body was signed: the sender signs before it has the body, or something read the body up",
    )];
    let ends = "the body at hand ends in a line break that was not signed (editors, `echo` and here-documents add one; `printf %s` and `curl --data-binary` do not)";
    for end in ["\n", "\r\n"] {
        if let Some(cut) = body.strip_suffix(end.as_bytes()) {
            variants.push((cut.to_vec(), ends));
        }
        variants.push((
            [body, end.as_bytes()].concat(),
            "the body that was signed ends in a line break, which the one at hand lost (`$(…)`, `trim` and `curl --data @file` drop it)",
        ));
    }
    variants.push((
        body.trim_ascii().to_vec(),
        "the body at hand has white space round it that was not signed",
    ));
    variants.push((
        replace(body, b"\r\n", b"\n"),
        "the body at hand has CRLF line ends, and LF was signed (Windows and `git` with `autocrlf` do that)",
    ));
    variants.push((
        replace(&replace(body, b"\r\n", b"\n"), b"\n", b"\r\n"),
        "the body at hand has LF line ends, and CRLF was signed",
    ));
    variants
}

/// Byte order marks, character sets and wrappings.
fn encodings(body: &[u8]) -> Vec<Variant> {
    const BOM: &[u8] = b"\xef\xbb\xbf";
    let mut variants: Vec<Variant> = Vec::new();
    match body.strip_prefix(BOM) {
        Some(rest) => variants.push((
            rest.to_vec(),
            "the body at hand begins with a byte order mark that was not signed",
        )),
        None => variants.push((
            [BOM, body].concat(),
            "the body that was signed begins with a byte order mark, which the one at hand lost",
        )),
    }
    if let [0xff, 0xfe, rest @ ..] = body {
        let units = rest
            .chunks_exact(2)
            .map(|u| u16::from_le_bytes([u[0], u[1]]));
        let text: String = char::decode_utf16(units)
            .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
        let trimmed = text.trim_end_matches(['\r', '\n']).to_owned();
        let cause =
            "the body at hand is UTF-16, and UTF-8 was signed (PowerShell's `>` writes UTF-16)";
        variants.push((text.into_bytes(), cause));
        variants.push((trimmed.into_bytes(), cause));
    }
    // Every byte is a character of Latin-1.
    variants.push((
        body.iter()
            .map(|&b| char::from(b))
            .collect::<String>()
            .into_bytes(),
        "the body at hand is Latin-1, and UTF-8 was signed",
    ));
    let Ok(text) = std::str::from_utf8(body) else {
        return variants;
    };
    let latin: Option<Vec<u8>> = text
        .chars()
        .map(|c| u8::try_from(u32::from(c)).ok())
        .collect();
    if let Some(latin) = latin {
        variants.push((
            latin,
            "the body at hand was turned from Latin-1 into UTF-8 after it was signed",
        ));
    }
    if text.contains('&') {
        variants.push((
            unescape_html(text).into_bytes(),
            "the body at hand was escaped for HTML (`&quot;`) after it was signed",
        ));
    }
    if let Ok(inner) = serde_json::from_str::<String>(text) {
        variants.push((
            inner.into_bytes(),
            "the body at hand is a JSON text that holds the signed one in quotes",
        ));
    }
    if let Ok(quoted) = serde_json::to_string(text) {
        variants.push((
            quoted.into_bytes(),
            "what was signed is a JSON text that holds the body at hand in quotes",
        ));
    }
    if let Ok(bytes) = STANDARD_ANY.decode(text.trim()) {
        variants.push((
            bytes,
            "the body at hand is the base64 of the signed one (API gateways and queues do that)",
        ));
    }
    variants
}

fn replace(body: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(&first) = rest.first() {
        if let Some(after) = rest.strip_prefix(from) {
            replaced.extend_from_slice(to);
            rest = after;
        } else {
            replaced.push(first);
            rest = &rest[1..];
        }
    }
    replaced
}

fn unescape_html(text: &str) -> String {
    // The ampersand last, so that nothing is unescaped twice.
    [
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&#x27;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}
