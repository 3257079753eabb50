//! Embeds a host: `cargo run --example embed -- target/charms/counter.wasm`.

#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr, reason = "a program, not the library")]

use std::process::ExitCode;

use charm_host::{Charm, Compiler, FileKeyring, FolderStore, Host, NewEvent};

fn main() -> ExitCode {
    // Components are compiled in a process of their own, which is this program again.
    if let Some(exit) = charm_host::compile_helper(std::env::args_os()) {
        return exit;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let component = std::fs::read(std::env::args().nth(1).ok_or("name a component file")?)?;
    let folder = std::env::temp_dir().join(format!("charm-embed-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let host = Host::builder()
        .store(FolderStore::open(folder.join("charm"))?)
        .keyring(FileKeyring::open(folder.join("keys"))?)
        .code_cache(folder.join("cache"))
        .compiler(Compiler::Helper(std::env::current_exe()?))
        .open()
        .await?;
    let counter = host.install(Charm::new("counter", component)).await?;
    for step in [1, 2, 3] {
        let receipt = host.request(NewEvent::new(counter, "add", &step)).await?.committed()?;
        println!("added {step} as commit {:?}", receipt.commit);
    }
    let count = host.get::<i64>(&counter, "count", "").await?.ok_or("no count")?;
    println!("{counter} counted {count}");
    host.shutdown().await?;
    Ok(std::fs::remove_dir_all(folder)?)
}
