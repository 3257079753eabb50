//! Attacks on the host's process: guests that recurse to the end of the stack, at every place where the host or the
//! engine calls into them. Each ends in a typed outcome; where one does not, this test's own process dies.

use super::*;

/// A depth that no stack holds.
const ENDLESS: u32 = 1 << 20;
/// Depths before the end of the stack that are tried one by one: their frames are more than a host call's.
const NEAR: u32 = 300;

/// How a guest asks the host for something that the host has to put into the guest's memory.
struct Ask {
    import: &'static str,
    lower: &'static str,
    core: &'static str,
    call: &'static str,
}

const CHARM: Ask = Ask {
    import: r#"(import "charm:host/context@0.2.0" (instance $host (export "self-did" (func (result string)))))"#,
    lower: r#"(func $host "self-did")"#,
    core: "(param i32)",
    call: "(call $ask (i32.const 256))",
};
const WASI: Ask = Ask {
    import: r#"(import "wasi:random/random@0.2.0" (instance $host
      (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))"#,
    lower: r#"(func $host "get-random-bytes")"#,
    core: "(param i64 i32)",
    call: "(call $ask (i64.const 16) (i32.const 256))",
};

/// `$dive` goes down as deep as it is told, and calls the engine from there.
const DIVE: &str = "
    (func $dive (param $left i32) (result i32)
      (if (result i32) (local.get $left)
        (then (i32.add (call $dive (i32.sub (local.get $left) (i32.const 1))) (i32.const 1)))
        (else (memory.grow (i32.const 0)))))";

