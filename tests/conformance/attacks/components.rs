//! Components that are bombs before they run: more instances, memories and tables than a turn has, and imports that
//! try to get in by another door (A1, A5).

use super::*;

async fn refused(host: &Host, component: Vec<u8>) -> InstallError {
    let error = host.install(Charm::new("evil", component)).await.unwrap_err();
    assert!(error.to_string().len() <= MESSAGE_BYTES_MAX && format!("{error:?}").len() <= 2 * MESSAGE_BYTES_MAX);
    error
}

/// A part of a component's text, repeated with numbers in place of `#`.
fn times_numbered(count: usize, text: &str) -> String {
    (0..count).map(|number| text.replace('#', &number.to_string())).collect()
}

/// A5: an instance may be only so large, and that is known before it is one.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_of_ten_thousand_instances_memories_or_tables_is_refused() {
    let host = host().await;
    let neighbours = Neighbours::install(&host).await;
    let empty = "(core module $empty)";
    let instances = format!("{empty}{}", times_numbered(10_000, "(core instance $i# (instantiate $empty))"));
    let nine = format!("{empty}{}", times_numbered(9, "(core instance $i# (instantiate $empty))"));
    let nested =
        format!("(component $inner {empty}{})", times_numbered(100, "(core instance $i# (instantiate $empty))"));
    let nested = format!("{nested}{}", times_numbered(100, "(instance $n# (instantiate $inner))"));
    let module = |text: &str| format!("(core module $more {text}) (core instance $more (instantiate $more))");
    let memories = module(&times_numbered(100, "(memory 1)"));
    let modules = times_numbered(7, "(core module $m# (memory 1)) (core instance $i# (instantiate $m#))");
    let tables = module(&times_numbered(1_000, "(table 1 funcref)"));
    let globals = module(&times_numbered(100_000, "(global i64 (i64.const 1))"));
    let cases = [
        ("ten thousand core instances", instances),
        ("one core instance too many", nine),
        ("ten thousand in a hundred components", nested),
        ("a hundred memories", memories),
        ("seven modules with a memory each", modules),
        ("a memory of 4 GiB", module("(memory 65536)")),
        ("a memory of 64 bits", module("(memory i64 0x100000000)")),
        ("a shared memory", module("(memory 1 1 shared)")),
        ("a thousand tables", tables),
        ("a table of four thousand million", module("(table 0xffffffff funcref)")),
        ("a hundred thousand globals", globals),
    ];
    for (what, part) in cases {
        let attack = refused(&host, by_hand::charm(&[("in component", &part)]));
        let (error, _) = neighbours.beside(&host, attack).await;
        let is_typed = matches!(error, InstallError::Limit { .. } | InstallError::Malformed { .. });
        assert!(is_typed, "{what}: {error:?}");
    }
}

/// A1: what is imported is looked at whatever it is, not only interfaces, and wherever it stands.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_by_another_door_is_refused_by_name() {
    let host = host().await;
    let context = format!("charm:host/context{}", raw::version());
    let cases = [
        // Not an interface at all.
        ("(import \"environment\" (func))".to_owned(), "environment"),
        ("(import \"module\" (core module))".to_owned(), "module"),
        ("(import \"unlocked-dep=<acme:files>\" (func))".to_owned(), "acme:files"),
        ("(import \"url=<https://x.test/a.wasm>\" (core module))".to_owned(), "x.test"),
        // The right name, another kind of thing, or more of it than there is.
        (format!("(import \"{context}\" (func))"), "context"),
        (format!("(import \"{context}\" (core module))"), "context"),
        (format!("(import \"{context}\" (instance (export \"sign\" (func (param \"m\" (list u8))))))"), "sign"),
        (format!("(import \"{context}\" (instance (export \"files\" (type (sub resource)))))"), "files"),
        (format!("(import \"{context}\" (instance (export \"deeper\" (instance (export \"f\" (func))))))"), "deeper"),
        // WASI by its other names.
        ("(import \"wasi:cli/environment@0.2.0\" (instance))".to_owned(), "wasi:cli/environment"),
        ("(import \"wasi:cli/exit@0.2.0\" (instance))".to_owned(), "wasi:cli/exit"),
        ("(import \"wasi:sockets/instance-network@0.2.3\" (instance))".to_owned(), "wasi:sockets"),
        ("(import \"wasi:clocks/wall-clock@0.3.0\" (instance))".to_owned(), "wasi:clocks/wall-clock@0.3.0"),
        ("(import \"wasi:clocks/timezone@0.2.0\" (instance))".to_owned(), "wasi:clocks/timezone"),
        ("(import \"wasi:random/random@0.2.0\" (instance (export \"secret\" (func))))".to_owned(), "secret"),
    ];
    for (import, named) in cases {
        let error = refused(&host, by_hand::charm(&[("in component", &import)])).await;
        let is_typed = matches!(error, InstallError::Import { .. } | InstallError::World { .. });
        assert!(is_typed, "{import}: {error:?}");
        assert!(error.to_string().contains(named), "{import}: {error}");
    }
    // The engine has no such thing as a component that is imported.
    refused(&host, by_hand::charm(&[("in component", "(import \"part\" (component))")])).await;
    // Satisfied inside, a strange name is the component's own affair.
    let inside = "(component $inner (import \"environment\" (func)))";
    host.install(Charm::new("good", by_hand::charm(&[("in component", inside)]))).await.unwrap();
}
