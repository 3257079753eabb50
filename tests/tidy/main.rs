//! The house's rules that a scan of the files can check. Each test says what it looks at and names every offender.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod code;
mod coverage;
mod dependencies;
mod house;
mod modules;
mod security;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// One file of the repository.
struct File {
    /// From the root, with `/`.
    path: String,
    /// Empty for what is not UTF-8.
    text: String,
}

impl File {
    /// The text without comments and without the tests at its end.
    fn code(&self) -> String {
        let text = self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let line = |line: &str| {
            let line = if line.trim_start().starts_with("//") { "" } else { line };
            line.split(" // ").next().unwrap_or_default().to_owned()
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    /// The identifiers and keywords of its code.
    fn words(&self) -> Vec<String> {
        words(&self.code())
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

fn words(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    parts.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn root() -> PathBuf {
    charm_conformance::root()
}

/// Every file of the repository: what git tracks, or without git what is there but build output.
fn files() -> &'static [File] {
    static FILES: OnceLock<Vec<File>> = OnceLock::new();
    FILES.get_or_init(|| {
        let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
        let mut paths: Vec<String> = match listed {
            Ok(output) if output.status.success() => {
                String::from_utf8(output.stdout).unwrap().split_terminator('\0').map(str::to_owned).collect()
            }
            _ => walk(&root(), ""),
        };
        paths.retain(|path| root().join(path).is_file());
        let read = |path: String| File { text: std::fs::read_to_string(root().join(&path)).unwrap_or_default(), path };
        paths.into_iter().map(read).collect()
    })
}

fn walk(folder: &Path, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if !entry.file_type().unwrap().is_dir() {
            found.push(format!("{prefix}{name}"));
        } else if !["target", "node_modules", ".git"].contains(&name.as_str()) {
            found.extend(walk(&entry.path(), &format!("{prefix}{name}/")));
        }
    }
    found
}

/// The files below a folder.
fn below(folder: &str) -> impl Iterator<Item = &'static File> {
    files().iter().filter(move |file| file.path.starts_with(folder))
}

fn file(path: &str) -> &'static File {
    files().iter().find(|file| file.path == path).unwrap_or_else(|| panic!("{path} is not there any more"))
}

/// The sources of the host library, without its test files.
fn host() -> impl Iterator<Item = &'static File> {
    below("host/src/").filter(|file| file.is_rust() && !file.path.ends_with("/tests.rs"))
}

/// Fails with every offender.
#[track_caller]
fn none(offenders: impl IntoIterator<Item = String>, rule: &str) {
    let offenders: Vec<String> = offenders.into_iter().collect();
    assert!(offenders.is_empty(), "{rule}:\n  {}\n", offenders.join("\n  "));
}

/// Returns `path: word` for each of these words in the code of these files.
fn uses<'a>(files: impl Iterator<Item = &'a File>, forbidden: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let words = file.words();
        let used = forbidden.iter().filter(|word| words.iter().any(|used| used == *word));
        found.extend(used.map(|word| format!("{}: {word}", file.path)));
    }
    found
}
