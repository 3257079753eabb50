//! What needs a process of its own: one that is killed, or whose memory is measured.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::{density, peers, recovery, waits};

/// The first argument of such a process.
pub const WORD: &str = "child";

/// A process that has said what it had to say, and waits.
pub struct Waiting {
    child: Child,
    /// Its line.
    pub said: String,
}

impl Waiting {
    /// Lets it end by itself.
    pub fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success(), "the process ends well");
    }

    /// Kills it.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Starts this program with other words, and waits for its line.
pub fn start(what: &str, folder: &Path, numbers: &[usize]) -> Waiting {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([WORD, what]).arg(folder).args(numbers.iter().map(usize::to_string));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert!(!said.is_empty(), "the process {what} says something");
    Waiting { child, said }
}

/// Is that process.
pub fn run(arguments: &[String]) {
    let [what, folder, numbers @ ..] = arguments else { panic!("usage: {WORD} WHAT FOLDER NUMBER..") };
    let numbers: Vec<usize> = numbers.iter().map(|number| number.parse().unwrap()).collect();
    let folder = Path::new(folder);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match what.as_str() {
            "density" => density::child(folder, &numbers).await,
            "waiting" => waits::waiting(folder, &numbers).await,
            "going-on" => waits::going_on(folder, &numbers).await,
            "peers" => peers::child(folder).await,
            _ => recovery::child(folder, &numbers).await,
        }
    });
}

/// Says a line and waits until it may end.
pub fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read_line(&mut String::new());
}
