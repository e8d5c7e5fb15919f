//! The shape of the house, held by reading `src/`: floors, who may print, who may
//! call a message proven, how long a file may be. Each rule is a function from
//! sources to problems, and is tried on small bad inputs first.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on is to fail where it stands"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Which modules stand on which floor. A module imports only floors below it.
const FLOORS: [&[&str]; 6] = [
    &["message", "key", "setting", "observe"],
    &["amqp"],
    &[
        "listen", "consume", "source", "verify", "ledger", "route", "deliver",
    ],
    &["config", "gateway", "admin"],
    &["app"],
    &["cli"],
];

/// What stands at the top of the repository.
const TOP: [&str; 15] = [
    ".ci",
    ".clippy.toml",
    ".dockerignore",
    ".git",
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "LICENSE",
    "README.md",
    "benches",
    "config",
    "src",
    "tests",
];

/// A file is split long before this (lines).
const LONGEST: usize = 500;

/// From here on a file is named, so that somebody thinks of splitting it (lines).
const LONG: usize = 400;

#[test]
fn modules_import_only_floors_below_and_never_each_other_on_one_floor() {
    hold(&source(), floors);
}

#[test]
fn only_the_voice_of_the_command_line_prints() {
    hold(&source(), printing);
}

#[test]
fn only_verify_calls_a_message_proven() {
    hold(&source(), proving);
}

#[test]
fn no_module_is_a_drawer_for_everything() {
    hold(&source(), drawers);
}

#[test]
fn no_file_is_too_long_to_be_read() {
    hold(&source(), lengths);
}

#[test]
fn the_map_holds_no_code() {
    hold(&source(), map);
}

#[test]
fn no_test_sleeps() {
    let files = read("tests");
    assert!(files.len() > 10);
    hold(&files, sleeping);
}

#[test]
fn nothing_lies_about_at_the_top() {
    let listed = std::process::Command::new("git")
        .args(["ls-tree", "--name-only", "HEAD"])
        .current_dir(root())
        .output();
    let listed = listed.ok().filter(|output| output.status.success());
    let names: Vec<String> = match listed {
        Some(output) => {
            let text = String::from_utf8(output.stdout).unwrap();
            text.lines().map(str::to_owned).collect()
        }
        // Not a repository: an unpacked archive, an image being built.
        None => fs::read_dir(root())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "target")
            .collect(),
    };
    assert!(names.iter().any(|name| name == "src"), "{names:?}");
    let strange: Vec<_> = names
        .iter()
        .filter(|n| !TOP.contains(&n.as_str()))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
}

#[test]
fn what_the_readme_points_at_is_there() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(links(&readme).len() > 10);
    let missing: Vec<_> = links(&readme)
        .into_iter()
        .filter(|target| !root().join(target).exists())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The files of the repository that a Markdown text links to.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1);
    targets
        .filter_map(|rest| rest.split(')').next())
        .map(|target| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .collect()
}

/// One file: its path from the top, with `/`, and its text.
struct File {
    path: String,
    text: String,
}

impl File {
    /// The module of the ground plan it belongs to: `verify` for
    /// `src/verify/head.rs`, nothing for `src/lib.rs`.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let (module, _) = inside.split_once('/').or(inside.split_once(".rs"))?;
        (!["lib", "main"].contains(&module)).then_some(module)
    }

    /// How many modules it lies in: 1 for `src/verify/mod.rs`, 2 for
    /// `src/verify/head.rs`.
    fn depth(&self) -> usize {
        let parts = self.path.matches('/').count();
        let own = ["mod.rs", "lib.rs", "main.rs"];
        parts
            - usize::from(
                own.iter()
                    .any(|name| self.path.ends_with(&format!("/{name}"))),
            )
    }

    /// Whether all of it is for tests.
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.ends_with("/fixture.rs")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Everything under `src/`.
fn source() -> Vec<File> {
    let files = read("src");
    // A reader that reads nothing would find nothing.
    assert!(files.iter().any(|file| file.path == "src/lib.rs"));
    assert!(files.len() > 40, "{}", files.len());
    files
}

/// Every Rust file in a folder, in the order of their paths.
fn read(folder: &str) -> Vec<File> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|end| end == "rs") {
                let inside = path.strip_prefix(root()).unwrap();
                files.push(File {
                    path: inside.to_str().unwrap().replace('\\', "/"),
                    text: fs::read_to_string(&path).unwrap(),
                });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Fails with every problem a rule finds.
fn hold(files: &[File], rule: fn(&File) -> Vec<String>) {
    let problems: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let found = rule(file).into_iter();
            found.map(|problem| format!("{}: {problem}", file.path))
        })
        .collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

