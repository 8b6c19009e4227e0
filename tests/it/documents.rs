//! What the documents say of the code is true.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Each `path.rs` and the `names` that a line puts behind it: "`a/b.rs`: `one`, `two`; `c.rs`: `three`". A file without
/// a folder is beside the one before it.
fn named(line: &str) -> Vec<(String, Option<String>)> {
    let mut file: Option<PathBuf> = None;
    let mut named = Vec::new();
    for quoted in line.split('`').skip(1).step_by(2) {
        if Path::new(quoted).extension().is_some_and(|extension| extension == "rs") {
            let beside = file.as_deref().and_then(Path::parent).filter(|_| !quoted.contains('/'));
            let path = beside.unwrap_or(Path::new("")).join(quoted);
            named.push((path.display().to_string(), None));
            file = Some(path);
        } else if let Some(file) = &file {
            named.push((file.display().to_string(), Some(quoted.to_owned())));
        }
    }
    named
}

/// Checks that every test exists that the last column of a table names, and says how many there are.
fn assert_tests_exist(document: &str, text: &str) -> usize {
    let mut tests = 0;
    let rows = text.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    for row in rows {
        let Some(guards) = row.trim_end_matches('|').rsplit('|').next() else { continue };
        for (file, name) in named(guards) {
            let source = read(&file);
            let Some(name) = name else { continue };
            tests += 1;
            let is_test = |line: &str| line.trim_start().starts_with(&format!("fn {name}("));
            let is_async = |line: &str| line.trim_start().starts_with(&format!("async fn {name}("));
            assert!(
                source.lines().any(|line| is_test(line) || is_async(line)),
                "{file} has no test {name}, which {document} names: {row}"
            );
        }
    }
    tests
}

#[test]
fn every_test_that_guards_an_invariant_exists() {
    let architecture = read("ARCHITECTURE.md");
    let invariants = architecture.split("## Invariants").nth(1).unwrap().split("\n## ").next().unwrap();
    let tests = assert_tests_exist("ARCHITECTURE.md", invariants);
    assert!(tests > 20, "only {tests} tests were found: is the table read?");
}

#[test]
fn every_test_of_what_goes_wrong_exists() {
    let reliability = read("docs/reliability.md");
    let tests = assert_tests_exist("docs/reliability.md", &reliability);
    assert!(tests > 100, "only {tests} tests were found: are the tables read?");
    for row in reliability.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---")) {
        let columns = row.trim_matches('|').split(" | ").count();
        assert_eq!(columns, 3, "what goes wrong, what is done, which test: {row}");
        let is_heading = ["| what goes wrong", "| guard"].iter().any(|heading| row.starts_with(heading));
        assert!(is_heading || !named(row).is_empty(), "no test: {row}");
    }
}

#[test]
fn every_shortcut_that_is_avoided_has_its_test() {
    let contract = read("docs/contract.md");
    let (_, shortcuts) = contract.split_once("## Shortcuts that would flatter a client").unwrap();
    assert_eq!(assert_tests_exist("docs/contract.md", shortcuts), 12);
}

/// The words that a unit file gives a key, over all its lines.
fn words_of(unit: &str, key: &str) -> Vec<String> {
    let values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

#[test]
fn the_unit_allows_what_the_service_does_in_shared_folders() {
    let unit = read("systemd/formidlingd.service");
    let has = |key: &str, word: &str| words_of(&unit, key).iter().any(|found| found == word);
    assert!(has("SystemCallFilter", "@system-service"), "is the unit read?");
    let mut set_group_id = words_of(&unit, "RestrictSUIDSGID");
    set_group_id.retain(|word| !["no", "false", "off", "0"].contains(&word.as_str()));
    assert_eq!(set_group_id, Vec::<String>::new(), "folders could not be given the set-group-ID bit");
    for key in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        assert!(has(key, "CAP_LEASE"), "{key}: writers of others' files could not be seen");
    }
    // A later line goes before an earlier one.
    let filters: Vec<&str> = unit.lines().filter(|line| line.starts_with("SystemCallFilter=")).collect();
    assert_eq!(filters.last(), Some(&"SystemCallFilter=@chown"), "files could not be given to a group");
    assert!(
        !unit.lines().any(|line| line.starts_with("PrivateUsers=yes")),
        "CAP_LEASE would count for nothing"
    );
}

