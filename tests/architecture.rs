//! The walls of the house, read off the source: who may import whom, who knows actix, who reads the clock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Every file that holds code, from the bottom up: a file imports only files that stand before it.
const FLOORS: &[&str] = &[
    // Facts that need nothing.
    "status.rs",
    "clock.rs",
    "breaker.rs",
    "invalidation.rs",
    "checks.rs",
    "storage/error.rs",
    "fence.rs",
    "key_hash.rs",
    "key.rs",
    "namespace.rs",
    "query.rs",
    "recent.rs",
    // What is kept.
    "stored/weight.rs",
    "stored/pattern.rs",
    "stored/lines.rs",
    "stored/response.rs",
    "stored/entry.rs",
    "stored/codec.rs",
    // RFC 9111, pure.
    "policy/rules.rs",
    "policy/invalidate.rs",
    "policy/tags.rs",
    "policy/fields.rs",
    "policy/date.rs",
    "policy/etag.rs",
    "policy/range.rs",
    "policy/partial.rs",
    "policy/directives.rs",
    "policy/targeted.rs",
    "policy/vary.rs",
    "policy/selecting.rs",
    "policy/facts.rs",
    "policy/freshness.rs",
    "policy/storable.rs",
    "policy/reuse.rs",
    "policy/conditional.rs",
    "head.rs",
    "exchange/preconditions.rs",
    // Where it is kept.
    "storage/interface.rs",
    "storage/erased.rs",
    "storage/failing.rs",
    "storage/near.rs",
    "storage/fences.rs",
    "storage/ballast.rs",
    "storage/deadlines.rs",
    "storage/shelf.rs",
    "storage/sweeper.rs",
    "storage/memory.rs",
    "storage/redis/door.rs",
    "storage/redis/servers.rs",
    "storage/redis/connection.rs",
    "storage/redis/names.rs",
    "storage/redis/news.rs",
    "storage/redis/value.rs",
    "storage/redis/times.rs",
    "storage/redis/calls.rs",
    "storage/redis/known.rs",
    "storage/redis/gathering.rs",
    "storage/redis/lookups.rs",
    "storage/redis/store.rs",
    "storage/redis/tiered.rs",
    "storage/violation.rs",
    "storage/trial.rs",
    "storage/stress.rs",
    "storage/lease_trial.rs",
    "storage/conformance.rs",
    // One cache: what its scopes decided and share.
    "flight.rs",
    "settings.rs",
    "request.rs",
    "found.rs",
    "engine.rs",
    "exchange/queue.rs",
    "scope.rs",
    // One exchange.
    "exchange/behind.rs",
    "fields.rs",
    "exchange/duty.rs",
    "exchange/fill.rs",
    "exchange/leading.rs",
    "exchange/pieces.rs",
    "exchange/body.rs",
    "handle.rs",
    "exchange/slot.rs",
    "exchange/likeness.rs",
    "exchange/telling.rs",
    "exchange/respond.rs",
    "config_error.rs",
    "misplaced.rs",
    "config.rs",
    "builder.rs",
    "setters/lifetimes.rs",
    "setters/keys.rs",
    "setters/requests.rs",
    "setters/answers.rs",
    "setters/stale.rs",
    "setters/waiting.rs",
    "extractor.rs",
    "exchange/freshen.rs",
    "exchange/parts.rs",
    "exchange/answered.rs",
    "exchange/handler.rs",
    "exchange/written.rs",
    "exchange/bypass.rs",
    "exchange/filling.rs",
    "exchange/refresh.rs",
    "exchange/step.rs",
    "exchange/course.rs",
    "middleware.rs",
];

/// The files that know actix's services and requests; everything else is told facts.
const KNOW_ACTIX: &[&str] = &[
    "checks.rs",
    "exchange/answered.rs",
    "exchange/bypass.rs",
    "exchange/course.rs",
    "exchange/filling.rs",
    "exchange/handler.rs",
    "exchange/likeness.rs",
    "exchange/parts.rs",
    "exchange/preconditions.rs",
    "exchange/queue.rs",
    "exchange/refresh.rs",
    "exchange/respond.rs",
    "exchange/slot.rs",
    "exchange/written.rs",
    "extractor.rs",
    "middleware.rs",
    "request.rs",
    "scope.rs",
    "settings.rs",
    "setters/answers.rs",
    "setters/keys.rs",
    "setters/requests.rs",
];

/// The files that may be long, and why.
const LONG: &[(&str, &str)] = &[];

const LONGEST: usize = 400;