fn floors(file: &File) -> Vec<String> {
    let Some(own) = file.module() else {
        return Vec::new();
    };
    let Some(own_floor) = floor(own) else {
        return vec![format!("`{own}` stands on no floor")];
    };
    let mut problems = Vec::new();
    for import in imports(file) {
        match floor(&import) {
            _ if import == own => {}
            None => problems.push(format!("imports `{import}`, which stands on no floor")),
            Some(floor) if floor >= own_floor => problems.push(format!(
                "`{own}` (floor {own_floor}) imports `{import}` (floor {floor})"
            )),
            Some(_) => {}
        }
    }
    problems
}

fn printing(file: &File) -> Vec<String> {
    if file.path == "src/cli/print.rs" {
        return Vec::new();
    }
    let tokens = tokens(&without_tests(file));
    let macros = ["print", "println", "eprint", "eprintln", "dbg"];
    tokens
        .windows(2)
        .filter(|pair| macros.contains(&pair[0].as_str()) && pair[1] == "!")
        .map(|pair| format!("prints with `{}!`", pair[0]))
        .collect()
}

fn proving(file: &File) -> Vec<String> {
    if file.module() == Some("verify") {
        return Vec::new();
    }
    let tokens = tokens(&without_tests(file));
    tokens
        .windows(3)
        .filter(|next| ["proven", "dangerously_unproven"].contains(&next[1].as_str()))
        .filter(|next| next[0] != "fn" && next[0] != "." && next[2] != ":")
        .filter(|next| next[0] == "::" || next[2] == "(")
        .map(|next| format!("calls `Verified::{}`", next[1]))
        .collect()
}

fn drawers(file: &File) -> Vec<String> {
    let drawers = [
        "utils", "util", "common", "helpers", "helper", "types", "misc",
    ];
    file.path
        .trim_end_matches(".rs")
        .split('/')
        .filter(|part| drawers.contains(part))
        .map(|part| format!("`{part}` says nothing about what is in it"))
        .collect()
}

fn lengths(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    let longest = if file.path == "src/main.rs" {
        30
    } else {
        LONGEST
    };
    if lines > LONG && lines <= longest {
        eprintln!("{}: {lines} lines: think of splitting it", file.path);
    }
    match lines > longest {
        true => vec![format!("{lines} lines; at most {longest}")],
        false => Vec::new(),
    }
}

fn map(file: &File) -> Vec<String> {
    if file.path != "src/lib.rs" {
        return Vec::new();
    }
    let code = bare(&file.text);
    let lines = code.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .filter(|line| !(line.starts_with("pub mod ") && line.ends_with(';')))
        .map(|line| format!("`{line}` is more than a map"))
        .collect()
}

fn sleeping(file: &File) -> Vec<String> {
    let tokens = tokens(&bare(&file.text));
    let sleeps = ["sleep", "sleep_until", "sleep_ms", "park_timeout"];
    tokens
        .windows(2)
        .filter(|pair| sleeps.contains(&pair[0].as_str()) && pair[1] == "(")
        .map(|pair| {
            format!(
                "`{}` waits for a time, not for something to happen",
                pair[0]
            )
        })
        .collect()
}

/// The modules of the ground plan that a file names: by `crate::x`, by
/// `crate::{x, y::z}`, or by as many `super::` as lead out of its module.
fn imports(file: &File) -> BTreeSet<String> {
    let tokens = tokens(&bare(&file.text));
    let word = |at: usize| tokens.get(at).map_or("", String::as_str);
    let mut found = BTreeSet::new();
    // Whether each open brace is that of a module written inside the file.
    let mut braces: Vec<bool> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match word(at) {
            "{" => braces.push(at >= 2 && word(at - 2) == "mod"),
            "}" => {
                braces.pop();
            }
            "crate" if word(at + 1) == "as" => {
                found.insert("crate as …".to_owned());
            }
            "crate" if word(at + 1) == "::" => found.extend(firsts(&tokens, at + 2)),
            "super" if word(at.wrapping_sub(1)) != "::" => {
                let mut supers = 0;
                while word(at + 2 * supers) == "super" && word(at + 2 * supers + 1) == "::" {
                    supers += 1;
                }
                let inside = braces.iter().filter(|module| **module).count();
                if supers == file.depth() + inside {
                    found.extend(firsts(&tokens, at + 2 * supers));
                }
                at += (2 * supers).saturating_sub(1);
            }
            _ => {}
        }
        at += 1;
    }
    found.remove("self");
    found
}

