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
    Archive, Commit, Compiler, Did, FileKeyring, FolderStore, Host, Manifest, NewEvent, Outcome, Receipt,
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
        self.search_for("invoice").await?;
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

    /// The way out: an event to the owner, and a wait for what becomes of it.
    async fn the_refresh(&self) -> Result<()> {
        println!("\n4. The way: gmail-search searches, meets the stale token, asks google-auth, and waits");
        let old = self.json(self.auth, "token").await?;
        let (refreshes, refused) = (self.oauth.refreshes(), self.mail.refused());
        self.search_for("lunch").await?;
        ensure!(self.mail.refused() == refused + 1, "the mail server did not refuse the stale token");
        println!("  the mail server answered 401 to the stale token, once");
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

    /// Sends as the operator, and tells of it.
    async fn send(&self, to: Did, stream: &str, event: Json) -> Result<()> {
        let commit = self.request(to, stream, event).await?.commit.unwrap_or_default();
        println!("  operator sends {stream} to {}; it commits as its commit {commit}", self.name(&to));
        Ok(())
    }

    /// Sends as the operator; anything but a commit ends the demo.
    async fn request(&self, to: Did, stream: &str, event: Json) -> Result<Receipt> {
        let request = self.host.request(NewEvent::new(to, stream, &event));
        let receipt = tokio::time::timeout(PATIENCE, request).await;
        let receipt = receipt.with_context(|| format!("{stream} did not settle in {} s", PATIENCE.as_secs()))??;
        let message = receipt.message.as_deref().unwrap_or_default();
        ensure!(receipt.outcome == Outcome::Committed, "{stream} ended as {}: {message}", receipt.outcome);
        Ok(receipt)
    }

    /// Sends a search that finds no good token, and tells its three commits: two of gmail-search, one of google-auth.
    async fn search_for(&self, query: &str) -> Result<()> {
        println!("  operator sends search to gmail-search");
        let ended = self.request(self.search, "search", json!({ "query": query })).await?;
        let commits = self.commits(self.search)?;
        let [.., asking, going_on] = &commits[..] else { bail!("gmail-search has too few commits") };
        let waited = asking.record.segment().context("the search did not wait")?;
        ensure!(waited.event == ended.id && ended.commit == Some(going_on.record.seq), "other events came between");
        let [sent] = &waited.sends[..] else { bail!("the search sent {} events", waited.sends.len()) };
        ensure!(sent.event.to == self.auth && waited.wait.events == [sent.event.id], "the search waited for another");
        println!(
            "  gmail-search sends {} to google-auth with its commit {}, and waits",
            sent.event.stream, asking.record.seq
        );

        let refreshing = self.commits(self.auth)?.pop().context("google-auth has no commits")?;
        let turn = refreshing.record.turn().context("google-auth handled nothing")?;
        ensure!(turn.receipt.id == sent.event.id, "google-auth handled something else");
        let writes: Vec<&str> = turn.writes.iter().map(|write| &*write.name).collect();
        ensure!(writes.contains(&"token") && writes.contains(&"grant"), "google-auth wrote {writes:?}");
        println!("  google-auth calls the OAuth server in its own transaction, for {}", self.auth);
        println!(
            "  and stores {} with its commit {}: new access token, rotated refresh token",
            writes.join(" and "),
            refreshing.record.seq
        );
        let Receipt { outcome, commit, message, .. } = &turn.receipt;
        ensure!(turn.sends.is_empty() && message.is_none(), "google-auth told more than status");
        println!("  all that gmail-search is told: {outcome}, commit {}", commit.unwrap_or_default());

        let order = [asking.order, refreshing.order, going_on.order];
        ensure!(order.is_sorted(), "the commits are in the order {order:?}");
        println!("  gmail-search goes on in a fresh transaction of its own, for {}", self.search);
        println!("  reads the new token, searches, and stores results with its commit {}: done", going_on.record.seq);
        Ok(())
    }

    /// Reads the commits of a space, from the store's file.
    fn commits(&self, space: Did) -> Result<Vec<Commit>> {
        Ok(Archive::open(FolderStore::open_read_only(&self.store)?)?.commits(Some(&space), 0, 1_000)?)
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
