//! What only a hand-written component can do: handles that it was never given, has dropped or mistypes, pointers into
//! nowhere, values that no type has, and calls out of places from which nobody calls.

use super::*;

/// One hostile event after another, each beside neighbours: the turn is a fault of the guest's, for one of these reasons,
/// never of the host's.
async fn each_faults(reasons: &[&str], cases: &[&[(&str, &str)]]) {
    let host = host().await;
    let neighbours = Neighbours::install(&host).await;
    for case in cases {
        let evil = host.install(Charm::new("evil", raw::charm(case))).await.unwrap();
        let attack = async { host.request(NewEvent::new(evil, "run", value(json!(1)))).await.unwrap() };
        let (receipt, _) = neighbours.beside(&host, attack).await;
        assert_eq!(receipt.outcome, Outcome::Faulted, "{case:?}: {receipt:?}");
        let message = receipt.message.unwrap();
        assert!(reasons.iter().any(|reason| message.contains(reason)), "{case:?}: {message}");
        assert!(host.cells(&evil).await.unwrap().is_empty(), "{case:?}: nothing of the turn remains");
    }
}

/// Handles are numbers of a table of this instance alone (D7: a handle gives no right).
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_dropped_or_mistyped_handle_is_a_fault() {
    let handle = |code: &'static str| [("in handle", code)];
    each_faults(&["handle index"], &[
        // Never given.
        &handle("(call $get (i32.const 0))"),
        &handle("(call $get (i32.const 1))"),
        &handle("(call $get (i32.add (call $cell) (i32.const 1)))"),
        &handle("(call $get (i32.const 1048576))"),
        &handle("(call $get (i32.const 0x7fffffff))"),
        &handle("(call $set (i32.const -1))"),
        &handle("(call $cell-remove (i32.const 7) (i32.const 0) (i32.const 0) (i32.const 512))"),
        &handle("(call $cell-owner (i32.const 9) (i32.const 512))"),
        &handle("(call $stream-name (i32.const 9) (i32.const 512))"),
        &handle("(call $send (i32.const 3) (i32.const 256) (i32.const 1))"),
        &handle("(call $cell-drop (i32.const 1))"),
        // After the drop, alone and with another in its place.
        &handle("(local.set $handle (call $cell)) (call $cell-drop (local.get $handle)) (call $set (local.get $handle))"),
        &handle("(local.set $handle (call $cell)) (call $cell-drop (local.get $handle)) (call $cell-drop (local.get $handle))"),
        &handle(
            "(local.set $handle (call $cell)) (call $cell-drop (local.get $handle))
             (drop (call $stream)) (call $set (local.get $handle))",
        ),
        // Of another type.
        &handle("(call $set (call $stream))"),
        &handle("(call $get (call $stream))"),
        &handle("(call $cell-drop (call $stream))"),
        &handle("(call $stream-drop (call $cell))"),
        &handle("(call $stream-name (call $cell) (i32.const 512))"),
        &handle("(call $send (call $cell) (i32.const 256) (i32.const 1))"),
    ])
    .await;
}

/// A5: one handle as often as it can be lent at once, with a path that is too long for one: refused before each gets its own.
#[tokio::test(flavor = "multi_thread")]
async fn one_handle_many_times_over_with_a_long_path_is_refused() {
    let host = host().await;
    let neighbours = Neighbours::install(&host).await;
    // The handles from 131072 on, the path of one key at 8192, its text from 524288 on.
    let each = |handles: u32, bytes: u32| {
        format!(
            "(call $grow (i32.const 40)) (local.set $handle (call $cell))
             (loop $fill
               (i32.store (i32.add (i32.const 131072) (i32.mul (i32.const 4) (local.get $i))) (local.get $handle))
               (br_if $fill (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {handles}))))
             (memory.fill (i32.const 524288) (i32.const 97) (i32.const {bytes}))
             (i32.store (i32.const 8196) (i32.const 524288)) (i32.store (i32.const 8200) (i32.const {bytes}))
             (call $cells-get-each (i32.const 131072) (i32.const {handles}) (i32.const 8192) (i32.const 1) (i32.const 512))
             (if (i32.eqz (call $was-refused)) (then unreachable))"
        )
    };
    let cases = [
        (900, 1 << 20, Outcome::Committed),
        (900, 5_000, Outcome::Committed),
        (900, 1, Outcome::Faulted),
        (60_000, 1, Outcome::Faulted),
    ];
    for (handles, bytes, outcome) in cases {
        let evil = host.install(Charm::new("evil", raw::charm(&[("in handle", &each(handles, bytes))]))).await.unwrap();
        let attack = async { host.request(NewEvent::new(evil, "run", value(json!(1)))).await.unwrap() };
        let (receipt, _) = neighbours.beside(&host, attack).await;
        assert_eq!(receipt.outcome, outcome, "{handles} handles, {bytes} bytes: {receipt:?}");
    }
}

