//! Turns that end where nobody expects it: the caller goes away, or the fuel ends between two host calls.

use std::{pin::pin, task::Poll};

use super::*;

/// Whoever asked may go away at any time: the event stays, and its turn is never cut (T5).
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_ends_no_turn() {
    let host = host().await;
    let neighbours = Neighbours::install(&host).await;
    let a = probe(&host, "a").await;
    let attack = async {
        for round in 0..300 {
            let mut request = pin!(host.request(NewEvent::new(a, "note", value(json!(round)))));
            for _ in 0..=round % 10 {
                let is_done =
                    std::future::poll_fn(|context| Poll::Ready(request.as_mut().poll(context).is_ready())).await;
                if is_done {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        settle(&host).await;
    };
    neighbours.beside(&host, attack).await;
    assert_eq!(cell(&host, a, "notes").await, json!((0..300).collect::<Vec<_>>()));
    assert_eq!(counted(&host).faulted, 0);
    host.verify_store().unwrap();
}

/// T6: wherever the fuel ends, inside a host call, before or after it, nothing of the turn remains, and the next turn of
/// the same charm is whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_runs_out_anywhere_between_its_host_calls_leaves_nothing() {
    let limits = Limits { fuel_max: 2_000_000, fuel_slice: 100_000, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let neighbours = Neighbours::install(&host).await;
    // First as many rounds of nothing as the event says, then host calls without end; the event 0 does one of each.
    let code = "
        (local.set $n (i32.or (i32.shl (i32.load8_u offset=1 (local.get $event)) (i32.const 8)) (i32.load8_u offset=2 (local.get $event))))
        (loop $burn (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $burn (i32.lt_u (local.get $i) (local.get $n))))
        (loop $call
          (local.set $handle (call $cell)) (call $set (local.get $handle)) (call $get (local.get $handle))
          (call $cell-remove (local.get $handle) (i32.const 0) (i32.const 0) (i32.const 512))
          (call $set (local.get $handle)) (call $cell-drop (local.get $handle))
          (call $log (i32.const 0) (i32.const 64) (i32.const 3))
          (br_if $call (local.get $n)))";
    let evil = host.install(Charm::new("evil", raw::charm(&[("in handle", code)]))).await.unwrap();
    let attack = async {
        // 256 and up: the number stands in the second and third byte of the event.
        for phase in (256..).step_by(7).take(200) {
            let receipt = host.request(NewEvent::new(evil, "run", value(json!(phase)))).await.unwrap();
            assert_eq!(receipt.outcome, Outcome::Faulted, "{phase}: {receipt:?}");
            assert!(host.cells(&evil).await.unwrap().is_empty(), "{phase}");
        }
    };
    neighbours.beside(&host, attack).await;
    host.verify_store().unwrap();
}
