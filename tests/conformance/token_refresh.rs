//! The token refresh that both field reports are about, through the two example charms, over HTTP, against two
//! token servers: the small one in this process, and `oidc-provider`, which was written by others.
//!
//! Both servers rotate the refresh token at each use and revoke the grant when an old one comes back.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::TcpListener;

use charm_conformance::*;
use charm_demo_servers::{
    TokenServer,
    mail::MailServer,
    oauth::{OauthOptions, OauthServer},
    oidc::OidcServer,
};
use charm_host::{
    Archive, Charm, Commit, Did, Event, FolderStore, Host, HttpGrant, NewEvent, Outcome, Path, Receipt, Turn, Write,
};
use serde_json::{Value as Json, json};

async fn small() -> TokenServer {
    TokenServer::Oauth(OauthServer::start(OauthOptions::default()).await.unwrap())
}

/// None only where there is no Node; `start` says so on standard error.
async fn oidc() -> Option<TokenServer> {
    OidcServer::start().await.unwrap().map(TokenServer::Oidc)
}

/// One test for each server and story.
macro_rules! against_both {
    ($($story:ident),* $(,)?) => {
        mod with_the_small_server {
            $(#[tokio::test(flavor = "multi_thread")] async fn $story() { super::$story(super::small().await).await; })*
        }
        mod with_oidc_provider {
            $(#[tokio::test(flavor = "multi_thread")] async fn $story() {
                if let Some(server) = super::oidc().await { super::$story(server).await; }
            })*
        }
    };
}
against_both!(
    an_expired_token_is_refreshed_by_its_owner_and_the_search_goes_on_in_a_transaction_of_its_own,
    eight_consumers_whose_token_expires_cause_exactly_one_refresh,
    two_owners_of_one_grant_lose_it,
);

/// google-auth, connected, and as many gmail-search charms as wanted.
struct World {
    server: TokenServer,
    mail: MailServer,
    host: Host,
    home: Home,
    auth: Did,
    searches: Vec<Did>,
}

fn grant(url: &str, method: &str) -> HttpGrant {
    let origin = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    HttpGrant { origin, methods: vec![method.to_owned()], private: false }
}

impl World {
    /// Opens a host on disk and installs the charms; google-auth may also call `elsewhere`.
    async fn new(server: TokenServer, searches: usize, elsewhere: &str) -> World {
        let mail = MailServer::start(server.token_check()).await.unwrap();
        let home = Home::default();
        let host = home.open().await;
        let auth = Charm::new("google-auth", component("google-auth"))
            .may_call(grant(&server.token_url(), "POST"))
            .may_call(grant(elsewhere, "POST"));
        let auth = host.install(auth).await.unwrap();
        let mut world = World { server, mail, host, home, auth, searches: Vec::new() };
        for number in 0..searches {
            let search = Charm::new(format!("gmail-search-{number}"), component("gmail-search"))
                .may_call(grant(&world.mail.url(), "GET"))
                .may_read(auth, only(&["token"]))
                .may_send(auth, only(&["refresh-token"]));
            let search = world.host.install(search).await.unwrap();
            world.commit(search, "configure", json!({ "api": world.mail.url() })).await;
            world.searches.push(search);
        }
        world.connect(auth, &world.server.token_url()).await;
        world
    }

    async fn with(server: TokenServer, searches: usize) -> World {
        World::new(server, searches, "http://127.0.0.1:1").await
    }

    /// Gives a charm the grant made at the server's start, at this address.
    async fn connect(&self, auth: Did, token_url: &str) {
        let (id, secret) = (self.server.client_id(), self.server.client_secret());
        let refresh_token = self.server.refresh_token();
        let connect =
            json!({ "token_url": token_url, "client_id": id, "client_secret": secret, "refresh_token": refresh_token });
        self.commit(auth, "connect", connect).await;
    }

    async fn send(&self, to: Did, stream: &str, event: Json) -> Receipt {
        self.host.request(NewEvent::new(to, stream, value(event))).await.unwrap()
    }

    async fn commit(&self, to: Did, stream: &str, event: Json) -> u64 {
        let receipt = self.send(to, stream, event).await;
        assert_eq!(receipt.outcome, Outcome::Committed, "{stream}: {receipt:?}");
        receipt.commit.unwrap()
    }

    /// Has the first consumer search, to the end.
    async fn search(&self, query: &str) -> Receipt {
        self.send(self.searches[0], "search", json!({ "query": query })).await
    }

    /// Has all consumers search at once, and waits for all that follows.
    async fn search_all(&self, query: &str) {
        for search in &self.searches {
            self.host.send(NewEvent::new(*search, "search", value(json!({ "query": query })))).await.unwrap();
        }
        self.host.settled().await.unwrap();
    }

