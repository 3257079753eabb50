//! Manifests that are refused: with the file, the line, the key and what belongs there (D7, A3).

use super::*;

/// Writes a manifest next to `hello.wasm`, a probe, and loads and installs it.
async fn manifest(text: &str) -> Result<(), ManifestError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hello.wasm"), component("probe")).unwrap();
    std::fs::write(folder.path().join("broken.wasm"), b"not a component").unwrap();
    let file = folder.path().join("charms.toml");
    std::fs::write(&file, text).unwrap();
    let host = small_host().await;
    let manifest = Manifest::load(&file)?;
    let result = manifest.install(&host).await;
    if result.is_err() {
        assert!(host.charms().is_empty(), "none of it is installed");
        serves(&host).await;
    }
    result.map(drop)
}

/// Refuses a manifest and returns the error's text.
async fn refused_manifest(text: &str) -> String {
    let error = manifest(text).await.unwrap_err().to_string();
    assert!(error.len() <= MESSAGE_BYTES_MAX, "{} bytes: {error}", error.len());
    assert!(!error.chars().any(|c| c.is_control() && c != '\n'), "{error:?}");
    error
}

/// D7: with the file, the line and the key.
#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_manifest_is_refused_with_its_line() {
    let good = "[charm.hello]\ncomponent = \"hello.wasm\"\n";
    manifest(good).await.unwrap();
    for (text, line, words) in [
        ("[charm.hello\n", 1, ""),
        ("[charm.hello]\ncomponent = hello.wasm\n", 2, ""),
        ("[charm.hello]\ncomponent = \"hello.wasm\"\nmemory = 5\n", 3, "memory"),
        ("strore = \"x.db\"\n", 1, "strore"),
        ("[charm.hello]\ncomponent = 5\n", 2, "string"),
        ("[charm.hello]\n", 1, "component"),
        ("[charm.hello]\ncomponent = \"hello.wasm\"\ngrant = [{ read = [\"a\"] }]\n", 3, "charm"),
        ("[charm.hello]\ncomponent = \"hello.wasm\"\n[charm.hello]\n", 3, "hello"),
        (
            "[charm.hello]\ncomponent = \"hello.wasm\"\nhttp = [{ origin = \"https://a.example\", verbs = [\"GET\"] }]\n",
            3,
            "verbs",
        ),
    ] {
        let error = refused_manifest(text).await;
        assert!(error.contains("charms.toml"), "{error}");
        assert!(error.contains(&format!("line {line}")), "{text}: {error}");
        assert!(error.contains(words), "{text}: {error}");
    }
    let long = format!("[charm.hello]\ncomponent = \"hello.wasm\"\n{} = 1\n", "k".repeat(50_000));
    assert!(refused_manifest(&long).await.contains("line 3"));
    manifest(&format!("# {}\n{good}", "x".repeat(2 << 20))).await.unwrap();
    let error = refused_manifest(&format!("# {}\n{good}", "x".repeat(MANIFEST_BYTES_MAX))).await;
    assert!(error.contains(&format!("larger than {MANIFEST_BYTES_MAX} bytes")), "{error}");
}

/// D7: the file that is not there, and the component that is none, are named.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_whose_files_are_missing_or_broken_is_refused() {
    let absent = Manifest::load(std::path::Path::new("no-such-folder/charms.toml")).unwrap_err();
    assert!(matches!(absent, ManifestError::Io { .. }) && absent.to_string().contains("no-such-folder/charms.toml"));
    let error = refused_manifest("[charm.hello]\ncomponent = \"absent.wasm\"\n").await;
    assert!(error.contains("absent.wasm"), "{error}");
    // The good one before the broken one is not installed either.
    let text = "[charm.a]\ncomponent = \"hello.wasm\"\n[charm.b]\ncomponent = \"broken.wasm\"\n";
    let error = refused_manifest(text).await;
    assert!(error.contains("charm b: not a valid component"), "{error}");
}