#[test]
fn a_name_belongs_to_the_file_before_it() {
    let found = named("`a/b.rs`: `one`, `two`; `c.rs`; `d/e.rs`: `three`");
    let pair = |file: &str, name: Option<&str>| (file.to_owned(), name.map(str::to_owned));
    let expected = [
        pair("a/b.rs", None),
        pair("a/b.rs", Some("one")),
        pair("a/b.rs", Some("two")),
        pair("a/c.rs", None),
        pair("d/e.rs", None),
        pair("d/e.rs", Some("three")),
    ];
    assert_eq!(found, expected);
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Mark(char),
}

/// The words, texts and marks of a source, without comments, characters and lifetimes.
fn tokens(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = source.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            '/' if rest.peek() == Some(&'/') => while rest.next().is_some_and(|letter| letter != '\n') {},
            '"' => {
                let mut text = String::new();
                while let Some(letter) = rest.next().filter(|letter| *letter != '"') {
                    text.push(if letter == '\\' { rest.next().unwrap_or(letter) } else { letter });
                }
                tokens.push(Token::Text(text));
            }
            // A character, or a lifetime, which is a word then.
            '\'' => {
                let mut ahead = rest.clone();
                let is_escape = ahead.next() == Some('\\');
                if is_escape {
                    rest.next();
                    rest.next();
                    while rest.next().is_some_and(|letter| letter != '\'') {}
                } else if ahead.next() == Some('\'') {
                    rest.nth(1);
                }
            }
            letter if letter.is_alphanumeric() || letter == '_' => {
                let mut word = letter.to_string();
                while let Some(letter) = rest.next_if(|letter| letter.is_alphanumeric() || *letter == '_') {
                    word.push(letter);
                }
                tokens.push(Token::Word(word));
            }
            letter if letter.is_whitespace() => {}
            letter => tokens.push(Token::Mark(letter)),
        }
    }
    tokens
}

fn is_word(token: Option<&Token>, wanted: &str) -> bool {
    matches!(token, Some(Token::Word(word)) if word == wanted)
}

fn is_mark(token: Option<&Token>, wanted: char) -> bool {
    token == Some(&Token::Mark(wanted))
}

/// Where what opens with the first of these tokens is closed again.
fn closed(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (place, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark('(' | '{' | '[') => depth += 1,
            Token::Mark(')' | '}' | ']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return place;
        }
    }
    tokens.len()
}

/// The arguments of a call, from its opening bracket on.
fn arguments(tokens: &[Token]) -> Vec<&[Token]> {
    let inside = &tokens[1..closed(tokens)];
    let (mut found, mut begin, mut place) = (Vec::new(), 0, 0);
    while place < inside.len() {
        match &inside[place] {
            Token::Mark('(' | '{' | '[') => place += closed(&inside[place..]),
            Token::Mark(',') => {
                found.push(&inside[begin..place]);
                begin = place + 1;
            }
            _ => {}
        }
        place += 1;
    }
    found.push(&inside[begin..]);
    found
}

/// The codes of a source. A code is a text, or a constant that is one, that stands
///
/// - in a field or a variable: `code = "disk_full"`, `code: "disk_full"`;
/// - as the code of trouble: `Trouble::new(kind, "disk_full", …)`, `Self::new(Kind::…, "disk_full", …)`,
///   `refuse("disk_full", …)`, `trouble("disk_full", …)`, `failure("disk_full", …)`;
/// - in a function that gives codes: `fn code(…) -> &'static str`, `fn …_code(…) -> &'static str`.
fn codes(tokens: &[Token], constants: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut take = |token: Option<&Token>| {
        let code = match token {
            Some(Token::Text(text)) => Some(text),
            Some(Token::Word(word)) => constants.get(word),
            _ => None,
        };
        found.extend(code.cloned());
    };
    for (place, token) in tokens.iter().enumerate() {
        let Token::Word(word) = token else { continue };
        let rest = &tokens[place..];
        let next = rest.get(1);
        if word == "code" && (is_mark(next, '=') || is_mark(next, ':')) {
            take(rest.get(2));
        }
        if ["refuse", "trouble", "failure"].contains(&word.as_str()) && is_mark(next, '(') {
            take(rest.get(2));
        }
        let is_new = is_mark(next, ':') && is_mark(rest.get(2), ':') && is_word(rest.get(3), "new");
        if is_new && is_mark(rest.get(4), '(') {
            let arguments = arguments(&rest[4..]);
            let is_kind = arguments.first().is_some_and(|first| is_word(first.first(), "Kind"));
            if word == "Trouble" || (word == "Self" && is_kind) {
                take(arguments.get(1).filter(|code| code.len() == 1).and_then(|code| code.first()));
            }
        }
        if word == "fn"
            && let Some(Token::Word(name)) = next
            && (name == "code" || name.ends_with("_code"))
        {
            let body = rest.iter().position(|token| *token == Token::Mark('{')).unwrap_or(rest.len());
            if rest[..body].ends_with(&[
                Token::Mark('&'),
                Token::Word("static".into()),
                Token::Word("str".into()),
            ]) {
                rest[body..][..closed(&rest[body..])].iter().for_each(|token| {
                    if matches!(token, Token::Text(_)) {
                        take(Some(token));
                    }
                });
            }
        }
    }
    found
}

