//! Finds, or puts together, a Rust toolchain that builds for `wasm32-unknown-unknown`.
//!
//! Two ways, tried in this order:
//! 1. The compiler in use has the target (`rustup target add wasm32-unknown-unknown`).
//! 2. On Debian, the packages in [`PACKAGES`]: a compiler and the source of the standard library. The library is
//!    built once for each version of the compiler into `target/guest-sysroot/<version>`, which then serves as sysroot.

use crate::root;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
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

/// A way to build guests.
pub enum Toolchain {
    /// The compiler in use has the target.
    Installed,
    /// Debian's compiler with a standard library built here.
    Debian { sysroot: PathBuf },
}

impl Toolchain {
    /// Finds a way to build guests and says which in one line. Installs Debian's packages when it may.
    ///
    /// # Errors
    /// When there is no way; the text says what to run.
    pub fn find() -> Result<Toolchain> {
        let rustc = version("rustc")?;
        if target_libraries(Path::new(&ask("rustc", &["--print", "sysroot"])?)).is_dir() {
            println!("toolchain: rustc {rustc} with its {TARGET} target");
            return Ok(Toolchain::Installed);
        }
        if !is_debian() {
            bail!("no Rust standard library for {TARGET}; run: rustup target add {TARGET}");
        }
        if !packages_ready() {
            install_packages()?;
        }
        let rustc = version(DEBIAN_RUSTC)?;
        let sysroot = root().join(format!("target/guest-sysroot/{rustc}-r{RECIPE}"));
        if !sysroot.is_dir() {
            println!("toolchain: building the standard library of rustc {rustc} for {TARGET}, once (1-2 minutes)");
            build_sysroot(&sysroot)?;
        }
        println!("toolchain: Debian's rustc {rustc} with the standard library in {}", relative(&sysroot));
        Ok(Toolchain::Debian { sysroot })
    }

    /// Returns a `cargo` for the workspace in `folder` whose builds for [`TARGET`] use this toolchain.
    ///
    /// Debian's compiler then builds proc macros and build scripts too: these must come from the compiler that loads
    /// them, and it has a standard library for the machine itself.
    pub fn cargo(&self, folder: &Path) -> Command {
        let mut cargo = guest_cargo(folder);
        if let Toolchain::Debian { sysroot } = self {
            cargo.args(debian_settings(&[format!("--sysroot={}", sysroot.display())]));
        }
        cargo
    }
}

/// Downloads what [`Toolchain::find`] needs, with the arguments of `cargo fetch` for this machine.
///
/// # Errors
/// As [`Toolchain::find`].
pub fn fetch(arguments: &[&str]) -> Result<()> {
    let has_target = target_libraries(Path::new(&ask("rustc", &["--print", "sysroot"])?)).is_dir();
    if has_target || !is_debian() {
        return Ok(());
    }
    if !packages_ready() {
        install_packages()?;
    }
    let library = Path::new(&ask(DEBIAN_RUSTC, &["--print", "sysroot"])?).join("lib/rustlib/src/rust/library");
    let mut fetch = guest_cargo(root());
    fetch.args(arguments).args(["--target", TARGET, "--manifest-path"]).arg(library.join("Cargo.toml"));
    run(fetch.env("RUSTC_BOOTSTRAP", "1"))
}

/// Returns a `cargo` in `folder`, free of what an outer cargo set for the package it runs.
pub fn cargo(folder: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(folder).stdin(Stdio::null()).env(NO_DOWNLOADS.0, NO_DOWNLOADS.1);
    // Build scripts watch some of these: left in, they would make the inner cargo build again.
    for name in ["CARGO", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "CARGO_MAKEFLAGS"] {
        cargo.env_remove(name);
    }
    remove_variables(&mut cargo, |name| {
        ["CARGO_PKG_", "CARGO_BIN_", "CARGO_MANIFEST_"].iter().any(|prefix| name.starts_with(prefix))
    });
    cargo
}