/// A3, D7
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_with_senseless_grants_is_refused() {
    let with = |line: &str| format!("[charm.hello]\ncomponent = \"hello.wasm\"\n{line}\n");
    let twice = "grant = [{ charm = \"hello\", read = [\"a\"] }, { charm = \"hello\", read = [\"b\"] }]";
    for (line, words) in [
        (
            "grant = [{ charm = \"helo\", read = [\"a\"] }]",
            "grant number 1 names helo, neither a charm of this manifest nor a DID; its charms: hello; did you mean hello?",
        ),
        (twice, "hello is named in two grants: merge them"),
        (
            "http = [{ origin = \"https://a.example/path\", methods = [\"GET\"] }]",
            "http origin https://a.example: the text in the grant has a path after its origin, and a grant covers every path: write it as https://a.example",
        ),
        ("http = [{ origin = \"a.example\", methods = [\"GET\"] }]", "http origin number 1: url does not parse"),
        ("http = [{ origin = \"https://a.example\", methods = [\"get\"] }]", "methods are upper-case"),
        ("did = \"did:key:zoom\"", "did:key:zoom"),
        ("did = \"did:key:z6LSeu9HkTHSfLLeUs2nnzUSNedgDUevfNQgQjQC23ZCit6F\"", "not an Ed25519 did:key"),
        ("did = \"did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp\"", "no key for did:key:z6MkiTBz1"),
    ] {
        let error = refused_manifest(&with(line)).await;
        assert!(error.contains("charm hello") && error.contains(words), "{line}: {error}");
    }
    let outside = with("[outside.somebody]\ngrant = [{ charm = \"hello\", send = [\"note\"] }]");
    assert!(refused_manifest(&outside).await.contains("somebody"));
    let long = format!("grant = [{{ charm = \"{}\", read = [\"a\"] }}]", "n".repeat(10_000));
    refused_manifest(&with(&long)).await;
}

