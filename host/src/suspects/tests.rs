//! Who is suspected, and for how long.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::{env::SystemEnv, event::EventId, store::MemoryStore};

fn turn(position: u64) -> Work {
    Work::Turn { position, id: EventId([position as u8; 16]) }
}

fn component(number: u32) -> Work {
    let mut component = [0; 32];
    component[..4].copy_from_slice(&number.to_be_bytes());
    Work::Describe { component }
}

fn image() -> Image {
    MemoryStore::new().load(Some([0; 32])).unwrap()
}

#[test]
fn settled_events_are_forgotten_and_components_only_over_their_bound() {
    let standing = Standing { deaths: Some(1), late: false };
    let all = (0..SUSPECTS_MAX as u32 + 5).map(component).chain([turn(1), turn(2)]);
    let mut known: BTreeMap<Work, Standing> = all.map(|work| (work, standing)).collect();
    forget(&mut known, &image());
    assert_eq!(known.len(), SUSPECTS_MAX);
    assert!(known.contains_key(&component(0)) && !known.contains_key(&turn(1)));
}

#[tokio::test]
async fn each_death_alone_makes_the_next_try_later_and_the_last_one_holds() {
    let deaths = |deaths| BTreeMap::from([(turn(1), Standing { deaths, late: false })]);
    let suspects = |known: BTreeMap<_, _>| Suspects {
        env: SystemEnv::current(),
        start: SystemEnv::current().monotonic() + Duration::from_secs(3_600),
        list: None,
        known: Mutex::new(known),
        any: AtomicBool::new(true),
    };
    assert!(!suspects(deaths(None)).contains(&turn(1)), "nothing speaks against it");
    let pauses: Vec<Duration> =
        (0..LONE_RUNS_MAX).map(|number| suspects(deaths(Some(number))).pause(&turn(1))).collect();
    assert!(pauses[0].is_zero() && pauses.is_sorted_by(|a, b| a < b), "{pauses:?}");
    assert!(!suspects(deaths(Some(LONE_RUNS_MAX - 1))).is_held(&turn(1)));
    let held = suspects(deaths(Some(LONE_RUNS_MAX)));
    assert!(held.is_held(&turn(1)) && held.contains(&turn(1)));
    assert!(held.release(&turn(1)).unwrap() && !held.release(&turn(1)).unwrap(), "released once");
    assert!(!held.contains(&turn(1)) && !held.is_held(&turn(2)));
}
