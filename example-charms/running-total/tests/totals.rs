//! Three charms, of which one sees all.

use charm_sdk::prelude::*;
use charm_sdk::testing::Host;
use running_total::{Entry, RunningTotal};

fn entry(cents: i64) -> Entry {
    Entry { what: "cake".into(), cents }
}

fn family() -> (Host, [Did; 3]) {
    let host = Host::new();
    let all = ["home", "ann", "ben"].map(|name| host.install::<RunningTotal>(name));
    for part in &all[1..] {
        host.grant_read(&all[0], part, "total");
    }
    (host, all)
}

#[test]
fn the_total_of_all_follows_each_entry() {
    let (host, [home, ann, ben]) = family();
    assert_eq!(host.cell(&home, "overall"), Some(0_i64));
    for (number, who) in [&ann, &ben, &home, &ann].into_iter().enumerate() {
        host.deliver(who, RunningTotal::ENTER, &entry(10)).committed().unwrap();
        assert_eq!(host.cell(&home, "overall"), Some(10 * (number as i64 + 1)));
    }
    assert_eq!(host.cell(&ann, "overall"), Some(20_i64), "may read nobody else");
    host.deliver(&home, RunningTotal::CLOSE, &()).committed().unwrap();
    assert_eq!(host.cell(&home, "closed"), Some(40_i64));
}

#[test]
fn an_entry_is_checked_with_itself_and_with_what_others_have() {
    let (host, [home, ann, _]) = family();
    host.deliver(&ann, RunningTotal::ENTER, &entry(10)).committed().unwrap();
    host.deliver(&home, RunningTotal::ENTER, &entry(-10)).committed().unwrap();
    let refused = host.deliver(&home, RunningTotal::ENTER, &entry(-1));
    assert_eq!(refused.message.as_deref(), Some("1 cents are missing for cake"));
    assert_eq!(host.cell(&home, "overall"), Some(0_i64));
}