/// `const NAME: &str = "text";`
fn constants(tokens: &[Token]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (place, token) in tokens.iter().enumerate() {
        if let (Token::Word(word), Some(Token::Word(name))) = (token, tokens.get(place + 1))
            && word == "const"
            && let Some(Token::Text(text)) =
                tokens[place..].iter().take(8).find(|token| matches!(token, Token::Text(_)))
        {
            found.insert(name.clone(), text.clone());
        }
    }
    found
}

/// The sources of what runs: without tests, and without the sandbox, whose codes are Altinn's.
fn sources(folder: &Path, found: &mut Vec<Vec<Token>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" && name != "sandbox" {
            sources(&path, found);
        } else if path.is_file() && !name.ends_with("tests") && name != "testing" {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push(tokens(text.split("#[cfg(test)]\nmod ").next().unwrap()));
        }
    }
}

/// The codes that the tables of a document have in their first column, with the rest of the line.
fn documented(document: &str) -> Vec<(String, String)> {
    let text = read(document);
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
    let codes = rows.flat_map(|(codes, rest)| {
        let codes = format!("`{codes}");
        let codes: Vec<String> = codes.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        codes.into_iter().map(|code| (code, rest.to_owned()))
    });
    codes.collect()
}

#[test]
fn every_error_code_is_documented_and_no_other() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let constants: BTreeMap<_, _> = files.iter().flat_map(|tokens| constants(tokens)).collect();
    let found: BTreeSet<_> = files.iter().flat_map(|tokens| codes(tokens, &constants)).collect();
    let documented: BTreeSet<_> =
        documented("docs/error-codes.md").into_iter().map(|(code, _)| code).collect();
    let undocumented: Vec<_> = found.difference(&documented).collect();
    assert!(undocumented.is_empty(), "docs/error-codes.md does not have {undocumented:?}");
    let gone: Vec<_> = documented.difference(&found).collect();
    assert!(gone.is_empty(), "docs/error-codes.md has {gone:?}, which no source gives");
    assert!(found.len() > 80, "only {} codes were found", found.len());
}

#[test]
fn both_readmes_have_every_code_that_puts_a_file_in_failed() {
    let all = documented("docs/error-codes.md");
    let failing: BTreeSet<_> = all.iter().filter(|(_, rest)| rest.trim().starts_with("failed/")).collect();
    for readme in ["README.md", "README.nb.md"] {
        let text = read(readme);
        let missing: Vec<_> =
            failing.iter().filter(|(code, _)| !text.contains(&format!("`{code}`"))).collect();
        assert!(missing.is_empty(), "{readme} does not have {missing:?}");
    }
}

#[test]
fn codes_are_found_where_they_are_written() {
    let source = r#"
        const FULL: &str = "inbox_full"; // code = "in_a_comment"
        impl Error { pub fn code(&self) -> &'static str { match self { Self::A => "one", B { .. } => { "two" } } } }
        fn trouble_code(kind: Kind<'_>) -> &'static str { "three" }
        fn code(text: &str) -> Option<Code> { text.strip_prefix("bro_") }
        fn all() {
            let quote = ('"', '\'', '\u{22}');
            warn!(code = "four", error = %error, code = error.code(), "words");
            Failure { code: "five".to_owned(), remedy: "nothing" };
            Trouble::new(Kind::Temporary(Some(later(a, b))), "six", format!("{x}", 1), "remedy", at);
            Trouble::new(kind, FULL, message, remedy, now); Trouble::new(kind, code, message, remedy, now);
            Self::new(Kind::Slow, "seven", text); Self::new("eight", text);
            self.refuse("nine", message); x == "ten"; is(code == "eleven"); failure("twelve", message);
        }
    "#;
    let tokens = tokens(source);
    let found = codes(&tokens, &constants(&tokens));
    let expected = ["five", "four", "inbox_full", "nine", "one", "seven", "six", "three", "twelve", "two"];
    assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
}