    async fn cell(&self, owner: Did, name: &str) -> Json {
        self.host.get(&owner, name, &Path::root()).await.unwrap().map_or(Json::Null, |found| json(&found))
    }

    /// Returns what the last search of a consumer that ended well was for.
    async fn searched(&self, search: Did) -> Json {
        self.cell(search, "results").await["query"].clone()
    }

    async fn refreshes(&self) -> u64 {
        self.server.refreshes().await.unwrap()
    }

    fn commits(&self, space: Did) -> Vec<Commit> {
        let store = FolderStore::open_read_only(self.home.store()).unwrap();
        Archive::open(store).unwrap().commits(Some(&space), 0, 10_000).unwrap()
    }

    /// Returns the commits in which this charm handled events.
    fn turns(&self, space: Did) -> Vec<(u64, Turn)> {
        let turn = |commit: Commit| Some((commit.order, commit.record.turn()?.clone()));
        self.commits(space).into_iter().filter_map(turn).collect()
    }

    /// Returns every event that this charm's commits sent.
    fn sent(&self, space: Did) -> Vec<Event> {
        let sends = |commit: Commit| commit.record.sends().map(|(event, _)| event.clone()).collect::<Vec<_>>();
        let events = self.commits(space).into_iter().flat_map(sends);
        events.filter(|event| event.sender == space).collect() // not what it was sent from outside
    }

    /// Asserts that the grant stands, that no token was used twice, and that one more refresh works.
    async fn assert_grant_lives(&self) {
        assert_eq!(self.server.reuses().await.unwrap(), 0);
        assert!(self.server.grant_alive(self.server.refresh_token()).await.unwrap());
        let before = self.refreshes().await;
        self.server.expire_all_access_tokens().await.unwrap();
        self.search("parcel").await;
        assert_eq!(self.searched(self.searches[0]).await, "parcel");
        assert_eq!(self.refreshes().await, before + 1);
    }

    async fn end(self) {
        for search in &self.searches {
            self.host.verify(search).unwrap();
        }
        self.host.verify(&self.auth).unwrap();
        self.host.shutdown().await.unwrap();
    }
}

/// T1, T2, S2, S5, S7: the whole story.
async fn an_expired_token_is_refreshed_by_its_owner_and_the_search_goes_on_in_a_transaction_of_its_own(
    server: TokenServer,
) {
    let world = World::with(server, 1).await;
    let (auth, search) = (world.auth, world.searches[0]);
    world.search("invoice").await;
    assert_eq!(world.searched(search).await, "invoice");
    let old = world.cell(auth, "token").await;

    world.server.expire_all_access_tokens().await.unwrap();
    let (refreshes, refused) = (world.refreshes().await, world.mail.refused());
    let searched = world.commit(search, "search", json!({ "query": "lunch" })).await;
    let results = world.cell(search, "results").await;
    assert_eq!((&results["query"], &results["messages"][0]["id"]), (&json!("lunch"), &json!("m2")));
    assert_eq!(world.refreshes().await, refreshes + 1);
    assert_eq!(world.mail.refused(), refused + 1, "the stale token was tried once");
    let new = world.cell(auth, "token").await;
    assert_ne!(new["access"], old["access"]);

    // Three commits, each for one DID: the search up to its wait, the refresh, the rest of the search.
    let commits = world.commits(search);
    let [.., asking, going_on] = &commits[..] else { panic!("two commits of the search") };
    let (refreshed, refreshing) = world.turns(auth).pop().unwrap();
    assert!(asking.order < refreshed && refreshed < going_on.order, "one after the other");
    assert_eq!((going_on.record.seq, going_on.record.handles()), (searched, asking.record.handles()), "one event");
    let waited = asking.record.segment().unwrap();
    assert!(waited.writes.is_empty(), "the search with the stale token wrote nothing");
    assert_eq!((waited.sends.len(), &*waited.sends[0].event.stream), (1, "refresh-token"));
    assert_eq!(waited.wait.events, [waited.sends[0].event.id]);
    let written = |writes: &[Write]| writes.iter().map(|write| write.name.to_string()).collect::<Vec<_>>();
    assert_eq!(written(&refreshing.writes), ["grant", "token"]);
    assert_eq!(written(going_on.record.writes()), ["results"]);

    // What became of the refresh is a status; nothing else came back from its owner.
    let Receipt { id, outcome, message, .. } = refreshing.receipt;
    assert_eq!((id, outcome, message), (waited.sends[0].event.id, Outcome::Committed, None));
    assert!(refreshing.sends.is_empty());
    world.assert_grant_lives().await;
    world.end().await;
}

