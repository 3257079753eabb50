//! Pages whose commands are run as they stand.
//!
//! In a `console` block a line after `$ ` is run by the shell, with standard error where standard output goes; the lines after
//! it are what it prints, then `[exit N]` unless it succeeds. `…` in such a line stands for any text. Another block is a
//! file: the first line of it names which. What is only to be read is `sh` or `rust,ignore`.

use std::{fs, path::Path, process::Command};

/// Reads the blocks of a text: language and lines.
pub fn blocks(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut blocks: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(language) => {
                inside = !inside;
                if inside {
                    blocks.push((language, Vec::new()));
                }
            }
            None if inside => blocks.last_mut().unwrap().1.push(line),
            None => {}
        }
    }
    blocks
}

/// Whether a line fits, where `…` is any text.
pub fn fits(expected: &str, line: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    rest.is_empty() || last == Some("") || last.is_some_and(|last| line.ends_with(last))
}

/// Follows a page in a folder; `envs` stand for what a reader has at hand, also in files. Returns how many commands it ran.
#[track_caller]
pub fn follow(page: &str, text: &str, folder: &Path, envs: &[(&str, String)]) -> usize {
    let program = super::program();
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut commands = 0;
    for (language, lines) in blocks(text) {
        match language {
            "console" => {}
            "toml" | "rust" => {
                // Without a name it is the manifest.
                let name = lines[0].strip_prefix("# ").or_else(|| lines[0].strip_prefix("// "));
                let name = name.filter(|name| !name.contains(' ')).unwrap_or("charms.toml");
                let text =
                    envs.iter().fold(lines.join("\n"), |text, (name, value)| text.replace(&format!("${name}"), value));
                fs::write(folder.join(name), text + "\n").unwrap();
                continue;
            }
            // What a reader does once, somewhere else; lines out of the middle of a file.
            "sh" | "rust,ignore" => continue,
            other => panic!("{page}: a block of {other}"),
        }
        for step in lines.join("\n").split("$ ").skip(1) {
            let (command, expected) = step.split_once('\n').unwrap_or((step, ""));
            let mut shell = Command::new("bash");
            shell.args(["-c", &format!("({command}) 2>&1")]).current_dir(folder);
            shell.envs(envs.iter().map(|(name, value)| (name, value))).env("PATH", &path).env_remove("CHARM_LOG");
            let output = shell.output().unwrap();
            let mut printed = String::from_utf8(output.stdout).unwrap();
            if !output.status.success() {
                printed += &format!("[exit {}]\n", output.status.code().unwrap());
            }
            let (printed, expected): (Vec<_>, Vec<_>) = (printed.lines().collect(), expected.lines().collect());
            let same = printed.len() == expected.len() && expected.iter().zip(&printed).all(|(e, p)| fits(e, p));
            assert!(same, "{page}: $ {command}\nexpected:\n{}\nprinted:\n{}", expected.join("\n"), printed.join("\n"));
            commands += 1;
        }
    }
    commands
}
