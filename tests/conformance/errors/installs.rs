//! What is not installed: components, names, grants and manifests, with the secret in their bytes.

use sha2::Digest;

use super::*;

async fn small_host() -> Host {
    let limits = Limits { fuel_max: 5_000_000, component_bytes_max: 2_000_000, ..roomy() };
    builder().limits(limits).open().await.unwrap()
}

/// T7, A1: each way in which a component is refused.
#[tokio::test(flavor = "multi_thread")]
async fn no_refused_component_is_quoted() {
    let secret = Secret::new("components");
    let hidden = &secret.text;
    let host = small_host().await;
    let install = async |charm: Charm| host.install(charm).await.unwrap_err();
    let refused = async |bytes: Vec<u8>| host.install(Charm::new("bad", bytes)).await.unwrap_err();
    let named = |name: String| Charm::new(name, component("probe"));
    fails!(secret, install(named(ugly(1 << 20))).await, InstallError::Name { .. });
    fails!(secret, install(named("n".repeat(1 << 20))).await, InstallError::Name { .. });
    fails!(secret, refused(secret.much(2_000_001).into_bytes()).await, InstallError::TooLarge { .. });
    // A file of keys in place of a component, a text that is almost one, and a binary that is none.
    let files = [
        hidden.clone(),
        secret.much(1 << 20),
        format!("API_KEY={hidden}\nexport TOKEN=\"{hidden}\"\n"),
        format!("-----BEGIN PRIVATE KEY-----\n{hidden}\n"),
        format!("{{\"token\": \"{hidden}\"}}"),
        format!("(component ${hidden} (oops))"),
        format!("(component (core module (func (call ${hidden}))))"),
        format!("(component (core module (func ${hidden}) (func ${hidden})))"),
        format!("(component (core module (func (export \"{hidden}\")) (func (export \"{hidden}\"))))"),
        format!("(component (core module (func (i32.const {hidden}))))"),
        format!("(component (core module (data \"{hidden}\")"),
        format!("(component \"{hidden}\" {hidden})"),
        format!("(component (; {hidden} ;) (core module \"{hidden}\" \"{hidden}\"))"),
        format!("(module (data \"{hidden}\"))"),
        format!("\0asm{hidden}"),
        format!("\0asm\x0d\0\x01\0\0\x05{hidden}{hidden}"),
        format!("\0asm\x0d\0\x01\0{hidden}{hidden}"),
    ];
    for file in files {
        fails!(secret, refused(file.into_bytes()).await, InstallError::Malformed { .. });
    }
    let data = |changes: &[(&str, &str)]| {
        let planted = format!("(data (i32.const 3000) \"{hidden}\") (func ${hidden} unreachable)");
        by_hand::charm(&[&[("in module", planted.as_str())], changes].concat())
    };
    let long = format!("acme:{}/vault@1.0.0", "secrets-".repeat(500).trim_end_matches('-'));
    let import = format!("(import \"{long}\" (instance))");
    fails!(secret, refused(data(&[("in component", &import)])).await, InstallError::Import { .. });
    let import = "(import \"charm:host/context@0.2.0\" (instance (export \"environment\" (func))))";
    fails!(secret, refused(data(&[("in component", import)])).await, InstallError::World { .. });
    fails!(secret, refused(assembled(&format!("(component (type ${hidden} u8))"))).await, InstallError::World { .. });
    let large = by_hand::charm(&[("(memory (export \"memory\") 1)", "(memory (export \"memory\") 2000)")]);
    fails!(secret, refused(large).await, InstallError::Limit { .. });
    let call = format!("(call ${hidden})");
    let point = "(i32.store (i32.const 16) (i32.const 3000)) (i32.store (i32.const 20) (i32.const 30))";
    let long = "(i32.store (i32.const 16) (i32.const 3000)) (i32.store (i32.const 20) (i32.const 5000))";
    for describe in [call.as_str(), "(loop $again (br $again))", point, long, "(return (i32.const 0x7ffffff0))"] {
        fails!(secret, refused(data(&[("in describe", describe)])).await, InstallError::Describe { .. });
    }
    let shape = |shape: &str| json!({ "shape": shape, "private": hidden });
    for description in [
        json!(hidden),
        json!({ "tags": [hidden] }),
        json!({ "tags": hidden }),
        json!({ "cells": hidden }),
        json!({ "cells": { "c": hidden } }),
        json!({ "cells": { "c": shape("any") } }),
        json!({ "streams": { "c": shape(hidden) } }),
    ] {
        let component = by_hand::described(value(description).as_bytes());
        fails!(secret, refused(component).await, InstallError::Describe { .. });
    }
    let other = by_hand::charm(&[("charm:host/guest@0.2.0", "charm:host/guest@0.1.0")]);
    fails!(secret, refused(other).await, InstallError::Version { .. });
    // One that is installed and fails in its turn says no more.
    for handle in [call.as_str(), "(return (i32.const 3000))", "(return (i32.const 0x7ffffff0))"] {
        let charm = host.install(Charm::new("hand", data(&[("in handle", handle)]))).await.unwrap();
        let receipt = host.request(NewEvent::new(charm, "run", value(json!(hidden)))).await.unwrap();
        assert_eq!(receipt.outcome, Outcome::Faulted, "{receipt:?}");
        secret.receipt(&receipt);
    }
}

