//! Pasts go at random moments between turns, restarts and readers: each cell is at each commit what it was.

use std::collections::BTreeMap;

use super::*;

/// What a cell was after each commit that changed it.
type Story = BTreeMap<u64, Option<Json>>;

fn then(story: &Story, seq: u64) -> Option<Json> {
    story.range(..=seq).next_back().and_then(|(_, value)| value.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_cell_is_at_each_commit_that_is_kept_what_it_was() {
    let mut random = Random::new(seed());
    for round in 0..times(3) {
        let home = Home::default();
        let mut host = home.open().await;
        let charms = [probe(&host, "a").await, probe(&host, "b").await];
        let install = async |host: &Host| {
            probe(host, "a").await;
            probe(host, "b").await;
            grant(host, charms[0], all_of(&[]), all_of(&[charms[1]])).await.unwrap();
            grant(host, charms[1], all_of(&[]), all_of(&[charms[0]])).await.unwrap();
        };
        install(&host).await;
        let mut stories: BTreeMap<(Did, String), Story> = BTreeMap::new();
        let mut floors: BTreeMap<Did, u64> = BTreeMap::new();
        for step in 0..120 {
            let charm = *random.pick(&charms);
            match random.below(20) {
                0..=12 => {
                    let name = format!("c{}", random.below(4));
                    let story = stories.entry((charm, name.clone())).or_default();
                    let now = then(story, u64::MAX);
                    let (steps, next) = match (random.below(4), now) {
                        (0, _) => (json!([["remove", name, []]]), None),
                        (1 | 2, Some(Json::Object(mut map))) => {
                            let key = format!("k{}", random.below(3));
                            map.insert(key.clone(), json!(step));
                            (json!([["set", name, [key], step]]), Some(Json::Object(map)))
                        }
                        _ => {
                            let whole = json!({"k0": step});
                            (json!([["set", name, [], whole]]), Some(whole))
                        }
                    };
                    let receipt = run(&host, charm, steps).await;
                    story.insert(receipt.commit.unwrap(), next);
                }
                13 => {
                    let other = if charm == charms[0] { charms[1] } else { charms[0] };
                    let tag = json!({"stream": "on-receipt", "tag": step});
                    run(&host, charm, json!([["send", of(other, "note"), step, tag], ["send", of(other, "run"), {"steps": [["trap"]]}]])).await;
                }
                14 => drop(run(&host, charm, json!([["reject", "no"]])).await),
                15..=17 => {
                    let gone = host.prune(&charm).await.unwrap();
                    floors.insert(charm, gone.floor);
                }
                18 => {
                    host.shutdown().await.unwrap();
                    host = home.open().await;
                    install(&host).await;
                }
                _ => {
                    // Cut off: what was told is there.
                    drop(host);
                    host = home.open().await;
                    install(&host).await;
                }
            }
            let charm = *random.pick(&charms);
            let (floor, last) = (floors.get(&charm).copied().unwrap_or(0), commits(&host, charm));
            let seq = floor + random.below(last - floor + 1);
            let archive = Archive::open(home.read_only()).unwrap();
            for ((_, name), story) in stories.iter().filter(|((of, _), _)| *of == charm) {
                let expected = then(story, seq);
                let found = at(&host, charm, name, seq).await.unwrap();
                assert_eq!(found, expected, "round {round}, step {step}: {name} at {seq} of {last}, floor {floor}");
                let found = archive.get(&charm, name, &root(), Some(seq)).unwrap().map(|value| json(&value));
                assert_eq!(found, expected, "round {round}, step {step}: {name} at {seq} in an archive");
            }
            if floor > 0 {
                assert!(
                    matches!(at(&host, charm, "c0", floor - 1).await, Err(ReadError::Compacted { oldest, .. }) if oldest == floor)
                );
            }
            if step % 10 == 9 {
                // Both proofs are of one moment: nothing commits between them.
                host.settled().await.unwrap();
                let proof = archive.verify_store().unwrap();
                // Its key may have signed meanwhile.
                let alone = archive.verify(&charm).unwrap();
                let (together, alone) = (proof.spaces[&charm], (alone.commits, alone.floor, alone.head));
                assert_eq!((together.commits, together.floor, together.head), alone);
            }
        }
        host.shutdown().await.unwrap();
    }
}
