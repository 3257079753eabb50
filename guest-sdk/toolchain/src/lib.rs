//! From the source of a charm to its component, for `charm build` and for the repository's own `cargo xtask`: finds, or puts
//! together, a Rust toolchain that builds for `wasm32-unknown-unknown`, builds with it, and makes a component.
//!
//! Two ways to a toolchain, tried in this order:
//! 1. The compiler in use has the target (`rustup target add wasm32-unknown-unknown`).
//! 2. On Debian, a package of a compiler and one of the source of its standard library. The library is built once for
//!    each version of the compiler into a folder that the caller names, which then serves as sysroot.
#![allow(clippy::disallowed_methods, reason = "a developer's tool: it starts programs and reads the environment")]

mod charm;
mod program;

pub use charm::{Charm, write};
pub use program::{bare_cargo, cargo, output, run};

use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What guests are compiled for.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// The oldest compiler that builds the guests: `rust-version` of the workspace.
const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

/// Debian's compiler, the source of its standard library, and the link [`DEBIAN_LINKER`] to a linker in a package
/// that is named like the link's target, `lld-22`.
const PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "rust-web-llvm"];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LINKER: &str = "/usr/bin/rust-lld";

/// Keeps rustup from fetching what is missing: that is for the user to decide.
const NO_DOWNLOADS: (&str, &str) = ("RUSTUP_AUTO_INSTALL", "0");

/// Part of the name of a built sysroot. Count it up whenever [`build_sysroot`] changes what it builds.
const RECIPE: u32 = 1;

/// What every charm is built with. 64 KiB of stack instead of 1 MiB: values of the greatest depth decode in less than half
/// of it, and overflow traps.
const FLAGS: [&str; 1] = ["-Clink-arg=-zstack-size=65536"];

/// A way to build charms.
pub struct Toolchain {
    /// Debian's compiler with a standard library built here; none when the compiler in use has the target.
    sysroot: Option<PathBuf>,
}

impl Toolchain {
    /// Finds a way to build what is in `folder`, and says in a line what it does. Installs Debian's packages when it may.
    /// A standard library that it builds is kept in the folder `sysroots`.
    ///
    /// # Errors
    /// When there is no way; the text says what to run.
    pub fn find(folder: &Path, sysroots: &Path, say: &dyn Fn(&str)) -> Result<Toolchain> {
        let rustc = version("rustc", folder)?;
        if has_target(folder)? {
            say(&format!("toolchain: rustc {rustc} with its {TARGET} target"));
            return Ok(Toolchain { sysroot: None });
        }
        if !is_debian() {
            bail!("no Rust standard library for {TARGET}; run: rustup target add {TARGET}");
        }
        if !packages_ready(folder) {
            install_packages(folder, say)?;
        }
        let rustc = version(DEBIAN_RUSTC, folder)?;
        let sysroot = sysroots.join(format!("{rustc}-r{RECIPE}"));
        if !sysroot.is_dir() {
            fs::create_dir_all(sysroots).with_context(|| format!("cannot create {}", sysroots.display()))?;
            let lock = File::create(sysroots.join(".lock")).context("cannot lock the folder of standard libraries")?;
            lock.lock().context("cannot lock the folder of standard libraries")?;
            if !sysroot.is_dir() {
                say(&format!(
                    "toolchain: building the standard library of rustc {rustc} for {TARGET}, once (1-2 minutes)"
                ));
                build_sysroot(&sysroot)?;
            }
        }
        say(&format!("toolchain: Debian's rustc {rustc} with the standard library in {}", sysroot.display()));
        Ok(Toolchain { sysroot: Some(sysroot) })
    }

    /// Returns a `cargo` for the workspace in `folder` whose builds for [`TARGET`] use this toolchain.
    ///
    /// Debian's compiler then builds proc macros and build scripts too: these must come from the compiler that loads
    /// them, and it has a standard library for the machine itself.
    pub fn cargo(&self, folder: &Path) -> Command {
        let mut cargo = bare_cargo(folder);
        let flags = FLAGS.map(str::to_owned).to_vec();
        match &self.sysroot {
            None => cargo.args(["--config", &format!("target.{TARGET}.rustflags={flags:?}")]),
            Some(sysroot) => {
                cargo.args(debian_settings(&[&[format!("--sysroot={}", sysroot.display())], &*flags].concat()))
            }
        };
        cargo
    }
}

fn has_target(folder: &Path) -> Result<bool> {
    Ok(target_libraries(Path::new(&ask("rustc", &["--print", "sysroot"], folder)?)).is_dir())
}

/// Downloads what [`Toolchain::find`] needs, with the arguments of `cargo fetch` for this machine.
///
/// # Errors
/// As [`Toolchain::find`].
pub fn fetch(folder: &Path, arguments: &[&str], say: &dyn Fn(&str)) -> Result<()> {
    if has_target(folder)? || !is_debian() {
        return Ok(());
    }
    if !packages_ready(folder) {
        install_packages(folder, say)?;
    }
    let library = Path::new(&ask(DEBIAN_RUSTC, &["--print", "sysroot"], folder)?).join("lib/rustlib/src/rust/library");
    let mut fetch = bare_cargo(folder);
    fetch.args(arguments).args(["--target", TARGET, "--manifest-path"]).arg(library.join("Cargo.toml"));
    run(fetch.env("RUSTC_BOOTSTRAP", "1"))
}

