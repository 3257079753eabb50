//! A folder with a manifest and components, the binary run in it, and a host that runs there.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod json;
pub mod page;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use charm_demo_servers::root;
use serde_json::Value;

/// Somebody who is no charm.
pub const OUTSIDER: &str = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp";

/// The commit of the first turn of a charm: after its name, its install and the event.
pub const FIRST: u64 = 4;

/// Returns the binary: tests are in `target/<profile>/deps`.
pub fn program() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("charm")
}

/// A throw-away folder.
pub struct Folder(pub tempfile::TempDir);

impl Folder {
    /// Returns a folder with these components and this manifest.
    #[track_caller]
    pub fn new(components: &[&str], manifest: &str) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        let built = root().unwrap().join("target/charms");
        for name in components {
            let file = format!("{name}.wasm");
            let copied = fs::copy(built.join(&file), folder.path(&file));
            assert!(copied.is_ok(), "target/charms/{file} is missing: run cargo xtask charms");
        }
        fs::write(folder.path("charms.toml"), manifest).unwrap();
        folder
    }

    /// Returns a folder with the charm `counter`.
    #[track_caller]
    pub fn counter() -> Folder {
        Folder::new(&["counter"], "[charm.counter]\ncomponent = \"counter.wasm\"\n")
    }

    /// Returns a path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Adds text to a file.
    pub fn append(&self, name: &str, text: &str) {
        fs::File::options().append(true).open(self.path(name)).unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Returns the binary with these arguments, in the folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).current_dir(self.0.path()).env_remove("CHARM_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it for people; returns standard output and standard error.
    #[track_caller]
    pub fn text(&self, exit: i32, arguments: &[&str]) -> (String, String) {
        let output = self.command(arguments).output().unwrap();
        check(&output, exit, arguments);
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    /// Runs it with `--json`; returns standard output, or standard error when there is nothing else.
    #[track_caller]
    pub fn json(&self, exit: i32, arguments: &[&str]) -> Value {
        let output = self.command(&[&["--json"], arguments].concat()).output().unwrap();
        check(&output, exit, arguments);
        parse(&output)
    }

    /// As `json`, with text on standard input.
    #[track_caller]
    pub fn input(&self, exit: i32, arguments: &[&str], text: &str) -> Value {
        let mut child = self.command(&[&["--json"], arguments].concat()).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        check(&output, exit, arguments);
        parse(&output)
    }
}

/// A running host, killed when the test fails.
pub struct Running {
    pub child: Child,
    /// What it has said.
    pub lines: Vec<String>,
}

impl Running {
    /// Starts it and waits until it serves.
    #[track_caller]
    pub fn start(folder: &Folder, arguments: &[&str]) -> Running {
        let child = folder.command(&[&["run"], arguments].concat()).spawn().unwrap();
        let mut running = Running { child, lines: Vec::new() };
        let mut output = BufReader::new(running.child.stdout.take().unwrap());
        loop {
            let mut line = String::new();
            if output.read_line(&mut line).unwrap() == 0 {
                let mut text = String::new();
                running.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
                panic!("charm run ended: {:?} {text}", running.lines);
            }
            let done = line.contains("serving on") || line.starts_with('{');
            running.lines.push(line.trim_end().to_owned());
            if done {
                return running;
            }
        }
    }

    /// Sends a signal by its name and waits for the end.
    #[track_caller]
    pub fn stop(mut self, signal: &str) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn check(output: &Output, exit: i32, arguments: &[&str]) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(exit), "charm {arguments:?}\n{out}\n{err}");
    assert!(!err.contains("panicked"), "{err}");
}

#[track_caller]
fn parse(output: &Output) -> Value {
    let text = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
    let text = String::from_utf8(text.clone()).unwrap();
    // Before an error stand the lines of the log.
    let text = if output.stdout.is_empty() { text.lines().last().unwrap_or_default() } else { &text };
    let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(value.is_object() || value.is_array(), "{text}");
    value
}
