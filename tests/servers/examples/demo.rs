//! Two charms and one expired token, told line by line: `cargo xtask demo`.
//!
//! gmail-search searches a mailbox with a token that google-auth keeps. The OAuth and the mail server are real
//! HTTP servers of this process. Everything printed is read back from the store or counted by the servers, and a
//! step that does not go as told ends the demo. The store stays behind, to be looked at.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it tells a story on the terminal")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use charm_demo_servers::{
    mail::MailServer,
    oauth::{OauthOptions, OauthServer},
};
use charm_host::{
    Archive, Compiler, Did, EventId, FileKeyring, FolderStore, Host, Manifest, NewEvent, Outcome, Receipt, Sent, Turn,
    Value,
};
use serde_json::{Value as Json, json};

/// Longest wait for one event.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> ExitCode {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "target/demo".to_owned()));
    match tell(&folder).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Everyone on the stage.
struct Stage {
    oauth: OauthServer,
    mail: MailServer,
    host: Host,
    store: PathBuf,
    auth: Did,
    search: Did,
}

async fn tell(folder: &Path) -> Result<()> {
    let stage = Stage::set(folder).await?;
    stage.first_search().await?;
    stage.the_mistake().await?;
    stage.the_refresh().await?;
    stage.the_proof()?;
    stage.host.shutdown().await.context("the host did not shut down")
}

impl Stage {
    /// Starts the servers, writes a manifest for them, opens a host on it.
    async fn set(folder: &Path) -> Result<Stage> {
        let oauth = OauthServer::start(OauthOptions::default()).await.context("cannot start the OAuth server")?;
        let mail = MailServer::start(oauth.token_check()).await.context("cannot start the mail server")?;
        let manifest = prepare(folder, &oauth.url(), &mail.url())?;
        let manifest = Manifest::load(&manifest)?;
        let host = Host::builder()
            .store(FolderStore::open(&manifest.store)?)
            .keyring(FileKeyring::open(&manifest.keys)?)
            .code_cache(fs::canonicalize(folder)?.join("cache"))
            .compiler(Compiler::InProcess)
            .open()
            .await?;
        let dids = manifest.install(&host).await?;
        let did = |name: &str| dids.get(name).copied().with_context(|| format!("no charm {name}"));
        let (auth, search) = (did("google-auth")?, did("gmail-search")?);
        let store = manifest.store;

        println!("Who is who");
        println!("  google-auth   {auth}  keeps an OAuth grant, lends the access token");
        println!("  gmail-search  {search}  searches mail with that token");
        println!("  operator      {}  you: sends the events below", host.operator());
        println!("  OAuth server  {}  a refresh token works once; used twice, it revokes the grant", oauth.url());
        println!("  mail server   {}  answers 401 to a stale token", mail.url());
        println!(
            "  gmail-search may read the cell token of google-auth and send to its stream refresh-token: charms.toml"
        );
        let stage = Stage { oauth, mail, host, store, auth, search };
        let connect = json!({
            "token_url": stage.oauth.token_url(), "client_id": stage.oauth.client_id(),
            "client_secret": stage.oauth.client_secret(), "refresh_token": stage.oauth.refresh_token(),
        });
        stage.send(stage.auth, "connect", connect).await?;
        stage.send(stage.search, "configure", json!({ "api": stage.mail.url() })).await?;
        Ok(stage)
    }

    /// The first search finds no token yet.
    async fn first_search(&self) -> Result<()> {
        println!("\n1. The first search: there is no token yet, so one is fetched");
        let asked = self.search_for("invoice").await?;
        self.follow(asked).await?;
        ensure!(self.oauth.refreshes() == 1, "the OAuth server counted {} refreshes, not 1", self.oauth.refreshes());
        self.print_results("invoice").await
    }

    /// Writing into the other charm's cell is refused.
    async fn the_mistake(&self) -> Result<()> {
        println!("\n2. The token expires");
        self.oauth.expire_all_access_tokens();
        println!("  the OAuth server takes back every access token; what google-auth holds is stale");
        println!("\n3. The mistake: gmail-search writes a token of its own into the cell of google-auth");
        let before = self.json(self.auth, "token").await?;
        self.send(self.search, "search-wrong", json!({ "query": "lunch" })).await?;
        let refusal = self.json(self.search, "refused").await?;
        let text = refusal.as_str().context("gmail-search stored no refusal")?;
        let words = format!(
            "Can not open transaction writer for {} because transaction has writer open for {}",
            self.auth, self.search
        );
        ensure!(text.starts_with(&words), "the refusal reads otherwise: {text}");
        println!("  the host refuses the write; gmail-search reads the refusal and stores it:");
        println!("    {text}");
        ensure!(before == self.json(self.auth, "token").await?, "the token changed");
        println!("  the token is as it was; the transaction of gmail-search stayed usable and committed");
        Ok(())
    }

