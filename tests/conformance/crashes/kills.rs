//! The process is killed.

use charm_conformance::{seed, times};

use super::{
    place::Place,
    victim::{Moments, Victim},
};

/// Kills of the short form.
const ROUNDS: u64 = 1_000;
/// Kills on one store. A new one then: replaying the log takes as long as the log is.
const ROUNDS_PER_STORE: u64 = 40;
/// Stores at once.
const LANES: u64 = 3;

/// A host is killed at random moments (while it starts, works and shuts down) and started again; each time what
/// was not acknowledged is sent again under the same ids. (S2, S3, S6, S9, T5, T8, I3)
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killing_the_process_loses_nothing_acknowledged_and_doubles_nothing() {
    let (rounds, seed) = (times(ROUNDS), seed());
    let stores = rounds.div_ceil(ROUNDS_PER_STORE);
    let lane = |lane: u64| async move {
        let (mut moments, mut events, mut acknowledged) = (Moments::new(seed + lane), 0, 0);
        for store in (lane..stores).step_by(LANES as usize) {
            let folder = tempfile::tempdir().unwrap();
            let mut place = Place::new(folder.path());
            for _ in 0..ROUNDS_PER_STORE.min(rounds - store * ROUNDS_PER_STORE) {
                let mut victim = Victim::start(&place);
                moments.pass(&mut victim);
                let said = victim.kill();
                moments.note(&said);
                place.crashed(&said);
            }
            place.check();
            events += place.finish().await;
            acknowledged += place.acknowledged.len();
        }
        (moments, events, acknowledged)
    };
    let lanes: Vec<_> = (0..LANES).map(|number| tokio::spawn(lane(number))).collect();
    let (mut moments, mut events, mut acknowledged) = (Moments::new(seed), 0, 0);
    for lane in lanes {
        let (of_lane, its_events, its_acknowledged) = lane.await.unwrap();
        moments.add(&of_lane);
        events += its_events;
        acknowledged += its_acknowledged;
    }
    eprintln!("{}", moments.report("kills", rounds));
    eprintln!("{events} events, {acknowledged} acknowledged before a kill, 0 lost, 0 doubled");
}