/// Cargo settings for Debian's compiler. On the command line, they join those of `.cargo/config.toml`.
fn debian_settings(flags: &[String]) -> [String; 6] {
    [
        "--config".into(),
        format!("build.rustc={DEBIAN_RUSTC:?}"),
        "--config".into(),
        format!("target.{TARGET}.linker={DEBIAN_LINKER:?}"),
        "--config".into(),
        format!("target.{TARGET}.rustflags={flags:?}"),
    ]
}

/// Returns a compiler's version and the start of its commit, like `1.96.0-ac68faa20`.
fn version(rustc: &str, folder: &Path) -> Result<String> {
    let text = ask(rustc, &["--version"], folder)?;
    let mut words = text.split_whitespace().skip(1);
    let number = words.next().with_context(|| format!("`{rustc} --version` names no version"))?;
    Ok(match words.next() {
        Some(commit) => format!("{number}-{}", commit.trim_matches(['(', ')'])),
        None => number.to_owned(),
    })
}

fn ask(rustc: &str, arguments: &[&str], folder: &Path) -> Result<String> {
    let mut command = Command::new(rustc);
    command.args(arguments).current_dir(folder).env(NO_DOWNLOADS.0, NO_DOWNLOADS.1);
    Ok(output(&mut command)?.trim_end().to_owned())
}

fn target_libraries(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib").join(TARGET).join("lib")
}

fn is_debian() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| text.lines().any(|line| line == "ID=debian"))
}

fn packages_ready(folder: &Path) -> bool {
    let installed = |package: &&str| {
        Command::new("dpkg-query")
            .args(["-W", "-f=${db:Status-Status}", package])
            .output()
            .is_ok_and(|output| output.stdout == b"installed")
    };
    PACKAGES.iter().all(installed)
        && Path::new(DEBIAN_LINKER).exists()
        && version(DEBIAN_RUSTC, folder).is_ok_and(|found| numbers(&found) >= numbers(OLDEST))
}

/// Returns the leading numbers of a version: `1.96.0-ac68faa20` gives 1 and 96.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').take(2).map_while(|part| part.parse().ok()).collect()
}

fn install_packages(folder: &Path, say: &dyn Fn(&str)) -> Result<()> {
    let by_hand = format!(
        "no Rust standard library for {TARGET}; run one of these:\n  rustup target add {TARGET}\n  \
         sudo apt-get update && sudo apt-get install --no-install-recommends {} lld-22",
        PACKAGES.join(" ")
    );
    let is_root = output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    ensure!(is_root, by_hand);
    say(&format!("toolchain: installing Debian's {} and their linker", PACKAGES.join(", ")));
    let install = ["install", "-y", "--no-install-recommends"].as_slice();
    apt_get(&["update"]).with_context(|| by_hand.clone())?;
    apt_get(&[install, &PACKAGES].concat()).with_context(|| by_hand.clone())?;
    let linker = fs::read_link(DEBIAN_LINKER).with_context(|| format!("cannot read the link {DEBIAN_LINKER}"))?;
    let linker = linker.file_name().unwrap_or_default().to_string_lossy();
    apt_get(&[install, &[&*linker]].concat()).with_context(|| by_hand.clone())?;
    ensure!(packages_ready(folder), "Debian's rustc is older than {OLDEST}; {by_hand}");
    Ok(())
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.args(["-q", "-o", "Dpkg::Use-Pty=0"]).args(arguments);
    // Standard output belongs to whoever asked for a charm.
    apt.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::from(std::io::stderr()));
    run(&mut apt)
}

/// Builds the standard library in a folder of its own; only a whole one gets the name `sysroot`.
fn build_sysroot(sysroot: &Path) -> Result<()> {
    let parent = sysroot.parent().context("a sysroot has a parent folder")?;
    let work = parent.join("unfinished");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    }
    let package = work.join("package");
    let write = |name: &str, text: &str| {
        let path = package.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    fs::create_dir_all(package.join("src")).with_context(|| format!("cannot create {}", package.display()))?;
    write("src/lib.rs", "#![no_std]\n")?;
    write(
        "Cargo.toml",
        "[package]\nname = \"nothing\"\nedition = \"2024\"\n[workspace]\n\
         [profile.release]\ncodegen-units = 1\npanic = \"abort\"\n",
    )?;
    // Bitcode beside the machine code, so that guests can optimise across crates.
    let mut build = bare_cargo(&package);
    build
        .args(["build", "--release", "--quiet", "-Zbuild-std=std,panic_abort", "--target", TARGET])
        .arg("--target-dir")
        .arg(work.join("target"))
        .args(debian_settings(&["-Cembed-bitcode=yes".into()]))
        .env("RUSTC_BOOTSTRAP", "1");
    run(&mut build).context("cannot build the standard library")?;

    let done = work.join("sysroot");
    let libraries = target_libraries(&done);
    fs::create_dir_all(&libraries).with_context(|| format!("cannot create {}", libraries.display()))?;
    let built = work.join("target").join(TARGET).join("release/deps");
    for entry in fs::read_dir(&built).with_context(|| format!("cannot read {}", built.display()))? {
        let path = entry?.path();
        let (Some(name), Some("rlib")) = (path.file_name(), path.extension().and_then(|e| e.to_str())) else {
            continue;
        };
        if !name.to_string_lossy().starts_with("libnothing-") {
            fs::copy(&path, libraries.join(name)).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    fs::rename(&done, sysroot).with_context(|| format!("cannot rename to {}", sysroot.display()))?;
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))
}
