//! What an operator decides while the host runs: rights one by one, charms together, charms that go (A2, A3).

use charm_conformance::{
    Hold, Home, WIRE, Wire, builder, cell, component, of, only, probe, probe_charm, receipt, results, run, script,
    send, until,
};
use charm_host::{Charm, Did, Host, HttpGrant, InstallError, Names, NewEvent, Outcome, Right, SendError, Value};
use serde_json::json;

fn read(owner: Did, cells: &[&str]) -> Right {
    Right::Read { owner, cells: only(cells) }
}

fn to_send(owner: Did, streams: &[&str]) -> Right {
    Right::Send { owner, streams: only(streams) }
}

fn call(methods: &[&str]) -> Right {
    let methods = methods.iter().map(|method| (*method).to_owned()).collect();
    Right::Call(HttpGrant { methods, ..Wire::grant() })
}

fn visitor() -> Did {
    "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp".parse().unwrap()
}

/// What a holder can do at this moment: read `x` and `y` of the owner, send to `note`, get and post.
async fn can(host: &Host, holder: Did, owner: Did) -> [bool; 5] {
    let fetch = |method: &str| json!(["try", ["fetch", { "method": method, "url": format!("{WIRE}/x") }]]);
    let steps = json!([
        ["try", ["get", of(owner, "x"), []]],
        ["try", ["get", of(owner, "y"), []]],
        ["send", of(owner, "note"), "a note"],
        fetch("GET"),
        fetch("POST"),
    ]);
    let answers = results(host, holder, steps).await;
    let sent = receipt(host, &answers[2].as_str().unwrap().parse().unwrap()).await.outcome;
    let done = |index: usize| answers[index].get("ok").is_some();
    [done(0), done(1), sent == Outcome::Committed, done(3), done(4)]
}

async fn open(home: &Home) -> Host {
    home.builder().await.transport(Wire::open()).open().await.unwrap()
}