/// Every field, and each kind of value that it is not: the error names the key and speaks of TOML, not of our types.
#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_another_type_is_refused_in_words_of_the_manifest() {
    let values = [
        ("a string", "\"sesame\""),
        ("a whole number", "5"),
        ("a number", "1.5"),
        ("true or false", "true"),
        ("a list", "[]"),
        ("a list", "[5]"),
        ("a list", "[[5]]"),
        ("a table", "{ a = 1 }"),
        ("a table", "{}"),
        ("a date", "1979-05-27"),
    ];
    let hello = "[charm.hello]\ncomponent = \"hello.wasm\"\n";
    let did = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp";
    let below = |text: &str| format!("{hello}{text}");
    let fields = [
        ("a string", "store", "store = {}".to_owned()),
        ("a string", "keys", "keys = {}".to_owned()),
        ("a string", "cache", "cache = {}".to_owned()),
        ("a string", "ca", "ca = {}".to_owned()),
        ("a table", "limits", "limits = {}".to_owned()),
        ("a whole number", "fuel-max", "[limits]\nfuel-max = {}".to_owned()),
        ("a whole number", "history-bytes", below("history-bytes = {}")),
        ("a whole number", "receipts-days", below("receipts-days = {}")),
        ("a table", "wishes", below("wishes = {}")),
        ("a table", "charm", "charm = {}".to_owned()),
        ("a table", "hello", "[charm]\nhello = {}".to_owned()),
        ("a string", "component", "[charm.hello]\ncomponent = {}".to_owned()),
        ("a string", "did", below("did = {}")),
        ("a string", "sha256", below("sha256 = {}")),
        ("a list", "grant", below("grant = {}")),
        ("a table", "grant", below("grant = [{}]")),
        ("a string", "charm", below("grant = [{ charm = {} }]")),
        ("a list", "read", below("grant = [{ charm = \"hello\", read = {} }]")),
        ("a string", "read", below("grant = [{ charm = \"hello\", read = [{}] }]")),
        ("a list", "send", below("grant = [{ charm = \"hello\", send = {} }]")),
        ("a string", "send", below("grant = [{ charm = \"hello\", send = [{}] }]")),
        ("a list", "http", below("http = {}")),
        ("a table", "http", below("http = [{}]")),
        ("a string", "origin", below("http = [{ origin = {}, methods = [\"GET\"] }]")),
        ("a list", "methods", below("http = [{ origin = \"https://a.example\", methods = {} }]")),
        ("a string", "methods", below("http = [{ origin = \"https://a.example\", methods = [{}] }]")),
        (
            "true or false",
            "private",
            below("http = [{ origin = \"https://a.example\", methods = [\"GET\"], private = {} }]"),
        ),
        ("a table", "outside", "outside = {}".to_owned()),
        ("a table", did, format!("[outside]\n\"{did}\" = {{}}")),
        ("a list", "grant", format!("[outside.\"{did}\"]\ngrant = {{}}")),
        ("a string", "charm", format!("[outside.\"{did}\"]\ngrant = [{{ charm = {{}} }}]")),
    ];
    let ours = ["Spec", "struct", "sequence", "map", "field", "unit", "invalid", "element", "serde", "::", "sesame"];
    let mut met = 0;
    for (wanted, key, text) in &fields {
        for (kind, value) in values.iter().filter(|(kind, _)| kind != wanted) {
            let text = text.replacen("{}", value, 1);
            let error = refused_manifest(&text).await;
            let line = text.lines().count();
            assert!(error.contains(&format!("line {line}, ")), "{text}\n{error}");
            assert!(error.contains(&format!("{key}: ")) || error.contains(&format!("{key}\": ")), "{text}\n{error}");
            let (_, said) = error.split_once("charms.toml").unwrap();
            assert!(said.contains(wanted) && said.ends_with(&format!("not {kind}")), "{text}\n{error}");
            none_of(said, &ours);
            met += 1;
        }
    }
    assert!(met > 150, "{met}");
    for (text, words) in [
        ("[charm.hello]", "the key component is missing"),
        ("[charm.hello]\ncomponnent = \"x\"", "unknown key componnent; keys here: component, did, "),
        ("[charm.hello]\ncomponnent = \"x\"", "did you mean component?"),
        (
            "[charms.hello]\ncomponent = \"x\"",
            "unknown key charms; keys here: store, keys, cache, ca, limits, charm, outside; did you mean charm?",
        ),
    ] {
        let error = refused_manifest(text).await;
        assert!(error.contains(words), "{error}");
        none_of(error.split_once("charms.toml").unwrap().1, &ours);
    }
}

#[track_caller]
fn none_of(text: &str, words: &[&str]) {
    for word in words {
        assert!(!text.contains(word), "{word}: {text}");
    }
}

/// A3: what is more than an origin is named, whatever it is.
#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_is_more_or_less_than_one_is_refused_with_what_is_wrong() {
    for (origin, words) in [
        ("http://127.0.0.1:8731/v1", "has a path after its origin"),
        ("https://a.example/v1/", "has a path after its origin"),
        ("https://a.example\\\\v1", "has a path after its origin"),
        ("https://a.example?key=1", "has a query after its origin"),
        ("https://a.example/?key=1", "has a query after its origin"),
        ("https://a.example#top", "has a fragment after its origin"),
        ("https://a.example/#top", "has a fragment after its origin"),
        ("https://a.example/", "ends with a slash"),
        ("https://a.example:443", "names the port that its scheme has anyway"),
        ("http://a.example:80", "names the port that its scheme has anyway"),
        ("HTTPS://A.example", "has upper-case letters"),
        (" https://a.example ", "has spaces around its origin"),
        ("https://bücher.example", "is another spelling of its origin"),
        ("https://user@a.example", "url holds a user name: an origin is https://HOST"),
        ("ftp://a.example", "url is not http or https: an origin is https://HOST"),
        ("a.example", "url does not parse: an origin is https://HOST or https://HOST:PORT"),
    ] {
        let line = format!("http = [{{ origin = \"{origin}\", methods = [\"GET\"] }}]");
        let error = refused_manifest(&format!("[charm.hello]\ncomponent = \"hello.wasm\"\n{line}\n")).await;
        assert!(error.contains("charm hello") && error.contains(words), "{origin}: {error}");
    }
}