/// As [`cargo`], and free of settings meant for the main workspace: flags, profiles, compilers, target folders.
pub fn guest_cargo(folder: &Path) -> Command {
    let mut cargo = cargo(folder);
    remove_variables(&mut cargo, |name| {
        ["CARGO_TARGET_", "CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_ENCODED_", "RUSTC", "RUSTFLAGS", "RUSTDOC"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    });
    cargo
}

/// Runs a command to its end, with its output on the terminal.
///
/// # Errors
/// When it cannot be started or ends with anything but success; names the program and its arguments.
pub fn run(command: &mut Command) -> Result<()> {
    let line = describe(command);
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    ensure!(status.success(), "`{line}` failed: {status}");
    Ok(())
}

/// Runs a command to its end and returns what it wrote to standard output.
///
/// # Errors
/// As [`run`].
pub fn output(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start `{line}`"))?;
    ensure!(output.status.success(), "`{line}` failed: {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` wrote text that is not UTF-8"))
}

/// Returns a path as seen from the root of the repository.
pub fn relative(path: &Path) -> std::path::Display<'_> {
    path.strip_prefix(root()).unwrap_or(path).display()
}

fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut line = program.to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

fn remove_variables(command: &mut Command, is_unwanted: impl Fn(&str) -> bool) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(&is_unwanted) {
            command.env_remove(name);
        }
    }
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
fn version(rustc: &str) -> Result<String> {
    let text = ask(rustc, &["--version"])?;
    let mut words = text.split_whitespace().skip(1);
    let number = words.next().with_context(|| format!("`{rustc} --version` names no version"))?;
    Ok(match words.next() {
        Some(commit) => format!("{number}-{}", commit.trim_matches(['(', ')'])),
        None => number.to_owned(),
    })
}

fn ask(rustc: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(rustc);
    command.args(arguments).current_dir(root()).env(NO_DOWNLOADS.0, NO_DOWNLOADS.1);
    Ok(output(&mut command)?.trim_end().to_owned())
}

fn target_libraries(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib").join(TARGET).join("lib")
}

fn is_debian() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| text.lines().any(|line| line == "ID=debian"))
}

fn packages_ready() -> bool {
    let installed = |package: &&str| {
        Command::new("dpkg-query")
            .args(["-W", "-f=${db:Status-Status}", package])
            .output()
            .is_ok_and(|output| output.stdout == b"installed")
    };
    PACKAGES.iter().all(installed)
        && Path::new(DEBIAN_LINKER).exists()
        && version(DEBIAN_RUSTC).is_ok_and(|found| numbers(&found) >= numbers(OLDEST))
}

/// Returns the leading numbers of a version: `1.96.0-ac68faa20` gives 1 and 96.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').take(2).map_while(|part| part.parse().ok()).collect()
}

fn install_packages() -> Result<()> {
    let by_hand = format!(
        "no Rust standard library for {TARGET}; run one of these:\n  rustup target add {TARGET}\n  \
         sudo apt-get update && sudo apt-get install --no-install-recommends {} lld-22",
        PACKAGES.join(" ")
    );
    let is_root = output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    ensure!(is_root, by_hand);
    println!("toolchain: installing Debian's {} and their linker", PACKAGES.join(", "));
    let install = ["install", "-y", "--no-install-recommends"].as_slice();
    apt_get(&["update"]).with_context(|| by_hand.clone())?;
    apt_get(&[install, &PACKAGES].concat()).with_context(|| by_hand.clone())?;
    let linker = fs::read_link(DEBIAN_LINKER).with_context(|| format!("cannot read the link {DEBIAN_LINKER}"))?;
    let linker = linker.file_name().unwrap_or_default().to_string_lossy();
    apt_get(&[install, &[&*linker]].concat()).with_context(|| by_hand.clone())?;
    ensure!(packages_ready(), "Debian's rustc is older than {OLDEST}; {by_hand}");
    Ok(())
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.args(["-q", "-o", "Dpkg::Use-Pty=0"]).args(arguments);
    run(apt.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()))
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
    let mut build = guest_cargo(&package);
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