/// Returns a charm that does `bottom` at a depth of its stack, as `call` it from `place`; the event `[OUTER, INNER]`
/// (see [`depths`]) or `baked` says how deep. Whenever the host puts something into its memory, it dives to INNER.
fn deep(ask: &Ask, bottom: &str, place: &str, baked: Option<u32>) -> Vec<u8> {
    let Ask { import, lower, core, call } = ask;
    let component = format!(
        r#"{import}
        (core module $libc-module
          (memory (export "memory") 1)
          {DIVE}
          (func (export "realloc") (param i32 i32 i32 i32) (result i32)
            (drop (call $dive (i32.load (i32.const 8))))
            (i32.const 8192)))
        (core instance $libc (instantiate $libc-module))
        (core func $ask (canon lower {lower} (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
        (core module $thing-module
          (import "host" "ask" (func $ask {core}))
          (import "libc" "memory" (memory 1))
          {DIVE}
          (func (export "drop") (param i32) (drop (call $dive (i32.load (i32.const 12)))) {call}))
        (core instance $things (instantiate $thing-module
          (with "host" (instance (export "ask" (func $ask)))) (with "libc" (instance $libc))))
        (type $thing (resource (rep i32) (dtor (core func $things "drop"))))
        (core func $new (canon resource.new $thing))
        (core func $drop (canon resource.drop $thing))"#
    );
    let baked = baked.map_or(String::new(), |outer| {
        format!("(i32.store (i32.const 4) (i32.const {outer})) (i32.store (i32.const 8) (i32.const {ENDLESS}))")
    });
    let module = format!(
        r#"(import "host" "ask" (func $ask {core}))
        (import "host" "new" (func $new (param i32) (result i32)))
        (import "host" "drop" (func $drop (param i32)))
        (import "libc" "memory" (memory 1))
        (export "memory" (memory 0))
        {DIVE}
        (func $number (param $at i32) (result i32)
          (i32.or
            (i32.shl (i32.load8_u offset=1 (local.get $at)) (i32.const 16))
            (i32.or
              (i32.shl (i32.load8_u offset=2 (local.get $at)) (i32.const 8))
              (i32.load8_u offset=3 (local.get $at)))))
        (func $fall (param $left i32) (result i32)
          (if (result i32) (local.get $left)
            (then (i32.add (call $fall (i32.sub (local.get $left) (i32.const 1))) (i32.const 1)))
            (else {bottom} (i32.const 0))))
        (func $place {baked} (drop (call $fall (i32.load (i32.const 4)))))
        (func (export "after") (param i32) (drop (call $dive (i32.load (i32.const 12)))))"#,
        bottom = bottom.replace("ask!", call),
    );
    let read = "(i32.store (i32.const 4) (i32.sub (call $number (i32.add (local.get $event) (i32.const 2))) (i32.const 65536)))
        (i32.store (i32.const 8) (i32.sub (call $number (i32.add (local.get $event) (i32.const 7))) (i32.const 65536)))
        (i32.store (i32.const 12) (i32.load (i32.const 4)))";
    let handle = format!("{read} {}", if place == "in handle" { "(call $place)" } else { "" });
    let with = r#"(with "libc" (instance $libc)) (with "host" (instance
      (export "ask" (func $ask)) (export "new" (func $new)) (export "drop" (func $drop))))"#;
    let mut module = module;
    if place == "start" {
        module += "(start $place)";
    }
    let describe = if place == "in describe" { "(call $place)" } else { "" };
    let lift = r#"(canon lift (core func $guest "handle")"#;
    let lifted =
        format!("{lift}{}", if place == "after" { r#" (post-return (core func $guest "after"))"# } else { "" });
    by_hand::charm(&[
        (r#"(memory (export "memory") 1)"#, ""),
        ("in component", &component),
        ("in module", &module),
        ("in describe", describe),
        ("in handle", &handle),
        (lift, &lifted),
        ("with", with),
    ])
}

/// The event that says how deep to go before and after the call: both numbers take five bytes.
fn depths(outer: u32, inner: u32) -> Value {
    value(json!([65536 + outer, 65536 + inner]))
}

/// A guest of the sweep, and whoever must not notice it.
struct Sweep {
    host: Host,
    neighbour: Did,
    evil: Did,
    /// Turns that came back, and turns that ended at the end of the stack.
    done: u32,
    over: u32,
}

impl Sweep {
    async fn new(component: Vec<u8>) -> Sweep {
        let host = host().await;
        let neighbour = probe(&host, "neighbour").await;
        let evil = host.install(Charm::new("evil", component)).await.unwrap();
        Sweep { host, neighbour, evil, done: 0, over: 0 }
    }

    /// Returns whether a turn came back; else it was stopped for its stack, by name.
    async fn comes_back(&mut self, outer: u32, inner: u32) -> bool {
        let receipt = self.host.request(NewEvent::new(self.evil, "run", depths(outer, inner))).await.unwrap();
        let message = receipt.message.unwrap_or_default();
        let done = receipt.outcome == Outcome::Committed;
        assert!(done || message.starts_with("over stack-bytes-max"), "{outer} {inner}: {message}");
        self.done += u32::from(done);
        self.over += u32::from(!done);
        done
    }

    /// Returns the first outer depth that does not come back.
    async fn end(&mut self, inner: u32) -> u32 {
        let (mut back, mut gone) = (0, ENDLESS);
        while gone - back > 1 {
            let middle = back.midpoint(gone);
            if self.comes_back(middle, inner).await { back = middle } else { gone = middle }
        }
        gone
    }

    /// Every depth near the end of the stack, and some of all others.
    async fn outer(&mut self, end: u32, inner: u32) {
        for outer in (0..end).step_by(end as usize / 40).chain(end.saturating_sub(NEAR)..end + 8) {
            self.comes_back(outer, inner).await;
        }
        is_served(&self.host, self.neighbour).await;
    }

    /// The last depths before the call, and of what the call then has, every depth near its end.
    async fn inner(&mut self, end: u32) {
        let mut last = end;
        while !self.comes_back(last, 0).await {
            last -= 1;
        }
        let (mut back, mut gone) = (0, ENDLESS);
        while gone - back > 1 {
            let middle = back.midpoint(gone);
            if self.comes_back(last, middle).await { back = middle } else { gone = middle }
        }
        for outer in [last / 2, last] {
            for inner in gone.saturating_sub(NEAR / 2)..gone + 8 {
                self.comes_back(outer, inner).await;
            }
        }
        is_served(&self.host, self.neighbour).await;
    }
}

/// A5: an answer to a host call makes the engine call `realloc` on top of the stack that the guest has used up, with a whole
/// stack of its own: two of them and `HOST_STACK_BYTES` have to fit.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_recurses_under_a_host_call_hurts_nobody_at_any_depth() {
    for ask in [&CHARM, &WASI] {
        let mut sweep = Sweep::new(deep(ask, "ask!", "in handle", None)).await;
        let end = sweep.end(0).await;
        sweep.outer(end, ENDLESS).await;
        sweep.inner(end).await;
        assert!(sweep.done > 50 && sweep.over > NEAR, "{} {}", sweep.done, sweep.over);
    }
}

/// A5: the same from a destructor of the guest's own, which itself stands deep in the stack.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_recurses_in_a_destructor_hurts_nobody_at_any_depth() {
    for ask in [&CHARM, &WASI] {
        let bottom = "(i32.store (i32.const 12) (i32.const 0)) (call $drop (call $new (i32.const 1)))";
        let mut sweep = Sweep::new(deep(ask, bottom, "in handle", None)).await;
        let end = sweep.end(0).await;
        sweep.outer(end, ENDLESS).await;
        sweep.inner(end).await;
        assert!(sweep.done > 50 && sweep.over > NEAR, "{} {}", sweep.done, sweep.over);
    }
}

/// A5: what the engine calls after the handler.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_recurses_after_its_handler_hurts_nobody_at_any_depth() {
    let mut sweep = Sweep::new(deep(&CHARM, "ask!", "after", None)).await;
    let end = sweep.end(0).await;
    sweep.outer(end, ENDLESS).await;
    assert!(sweep.done > NEAR && sweep.over > 8, "{} {}", sweep.done, sweep.over);
}

/// A5: before there is a turn. A component's start function runs when it is described, and again in each turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_recurses_when_it_is_described_hurts_nobody_at_any_depth() {
    let mut sweep = Sweep::new(deep(&WASI, "ask!", "in handle", None)).await;
    let end = sweep.end(0).await;
    let depths = (0..end).step_by(end as usize / 8).chain((end - NEAR / 2..end + 16).step_by(6));
    for outer in depths {
        for place in ["in describe", "start"] {
            let component = deep(&WASI, "ask!", place, Some(outer));
            let refused = sweep.host.install(Charm::new("evil", component)).await.unwrap_err();
            let InstallError::Describe { why, .. } = &refused else { panic!("{outer} {place}: {refused}") };
            assert!(why.contains("over stack-bytes-max"), "{outer} {place}: {why}");
        }
    }
    is_served(&sweep.host, sweep.neighbour).await;
}