/// T4, S3: the owner handles one event after the other, so it alone decides that one refresh is enough.
async fn eight_consumers_whose_token_expires_cause_exactly_one_refresh(server: TokenServer) {
    let world = World::with(server, 8).await;
    world.search_all("invoice").await;
    assert_eq!(world.refreshes().await, 1, "no token at first: all eight asked for one");
    for query in ["lunch", "minutes"] {
        world.server.expire_all_access_tokens().await.unwrap();
        let (refreshes, refused) = (world.refreshes().await, world.mail.refused());
        world.search_all(query).await;
        assert!(world.mail.refused() > refused);
        assert_eq!(world.refreshes().await, refreshes + 1);
        for search in &world.searches {
            assert_eq!(world.searched(*search).await, query);
            assert_eq!(world.host.dead_letters(search, 0, usize::MAX).unwrap(), []);
        }
    }
    world.assert_grant_lives().await;
    world.end().await;
}

/// T4, S3: also when all eight have asked before the first answer is there.
#[tokio::test(flavor = "multi_thread")]
async fn eight_consumers_that_ask_while_the_refresh_is_under_way_cause_no_second_one() {
    let world = World::with(small().await, 8).await;
    let TokenServer::Oauth(server) = &world.server else { panic!("the small server") };
    world.search_all("invoice").await;
    server.expire_all_access_tokens();
    server.hold_answers();
    for search in &world.searches {
        world.host.send(NewEvent::new(*search, "search", value(json!({ "query": "lunch" })))).await.unwrap();
    }
    server.wait_for_held(1).await;
    until("eight searches wait for eight refreshes", || world.host.counters().waiting == 16).await;
    assert_eq!(world.mail.refused(), 8, "each met the stale token");
    assert_eq!(waiting(&world.host, world.auth).await.len(), 8, "one runs, seven wait");
    for search in &world.searches {
        world.commit(*search, "search-wrong", json!({ "query": "lunch" })).await; // who waits takes other events (S7)
    }
    server.release_answers();
    world.host.settled().await.unwrap();
    for search in &world.searches {
        assert_eq!(world.searched(*search).await, "lunch");
    }
    assert_eq!(server.refreshes(), 2);
    world.assert_grant_lives().await;
    world.end().await;
}

/// The control: refreshing in more than one place, which the eight do not do, is what kills a grant. Without
/// this the test above could pass against a server that forgives everything.
async fn two_owners_of_one_grant_lose_it(server: TokenServer) {
    let world = World::with(server, 1).await;
    let second = Charm::new("second-auth", component("google-auth")).may_call(grant(&world.server.token_url(), "POST"));
    let second = world.host.install(second).await.unwrap();
    world.connect(second, &world.server.token_url()).await;
    world.commit(world.auth, "refresh-token", json!({ "stale_version": 0 })).await;
    for auth in [second, world.auth] {
        let stale_version = if auth == second { 0 } else { 1 };
        let receipt = world.send(auth, "refresh-token", json!({ "stale_version": stale_version })).await;
        assert_eq!(receipt.outcome, Outcome::Rejected);
        assert_eq!(receipt.message.unwrap(), "the token server refused: 400 invalid_grant");
    }
    assert_eq!(world.server.reuses().await.unwrap(), 1);
    assert!(!world.server.grant_alive(world.server.refresh_token()).await.unwrap());
    world.end().await;
}

/// Asserts that a search fails, that its receipt says why the refresh did, and that both charms are as they were.
async fn assert_search_fails(world: &World, before: (Json, Json), message: &str) {
    let search = world.searches[0];
    let receipt = world.search("lunch").await;
    assert_eq!(receipt.outcome, Outcome::Rejected, "{receipt:?}");
    let told = receipt.message.unwrap();
    assert!(told.starts_with("the event was rejected: ") && told.contains(message) && told.len() < 200, "{told}");
    let asking = world.commits(search).into_iter().rev().find(|commit| Some(commit.record.seq) == receipt.commit);
    assert!(asking.unwrap().record.segment().unwrap().writes.is_empty(), "what was committed is that it asked (T6)");
    assert_eq!((world.cell(search, "results").await, world.cell(world.auth, "token").await), before);
}

