//! What `add` does to `count`.

use charm_sdk::testing::Host;
use counter::Counter;

#[test]
fn a_sum_that_does_not_fit_is_rejected_and_changes_nothing() {
    let host = Host::new();
    let counter = host.install::<Counter>("counter");
    host.deliver(&counter, Counter::ADD, &2).committed().unwrap();
    host.deliver(&counter, Counter::ADD, &i64::MAX).committed().unwrap_err();
    host.deliver(&counter, Counter::ADD, &-3).committed().unwrap();
    assert_eq!(host.cell::<i64>(&counter, "count"), Some(-1));
}