/// A2: a name that nobody declares is refused with the one that was meant, and `check` tells all of them at once, and what
/// looks wrong, without installing anything.
#[tokio::test(flavor = "multi_thread")]
async fn check_tells_all_that_an_install_refuses_and_what_looks_wrong() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hello.wasm"), component("probe")).unwrap();
    std::fs::write(folder.path().join("broken.wasm"), b"not a component").unwrap();
    let file = folder.path().join("charms.toml");
    let check = async |text: &str| {
        std::fs::write(&file, text).unwrap();
        let host = small_host().await;
        let manifest = Manifest::load(&file).unwrap();
        let found = manifest.check(&host, &[]).await;
        assert!(host.charms().is_empty() && host.did_of("a").is_none(), "nothing is installed");
        // Whatever an install refuses is among them.
        let refused: Vec<&str> = found.iter().filter(|one| one.is_refused).map(|one| one.text.as_str()).collect();
        match manifest.install(&host).await {
            Ok(_) => assert_eq!(refused, Vec::<&str>::new()),
            Err(error) => assert!(!refused.is_empty(), "{error}"),
        }
        found.into_iter().map(|one| (one.is_refused, one.text)).collect::<Vec<_>>()
    };
    let charm = |name: &str, rest: &str| format!("[charm.{name}]\ncomponent = \"hello.wasm\"\n{rest}\n");
    let http = "http = [{ origin = \"https://a.example\", methods = [\"GET\"] }]";
    let well = charm("a", &format!("{http}\ngrant = [{{ charm = \"b\", send = [\"run\"] }}]")) + &charm("b", http);
    let found = check(&well).await;
    assert!(found.iter().all(|(refused, text)| !refused && text.starts_with("charm b: wishes")), "{found:?}");
    let grants = "grant = [{ charm = \"b\", read = [\"nott\"], send = [\"rnu\", \"note\"] }, { charm = \"bb\", send = [\"run\"] }, \
                  { charm = \"a\", send = [\"run\"] }, { charm = \"did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp\", send = [\"x\"] }]";
    let text = charm("a", grants)
        + &charm("b", "http = [{ origin = \"https://a.example/x\", methods = [\"GET\"] }]")
        + "[charm.c]\ncomponent = \"broken.wasm\"\n[charm.d]\ncomponent = \"absent.wasm\"\n[outside.somebody]\n";
    let found = check(&text).await;
    let has = |refused: bool, words: &str| {
        assert!(found.iter().any(|(is, text)| *is == refused && text.contains(words)), "{words}: {found:#?}");
    };
    has(true, "charm b: grant: http origin https://a.example: the text in the grant has a path");
    has(true, "charm c: not a valid component");
    has(true, "absent.wasm: No such file");
    has(true, "charm a: grant: grant number 2 names bb, neither a charm");
    has(true, "did you mean b?");
    has(true, "charm somebody: grant: did (not shown)");
    has(false, "charm a: asks for HTTP and may call nobody");
    has(false, "charm a: grant: a charm may do everything with its own");
    has(false, "is no charm of this store: it cannot be checked");
    has(false, "outside somebody: is granted nothing");
    let found = check(&(charm("a", &format!("{http}\n{grants}")) + &charm("b", http))).await;
    let has = |refused: bool, words: &str| {
        assert!(found.iter().any(|(is, text)| *is == refused && text.contains(words)), "{words}: {found:#?}");
    };
    has(true, "cell nott of b is not declared; what can be granted: ");
    has(true, "stream rnu of b is not declared; what can be granted: note, run");
    has(true, "did you mean run?");
}