/// A2, A3: each right comes and goes alone, holds at once, and is there again when the host is.
#[tokio::test(flavor = "multi_thread")]
async fn rights_are_granted_and_revoked_one_by_one_and_stand_in_the_store() {
    let home = Home::default();
    let host = open(&home).await;
    let (owner, holder) = (probe(&host, "owner").await, probe(&host, "holder").await);
    run(&host, owner, json!([["set", "x", [], 1], ["set", "y", [], 2]])).await.committed().unwrap();
    let steps = [
        (true, read(owner, &["x"]), [true, false, false, false, false]),
        (true, to_send(owner, &["note"]), [true, false, true, false, false]),
        (true, call(&["GET"]), [true, false, true, true, false]),
        (true, read(owner, &["y"]), [true, true, true, true, false]),
        (true, call(&["POST"]), [true, true, true, true, true]),
        (false, read(owner, &["x"]), [false, true, true, true, true]),
        (false, call(&["GET"]), [false, true, true, false, true]),
        (false, to_send(owner, &["note"]), [false, true, false, false, true]),
        (false, to_send(owner, &["note"]), [false, true, false, false, true]),
        (true, to_send(owner, &["run", "note"]), [false, true, true, false, true]),
    ];
    let mut host = host;
    for (is_grant, right, expected) in steps {
        let changed =
            if is_grant { host.grant(holder, right.clone()).await } else { host.revoke(holder, right.clone()).await };
        changed.unwrap();
        assert_eq!(can(&host, holder, owner).await, expected, "{is_grant} {right:?}");
        // Killed, not shut down: what was answered is there.
        let rights = host.rights(&holder);
        drop(host);
        host = open(&home).await;
        assert_eq!(host.rights(&holder), rights, "also before anybody is installed");
        host.install_all(vec![probe_charm("owner"), probe_charm("holder")]).await.unwrap();
        assert_eq!(can(&host, holder, owner).await, expected, "after a restart: {is_grant} {right:?}");
    }
    let rights = [read(owner, &["y"]), to_send(owner, &["note", "run"]), call(&["POST"])];
    assert_eq!(host.rights(&holder), rights);
    host.set_rights(holder, vec![read(owner, &["x"])]).await.unwrap();
    assert_eq!(can(&host, holder, owner).await, [true, false, false, false, false]);
    host.set_rights(holder, vec![]).await.unwrap();
    assert_eq!((can(&host, holder, owner).await, host.rights(&holder)), ([false; 5], vec![]));
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// A2: a right can be taken however it came, but not one name out of all; and one that is granted early is not lost.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_install_gave_is_revoked_and_what_came_before_it_stays() {
    let host = builder().transport(Wire::open()).open().await.unwrap();
    let owner = probe(&host, "owner").await;
    run(&host, owner, json!([["set", "x", [], 1], ["set", "y", [], 2]])).await.committed().unwrap();
    let charm = || probe_charm("holder").may_read(owner, only(&["x", "y"])).may_send("owner", Names::All);
    let holder = host.install(charm().may_call(Wire::grant())).await.unwrap();
    assert_eq!(can(&host, holder, owner).await, [true; 5]);
    host.revoke(holder, read(owner, &["x"])).await.unwrap();
    host.revoke(holder, call(&["POST"])).await.unwrap();
    assert_eq!(can(&host, holder, owner).await, [false, true, true, true, false]);
    let refused = host.revoke(holder, to_send(owner, &["note"])).await.unwrap_err();
    assert!(
        refused.to_string().contains("all streams of") && matches!(refused, InstallError::Grant { .. }),
        "{refused}"
    );
    host.revoke(holder, Right::Send { owner, streams: Names::All }).await.unwrap();
    assert_eq!(can(&host, holder, owner).await, [false, true, false, true, false]);
    // What an install gives it gives again; what was granted beside it is not its own to take.
    host.grant(holder, read(owner, &["x"])).await.unwrap();
    host.install(probe_charm("holder")).await.unwrap();
    assert_eq!(can(&host, holder, owner).await, [true, false, false, false, false]);

    for wrong in [read(owner, &["nowhere"]), to_send(owner, &["on-receipt"]), call(&["get"])] {
        assert!(matches!(host.grant(holder, wrong.clone()).await, Err(InstallError::Grant { .. })), "{wrong:?}");
        assert!(host.set_rights(holder, vec![wrong]).await.is_err());
    }
    assert_eq!(host.rights(&holder), [read(owner, &["x"])], "nothing was changed");

    // Someone outside, on a charm that is not there yet.
    host.uninstall(&owner).await.unwrap();
    host.grant(visitor(), read(owner, &["x"])).await.unwrap();
    assert!(host.get_as::<Value>(&visitor(), &owner, "x", "").await.is_err());
    probe(&host, "owner").await;
    assert_eq!(host.get_as::<i64>(&visitor(), &owner, "x", "").await.unwrap(), Some(1));
    host.revoke(visitor(), read(owner, &["x"])).await.unwrap();
    assert!(host.get_as::<Value>(&visitor(), &owner, "x", "").await.is_err());
    host.shutdown().await.unwrap();
}

/// A2: charms that need each other are installed from bytes, by name, all or none.
#[tokio::test(flavor = "multi_thread")]
async fn charms_that_need_each_other_are_installed_together_or_not_at_all() {
    let host = builder().open().await.unwrap();
    let charm = |name: &str, other: &str| {
        probe_charm(name).may_read(other, only(&["x"])).may_send(other, Names::only(["note", "run"]))
    };
    let cases = [
        vec![charm("a", "b"), charm("b", "c")],
        vec![charm("a", "b"), charm("b", "a").may_read("a", only(&["nowhere"]))],
        vec![charm("a", "b"), charm("b", "a"), Charm::new("c", b"no component".to_vec())],
        vec![charm("a", "b"), charm("b", "a"), charm("a", "b")],
    ];
    for charms in cases {
        let error = host.install_all(charms).await.unwrap_err();
        assert!(host.charms().is_empty(), "{error}");
    }
    let dids = host.install_all(vec![charm("a", "b"), charm("b", "a")]).await.unwrap();
    let (a, b) = (dids[0], dids[1]);
    assert_eq!((host.did_of("a"), host.did_of("b")), (Some(a), Some(b)));
    run(&host, b, json!([["set", "x", [], 7]])).await.committed().unwrap();
    let answers = results(&host, a, json!([["get", of(b, "x"), []], ["send", of(b, "note"), "hello"]])).await;
    assert_eq!(answers[0], 7);
    assert_eq!(receipt(&host, &answers[1].as_str().unwrap().parse().unwrap()).await.outcome, Outcome::Committed);
    assert_eq!(host.rights(&b), [read(a, &["x"]), to_send(a, &["note", "run"])]);
    // By the name of one that is there already.
    let c = host.install(probe_charm("c").may_read("a", only(&["x"]))).await.unwrap();
    assert_eq!(host.rights(&c), [read(a, &["x"])]);
    assert_eq!(host.install_all(vec![]).await.unwrap(), []);
    host.shutdown().await.unwrap();
}