struct Source {
    /// Below `src`, with slashes.
    name: String,
    /// Without its tests.
    lines: Vec<String>,
}

impl Source {
    /// The code alone: no comments, and no texts, whose words are no code.
    fn code(&self) -> impl Iterator<Item = (usize, String)> {
        self.lines.iter().enumerate().map(|(at, line)| (at + 1, code(line)))
    }

    fn is_face(&self) -> bool {
        self.name == "lib.rs" || self.name.ends_with("mod.rs")
    }
}

/// A line without its comment and the insides of its texts.
fn code(line: &str) -> String {
    let mut code = String::new();
    let mut in_text = false;
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' if in_text => drop(chars.next()),
            '"' => in_text = !in_text,
            '\'' if !in_text && chars.peek() == Some(&'"') => drop(chars.next()),
            '/' if !in_text && chars.peek() == Some(&'/') => break,
            char if !in_text => code.push(char),
            _ => {}
        }
    }
    code
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(folder).unwrap() {
            let path: PathBuf = item.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                let text = fs::read_to_string(&path).unwrap();
                let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]").map(str::to_owned);
                sources.push(Source { name, lines: lines.collect() });
            }
        }
    }
    assert!(sources.len() > 40, "the source was not found");
    sources
}

/// Tells everything that is wrong at once.
fn nothing(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// The files that a file imports, each with the line: by `use`, or by a path in the code.
fn imports(source: &Source, files: &BTreeSet<String>) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let mut at = 0;
    let code: Vec<_> = source.code().collect();
    while let Some((line, text)) = code.get(at) {
        let mut text = text.clone();
        // A list of imports may go over many lines.
        while text.matches('{').count() > text.matches('}').count() && text.trim_start().starts_with("use ") {
            at += 1;
            text.push_str(&code[at].1);
        }
        for root in ["crate::", "super::"] {
            for (start, _) in text.match_indices(root) {
                let here: Vec<&str> = match root {
                    "crate::" => Vec::new(),
                    _ => source.name.split('/').rev().skip(1).collect(),
                };
                assert!(!text[start..].starts_with("super::super"), "{}:{line}: write crate::", source.name);
                for path in paths(&text[start + root.len()..]) {
                    let mut path: Vec<&str> =
                        here.iter().rev().copied().chain(path.iter().map(String::as_str)).collect();
                    // The longest start of the path that is a file; the rest are names in it.
                    while !path.is_empty() {
                        let file = format!("{}.rs", path.join("/"));
                        if files.contains(&file) {
                            found.entry(file).or_insert(*line);
                            break;
                        }
                        path.pop();
                    }
                    assert!(!path.is_empty(), "{}:{line}: an import of no file: {text}", source.name);
                }
            }
        }
        at += 1;
    }
    found.remove(&source.name);
    found
}

/// The paths that a text begins with: `a::{b, c::D}` is `a::b` and `a::c::D`.
fn paths(text: &str) -> Vec<Vec<String>> {
    let plain: String =
        text.chars().take_while(|char| char.is_alphanumeric() || *char == '_' || *char == ':').collect();
    let head: Vec<String> = plain.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let Some(list) = text[plain.len()..].strip_prefix('{') else {
        return vec![head];
    };
    let mut depth = 0;
    let mut items = vec![String::new()];
    for char in list.chars() {
        match char {
            '}' if depth == 0 => break,
            ',' if depth == 0 => items.push(String::new()),
            char => {
                depth += i32::from(char == '{') - i32::from(char == '}');
                items.last_mut().unwrap().push(char);
            }
        }
    }
    let items = items.iter().map(|item| item.trim()).filter(|item| !item.is_empty());
    items.flat_map(paths).map(|path| [head.clone(), path].concat()).collect()
}

