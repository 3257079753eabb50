//! Components made to be compiled for ever, and whoever would like to choose the code that the host runs: compiling
//! happens in a process that ends, and what is compiled is the owner's alone (A5).

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path as File, PathBuf},
};

use tempfile::TempDir;

use super::*;

/// A program whose `main` begins with `compile_helper`.
fn helper() -> Compiler {
    Compiler::Helper(program("crash-host"))
}

fn code(folder: &TempDir) -> PathBuf {
    folder.path().join("code")
}

/// Opens a host on the code cache in a folder.
async fn open(folder: &TempDir, compiler: Option<Compiler>, limits: Limits) -> Host {
    let builder = Host::builder().code_cache(code(folder)).limits(Limits { turns_max: 4, ..limits });
    let builder = if let Some(compiler) = compiler { builder.compiler(compiler) } else { builder };
    builder.open().await.unwrap()
}

async fn refused(host: &Host, bytes: Vec<u8>) -> InstallError {
    host.install(Charm::new("evil", bytes)).await.unwrap_err()
}

/// The files and folders in which someone compiles now.
fn compiling(folder: &TempDir) -> usize {
    let entries = fs::read_dir(code(folder)).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("compiling-")).count()
}

/// The entries of the cache.
fn entries(folder: &File) -> Vec<PathBuf> {
    let Ok(versions) = fs::read_dir(folder.join("modules")) else { return Vec::new() };
    let files = versions.flat_map(|version| fs::read_dir(version.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).filter(|file| file.extension().is_none()).collect()
}

/// A function of jumps, each to everywhere: what a compiler knows of it grows with the square of its size.
fn storm(jumps: usize, blocks: usize) -> Vec<u8> {
    let set =
        |local: usize| format!("(local.set {local} (i64.add (local.get {local}) (local.get {})))", local % 16 + 1);
    let sets: String = (1..17).map(set).collect();
    let targets: String = (0..=blocks).map(|target| format!("{target} ")).collect();
    let jump = format!("{sets} (block (br_table {targets} (local.get 0)))").repeat(jumps);
    let (locals, open, close) = ("i64 ".repeat(16), "(block ".repeat(blocks), format!("{sets})").repeat(blocks));
    by_hand::charm(&[("in module", &format!("(func (param i32) (local {locals}) {open} {jump} {close})"))])
}

/// A long function: a compiler holds all of it.
fn long() -> Vec<u8> {
    let steps = "(i32.mul (local.get 0)) ".repeat(200_000);
    by_hand::charm(&[("in module", &format!("(func (param i32) (result i32) (local.get 0) {steps})"))])
}

/// A5: each kind of bomb ends within its bounds, and meanwhile others are compiled and served.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_made_to_be_compiled_for_ever_is_refused_while_others_are_installed_and_served() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { compile_memory_bytes_max: 320 << 20, compile_ms_max: 60_000, ..Limits::default() };
    let host = open(&folder, Some(helper()), limits).await;
    let neighbour = probe(&host, "neighbour").await;
    let in_module = |text: String| by_hand::charm(&[("in module", &text)]);
    let deep = format!("(func {} {})", "(block ".repeat(20_000), ")".repeat(20_000));
    let bombs = [
        ("a storm of jumps", storm(100, 300), false),
        ("a deep function", in_module(deep), false),
        ("a long function", long(), true),
        ("32,000 segments", in_module("(data (i32.const 3000) \"x\")".repeat(32_000)), false),
        ("5,000 functions", in_module("(func (result i32) (i32.const 1))".repeat(5_000)), false),
    ];
    for (kind, bomb, must_fail) in bombs {
        let honest = by_hand::charm(&[("in module", &format!("(data (i32.const 3000) \"{kind}\")"))]);
        let (bomb, honest, ()) = tokio::join!(
            host.install(Charm::new("bomb", bomb)),
            host.install(Charm::new("honest", honest)),
            is_served(&host, neighbour),
        );
        honest.unwrap();
        match bomb {
            Ok(_) => assert!(!must_fail, "{kind} is installed"),
            Err(InstallError::Limit { why, .. }) => assert!(why.starts_with("compile"), "{kind}: {why}"),
            Err(InstallError::Malformed { why, .. }) => assert!(!must_fail, "{kind}: {why}"),
            Err(error) => panic!("{kind}: {error}"),
        }
    }
    assert_eq!(compiling(&folder), 0, "nobody compiles any more");
    host.shutdown().await.unwrap();
}