/// Instances last one turn: the handle of the turn before is no handle.
#[tokio::test(flavor = "multi_thread")]
async fn a_handle_does_not_outlive_its_turn() {
    let host = host().await;
    // The event 1 opens and keeps, the event 2 uses what would be the same number.
    let code = "(if (i32.eq (i32.load8_u (local.get $event)) (i32.const 1)) (then (call $set (call $cell)))
                (else (call $set (i32.const 1))))";
    let evil = host.install(Charm::new("evil", raw::charm(&[("in handle", code)]))).await.unwrap();
    let mut outcomes = Vec::new();
    for event in [1, 2, 1, 2] {
        outcomes.push(host.request(NewEvent::new(evil, "run", value(json!(event)))).await.unwrap().outcome);
    }
    assert_eq!(outcomes, [Outcome::Committed, Outcome::Faulted, Outcome::Committed, Outcome::Faulted]);
}

/// The canonical ABI is checked at each border: addresses, alignments, lengths, texts, cases.
#[tokio::test(flavor = "multi_thread")]
async fn a_pointer_into_nowhere_or_a_value_of_no_type_is_a_fault() {
    let handle = |code: &'static str| [("in handle", code)];
    each_faults(&["pointer", "utf-8", "discriminant"], &[
        // Lists and texts that are not in memory, or wrap around.
        &handle("(call $cell-get (call $cell) (i32.const 131072) (i32.const 1) (i32.const 512))"),
        &handle("(call $cell-get (call $cell) (i32.const 1024) (i32.const -1) (i32.const 512))"),
        &handle("(call $cell-set (call $cell) (i32.const 0) (i32.const 0) (i32.const -4) (i32.const 64) (i32.const 512))"),
        &handle("(call $send (call $stream) (i32.const 131071) (i32.const 2))"),
        &handle("(call $log (i32.const 0) (i32.const 131000) (i32.const 2000000))"),
        &handle("(call $panicked (i32.const -1) (i32.const -1))"),
        &handle("(call $get-url (i32.const 81) (i32.const 18) (i32.const 1024) (i32.const 1000000))"),
        &handle("(call $find (i32.const -8) (i32.const 3))"),
        // A list that is not where its alignment says.
        &handle("(call $cell-get (call $cell) (i32.const 1026) (i32.const 1) (i32.const 512))"),
        // Results that have no place.
        &handle("(call $cell-get (call $cell) (i32.const 0) (i32.const 0) (i32.const 131070))"),
        &handle("(call $cell-get (call $cell) (i32.const 0) (i32.const 0) (i32.const 513))"),
        &handle("(call $self-did (i32.const -4))"),
        // A text that is no UTF-8.
        &handle("(i32.store (i32.const 1024) (i32.const 0xc0fec1ff)) (call $log (i32.const 1) (i32.const 1024) (i32.const 4))"),
        // Cases that a variant does not have.
        &handle("(i32.store (i32.const 1024) (i32.const 7)) (call $cell-get (call $cell) (i32.const 1024) (i32.const 1) (i32.const 512))"),
        &handle("(call $log (i32.const 4) (i32.const 64) (i32.const 3))"),
        &handle("(call $cells-open (i32.const 2) (i32.const 64) (i32.const 3) (i32.const 70) (i32.const 4) (i32.const 512))"),
        // What the handler gives back.
        &handle("(return (i32.const -4))"),
        &handle("(return (i32.const 129))"),
        &handle("(i32.store (i32.const 128) (i32.const 3))"),
        &handle("(call $reject (i32.const 131000) (i32.const 1000))"),
        &handle("(i32.store (i32.const 1024) (i32.const -1)) (call $reject (i32.const 1024) (i32.const 4))"),
    ])
    .await;
}

