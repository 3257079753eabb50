//! The process is killed while turns wait, sleep and are tried again, and events are delayed and withdrawn.

use std::time::SystemTime;

use charm_conformance::{Ledger, cell, counted, seed, times, until};
use charm_host::Body;

use super::{
    place::Place,
    victim::{Moments, Victim},
};

/// Kills of the short form.
const ROUNDS: u64 = 12;

/// Whatever a turn waits for, it has its effect once: what was done is not done again, what is due later is not lost, and what was
/// withdrawn does not come. (S2, S7, S8, S10, S13)
#[tokio::test(flavor = "multi_thread")]
async fn killing_the_process_doubles_and_loses_nothing_of_what_waits() {
    let (rounds, mut moments) = (times(ROUNDS), Moments::new(seed()));
    let date = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    let folder = tempfile::tempdir().unwrap();
    let mut place = Place::new(folder.path());
    for _ in 0..rounds {
        let mut victim = Victim::spawn(&place, "times", &[place.first(), date], &[]);
        moments.pass(&mut victim);
        let said = victim.kill();
        moments.note(&said);
        place.crashed(&said);
    }
    let host = place.builder().open().await.unwrap();
    let dids = place.install(&host).await;
    until("all is settled", || counted(&host).waiting == 0).await;
    let mut notes: Vec<u64> = serde_json::from_value(cell(&host, dids["b"], "notes").await).unwrap();
    host.shutdown().await.unwrap();
    let archive = place.archive();
    Ledger::check(&archive).all_settled();
    let commits = archive.commits(Some(&dids["a"]), 0, usize::MAX >> 1).unwrap();
    let of = |kind: fn(&Body) -> bool| commits.iter().filter(|commit| kind(&commit.record.body)).count();
    let events = of(|body| matches!(body, Body::Accepted(_)));
    let (waits, tries) = (of(|body| matches!(body, Body::Segment(_))), of(|body| matches!(body, Body::Retried(_))));
    notes.sort();
    assert_eq!(notes.len(), events, "a note for each event");
    notes.dedup();
    assert_eq!(notes.len(), events, "each once");
    let missing = place.acknowledged.keys().find(|number| notes.binary_search(number).is_err());
    assert_eq!(missing, None, "no effect is missing");
    eprintln!("{}", moments.report("kills", rounds));
    eprintln!("{events} events with {waits} waits and {tries} tries, 0 lost, 0 doubled");
}