    /// The way out: an event to the owner, and the receipt as an event of one's own.
    async fn the_refresh(&self) -> Result<()> {
        println!("\n4. The way: gmail-search searches, meets the stale token, and asks google-auth");
        let old = self.json(self.auth, "token").await?;
        let (refreshes, refused) = (self.oauth.refreshes(), self.mail.refused());
        let asked = self.search_for("lunch").await?;
        ensure!(self.mail.refused() == refused + 1, "the mail server did not refuse the stale token");
        println!("  that search had met the stale token: the mail server answered it with 401");
        self.follow(asked).await?;
        let new = self.json(self.auth, "token").await?;
        ensure!(old["access"] != new["access"], "the token did not change");
        println!("  token version {} -> {}", old["version"], new["version"]);
        self.print_results("lunch").await?;
        let counted = self.oauth.refreshes() - refreshes;
        ensure!(counted == 1, "the OAuth server counted {counted} refreshes for one expired token");
        ensure!(self.oauth.reuses() == 0, "a refresh token was used twice");
        ensure!(self.oauth.grant_alive(self.oauth.refresh_token()), "the grant is revoked");
        println!("  the OAuth server counted exactly 1 refresh for it, no token used twice; the grant lives");
        Ok(())
    }

    /// Both spaces prove themselves.
    fn the_proof(&self) -> Result<()> {
        println!("\n5. The proof: commits are chained and signed by each charm's key");
        for (name, did) in [("google-auth", self.auth), ("gmail-search", self.search)] {
            let proof = self.host.verify(&did)?;
            let head: String = proof.head[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            println!("  {name:<12}  {} commits, signed up to commit {}, head {head}…", proof.commits, proof.signed);
            ensure!(proof.commits > 0, "{name} proved nothing");
        }
        Ok(())
    }

    /// Sends as the operator; anything but a commit ends the demo.
    async fn send(&self, to: Did, stream: &str, event: Json) -> Result<Receipt> {
        let request = self.host.request(NewEvent::new(to, stream, &event));
        let receipt = tokio::time::timeout(PATIENCE, request).await;
        let receipt = receipt.with_context(|| format!("{stream} did not settle in {} s", PATIENCE.as_secs()))??;
        let message = receipt.message.as_deref().unwrap_or_default();
        ensure!(receipt.outcome == Outcome::Committed, "{stream} ended as {}: {message}", receipt.outcome);
        let commit = receipt.commit.unwrap_or_default();
        println!("  operator sends {stream} to {}; it commits as its commit {commit}", self.name(&to));
        Ok(receipt)
    }

    /// Sends a search; returns the event that gmail-search sent on to google-auth.
    async fn search_for(&self, query: &str) -> Result<Sent> {
        let receipt = self.send(self.search, "search", json!({ "query": query })).await?;
        let sent = self.turn(self.search, &receipt)?.sends.into_iter().next().context("the search sent nothing")?;
        let on_commit = sent.event.on_commit.as_ref().context("the search named no stream for the receipt")?;
        ensure!(sent.event.to == self.auth && &*on_commit.stream == "refreshed", "the search sent something else");
        println!("  with that commit gmail-search sends {} to google-auth", sent.event.stream);
        println!("  and names its own stream {} for the receipt (on-commit)", on_commit.stream);
        Ok(sent)
    }

    /// Tells what came of the event that gmail-search sent: two more transactions, one for each charm.
    async fn follow(&self, asked: Sent) -> Result<()> {
        let receipt = self.settled(&asked.event.id).await?;
        let turn = self.turn(self.auth, &receipt)?;
        let writes: Vec<&str> = turn.writes.iter().map(|write| &*write.name).collect();
        ensure!(writes.contains(&"token") && writes.contains(&"grant"), "google-auth wrote {writes:?}");
        println!("  google-auth calls the OAuth server in its own transaction, for {}", self.auth);
        println!(
            "  and stores {} with its commit {}: new access token, rotated refresh token",
            writes.join(" and "),
            receipt.commit.unwrap_or_default()
        );

        let back = turn.sends.into_iter().find(|sent| sent.event.receipt_of == Some(asked.event.id));
        let back = back.context("no receipt went back")?.event;
        let payload: Json = back.payload.decode()?;
        let status = &payload["receipt"];
        let bytes = Value::encode(status)?.as_bytes().len();
        println!("  gmail-search gets the receipt as an event: status only, {bytes} bytes");
        println!("    outcome {}, commit {}, message {}", status["outcome"], status["commit"], status["message"]);
        let token = self.json(self.auth, "token").await?;
        let access = token["access"].as_str().context("google-auth holds no token")?;
        let carried = String::from_utf8_lossy(back.payload.as_bytes()).contains(access);
        ensure!(
            !carried && status.as_object().is_some_and(|map| map.len() == 4),
            "the receipt carries more than status"
        );

        let receipt = self.settled(&back.id).await?;
        let turn = self.turn(self.search, &receipt)?;
        ensure!(turn.sender == self.search, "somebody else finished the search");
        println!("  gmail-search goes on in a fresh transaction of its own, for {}", self.search);
        let commit = receipt.commit.unwrap_or_default();
        println!("  reads the new token, searches, and stores results with its commit {commit}");
        Ok(())
    }

    async fn settled(&self, id: &EventId) -> Result<Receipt> {
        let receipt = tokio::time::timeout(PATIENCE, self.host.receipt(id)).await;
        let receipt = receipt.with_context(|| format!("event {id} did not settle in {} s", PATIENCE.as_secs()))??;
        let receipt = receipt.with_context(|| format!("no event {id}"))?;
        let message = receipt.message.as_deref().unwrap_or_default();
        ensure!(receipt.outcome == Outcome::Committed, "event {id} ended as {}: {message}", receipt.outcome);
        Ok(receipt)
    }

    /// Reads the turn of the commit that a receipt names, from the store's file.
    fn turn(&self, space: Did, receipt: &Receipt) -> Result<Turn> {
        let commits = Archive::open(FolderStore::open_read_only(&self.store)?)?.commits(Some(&space), 0, 1_000)?;
        let commit = commits.into_iter().find(|commit| Some(commit.record.seq) == receipt.commit);
        let turn = commit.and_then(|commit| commit.record.turn().cloned());
        turn.with_context(|| format!("{} has no commit {:?}", self.name(&space), receipt.commit))
    }

    async fn json(&self, owner: Did, cell: &str) -> Result<Json> {
        let value = self.host.get(&owner, cell, "").await?;
        value.with_context(|| format!("no value in {cell} of {}", self.name(&owner)))
    }

    async fn print_results(&self, query: &str) -> Result<()> {
        let results = self.json(self.search, "results").await?;
        ensure!(results["query"] == query, "the results are for {}", results["query"]);
        let Some(messages) = results["messages"].as_array() else { bail!("no messages") };
        ensure!(messages.len() == 2, "{} messages instead of 2", messages.len());
        println!("  results for {query}:");
        for message in messages {
            println!("    {} {}", message["id"].as_str().unwrap_or("?"), message["subject"].as_str().unwrap_or("?"));
        }
        Ok(())
    }

    fn name(&self, did: &Did) -> &'static str {
        if *did == self.auth { "google-auth" } else { "gmail-search" }
    }
}

/// Makes the folder anew: components and a manifest that allows what the story needs.
fn prepare(folder: &Path, oauth: &str, mail: &str) -> Result<PathBuf> {
    let manifest = folder.join("charms.toml");
    if folder.exists() {
        ensure!(manifest.exists(), "{} is no folder of this demo: name another", folder.display());
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let built = Path::new("target/charms");
    for name in ["google-auth.wasm", "gmail-search.wasm"] {
        let copied = fs::copy(built.join(name), folder.join(name));
        copied.with_context(|| format!("target/charms/{name} is missing: run cargo xtask charms"))?;
    }
    let text = format!(
        r#"# Written by the demo. The origins are its own servers; they ended with it.
[charm.google-auth]
component = "google-auth.wasm"
http = [{{ origin = "{oauth}", methods = ["POST"] }}]

[charm.gmail-search]
component = "gmail-search.wasm"
http = [{{ origin = "{mail}", methods = ["GET"] }}]
grant = [{{ charm = "google-auth", read = ["token"], send = ["refresh-token"] }}]
"#
    );
    fs::write(&manifest, text).with_context(|| format!("cannot write {}", manifest.display()))?;
    Ok(manifest)
}