/// A5: each bound of a compilation is kept, and named when it is passed.
#[tokio::test(flavor = "multi_thread")]
async fn compiling_is_bounded_in_time_memory_size_and_number() {
    let limits = Limits::default();
    let cases = [
        (Limits { compile_ms_max: 1, ..limits.clone() }, "compile-ms-max 1:"),
        (Limits { compile_memory_bytes_max: 320 << 20, ..limits.clone() }, "compile-memory-bytes-max 335544320:"),
        (Limits { compiled_bytes_max: 1_000, ..limits.clone() }, "compiled-bytes-max 1000:"),
    ];
    for (limits, named) in cases {
        let folder = tempfile::tempdir().unwrap();
        let host = open(&folder, Some(helper()), limits).await;
        let error = refused(&host, if named.contains("memory") { long() } else { component("probe") }).await;
        assert!(matches!(&error, InstallError::Limit { why, .. } if why.starts_with(named)), "{named} {error}");
        assert_eq!((compiling(&folder), entries(&code(&folder)).len()), (0, 0), "nothing is left behind");
    }
    let folder = tempfile::tempdir().unwrap();
    let host = open(&folder, Some(helper()), Limits { compiles_max: 1, ..limits }).await;
    let others = |number: usize| by_hand::charm(&[("in module", &format!("(data (i32.const 3000) \"{number}\")"))]);
    let installs = (0..4).map(|number| host.install(Charm::new(format!("charm-{number}"), others(number))));
    let mut installs = std::pin::pin!(futures_util::future::join_all(installs));
    let mut most = 0;
    while futures_util::FutureExt::now_or_never(&mut installs).is_none() {
        most = most.max(compiling(&folder));
        tokio::task::yield_now().await;
    }
    assert_eq!(most, 1, "one at a time");
}

/// A5: who does not wait any more stops the compiler.
#[tokio::test(flavor = "multi_thread")]
async fn an_install_that_is_given_up_ends_its_compiler() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { compile_ms_max: 3_600_000, compiles_max: 1, ..Limits::default() };
    // Never ends by itself. The second one gets the place of the first.
    let endless = Compiler::Helper("/usr/bin/yes".into());
    let host = open(&folder, Some(endless), limits).await;
    for name in ["one", "two"] {
        tokio::select! {
            done = host.install(Charm::new(name, component("probe"))) => panic!("{done:?}"),
            () = until("it compiles", || compiling(&folder) > 0) => {}
        }
        // The folder goes when the process has ended.
        until("its compiler ends", || compiling(&folder) == 0).await;
    }
}