/// S4, T6
#[tokio::test(flavor = "multi_thread")]
async fn a_token_server_that_fails_rejects_the_refresh_leaves_no_trace_and_a_later_search_works() {
    let world = World::with(small().await, 1).await;
    let TokenServer::Oauth(server) = &world.server else { panic!("the small server") };
    world.search("invoice").await;
    let before = (world.cell(world.searches[0], "results").await, world.cell(world.auth, "token").await);
    server.expire_all_access_tokens();
    for (status, message) in [(500, "500"), (503, "503"), (302, "302")] {
        server.fail_next(1, status);
        assert_search_fails(&world, before.clone(), message).await;
    }
    assert_eq!(server.refreshes(), 1, "a failed exchange is not tried again by the host");
    world.search("lunch").await;
    assert_eq!(world.searched(world.searches[0]).await, "lunch");
    world.assert_grant_lives().await;
    world.end().await;
}

/// S4, T6
#[tokio::test(flavor = "multi_thread")]
async fn a_token_server_that_is_away_rejects_the_refresh_leaves_no_trace_and_a_later_search_works() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed = format!("http://{closed}/token");
    let world = World::new(small().await, 1, &closed).await;
    world.connect(world.auth, &closed).await;
    assert_search_fails(&world, (Json::Null, Json::Null), "connection").await;
    world.connect(world.auth, &world.server.token_url()).await;
    world.search("invoice").await;
    assert_eq!(world.searched(world.searches[0]).await, "invoice");
    world.assert_grant_lives().await;
    world.end().await;
}

/// A3: an origin that no grant covers is not even called.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_without_the_grant_calls_nobody() {
    let world = World::with(small().await, 1).await;
    let auth = world.host.install(Charm::new("second-auth", component("google-auth"))).await.unwrap();
    world.connect(auth, &world.server.token_url()).await;
    let receipt = world.send(auth, "refresh-token", json!({ "stale_version": 0 })).await;
    assert_eq!((receipt.outcome, world.refreshes().await), (Outcome::Rejected, 0));
    assert!(receipt.message.as_ref().unwrap().contains("no grant"), "{receipt:?}");
    world.end().await;
}

/// T2: the mistake that the first report is about, and the story goes on after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_writes_the_token_is_refused_with_the_exact_words_and_the_token_stays() {
    let world = World::with(small().await, 1).await;
    let (auth, search) = (world.auth, world.searches[0]);
    world.search("invoice").await;
    let (token, commits) = (world.cell(auth, "token").await, world.commits(auth).len());
    world.commit(search, "search-wrong", json!({ "query": "lunch" })).await;
    let words = format!("Can not open transaction writer for {auth} because transaction has writer open for {search}");
    assert!(world.cell(search, "refused").await.as_str().unwrap().starts_with(&words));
    assert_eq!((world.cell(auth, "token").await, world.commits(auth).len()), (token, commits));
    world.assert_grant_lives().await;
    world.end().await;
}

/// S5, T7: what must stay secret is in the two cells of google-auth and in the operator's own event, nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_stand_in_no_receipt_no_dead_letter_no_event_and_no_log() {
    let logs = Logs::capture();
    let world = World::with(small().await, 2).await;
    let TokenServer::Oauth(server) = &world.server else { panic!("the small server") };
    let mut secrets = vec![server.refresh_token().to_owned(), server.client_secret().unwrap().to_owned()];
    let mut receipts = Vec::new();
    for round in 0..3 {
        world.search_all("lunch").await;
        let (token, kept) = (world.cell(world.auth, "token").await, world.cell(world.auth, "grant").await);
        secrets.push(token["access"].as_str().unwrap().to_owned());
        secrets.push(kept["connect"]["refresh_token"].as_str().unwrap().to_owned());
        server.expire_all_access_tokens();
        server.fail_next(round % 2, 500);
        receipts.push(world.search("minutes").await);
    }
    secrets.sort();
    secrets.dedup();
    assert!(secrets.len() >= 6, "secrets of three refreshes: {}", secrets.len());

    let mut told = String::new();
    for charm in [world.auth, world.searches[0], world.searches[1]] {
        for event in world.sent(charm) {
            told += &json(&event.payload).to_string();
        }
        for letter in world.host.dead_letters(&charm, 0, usize::MAX).unwrap() {
            told += &format!("{letter:?} {}", json(&letter.event.payload));
        }
        for commit in world.commits(charm) {
            told += &format!("{commit:?}");
            receipts.extend(commit.record.turn().map(|turn| turn.receipt.clone()));
        }
    }
    told += &format!("{receipts:?}");
    assert!(told.contains("the token server refused: 500"), "a failed refresh is among it");
    let log = logs.text();
    assert!(log.contains(&world.auth.to_string()), "the log is captured");
    for secret in &secrets {
        assert!(secret.len() > 20, "long enough to be looked for");
        assert!(!told.contains(secret.as_str()), "a secret is in a receipt, a dead letter or an event");
        assert!(!log.contains(secret.as_str()), "a secret is in the log");
    }
    world.end().await;
}