/// T1, S4: a charm that is uninstalled keeps cells, DID and waiting events, over restarts too; new sends are told so.
#[tokio::test(flavor = "multi_thread")]
async fn an_uninstalled_charm_keeps_its_cells_and_events_and_takes_no_new_ones() {
    let home = Home::default();
    let host = home.open().await;
    let (gone, other) = (probe(&host, "gone").await, probe(&host, "other").await);
    host.grant(other, to_send(gone, &["run"])).await.unwrap();
    host.grant(gone, read(other, &["x"])).await.unwrap();
    let hold = Hold::new();
    let running = send(&host, gone, json!([["set", "x", [], 1], hold.step()])).await;
    until("its turn runs", || hold.count() == 1).await;
    let waiting = send(&host, gone, json!([["set", "y", [], 2]])).await;
    let removal = tokio::spawn({
        let host = host.clone();
        async move { host.uninstall(&gone).await }
    });
    until("it is gone", || host.charms().len() == 1).await;
    assert!(!removal.is_finished(), "its turn runs still");
    hold.release(1);
    removal.await.unwrap().unwrap();
    assert_eq!(receipt(&host, &running).await.outcome, Outcome::Committed, "the turn that ran has ended");
    assert_eq!(cell(&host, gone, "x").await, 1, "its cells stay");
    assert_eq!(host.uninstall(&gone).await, Err(SendError::NoSuchCharm { to: gone }));
    for round in 0..2 {
        let host = if round == 0 { host.clone() } else { home.open().await };
        if round == 1 {
            probe(&host, "other").await;
        }
        let outside = host.send(NewEvent::new(gone, "run", script(json!([])))).await;
        assert_eq!(outside.unwrap_err(), SendError::NoSuchCharm { to: gone });
        assert_eq!(results(&host, other, json!([["send", of(gone, "run"), {}]])).await.as_array().unwrap().len(), 1);
        let sent = results(&host, other, json!([["send", of(gone, "run"), {}]])).await;
        let outcome = receipt(&host, &sent[0].as_str().unwrap().parse().unwrap()).await.outcome;
        assert_eq!(outcome, Outcome::NoSuchStream);
        assert_eq!(
            charm_conformance::waiting(&host, gone).await.iter().map(|event| event.id).collect::<Vec<_>>(),
            [waiting]
        );
        assert_eq!((host.rights(&gone), host.did_of("gone")), (vec![], Some(gone)));
        assert_eq!(host.get::<i64>(&gone, "x", "").await.unwrap(), Some(1));
        host.shutdown().await.unwrap();
    }
    let host = home.open().await;
    assert_eq!(probe(&host, "gone").await, gone);
    assert_eq!(receipt(&host, &waiting).await.outcome, Outcome::Committed);
    assert_eq!((cell(&host, gone, "x").await, cell(&host, gone, "y").await), (json!(1), json!(2)));
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// A4: a turn that waits for an answer when its charm goes begins anew when it is there again.
#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_turn_of_an_uninstalled_charm_begins_anew_when_it_is_back() {
    let wire = Wire::gated();
    let host = builder().transport(wire.clone()).open().await.unwrap();
    let charm = || Charm::new("a", component("probe")).may_call(Wire::grant());
    let a = host.install(charm()).await.unwrap();
    wire.answer_text(200, "an answer");
    let id = send(&host, a, json!([["fetch", { "url": format!("{WIRE}/x") }], ["set", "x", [], 1]])).await;
    wire.arrived(1).await;
    host.uninstall(&a).await.unwrap();
    wire.release(9);
    until("the turn is given back", || host.spaces().iter().any(|space| space.did == a && space.waiting == 1)).await;
    assert!(host.get::<Value>(&a, "x", "").await.unwrap().is_none());
    wire.answer_text(200, "another answer");
    host.install(charm()).await.unwrap();
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    assert_eq!(cell(&host, a, "x").await, 1);
    host.shutdown().await.unwrap();
}