/// A5: the host itself compiles nothing that it was not told to: what the cache does not have, for whatever reason, is
/// an error that says what to do.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_the_cache_is_compiled_by_whom_the_embedder_named_or_not_at_all() {
    for first in [Compiler::InProcess, helper()] {
        let folder = tempfile::tempdir().unwrap();
        let nobody = async || open(&folder, None, Limits::default()).await;
        let error = refused(&nobody().await, component("probe")).await;
        assert!(matches!(error, InstallError::NoCompiler { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("Compiler::Helper") && text.contains("Compiler::InProcess"), "{text}");

        probe(&open(&folder, Some(first.clone()), Limits::default()).await, "a").await;
        let host = nobody().await;
        let charm = probe(&host, "a").await;
        is_served(&host, charm).await;
        assert!(matches!(refused(&host, component("counter")).await, InstallError::NoCompiler { .. }));
        // The code was compiled for other settings.
        let other = Limits { memory_bytes_max: 8 << 20, ..Limits::default() };
        let host = open(&folder, None, other).await;
        assert!(matches!(refused(&host, component("probe")).await, InstallError::NoCompiler { .. }));
        // It is damaged; it is gone.
        for damage in [|file: &File| fs::write(file, b"damaged").unwrap(), |file: &File| fs::remove_file(file).unwrap()]
        {
            entries(&code(&folder)).iter().for_each(|file| damage(file));
            assert!(matches!(refused(&nobody().await, component("probe")).await, InstallError::NoCompiler { .. }));
            probe(&open(&folder, Some(first.clone()), Limits::default()).await, "a").await;
            probe(&nobody().await, "a").await;
        }
    }
    let error = refused(&Host::builder().open().await.unwrap(), component("probe")).await;
    assert!(matches!(error, InstallError::NoCompiler { .. }), "{error}");
    assert!(matches!(Host::builder().compiler(helper()).open().await, Err(OpenError::Engine(_))));
}

/// A5: a program that is no helper compiles nothing, and says so in bounds.
#[tokio::test(flavor = "multi_thread")]
async fn a_helper_that_is_none_is_an_error() {
    for program in ["/bin/true", "/bin/false", "/bin/echo", "/nowhere/charm", "/"] {
        let folder = tempfile::tempdir().unwrap();
        let host = open(&folder, Some(Compiler::Helper(program.into())), Limits::default()).await;
        let error = refused(&host, component("probe")).await;
        assert!(matches!(error, InstallError::Compiler { .. }), "{program}: {error}");
        assert_eq!(compiling(&folder), 0);
    }
}

/// A5: compiled code runs as the host, so nobody else may have put it there.
#[tokio::test(flavor = "multi_thread")]
async fn a_code_cache_that_others_can_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cache = code(&folder);
    probe(&open(&folder, Some(helper()), Limits::default()).await, "a").await;
    let entry = entries(&cache).pop().unwrap();
    let mode = |file: &File| fs::metadata(file).unwrap().permissions().mode() & 0o777;
    let set = |file: &File, mode| fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
    assert_eq!((mode(&cache), mode(&entry)), (0o700, 0o600));
    let opened = || Host::builder().code_cache(&cache).open();
    let (modules, version) = (cache.join("modules"), entry.parent().unwrap().to_owned());
    for (file, modes) in [
        (&cache, [0o777, 0o770, 0o755]),
        (&modules, [0o777, 0o770, 0o720]),
        (&version, [0o777, 0o770, 0o702]),
        (&entry, [0o666, 0o660, 0o602]),
    ] {
        let before = mode(file);
        for loose in modes {
            set(file, loose);
            assert!(matches!(opened().await, Err(OpenError::CodeCache { .. })), "{file:?} {loose:o}");
        }
        set(file, before);
        opened().await.unwrap();
        // Only root can give files away.
        if chown(file, Some(1), None).is_ok() {
            assert!(matches!(opened().await, Err(OpenError::CodeCache { .. })), "{file:?} of another user");
            chown(file, Some(0), None).unwrap();
        }
    }
    let link = version.join("link");
    std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
    assert!(matches!(opened().await, Err(OpenError::CodeCache { .. })), "a link in place of code");
    fs::remove_file(link).unwrap();
    set(&cache, 0o755);
    fs::remove_dir_all(&modules).unwrap();
    opened().await.unwrap();
    assert_eq!(mode(&cache), 0o700, "an empty folder is closed to others");
}