/// T7, A5: each way in which a component is not compiled.
#[tokio::test(flavor = "multi_thread")]
async fn no_component_that_is_not_compiled_is_quoted() {
    let secret = Secret::new("compiling");
    let folder = tempfile::tempdir().unwrap();
    let limits = || Limits { compiles_max: 1, ..roomy() };
    let builder = || Host::builder().limits(limits()).code_cache(folder.path().join("code"));
    let planted = format!("(data (i32.const 3000) \"{}\")", secret.text);
    let component = || Charm::new("a", by_hand::charm(&[("in module", planted.as_str())]));
    let host = builder().open().await.unwrap();
    fails!(secret, host.install(component()).await.unwrap_err(), InstallError::NoCompiler { .. });
    fails!(secret, host.install(component().sha256([7; 32])).await.unwrap_err(), InstallError::OtherComponent { .. });
    // One that says back what it was given, and one whose name is longer than an error may be.
    for program in ["/bin/cat".into(), far_program()] {
        let host = builder().compiler(Compiler::Helper(program)).open().await.unwrap();
        fails!(secret, host.install(component()).await.unwrap_err(), InstallError::Compiler { .. });
    }
    let helper = Compiler::Helper(program("crash-host"));
    let host = builder().compiler(helper).open().await.unwrap();
    for bytes in [secret.much(1 << 20), format!("(component ${} (oops))", secret.text), format!("\0asm{}", secret.text)]
    {
        let refused = host.install(Charm::new("a", bytes.into_bytes())).await.unwrap_err();
        fails!(secret, refused, InstallError::Malformed { .. });
    }
    host.install(component()).await.unwrap();
}

fn far_program() -> std::path::PathBuf {
    std::path::Path::new("/nowhere").join("far-away-".repeat(400))
}

/// T7: a component that processes died over, as the list beside the store says.
#[tokio::test(flavor = "multi_thread")]
async fn no_held_component_is_quoted() {
    let secret = Secret::new("held");
    let home = Home::default();
    let planted = format!("(data (i32.const 3000) \"{}\")", secret.text);
    let bytes = by_hand::charm(&[("in module", &planted)]);
    let hash = sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    drop(home.builder().await);
    std::fs::write(home.store().join("suspects"), format!("component {hash} {LONE_RUNS_MAX}\n")).unwrap();
    let host = home.open().await;
    let text = fails!(secret, host.install(Charm::new("bad", bytes)).await.unwrap_err(), InstallError::Deadly { .. });
    assert!(text.contains(&hash), "{text}");
}

/// T7, I1, A3: what an operator allows and pins.
#[tokio::test(flavor = "multi_thread")]
async fn no_refused_grant_or_pin_tells_a_secret() {
    let secret = Secret::new("grants");
    let hidden = &secret.text;
    let host = small_host().await;
    let (a, b) = (probe(&host, "a").await, probe(&host, "b").await);
    let install = async |charm: Charm| host.install(charm).await.unwrap_err();
    fails!(secret, install(probe_charm("a").pinned(b)).await, InstallError::OtherDid { .. });
    fails!(secret, install(probe_charm("c").pinned(a)).await, InstallError::OtherName { .. });
    fails!(secret, install(probe_charm("c").pinned(stranger())).await, InstallError::Key { .. });
    let origins = [
        "https://user:{}@x.test",
        "https://{}@x.test/",
        "https://x.test/?token={}",
        "https://x.test/{}",
        "https://x.test/#{}",
        "https://user:p/{}@x.test",
        "https://x.test/?token=a@{}",
        "https://user:{} {}@x.test",
        "https://x.test:{}",
        "ftp://user:{}@x.test/{}",
        "user:{}@x.test",
        "{}@x.test",
        "token={}",
        "{}",
        "//{}",
        "data:{}",
    ];
    for origin in origins {
        let origin = origin.replace("{}", hidden);
        let grant = HttpGrant { origin, methods: vec!["GET".to_owned()], private: false };
        let text = fails!(secret, install(probe_charm("c").may_call(grant)).await, InstallError::Grant { .. });
        assert!(text.starts_with("charm c: grant: http origin "), "{text}");
    }
    for origin in [ugly(1 << 20), format!("https://{}.test/", "x".repeat(1 << 16))] {
        let grant = HttpGrant { origin, methods: vec![secret.text.clone()], private: false };
        fails!(secret, install(probe_charm("c").may_call(grant)).await, InstallError::Grant { .. });
    }
    let grant = HttpGrant { origin: WIRE.to_owned(), methods: vec![hidden.clone()], private: false };
    fails!(secret, install(probe_charm("c").may_call(grant)).await, InstallError::Grant { .. });
    // No install reads the store today.
    fails!(secret, InstallError::from(StoreError::Full), InstallError::Store(_));
}