#[test]
fn the_reader_of_this_test_reads() {
    assert_eq!(code(r#"let a = "// no \" unwrap()"; // expect("#), "let a = ; ");
    assert_eq!(paths("a::{b, c::{D, e}};"), [vec!["a", "b"], vec!["a", "c", "D"], vec!["a", "c", "e"]]);
    let files = ["key.rs", "policy/date.rs", "policy/etag.rs", "clock.rs"].map(str::to_owned).into();
    let lines = [
        "use crate::key::{",
        "    CacheKey,",
        "};",
        "use crate::policy::{date, etag};",
        "let a = crate::clock::now();",
    ];
    let source = Source { name: "policy/vary.rs".to_owned(), lines: lines.map(str::to_owned).into() };
    let found: Vec<_> = imports(&source, &files).into_iter().collect();
    let expected = [("clock.rs", 5), ("key.rs", 1), ("policy/date.rs", 4), ("policy/etag.rs", 4)];
    assert_eq!(found, expected.map(|(file, line)| (file.to_owned(), line)));
    let above = Source { name: "policy/vary.rs".to_owned(), lines: vec!["use super::date;".to_owned()] };
    assert_eq!(imports(&above, &files).into_keys().collect::<Vec<_>>(), ["policy/date.rs"]);
}

// STYLE rule 1
#[test]
fn faces_document_declare_and_re_export() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.is_face()) {
        let mut open = false;
        for (at, line) in source.code() {
            let line = line.trim();
            let declares = line.is_empty()
                || line.starts_with("#[")
                || line.starts_with("#![")
                || (line.trim_start_matches("pub(crate) ").trim_start_matches("pub ").starts_with("mod ")
                    && line.ends_with(';'))
                || line.starts_with("pub use ");
            if !declares && !open {
                wrong.push(format!("src/{}:{at}: more than a declaration: {line}", source.name));
            }
            open = (open || line.starts_with("pub use ")) && !line.ends_with(';');
        }
        if !source.lines.first().is_some_and(|line| line.starts_with("//!")) {
            wrong.push(format!("src/{}: no documentation", source.name));
        }
    }
    nothing(&wrong);
}

// STYLE rule 3
#[test]
fn imports_point_down() {
    let sources = sources();
    let files: BTreeSet<String> =
        sources.iter().filter(|source| !source.is_face()).map(|source| source.name.clone()).collect();
    let listed: BTreeSet<String> = FLOORS.iter().map(|file| (*file).to_owned()).collect();
    assert_eq!(listed.len(), FLOORS.len(), "a file stands on two floors");
    let mut wrong: Vec<String> = files
        .symmetric_difference(&listed)
        .map(|file| format!("{file}: give it its place in FLOORS"))
        .collect();
    let floor = |file: &str| FLOORS.iter().position(|known| *known == file);
    for source in sources.iter().filter(|source| !source.is_face()) {
        for (imported, line) in imports(source, &files) {
            if floor(&imported) > floor(&source.name) {
                wrong.push(format!("src/{}:{line}: imports {imported}, which is above it", source.name));
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn only_the_shell_knows_actix() {
    // Types that are a request, a response or a service on its way; names of HTTP (`actix_web::http`) are facts.
    let words = [
        "actix_service",
        "actix_web::dev",
        "actix_web::test",
        "ServiceRequest",
        "ServiceResponse",
        "HttpRequest",
    ];
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !source.is_face()) {
        let found = source.code().find(|(_, line)| words.iter().any(|word| line.contains(word)));
        match (found, KNOW_ACTIX.contains(&source.name.as_str())) {
            (Some((at, line)), false) => {
                wrong.push(format!("src/{}:{at}: knows actix: {}", source.name, line.trim()));
            }
            (None, true) => {
                wrong.push(format!("src/{}: no longer knows actix; take it off the list", source.name))
            }
            _ => {}
        }
    }
    nothing(&wrong);
}

// STYLE rule 5
#[test]
fn time_comes_from_the_clock() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.name != "clock.rs") {
        for (at, line) in source.code() {
            if line.contains("Instant::now") || line.contains("SystemTime::now") {
                wrong.push(format!("src/{}:{at}: reads the time itself", source.name));
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn nothing_panics_without_a_reason() {
    let words = [".unwrap()", ".expect(", "panic!(", "unreachable!(", "todo!(", "unimplemented!(", "unsafe "];
    let mut wrong = Vec::new();
    for source in &sources() {
        for (at, line) in source.code() {
            let has_reason = |line: Option<&String>| line.is_some_and(|line| line.contains("// "));
            let reasoned = has_reason(source.lines.get(at - 1))
                || has_reason(at.checked_sub(2).and_then(|before| source.lines.get(before)));
            if words.iter().any(|word| line.contains(word)) && !reasoned {
                wrong.push(format!("src/{}:{at}: no reason is given: {}", source.name, line.trim()));
            }
        }
    }
    nothing(&wrong);
}

// STYLE rule 2
#[test]
fn files_are_short() {
    let mut wrong = Vec::new();
    for source in &sources() {
        let long = source.lines.len() >= LONGEST;
        let allowed = LONG.iter().any(|(file, _)| *file == source.name);
        if long && !allowed {
            wrong.push(format!("src/{}: {} lines before its tests", source.name, source.lines.len()));
        }
        if allowed && !long {
            wrong.push(format!("src/{}: short again; take it off the list", source.name));
        }
    }
    nothing(&wrong);
}
