//! Every key, every default, every way to be wrong.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::schema::{Absent, SECTIONS, Shape};
use super::*;

const SECRET: &str = "s3cr3t";

fn root(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

fn environment(variables: &[(&str, &str)]) -> tree::Environment {
    variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

/// The environment that the files below `tests/config` are written for.
fn usual() -> tree::Environment {
    let secrets = ["KEY", "CHAIN"].map(|name| (name, SECRET));
    let mut usual = environment(&secrets);
    usual.extend(environment(&[("PROXY", "user:s3cr3t"), ("EMPTY", " ")]));
    usual
}

fn cases(directory: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root(directory)).unwrap();
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

/// What is wrong, with file names instead of whole paths.
fn shown(outcome: Result<Loaded, Problems>, directory: &Path) -> String {
    let text = match outcome {
        Ok(loaded) => format!("{:#?}", loaded.warnings),
        Err(problems) => problems.to_string(),
    };
    text.replace(&format!("{}/", directory.display()), "")
}

/// A folder with a main file that is good, but for what is added.
struct Folder(tempfile::TempDir);

impl Folder {
    const ALTINN: &str = "[altinn]\nenvironment = \"tt02\"\n";
    const REST: &str = "[client.default]\nclient_id = \"c\"\nkey_id = \"k\"\nprivate_key = { env = \"KEY\" }\n\
        [identity.default]\norganization = \"0192:991825827\"\n\
        [outbox.invoices]\npath = \"/srv/out\"\nidentity = \"default\"\nresource_id = \"r\"\n\
        recipients = [\"0192:910753614\"]\nkeep_sent = \"forever\"\n";

    fn new(more: &str) -> Self {
        Self::with(format!("{}{}{more}", Self::ALTINN, Self::REST).as_bytes())
    }

    fn with(main: &[u8]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::write(folder.main(), main).unwrap();
        folder
    }

    fn main(&self) -> PathBuf {
        self.0.path().join("config.toml")
    }

    fn add(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn load(&self, more: &[(&str, &str)]) -> Result<Loaded, Problems> {
        let mut all = usual();
        all.extend(environment(more));
        load_with(&self.main(), &all)
    }

    fn good(&self, more: &[(&str, &str)]) -> Config {
        self.load(more).unwrap().config
    }

    fn bad(&self, more: &[(&str, &str)]) -> String {
        shown(Err(self.load(more).unwrap_err()), self.0.path())
    }
}

fn invoices(config: &Config) -> &Outbox {
    &config.outboxes[&"invoices".parse().unwrap()]
}

/// `FORMIDLINGD_TEST_WRITE=1` writes the expectations, to be read before they are committed.
#[test]
fn each_wrong_file_gets_the_words_beside_it() {
    for path in cases("tests/config/invalid") {
        let outcome = load_with(&path, &usual());
        assert!(outcome.is_err(), "{} is taken", path.display());
        let text = format!("{}\n", shown(outcome, path.parent().unwrap()));
        let beside = path.with_extension("expected");
        if std::env::var_os("FORMIDLINGD_TEST_WRITE").is_some() {
            fs::write(&beside, &text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(&beside).unwrap_or_default(), "{}", path.display());
        assert!(!text.contains(SECRET), "{} shows a secret", path.display());
    }
}

#[test]
fn each_good_file_is_taken_and_shows_no_secret() {
    for path in cases("tests/config/valid") {
        let loaded = load_with(&path, &usual());
        let loaded = loaded.unwrap_or_else(|problems| panic!("{}: {problems}", path.display()));
        assert_eq!(loaded.warnings, [], "{}", path.display());
        assert!(!format!("{:?}", loaded.config).contains(SECRET), "{}", path.display());
    }
}

/// The example with the commented keys that `wanted` picks.
fn example(wanted: impl Fn(&str, &schema::Key) -> bool) -> (String, BTreeSet<(String, String)>) {
    let mut text = String::new();
    let mut seen = BTreeSet::new();
    let mut section = String::new();
    for line in fs::read_to_string(root("config.example.toml")).unwrap().lines() {
        if let Some(table) = line.strip_prefix('[') {
            section = table.split(['.', ']']).next().unwrap().to_owned();
        }
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let name = bare.split_once(" = ").map(|(name, _)| name).filter(|name| !name.contains(' '));
        let key = name.map(|name| {
            let key = schema::section(&section).and_then(|section| section.key(name));
            seen.insert((section.clone(), name.to_owned()));
            key.unwrap_or_else(|| panic!("the example has {section}.{name}, which is unknown"))
        });
        let uncommented = key.is_some_and(|key| wanted(&section, key));
        text.push_str(if uncommented { bare } else { line });
        text.push('\n');
    }
    (text, seen)
}

fn load_example(text: &str) -> Result<Loaded, Problems> {
    let folder = Folder::with(text.as_bytes());
    folder.add("maskinporten.pem", SECRET);
    folder.load(&[("CREDENTIALS_DIRECTORY", folder.0.path().to_str().unwrap())])
}

#[test]
fn the_example_has_every_key_and_no_other() {
    let (text, seen) = example(|_, _| false);
    assert_eq!(load_example(&text).unwrap().warnings, []);
    let known: BTreeSet<(String, String)> = SECTIONS
        .iter()
        .flat_map(|section| section.keys.iter().map(|key| (section.name.to_owned(), key.name.to_owned())))
        .collect();
    assert_eq!(seen, known);
}

#[test]
fn the_example_states_the_defaults_that_hold() {
    let plain = load_example(&example(|_, _| false).0).unwrap().config;
    let implied = ["platform_url", "maskinporten_token_url", "maskinporten_audience"];
    for section in SECTIONS {
        for key in section.keys {
            if matches!(key.absent, Absent::Means(_)) || implied.contains(&key.name) {
                let (text, _) = example(|name, other| name == section.name && other.name == key.name);
                let stated = load_example(&text).unwrap().config;
                assert_eq!(stated, plain, "{}.{}", section.name, key.name);
            }
        }
    }
}

#[test]
fn the_examples_of_optional_keys_can_be_read() {
    for section in SECTIONS {
        for key in section.keys.iter().filter(|key| key.absent == Absent::Nothing) {
            let (text, _) = example(|name, other| name == section.name && other.name == key.name);
            let alternative = ["certificate_chain", "recipients_from", "proxy_credentials"];
            match load_example(&text) {
                Ok(_) => {}
                Err(problems) => {
                    let text = problems.to_string();
                    let fits = alternative.contains(&key.name) || text.contains("No such file");
                    assert!(fits && !text.contains("unknown") && !text.contains("should be"), "{text}");
                }
            }
        }
    }
}

#[test]
fn every_default_can_be_read() {
    let config =
        Folder::new("[inbox.reports]\npath = \"/srv/in\"\nidentity = \"default\"\nresource_id = \"r\"\n")
            .good(&[]);
    let second = std::time::Duration::from_secs(1);
    let outbox = invoices(&config);
    assert_eq!(
        (outbox.settle, outbox.settle_empty, outbox.settle_unverified),
        (second * 2, second * 30, second * 30)
    );
    assert_eq!(outbox.sidecar_may.len(), 4);
    assert!(outbox.include.matches("x".as_ref()) && !outbox.exclude.matches("x".as_ref()));
    let inbox = &config.inboxes[&"reports".parse().unwrap()];
    assert_eq!((inbox.file_mode, inbox.min_free_space), (0o640, MinFreeSpace::Usual));
    assert_eq!(inbox.min_free_space.bytes(1 << 40), 1 << 30);
    assert_eq!(inbox.min_free_space.bytes(1000), 50);
    assert_eq!(config.state.path, Path::new("/var/lib/formidlingd"));
    assert_eq!(config.altinn.maskinporten_audience, "https://test.maskinporten.no/");
}

#[test]
fn the_environment_overrides_keys_and_makes_no_table() {
    let folder = Folder::new("");
    let config = folder.good(&[
        ("FORMIDLINGD__ALTINN__ENVIRONMENT", "production"),
        ("FORMIDLINGD__OUTBOX__INVOICES__PATH", "/srv/other/"),
        ("FORMIDLINGD__OUTBOX__INVOICES__ALLOWED_RECIPIENTS", "0192:910753614, 991825827"),
        ("FORMIDLINGD__OUTBOX__INVOICES__MAX_CONCURRENT", "7"),
        ("FORMIDLINGD__OUTBOX__INVOICES__DISABLE_VIRUS_SCAN", "true"),
        ("FORMIDLINGD__LIMITS__UPLOADS", "3"),
        ("FORMIDLINGD_CONFIG", "/etc/other.toml"),
    ]);
    assert_eq!(config.altinn.platform_url.as_str(), "https://platform.altinn.no/");
    let outbox = invoices(&config);
    assert_eq!((outbox.path.as_path(), outbox.max_concurrent), (Path::new("/srv/other"), 7));
    assert_eq!((outbox.allowed_recipients.len(), outbox.disable_virus_scan), (2, true));
    assert_eq!(config.limits.uploads, 3);
    for (variable, value, expected) in [
        ("FORMIDLINGD__OUTBOX__OTHER__PATH", "/x", "no file has a table [outbox.other]"),
        (
            "FORMIDLINGD__OUTBOX__INVOICES__PATHS",
            "/x",
            "outbox.invoices.paths: it is unknown; did you mean path?",
        ),
        ("FORMIDLINGD__OUTBOX__INVOICES__PATH__X", "/x", "there can be nothing below path"),
        ("FORMIDLINGD__OUTBOX__INVOICES", "/x", "outbox.invoices: it is a text, and should be a table"),
        (
            "FORMIDLINGD__LIMITS__UPLOADS",
            "many",
            "limits.uploads: it is a text, and should be a whole number",
        ),
        ("FORMIDLINGD__LIMIT__UPLOADS", "1", "limit: it is unknown; did you mean limits?"),
        ("FORMIDLINGD__", "1", "\"\": it is unknown"),
        ("FORMIDLINGD__OUTBOX__INVOICES__PROPERTIES__CASE", "1", "a variable cannot name a property"),
    ] {
        let problems = folder.bad(&[(variable, value)]);
        assert!(problems.contains(expected), "{variable}: {problems}");
        assert!(problems.starts_with(&format!("environment variable {variable}: ")), "{problems}");
        assert_eq!(problems.lines().count(), 1, "{problems}");
    }
}

#[test]
fn a_variable_that_is_not_text_is_not_passed_over() {
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new("");
    let latin1 = std::ffi::OsStr::from_bytes(b"/srv/\xf8");
    for (variable, file) in [("FORMIDLINGD__STATE__PATH", "environment variable"), ("KEY", "config.toml")] {
        let mut all = usual();
        all.insert(variable.into(), latin1.into());
        let problems = shown(load_with(&folder.main(), &all), folder.0.path());
        assert!(problems.starts_with(file) && problems.contains("is not UTF-8"), "{problems}");
    }
}

#[test]
fn a_variable_beside_a_secret_of_the_file_is_told_of() {
    let problems = Folder::new("").bad(&[("FORMIDLINGD__CLIENT__DEFAULT__PRIVATE_KEY__FILE", "/etc/key")]);
    assert!(
        problems.contains(
            "file (environment variable FORMIDLINGD__CLIENT__DEFAULT__PRIVATE_KEY__FILE), env (config.toml)"
        ),
        "{problems}"
    );
    let problems = Folder::new("").bad(&[("FORMIDLINGD__CLIENT__DEFAULT__PRIVATE_KEY", SECRET)]);
    assert!(problems.contains("never written") && !problems.contains(SECRET), "{problems}");
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    let folder = Folder::new("");
    let key = folder.add("key.pem", "s3cr3t\n");
    let main = format!("{}{}", Folder::ALTINN, Folder::REST)
        .replace("{ env = \"KEY\" }", &format!("{{ file = {key:?} }}"));
    folder.add("config.toml", &main);
    let mode = |mode| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    for open in [0o604, 0o644, 0o602, 0o601] {
        mode(open);
        let problems = folder.bad(&[]);
        assert!(problems.contains("run: chmod o= \"key.pem\""), "{problems}");
        assert!(problems.contains(&format!("its mode {open:04o} lets everybody")), "{problems}");
        assert_eq!(problems.lines().count(), 1, "{problems}");
    }
    mode(0o640);
    let loaded = folder.load(&[]).unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].key, "client.default.private_key.file");
    mode(0o600);
    let loaded = folder.load(&[]).unwrap();
    assert_eq!(loaded.warnings, []);
    let client = &loaded.config.clients[&"default".parse().unwrap()];
    assert_eq!(client.credential.private_key.expose(), SECRET);
    assert!(!format!("{loaded:?}").contains(SECRET));
}

#[test]
fn a_key_file_behind_a_link_has_the_mode_of_the_file() {
    let folder = Folder::new("");
    let key = folder.add("..data/key.pem", SECRET);
    let link = folder.0.path().join("key.pem");
    std::os::unix::fs::symlink("..data/key.pem", &link).unwrap();
    let main = format!("{}{}", Folder::ALTINN, Folder::REST)
        .replace("{ env = \"KEY\" }", &format!("{{ file = {link:?} }}"));
    folder.add("config.toml", &main);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let problems = folder.bad(&[]);
    assert!(problems.contains("its mode 0644") && problems.contains("defaultMode: 0440"), "{problems}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(folder.load(&[]).unwrap().warnings, []);
}

#[test]
fn a_file_in_the_credentials_directory_is_read_whatever_its_mode() {
    let folder = Folder::new("");
    let key = folder.add("credentials/key.pem", SECRET);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let main = format!("{}{}", Folder::ALTINN, Folder::REST)
        .replace("{ env = \"KEY\" }", &format!("{{ file = {key:?} }}"));
    folder.add("config.toml", &main);
    let directory = |name: &str| folder.0.path().join(name).to_str().unwrap().to_owned();
    let loaded = folder.load(&[("CREDENTIALS_DIRECTORY", &directory("credentials"))]).unwrap();
    assert_eq!(loaded.warnings, []);
    for other in [directory("cred"), String::new()] {
        let problems = folder.bad(&[("CREDENTIALS_DIRECTORY", &other)]);
        assert!(problems.contains("its mode 0644"), "{problems}");
    }
}

#[test]
fn problems_play_no_tricks_on_a_terminal() {
    let problem = Problem {
        file: Origin::File("/etc/\u{1b}[2J.toml".into()),
        key: "outbox.x\u{202e}".to_owned(),
        reason: "/srv/\n0: forged cannot be opened".to_owned(),
        remedy: "make /srv/\u{9b}2J".to_owned(),
    };
    let text = problem.to_string();
    assert!(!text.chars().any(|c| c.is_control() || crate::transfer::is_invisible(c)), "{text:?}");
}

#[test]
fn a_credential_is_read_whatever_its_mode() {
    let folder = Folder::new("");
    let key = folder.add("credentials/key.pem", SECRET);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    folder.add(
        "config.toml",
        &format!("{}{}", Folder::ALTINN, Folder::REST).replace("env = \"KEY\"", "credential = \"key.pem\""),
    );
    let directory = key.parent().unwrap().to_str().unwrap();
    let loaded = folder.load(&[("CREDENTIALS_DIRECTORY", directory)]).unwrap();
    assert_eq!(loaded.warnings, []);
    assert!(folder.bad(&[]).contains("only readable in the unit"));
}

#[test]
fn further_files_are_read_in_order_and_no_key_stands_in_two() {
    let folder = Folder::new("");
    folder.add("conf.d/20-b.toml", "[identity.b]\norganization = \"0192:910753614\"\n");
    folder.add("conf.d/.hidden.toml", "nonsense");
    folder.add("conf.d/notes.txt", "nonsense");
    assert_eq!(folder.good(&[]).identities.len(), 2);
    folder.add("conf.d/10-a.toml", "[identity.b]\norganization = \"0192:991825827\"\nclent = \"x\"\n");
    assert_eq!(
        folder.bad(&[]),
        "conf.d/20-b.toml: identity.b.organization: conf.d/10-a.toml sets it too; keep it in one of the two files\n\
         conf.d/10-a.toml: identity.b.clent: it is unknown; did you mean client?"
    );
    folder.add("conf.d/30-c.toml", "[identity");
    assert!(
        folder.bad(&[]).contains("conf.d/30-c.toml: not TOML at line 1, column 10"),
        "{}",
        folder.bad(&[])
    );
}

#[test]
fn what_is_probably_not_meant_gets_a_warning() {
    let warnings = |folder: &Folder| {
        let warnings = folder.load(&[]).unwrap().warnings;
        warnings.iter().map(|warning| warning.key.clone()).collect::<Vec<_>>()
    };
    assert_eq!(warnings(&Folder::new("")), Vec::<String>::new());
    assert_eq!(warnings(&Folder::new("sidecar = \"optional\"")), ["outbox.invoices.sidecar"]);
    assert_eq!(warnings(&Folder::new("sidecar_may = [\"fileName\"]")), Vec::<String>::new());
    let text = format!("{}{}", Folder::ALTINN.replace("tt02", "production"), Folder::REST);
    let text = text.replace("0192:991825827", "0192:310332712");
    assert_eq!(warnings(&Folder::with(text.as_bytes())), ["identity.default.organization"]);
}

#[test]
fn how_long_is_kept_is_asked_for_once_and_only_where_somebody_has_to_choose() {
    for (said, asked) in [
        ("", Some("keep_sent")),
        ("keep_receipts = \"3650d\"", Some("keep_sent")),
        ("keep_sent = \"forever\"", None),
        ("keep_sent = \"1825d\"", Some("keep_receipts")),
        ("keep_sent = \"1825d\"\nkeep_receipts = \"forever\"", None),
        ("after_send = \"delete\"", Some("keep_receipts")),
        ("after_send = \"delete\"\nkeep_receipts = \"1825d\"", None),
    ] {
        let text = format!("{}{}", Folder::ALTINN, Folder::REST).replace("keep_sent = \"forever\"", said);
        let warnings = Folder::with(text.as_bytes()).load(&[]).unwrap().warnings;
        let keys: Vec<&str> = warnings.iter().map(|warning| warning.key.as_str()).collect();
        let asked: Vec<String> = asked.iter().map(|key| format!("outbox.invoices.{key}")).collect();
        assert_eq!(keys, asked, "{said}");
    }
}

#[test]
fn for_ever_is_a_choice_of_its_own() {
    let config = Folder::new("keep_receipts = \"7d\"\n[state]\nkeep_history = \"forever\"\n").good(&[]);
    let outbox = invoices(&config);
    let week = std::time::Duration::from_hours(7 * 24);
    assert_eq!((outbox.keep_sent, outbox.keep_receipts), (Keep::Forever, Keep::For(week)));
    assert_eq!((outbox.keep_sent.limit(), outbox.keep_receipts.limit()), (None, Some(week)));
    assert_eq!(config.state.keep_history, Keep::Forever);
}

#[test]
fn a_missing_file_says_so() {
    let folder = Folder::new("");
    fs::remove_file(folder.main()).unwrap();
    assert!(folder.bad(&[]).starts_with("config.toml: it cannot be read: No such file"));
    assert_eq!(load(&folder.main()).unwrap_err().iter().count(), 1);
}

#[test]
fn secrets_have_a_shape_of_their_own() {
    for section in SECTIONS {
        for key in section.keys {
            let named_so = ["key", "chain", "credentials"].iter().any(|word| key.name.ends_with(word));
            assert_eq!(key.shape == Shape::Secret, named_so, "{}", key.name);
        }
    }
}

/// Lines of all files below `tests/config`, to be shuffled.
fn lines() -> Vec<String> {
    let files = cases("tests/config/invalid").into_iter().chain(cases("tests/config/valid"));
    let texts = files.filter_map(|path| fs::read_to_string(path).ok());
    let mut lines: Vec<String> =
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines.sort();
    lines.dedup();
    lines
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(main in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _outcome = Folder::with(&main).load(&[]);
    }

    #[test]
    fn any_text_is_read_without_a_panic(main in "[\\[\\]{}=\"'.,#a-z0-9_ \n-]{0,200}", variable in "[A-Z_]{0,20}") {
        let _outcome = Folder::with(main.as_bytes()).load(&[(&format!("FORMIDLINGD__{variable}"), "1")]);
    }

    #[test]
    fn shuffled_lines_give_problems_or_a_configuration_and_no_secret(
        picked in proptest::sample::subsequence(lines(), 0..40).prop_shuffle(),
        good in any::<bool>(),
    ) {
        let folder = if good { Folder::new(&picked.join("\n")) } else { Folder::with(picked.join("\n").as_bytes()) };
        let outcome = folder.load(&[]);
        let shown = match &outcome {
            Ok(loaded) => format!("{loaded:?}"),
            Err(problems) => format!("{problems} {problems:?}"),
        };
        prop_assert!(!shown.contains(SECRET), "{}", shown);
        prop_assert!(!shown.contains("without a reason"), "{}", shown);
    }
}

proptest! {
    // Each case tries every key.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_value_of_any_key_is_read_without_a_panic(
        value in prop_oneof![
            Just("1".to_owned()), Just("-9223372036854775808".to_owned()), Just("nan".to_owned()),
            Just("[[]]".to_owned()), Just("{ a = { b = [1] } }".to_owned()), Just("1979-05-27".to_owned()),
            "[ -~]{0,30}".prop_map(|text| format!("{text:?}")), any::<String>().prop_map(|text| format!("{text:?}")),
        ],
    ) {
        for section in SECTIONS {
            for key in section.keys {
                let name = if section.named { format!("{}.extra", section.name) } else { section.name.to_owned() };
                let text = format!("{}\n[{name}]\n{} = {value}\n", Folder::REST, key.name);
                let _outcome = Folder::with(text.as_bytes()).load(&[]);
            }
        }
    }
}