/// The first names of the path, or of every path of the group, that begins here.
fn firsts(tokens: &[String], at: usize) -> Vec<String> {
    if tokens.get(at).is_none_or(|token| token != "{") {
        return tokens.get(at).cloned().into_iter().collect();
    }
    let mut depth = 0;
    let mut names = Vec::new();
    for pair in tokens[at..].windows(2) {
        match pair[0].as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        let begins = pair[0] == "{" || pair[0] == ",";
        if depth == 1 && begins && pair[1] != "}" {
            names.push(pair[1].clone());
        }
    }
    names
}

/// Words, `::`, and single other characters.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    tokens
}

/// The code of a file that is not for tests alone.
fn without_tests(file: &File) -> String {
    if file.is_test() {
        return String::new();
    }
    let code = bare(&file.text);
    let mut kept = String::new();
    let mut rest = code.as_str();
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        rest = &rest[at + "#[cfg(test)]".len()..];
        rest = &rest[end_of_item(rest)..];
    }
    kept + rest
}

/// Where the item that begins here ends: at its `;`, or with its braces.
fn end_of_item(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// A text without comments, and with strings and characters emptied.
fn bare(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word_before = out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if let Some(length) = raw_string(rest).filter(|_| !word_before) {
            out.push_str("\"\"");
            length
        } else if first == '"' {
            out.push_str("\"\"");
            quoted(rest)
        } else if let Some(length) = character(rest) {
            out.push_str("' '");
            length
        } else {
            out.push(first);
            first.len_utf8()
        };
        rest = &rest[skipped..];
    }
    out
}