/// The cache does not grow for ever, and forgets what was used least recently.
#[tokio::test(flavor = "multi_thread")]
async fn the_code_cache_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    probe(&open(&folder, Some(helper()), Limits::default()).await, "a").await;
    let old = code(&folder).join("modules/of-another-version");
    fs::create_dir(&old).unwrap();
    let file = |name: &str| {
        let file = fs::File::create(old.join(name)).unwrap();
        file.set_len(CODE_CACHE_BYTES_MAX / 4).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(name.len() as u64)).unwrap();
    };
    ["1", "22", "333", "4444"].into_iter().for_each(file);
    let abandoned = code(&folder).join("compiling-1-0");
    fs::create_dir(&abandoned).unwrap();
    fs::File::open(&abandoned).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let host = open(&folder, Some(helper()), Limits::default()).await;
    host.install(Charm::new("b", component("counter"))).await.unwrap();
    let mut left: Vec<_> = fs::read_dir(&old).unwrap().map(|file| file.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["333", "4444"]);
    assert!(!abandoned.exists());
    probe(&open(&folder, None, Limits::default()).await, "a").await;
}

/// An operator who says which component it is gets that one or none.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_is_not_the_pinned_one_is_not_installed() {
    let folder = tempfile::tempdir().unwrap();
    let host = host().await;
    let component = component("counter");
    let hash: [u8; 32] = sha2::Digest::finalize(sha2::Digest::chain_update(sha2::Sha256::default(), &component)).into();
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    host.install(Charm::new("counter", component.clone()).sha256(hash)).await.unwrap();
    let mut other = component.clone();
    *other.last_mut().unwrap() ^= 1;
    let error = host.install(Charm::new("counter", other.clone()).sha256(hash)).await.unwrap_err();
    assert!(
        matches!(&error, InstallError::OtherComponent { charm, wanted, .. } if charm == "counter" && *wanted == hex)
    );

    let manifest = |sha256: &str| {
        let text = format!("[charm.counter]\ncomponent = \"counter.wasm\"\nsha256 = \"{sha256}\"\n");
        fs::write(folder.path().join("charms.toml"), text).unwrap();
        Manifest::load(&folder.path().join("charms.toml")).unwrap()
    };
    fs::write(folder.path().join("counter.wasm"), &component).unwrap();
    manifest(&hex).install(&host).await.unwrap();
    manifest(&hex.to_uppercase()).install(&host).await.unwrap();
    for wrong in ["", "12", &hex[1..], &format!("{hex}0"), &hex.replace(&hex[..1], "g"), "é".repeat(32).as_str()] {
        let error = manifest(wrong).install(&host).await.unwrap_err();
        assert!(matches!(error, ManifestError::Install(InstallError::Grant { .. })), "{wrong}: {error}");
    }
    fs::write(folder.path().join("counter.wasm"), &other).unwrap();
    let error = manifest(&hex).install(&host).await.unwrap_err();
    let (text, found) = (error.to_string(), hex.as_str());
    assert!(matches!(error, ManifestError::Install(InstallError::OtherComponent { .. })), "{text}");
    assert!(text.contains("charm counter") && text.contains(found), "{text}");
}

/// A file's size is looked at before the file is.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_terabyte_is_refused_and_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let host = host().await;
    let (file, manifest) = (folder.path().join("a.wasm"), folder.path().join("charms.toml"));
    fs::File::create(&file).unwrap().set_len(1 << 40).unwrap();
    fs::write(&manifest, "[charm.a]\ncomponent = \"a.wasm\"\n").unwrap();
    let error = Manifest::load(&manifest).unwrap().install(&host).await.unwrap_err();
    let size = 1 << 40;
    assert!(matches!(error, ManifestError::Install(InstallError::TooLarge { bytes, .. }) if bytes == size), "{error}");
    fs::File::create(&manifest).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(Manifest::load(&manifest), Err(ManifestError::Malformed { .. })));
    // What has no size is not read to its end either.
    fs::write(&manifest, "[charm.a]\ncomponent = \"/dev/zero\"\n").unwrap();
    let error = Manifest::load(&manifest).unwrap().install(&host).await.unwrap_err();
    assert!(matches!(error, ManifestError::Install(InstallError::TooLarge { .. })), "{error}");
    assert!(matches!(Manifest::load(File::new("/dev/zero")), Err(ManifestError::Malformed { .. })));
}
