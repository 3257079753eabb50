//! Good neighbours: honest charms that work beside an attack. What they waited for is counted, not timed: on a busy
//! machine everything takes longer, but nobody has more turns.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;

/// Honest charms; each asks for one turn after another.
pub struct Neighbours {
    charms: Vec<Did>,
    /// Turns that each has had, since it was installed.
    turns: Vec<AtomicU64>,
}

/// What the neighbours met beside an attack.
#[derive(Clone, Copy, Debug)]
pub struct Met {
    /// Turns of the neighbour that had the fewest.
    pub turns: u64,
    /// Most events of others that were settled while one neighbour waited for one turn.
    pub others: u64,
}

/// Turns that each neighbour has at least, however short the attack is.
const TURNS_MIN: u64 = 5;

impl Neighbours {
    /// Installs four.
    pub async fn install(host: &Host) -> Neighbours {
        let charms = probes(host, ["good-0", "good-1", "good-2", "good-3"]).await.to_vec();
        let turns = charms.iter().map(|_| AtomicU64::new(0)).collect();
        Neighbours { charms, turns }
    }

    /// Runs an attack to its end while each neighbour has one turn after another, all of which must commit.
    ///
    /// # Panics
    /// When a turn of a neighbour does not commit, takes longer than 30 s, or is not kept.
    pub async fn beside<T>(&self, host: &Host, attack: impl Future<Output = T>) -> (T, Met) {
        let over = AtomicBool::new(false);
        let attack = async {
            let result = attack.await;
            over.store(true, Ordering::Relaxed);
            result
        };
        let work = futures_util::future::join_all((0..self.charms.len()).map(|index| self.work(host, index, &over)));
        let (result, met) = futures_util::future::join(attack, work).await;
        let turns = met.iter().map(|met| met.turns).min().unwrap_or_default();
        let others = met.iter().map(|met| met.others).max().unwrap_or_default();
        (result, Met { turns, others })
    }

    async fn work(&self, host: &Host, index: usize, over: &AtomicBool) -> Met {
        let charm = self.charms[index];
        let mut met = Met { turns: 0, others: 0 };
        while met.turns < TURNS_MIN || !over.load(Ordering::Relaxed) {
            let before = self.others(host);
            let turn = self.turns[index].load(Ordering::Relaxed) + 1;
            let receipt = run(host, charm, json!([["get", "turns", []], ["set", "turns", [], turn]])).await;
            assert_eq!(receipt.outcome, Outcome::Committed, "neighbour {index}: {receipt:?}");
            assert_eq!(cell(host, charm, "turns").await, json!(turn), "neighbour {index} keeps what it wrote");
            self.turns[index].store(turn, Ordering::Relaxed);
            met.turns += 1;
            // A neighbour's turn is counted a moment after it is settled: never too few of others.
            met.others = met.others.max(self.others(host).saturating_sub(before));
        }
        met
    }

    /// Events that were settled and are not theirs.
    fn others(&self, host: &Host) -> u64 {
        let own: u64 = self.turns.iter().map(|turns| turns.load(Ordering::Relaxed)).sum();
        host.counters().settled().saturating_sub(own)
    }
}