/// A6: whoever begins an install, keeps its future and polls it no more has no thread of the guests, and nobody waits for it.
#[tokio::test]
async fn an_install_that_is_polled_no_more_keeps_nothing() {
    let host = builder().open().await.unwrap();
    let endless = by_hand::charm(&[("in describe", "(loop $again (br $again))")]);
    let mut kept = Box::pin(host.install(Charm::new("endless", endless)));
    // In time it is in `describe`.
    for _ in 0..200 {
        let ended = tokio::time::timeout(std::time::Duration::from_millis(1), &mut kept).await;
        if ended.is_ok() {
            break;
        }
    }
    let neighbour = probe(&host, "neighbour").await;
    is_served(&host, neighbour).await;
    drop(kept);
}

/// S4, S11: whoever operates the host can drop what waits, but not what runs; senders are told, and what is dropped is no
/// dead letter.
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_drops_events_that_wait_and_no_others() {
    let wire = Wire::gated();
    let host = builder().transport(wire.clone()).open().await.unwrap();
    let a = host.install(probe_charm("a").may_call(Wire::grant())).await.unwrap();
    let b = probe(&host, "b").await;
    grant(&host, b, Default::default(), all_of(&[a])).await.unwrap();
    let running = host.send(NewEvent::new(a, "run", script(json!([["fetch", {"url": WIRE}]])))).await.unwrap();
    wire.arrived(1).await;
    // One of each sender; the charm's own asks for its receipt.
    let sent = run(&host, b, json!([["send", of(a, "note"), 0, {"stream": "on-receipt", "tag": 7}]])).await;
    assert_eq!(sent.outcome, Outcome::Committed, "{sent:?}");
    let mut ids = Vec::new();
    for number in 1..=4 {
        ids.push(host.send(NewEvent::new(a, "note", value(json!(number)))).await.unwrap());
    }
    assert_eq!(waiting(&host, a).await.len(), 6);
    let from_b = waiting(&host, a).await.into_iter().find(|event| event.sender == b).unwrap().id;
    assert_eq!(host.cancel(&a, &running).await, Err(SendError::Running));
    assert_eq!(host.release(&a, &ids[0]).await, Err(SendError::NotHeld { id: ids[0] }));
    assert_eq!(host.cancel(&b, &ids[0]).await, Err(SendError::NoSuchEvent { id: ids[0] }));
    for id in [from_b, ids[1], ids[3]] {
        host.cancel(&a, &id).await.unwrap();
        assert_eq!(host.receipt(&id).await.unwrap().unwrap().outcome, Outcome::Cancelled);
        assert_eq!(host.cancel(&a, &id).await, Err(SendError::NoSuchEvent { id }));
    }
    wire.release(1);
    host.settled().await.unwrap();
    assert_eq!(cell(&host, a, "notes").await, json!([1, 3]));
    let told = cell(&host, b, "receipts").await;
    assert_eq!((&told[0]["receipt"]["outcome"], &told[0]["tag"]), (&json!("cancelled"), &json!(7)), "{told}");
    assert!(host.dead_letters(&a, 0, usize::MAX).unwrap().is_empty());
    assert_eq!(host.counters().cancelled, 3);
    host.verify_store().unwrap();
}
