//! Picks among none, one and many.

use charm_sdk::prelude::*;
use charm_sdk::testing::Host;
use counter::Counter;
use picker::{Picker, Shown};

fn add(host: &Host, counter: &Did, step: i64) {
    host.deliver(counter, Counter::ADD, &step).committed().unwrap();
}

#[test]
fn none_one_and_many_are_told_apart() {
    let host = Host::new();
    let picker = host.install::<Picker>("picker");
    let shown = || host.cell::<Shown>(&picker, "shown").unwrap();
    let red = host.install::<Counter>("red");
    assert_eq!(shown(), Shown::Nothing, "one that it may not read is none");
    host.grant_read(&picker, &red, "count");
    assert_eq!(shown(), Shown::Count(None));
    add(&host, &red, 3);
    assert_eq!(shown(), Shown::Count(Some(3)));
    let blue = host.install::<Counter>("blue");
    host.grant_read(&picker, &blue, "count");
    let Shown::Choose(mut of) = shown() else { panic!("{:?}", shown()) };
    of.sort();
    let mut both = vec![red, blue];
    both.sort();
    assert_eq!(of, both);
}

#[test]
fn what_is_shown_is_of_the_one_that_is_picked() {
    let host = Host::new();
    let (picker, stranger) = (host.install::<Picker>("picker"), host.install::<Counter>("stranger"));
    let [red, blue] = ["red", "blue"].map(|name| host.install::<Counter>(name));
    for (counter, count) in [(&red, 1), (&blue, 2)] {
        host.grant_read(&picker, counter, "count");
        add(&host, counter, count);
    }
    let shown = || host.cell::<Shown>(&picker, "shown").unwrap();
    host.deliver(&picker, Picker::PICK, &red).committed().unwrap();
    assert_eq!(shown(), Shown::Count(Some(1)));
    add(&host, &blue, 10);
    assert_eq!(shown(), Shown::Count(Some(1)));
    host.deliver(&picker, Picker::PICK, &blue).committed().unwrap();
    assert_eq!(shown(), Shown::Count(Some(12)));
    assert_eq!(host.deliver(&picker, Picker::PICK, &stranger).outcome, Outcome::Rejected);
    assert_eq!(shown(), Shown::Count(Some(12)));
    host.deliver(&picker, Picker::FORGET, &()).committed().unwrap();
    assert!(matches!(shown(), Shown::Choose(all) if all.len() == 2));
}
