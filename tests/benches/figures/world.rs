//! Hosts and charms as benches need them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use charm_conformance::{component, root};
use charm_host::*;
use futures_util::future::join_all;
use tempfile::TempDir;

use crate::store::{self, Groups, Watched};

/// A chain of `turn` ends here: all its events are integers of one length.
pub const BASE: u32 = 100_000;

/// What `link` gives a charm to read when its turns send to itself.
pub const INPUT: [u8; 98] = [7; 98];

/// Returns a folder on the disk of the repository: one for temporary files may be in memory.
pub fn folder() -> TempDir {
    tempfile::Builder::new().prefix("bench-").tempdir_in(root().join("target")).unwrap()
}

/// Returns what to build a host from: no rate of writing, no chain that is late, room in every inbox. A bench writes for as
/// long as it runs.
pub fn builder() -> HostBuilder {
    // Not the builder of the tests, whose subscriber sees every span.
    Host::builder().code_cache(root().join("target/test-code")).compiler(Compiler::InProcess).limits(limits())
}

/// Returns its limits.
pub fn limits() -> Limits {
    Limits {
        disk_bytes_per_second: 1 << 48,
        chain_events_per_second: 1 << 48,
        inbox_events_max: 2_000_000,
        ..Limits::default()
    }
}

/// A host on a store on disk.
pub struct Durable {
    pub host: Host,
    pub groups: Groups,
}

/// Opens a host on the store of a folder.
pub async fn durable(folder: &Path) -> Durable {
    let groups = Groups::default();
    let store = Watched { store: store::open(folder), groups: groups.clone() };
    let keys = FileKeyring::open(folder.join("keys")).unwrap();
    Durable { host: builder().store(store).keyring(keys).open().await.unwrap(), groups }
}

/// Installs so many charms, of so many components that do the same.
pub async fn install(host: &Host, range: std::ops::Range<usize>, components: usize) -> Vec<Did> {
    let bytes = component("bench");
    // One copy of the bytes of each, which all charms of it share.
    let variants: Vec<Component> = (0..components).map(|number| variant(&bytes, number).into()).collect();
    let charms = range.map(|number| Charm::new(format!("c{number}"), variants[number % components].clone()));
    host.install_all(charms.collect()).await.unwrap()
}

/// Returns the component with other bytes: a section more, that nothing reads.
pub fn variant(bytes: &[u8], number: usize) -> Vec<u8> {
    let name = number.to_string();
    // Custom section 0: its length, the length of its name, its name.
    [bytes, &[0, name.len() as u8 + 1, name.len() as u8], name.as_bytes()].concat()
}

/// Returns the event after which so many turns follow.
pub fn turns_left(left: u32) -> Value {
    Value::encode(&(BASE + left)).unwrap()
}

/// Sends one event to each of many charms, all at once.
pub async fn request_all(host: &Host, charms: &[Did], stream: &str, payload: impl Fn(usize) -> Value) {
    let requests = charms.iter().enumerate().map(|(n, charm)| host.request(NewEvent::new(*charm, stream, payload(n))));
    for receipt in join_all(requests).await {
        let receipt = receipt.unwrap();
        assert_eq!(receipt.outcome, Outcome::Committed, "{:?}", receipt.message);
    }
}

/// Makes each charm's turns send to itself.
pub async fn chains(host: &Host, charms: &[Did]) {
    request_all(host, charms, "link", |_| Value::encode(&serde_bytes(&INPUT)).unwrap()).await;
}

/// Makes each charm's turns send to the next charm.
pub async fn ring(host: &Host, charms: &[Did]) {
    for (number, charm) in charms.iter().enumerate() {
        let owner = charms[(number + 1) % charms.len()];
        host.grant(*charm, Right::Send { owner, streams: Names::only(["turn"]) }).await.unwrap();
    }
    request_all(host, charms, "link", |n| Value::encode(&charms[(n + 1) % charms.len()].to_string()).unwrap()).await;
}

fn serde_bytes(bytes: &[u8]) -> ipld_core::ipld::Ipld {
    ipld_core::ipld::Ipld::Bytes(bytes.to_vec())
}

/// Starts so many turns at each charm, each sent by the one before, and waits until all are durable.
pub async fn run(host: &Host, charms: &[Did], turns: u32) -> Duration {
    let before = host.counters().committed;
    let start = Instant::now();
    begin(host, charms, turns).await;
    host.settled().await.unwrap();
    let time = start.elapsed();
    assert_eq!(host.counters().committed - before, u64::from(turns) * charms.len() as u64, "every turn commits");
    time
}

/// Starts so many turns at each charm.
pub async fn begin(host: &Host, charms: &[Did], turns: u32) {
    let sends = charms.iter().map(|charm| host.send(NewEvent::new(*charm, "turn", turns_left(turns - 1))));
    for sent in join_all(sends).await {
        sent.unwrap();
    }
}

/// Returns the processor time of this process, in seconds.
pub fn processor() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name: user and system time are the 12th and 13th, in hundredths.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
