//! Sales, with a charm that keeps the books.

use charm_sdk::prelude::*;
use charm_sdk::testing::Host;
use counter::Counter;
use till::{Sale, Till, Unbooked};

fn shop() -> (Host, Did, Did) {
    let host = Host::new();
    let (books, till) = (host.install::<Counter>("books"), host.install::<Till>("till"));
    host.grant_send(&till, &books, "add");
    (host, books, till)
}

fn tea(cents: i64) -> Sale {
    Sale { item: "tea".into(), cents }
}

#[test]
fn a_sale_is_over_at_once_and_booked_later() {
    let (host, books, till) = shop();
    host.pause(&books);
    host.deliver(&till, Till::SELL, &tea(350)).committed().unwrap();
    assert_eq!(host.cell::<i64>(&till, "booked"), None, "nobody knows yet");
    host.resume(&books);
    host.run_until_idle();
    assert_eq!((host.cell(&books, "count"), host.cell(&till, "booked")), (Some(350), Some(350)));
    assert_eq!(host.cell::<Vec<Unbooked>>(&till, "unbooked"), None);
}

#[test]
fn a_sale_that_the_books_refuse_is_kept_with_the_reason() {
    let (host, books, till) = shop();
    host.deliver(&till, Till::SELL, &tea(350)).committed().unwrap();
    host.deliver(&till, Till::SELL, &tea(i64::MAX)).committed().unwrap();
    host.on_event(&books, Counter::ADD, |_| panic!("spilled the ink"));
    host.deliver(&till, Till::SELL, &tea(1)).committed().unwrap();
    let unbooked = [(i64::MAX, "the count would pass 64 bits"), (1, "panicked: spilled the ink")];
    let unbooked = unbooked.map(|(cents, why)| Unbooked { sale: tea(cents), why: why.into() });
    assert_eq!(host.cell(&till, "unbooked"), Some(unbooked.to_vec()));
    assert_eq!((host.cell(&books, "count"), host.cell(&till, "booked")), (Some(350), Some(350)), "not for a success");
}