/// Loads and installs a manifest that is refused.
async fn refused(text: &str) -> ManifestError {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hello.wasm"), component("probe")).unwrap();
    let file = folder.path().join("charms.toml");
    std::fs::write(&file, text).unwrap();
    let host = builder().limits(roomy()).open().await.unwrap();
    match Manifest::load(&file) {
        Ok(manifest) => manifest.install(&host).await.unwrap_err(),
        Err(error) => error,
    }
}

/// T7: a mistake in a manifest is told by its place and its key; the line was quoted with the secret in it.
#[tokio::test(flavor = "multi_thread")]
async fn no_refused_manifest_is_quoted() {
    let secret = Secret::new("manifests");
    let lines = [
        "password = \"{}\"",
        "http = \"https://user:{}@x.test\"",
        "http = [{ origin = \"https://user:{}@x.test\", methods = 5 }]",
        "http = [{ origin = \"https://user:{}@x.test\", methods = \"{}\" }]",
        "http = [{ origin = [\"{}\"], methods = [] }]",
        "http = [{ origin = \"https://x.test\", methods = [\"GET\"], private = \"{}\" }]",
        "http = [{ origin = \"https://x.test\", methods = [\"GET\"], token = \"{}\" }]",
        "grant = \"{}\"",
        "grant = [{ charm = \"hello\", read = \"{}\" }]",
        "did = { key = \"{}\" }",
        "did = \"{}",
        "did = {}",
        "did = '{}",
        "did = \"\"\"\n{}\n[{}]\n{} = 1",
        "did = \"{}\" \"{}\"",
        "did = \"\\{}\"",
        "did = \"{}\\u0000\u{1}\"",
        "{} {}",
        "= \"{}\"",
        "token = \"{}\" # {}\ntoken = \"{}\"",
        "did = \"{}\"\ndid = \"{}\"",
        "did = 0x{}",
        "did = 1979-05-27T{}",
        "# {}\u{0}",
    ];
    for line in lines {
        let text = format!("[charm.hello]\ncomponent = \"hello.wasm\"\n{}\n", line.replace("{}", &secret.text));
        let said = fails!(secret, refused(&text).await, ManifestError::Malformed { .. } | ManifestError::Install(_));
        assert!(said.contains("line ") || said.contains("charm hello"), "{said}");
    }
    for line in ["did = \"{}\"", "http = [{ origin = \"https://user:{}@x.test\", methods = [\"GET\"] }]"] {
        let text = format!("[charm.hello]\ncomponent = \"hello.wasm\"\n{}\n", line.replace("{}", &secret.text));
        fails!(secret, refused(&text).await, ManifestError::Install(InstallError::Grant { .. }));
    }
    let toml = |text: &str| Json::from(text).to_string();
    let long = [
        format!("{} = 1", toml(&"k".repeat(100_000))),
        format!("[charm.{}]\ncomponent = \"hello.wasm\"", toml(&"n".repeat(100_000))),
        format!("[charm.hello]\ncomponent = {}", toml(&"f".repeat(100_000))),
        format!("[charm.hello]\ncomponent = \"hello.wasm\"\ndid = {}", toml(&"d".repeat(100_000))),
        format!("[charm.hello]\ncomponent = \"hello.wasm\"\ngrant = [{{ charm = {} }}]", toml(&"c".repeat(100_000))),
        format!("[outside.{}]\ngrant = [{{ charm = \"x\" }}]", toml(&"o".repeat(100_000))),
        format!("[outside.{}]\ngrant = []", toml(&"did:".repeat(100_000))),
        format!("#{}", secret.much(17 << 20)),
    ];
    for text in long {
        secret.shown(&refused(&text).await);
    }
    let absent = std::path::Path::new("no-such-folder").join("x".repeat(3_000)).join("charms.toml");
    fails!(secret, Manifest::load(&absent).unwrap_err(), ManifestError::Io { .. });
}