/// The length of a block comment, which may hold others.
fn comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of `r"…"`, `r#"…"#`, `br"…"`, if one begins here.
fn raw_string(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('b').unwrap_or(text).strip_prefix('r')?;
    let hashes = inner.len() - inner.trim_start_matches('#').len();
    let content = inner[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = content
        .find(&end)
        .map_or(content.len(), |at| at + end.len());
    Some(text.len() - content.len() + length)
}

/// The length of the string that begins here.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character, if one begins here and not a lifetime.
fn character(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    let first = inner.chars().next()?;
    if first == '\\' {
        let end = inner[2..].find('\'')?;
        return Some(1 + 2 + end + 1);
    }
    inner[first.len_utf8()..]
        .starts_with('\'')
        .then_some(1 + first.len_utf8() + 1)
}

mod on_bad_inputs {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    fn imported(path: &str, text: &str) -> Vec<String> {
        imports(&file(path, text)).into_iter().collect()
    }

    #[test]
    fn every_way_of_importing_is_seen() {
        for (path, text, expected) in [
            ("src/a/b.rs", "use crate::key::Key;", &["key"][..]),
            (
                "src/a/b.rs",
                "use crate::{key::Key, route::{self, x}, app};",
                &["app", "key", "route"],
            ),
            ("src/a/b.rs", "use crate :: { self, key };", &["key"]),
            (
                "src/a/b.rs",
                "fn f(x: &crate::app::App) { $crate::cli::run() }",
                &["app", "cli"],
            ),
            ("src/a/mod.rs", "use super::key;", &["key"]),
            (
                "src/a/mod.rs",
                "use super::{key, app::App};",
                &["app", "key"],
            ),
            (
                "src/a/b.rs",
                "use super::key; use super::super::app;",
                &["app"],
            ),
            (
                "src/a/b/c.rs",
                "super::super::x(); super::super::super::cli::run()",
                &["cli"],
            ),
            (
                "src/a/b.rs",
                "mod tests { use super::*; use super::super::super::app; }",
                &["app"],
            ),
            ("src/a/b.rs", "mod m { } use super::super::app;", &["app"]),
            (
                "src/a/b.rs",
                "pub(crate) fn f() {} pub(in crate::key) fn g() {}",
                &["key"],
            ),
            ("src/a/b.rs", "use crate as other;", &["crate as …"]),
        ] {
            assert_eq!(imported(path, text), expected, "{path} {text}");
        }
    }

    #[test]
    fn what_only_looks_like_an_import_is_none() {
        for text in [
            "// crate::app",
            "//! [`crate::app`]",
            "/* crate::app /* again */ crate::cli */",
            r#"const A: &str = "crate::app \" crate::cli";"#,
            "const A: &str = r##\"crate::app \"# crate::cli\"##;",
            r"const A: [char; 3] = ['\'', '}', '{'];",
            "fn f<'a>(x: &'a str) {} // '",
            "use http::header;",
        ] {
            assert_eq!(imported("src/a/b.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_way_up_or_across_is_a_problem_and_a_way_down_is_none() {
        let bad = [
            ("src/verify/head.rs", "use crate::gateway::Line;"),
            ("src/verify/head.rs", "use crate::ledger::Ledger;"),
            ("src/key/mod.rs", "use super::verify;"),
            ("src/admin/mod.rs", "use crate::{observe::Metrics, config};"),
            ("src/app/mod.rs", "crate::cli::run()"),
            ("src/attic/mod.rs", ""),
            ("src/app/mod.rs", "use crate::attic;"),
        ];
        for (path, text) in bad {
            assert_eq!(floors(&file(path, text)).len(), 1, "{path} {text}");
        }
        let good = [
            (
                "src/verify/head.rs",
                "use crate::{key, message::Event, verify::Verifier};",
            ),
            ("src/cli/mod.rs", "use crate::app; use crate::key;"),
            ("src/main.rs", "hookward::cli::run()"),
        ];
        for (path, text) in good {
            assert_eq!(floors(&file(path, text)), [""; 0], "{path} {text}");
        }
    }

    #[test]
    fn printing_is_seen_outside_tests() {
        let noisy = "fn f() { println!(\"a\") }";
        assert_eq!(printing(&file("src/app/mod.rs", noisy)).len(), 1);
        assert_eq!(printing(&file("src/cli/print.rs", noisy)).len(), 0);
        assert_eq!(printing(&file("src/app/tests.rs", noisy)).len(), 0);
        let tested = format!("#[cfg(test)]\nmod tests {{ {noisy} }}\n");
        assert_eq!(printing(&file("src/app/mod.rs", &tested)).len(), 0);
        let after = format!("{tested}{noisy}");
        assert_eq!(printing(&file("src/app/mod.rs", &after)).len(), 1);
        let declared = format!("#[cfg(test)]\nmod tests;\n{noisy}");
        assert_eq!(printing(&file("src/app/mod.rs", &declared)).len(), 1);
    }

    #[test]
    fn calling_a_message_proven_is_seen_outside_verify_and_tests() {
        for text in [
            "let v = Verified::proven(a, b, c);",
            "let v = message::Verified::dangerously_unproven(a);",
            "use crate::message::Verified; let f = Verified::proven;",
            "impl Verified { fn x() { Self::proven(a) } }",
        ] {
            assert_eq!(
                proving(&file("src/gateway/line.rs", text)).len(),
                1,
                "{text}"
            );
            assert_eq!(proving(&file("src/verify/mod.rs", text)).len(), 0, "{text}");
            assert_eq!(
                proving(&file("src/deliver/tests.rs", text)).len(),
                0,
                "{text}"
            );
        }
        let definition = "impl Verified { pub(crate) fn proven(a: A) -> Self { Self { a } } }";
        assert_eq!(
            proving(&file("src/message/received.rs", definition)).len(),
            0
        );
    }

    #[test]
    fn links_into_the_repository_are_seen() {
        let text = "[a](src/a.rs) [b](https://x.y/z) [c](#part) ([d](tests/d.rs#L3))";
        assert_eq!(links(text), ["src/a.rs", "tests/d.rs"]);
    }

    #[test]
    fn drawers_long_files_code_in_the_map_and_sleeping_are_seen() {
        assert_eq!(drawers(&file("src/app/utils.rs", "")).len(), 1);
        assert_eq!(drawers(&file("src/common/mod.rs", "")).len(), 1);
        assert_eq!(drawers(&file("src/message/event.rs", "")).len(), 0);
        assert_eq!(lengths(&file("src/app/mod.rs", &"\n".repeat(501))).len(), 1);
        assert_eq!(lengths(&file("src/app/mod.rs", &"\n".repeat(500))).len(), 0);
        assert_eq!(lengths(&file("src/main.rs", &"\n".repeat(31))).len(), 1);
        assert_eq!(
            map(&file("src/lib.rs", "//! Map.\npub mod app;\n")).len(),
            0
        );
        assert_eq!(
            map(&file("src/lib.rs", "pub mod app;\npub use app::App;\n")).len(),
            1
        );
        assert_eq!(
            sleeping(&file("tests/it/x.rs", "sleep(Duration::ZERO).await")).len(),
            1
        );
        assert_eq!(
            sleeping(&file("tests/it/x.rs", "std::thread::sleep (d)")).len(),
            1
        );
        assert_eq!(
            sleeping(&file("tests/it/x.rs", "// sleep(d)\nlet s = \"sleep(d)\";")).len(),
            0
        );
    }
}