/// The allocator is the guest's: it may answer anything, but what it answers is checked.
#[tokio::test(flavor = "multi_thread")]
async fn an_allocator_that_lies_is_a_fault() {
    let lies = |code: &'static str| [("in realloc", code)];
    each_faults(
        &["realloc return", "unreachable", "fuel-max", "cannot leave component instance"],
        &[
            &lies("(return (i32.const -1))"),
            &lies("(return (i32.mul (memory.size) (i32.const 65536)))"),
            &lies("unreachable"),
            &lies("(loop $again (br $again))"),
            // The event and the name of the stream land on each other, and then nothing fits any more.
            &[("in realloc", "(return (i32.const 131071))"), ("in handle", "(call $self-did (i32.const 512))")],
            // Memory that grows under the host's hands is found again; a host call from there is refused.
            &lies("(drop (call $time))"),
            &lies("(drop (call $cell))"),
            &[("in realloc", "(if (local.get $bytes) (then (call $log (i32.const 1) (i32.const 64) (i32.const 3))))")],
        ],
    )
    .await;
}

/// A5: what one call may carry is bounded before it is copied, in bytes and in items.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_call_with_a_huge_payload_stops_the_turn() {
    let handle = |code: &'static str| [("in handle", code)];
    each_faults(&["hostcall-bytes-max"], &[
        // Names and texts of 4 MiB.
        &handle("(call $grow (i32.const 100)) (call $log (i32.const 1) (i32.const 65536) (i32.const 4194304))"),
        &handle("(call $grow (i32.const 100)) (call $panicked (i32.const 65536) (i32.const 4194304))"),
        &handle(
            "(call $grow (i32.const 100))
             (call $cells-open (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 65536) (i32.const 4194304) (i32.const 512))",
        ),
        &handle("(call $grow (i32.const 100)) (call $send (call $stream) (i32.const 65536) (i32.const 4194304))"),
        // A path of a million empty keys; a million headers; a million wishes: 12, 16 and 16 bytes each.
        &handle("(call $grow (i32.const 200)) (call $cell-get (call $cell) (i32.const 65536) (i32.const 1000000) (i32.const 512))"),
        &handle("(call $grow (i32.const 240)) (call $get-url (i32.const 81) (i32.const 18) (i32.const 65536) (i32.const 900000))"),
        &handle(
            "(call $grow (i32.const 240)) (call $find (i32.const 65536) (i32.const 900000))",
        ),
        // A rejection of 4 MiB.
        &handle("(call $grow (i32.const 100)) (call $reject (i32.const 65536) (i32.const 4194304))"),
    ])
    .await;
}

/// A5: handles of both kinds count together, as long as they are not dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_million_handles_are_a_fault_and_a_million_that_are_dropped_are_not() {
    let each = |code: &str| {
        format!(
            "(loop $again {code} (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $again (i32.lt_u (local.get $i) (i32.const 1000000))))"
        )
    };
    let (cells, streams) = (each("(drop (call $cell))"), each("(drop (call $stream))"));
    each_faults(&["handles-max"], &[&[("in handle", &cells)], &[("in handle", &streams)]]).await;
    let limits = Limits { fuel_max: i64::MAX as u64, compute_ms_max: 600_000, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let neighbours = Neighbours::install(&host).await;
    let dropped = each("(call $cell-drop (call $cell))").replace("1000000", "100000");
    let evil = host.install(Charm::new("evil", raw::charm(&[("in handle", &dropped)]))).await.unwrap();
    let attack = async { host.request(NewEvent::new(evil, "run", value(json!(1)))).await.unwrap() };
    let (receipt, _) = neighbours.beside(&host, attack).await;
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
}
