//! What embedders get back for events and reads, and what texts and bytes of the model are refused with.

use super::*;

/// T7: the model's own errors hold numbers, kinds and places.
#[test]
fn no_error_of_the_model_tells_what_it_looked_at() {
    let secret = Secret::new("model");
    let hidden = &secret.text;
    let long = format!("{hidden}{}", ugly(1 << 20));
    fails!(secret, long.parse::<Did>().unwrap_err(), DidError::Syntax);
    fails!(secret, format!("did:key:z{hidden}").parse::<Did>().unwrap_err(), DidError::Syntax);
    let other_key = format!("did:key:z{}", bs58::encode(hidden.as_bytes()).into_string());
    fails!(secret, other_key.parse::<Did>().unwrap_err(), DidError::KeyType);
    fails!(secret, Did::from_public_key([0; 32]).unwrap_err(), DidError::WeakKey);
    fails!(secret, long.parse::<EventId>().unwrap_err(), EventIdError);
    fails!(secret, long.parse::<Path>().unwrap_err(), PathError);
    fails!(secret, format!("/'{long}").parse::<Path>().unwrap_err(), PathError);
    for shape in [long.clone(), format!("\"{hidden}"), format!("{{{hidden}: oops}}"), "[".repeat(4_000)] {
        fails!(secret, shape.parse::<Shape>().unwrap_err(), ShapeError { .. });
    }
    let bytes = |head: &[u8]| [head, hidden.as_bytes()].concat();
    let read = |bytes: &[u8]| Value::from_bytes(bytes, 1 << 20, VALUE_DEPTH_MAX).unwrap_err();
    fails!(secret, read(&bytes(&[0x78, 0xff])), Invalid::Truncated);
    fails!(secret, read(&bytes(&[0x60])), Invalid::Trailing { .. });
    let read_json = |text: String| Value::from_json(&text).unwrap_err();
    let (key, quoted) = (json!(ugly(1 << 20)), json!(hidden));
    fails!(secret, read_json(format!("[{quoted}, {hidden}]")), JsonError::Syntax(_));
    fails!(secret, read_json(format!("{{\"/\": {{\"bytes\": {quoted}}}}}")), JsonError::NotInModel { .. });
    fails!(secret, read_json(format!("[{{{key}: [{quoted}, 1e999]}}]")), JsonError::NotInModel { .. });
    fails!(secret, read(&bytes(&[0xa1, 0x00])), Invalid::NotCanonical { .. });
    fails!(secret, read(&bytes(&[0x81; 100])), Invalid::TooDeep { .. });
    fails!(secret, read(secret.much(2 << 20).as_bytes()), Invalid::TooLarge { .. });
    fails!(secret, Value::encode(&f64::NAN).unwrap_err(), Invalid::NotInModel);
    let planted = value(json!({ hidden: [hidden, 1] }));
    fails!(secret, planted.decode::<u64>().unwrap_err(), Invalid::OtherType);
    secret.absent(&format!("{planted:?}"));
    let shape: Shape = format!("{{n: {}}}", "int | ".repeat(500) + "null").parse().unwrap();
    for wrong in [json!({ "n": hidden }), json!({ "n": { hidden: 1 } }), json!(hidden), json!([hidden])] {
        secret.shown(&shape.check(&value(wrong)).unwrap_err());
    }
    let keys: Shape = "{*: int}".parse().unwrap();
    // A key is part of the way to what is wrong: it is told, cut. What stands there is not.
    let error = keys.check(&value(json!({ "invoice": hidden }))).unwrap_err();
    assert!(error.to_string().contains("/invoice"), "{error}");
    secret.shown(&error);
    secret.shown(&keys.check(&value(json!({ "k".repeat(1 << 20): hidden }))).unwrap_err());
    secret.shown(
        &value(json!({ "a": hidden })).get(&["a", &ugly(1 << 20)].map(|key| Segment::Key(key.to_owned()))).unwrap_err(),
    );
}

/// T7: each refusal of an event, with the secret in the event and in its id.
#[tokio::test(flavor = "multi_thread")]
async fn no_refused_event_is_told() {
    let secret = Secret::new("sends");
    let hidden = &secret.text;
    let (store, disk) = GatedStore::new(MemoryStore::new());
    let wire = Wire::gated();
    let limits = Limits { inbox_events_max: 4, ..roomy() };
    let host = builder().limits(limits).store(store).transport(wire.clone()).open().await.unwrap();
    let a = host.install(probe_charm("a").may_call(Wire::grant())).await.unwrap();
    let b = probe(&host, "b").await;
    let event = |to, stream: &str| NewEvent::new(to, stream, value(json!({ "n": hidden })));
    secret.absent(&format!("{:?}", event(a, "note")));
    let send = async |event| host.send(event).await.unwrap_err();
    fails!(secret, send(event(stranger(), "note")).await, SendError::NoSuchCharm { .. });
    fails!(secret, send(event(a, &ugly(1 << 20))).await, SendError::NoSuchStream { .. });
    fails!(secret, send(event(a, "on-receipt")).await, SendError::TakesReceipts { .. });
    fails!(secret, send(event(a, "shaped")).await, SendError::Shape { .. });
    let large = NewEvent::new(a, "note", value(json!(secret.much((4 << 20) + 1))));
    fails!(secret, send(large).await, SendError::Limit { .. });
    let deep = NewEvent::new(a, "shaped", value(json!({ "n": secret.much(3 << 20) })));
    fails!(secret, send(deep).await, SendError::Shape { .. });
    fails!(secret, send(event(a, "note").id(secret.much(1 << 20))).await, SendError::Id(_));
    let no_value = NewEvent::new(a, "note", &(hidden, f64::NAN));
    fails!(secret, send(no_value).await, SendError::Payload(_));
    host.request(event(a, "note").id(hidden)).await.unwrap();
    fails!(secret, send(event(b, "note").id(hidden)).await, SendError::IdReused { .. });
    fails!(secret, send(event(a, "note").from(b)).await, SendError::Impersonation { .. });
    fails!(secret, send(event(a, &ugly(1 << 20)).from(stranger())).await, SendError::Denied { .. });
    run(&host, b, json!([["set", "x", [], hidden], ["trap"]])).await;
    let letter = host.dead_letters(&b, 0, usize::MAX).unwrap().pop().unwrap();
    secret.absent(&format!("{letter:?}"));
    host.discard(&letter.event.to, &letter.event.id).await.unwrap();
    fails!(secret, host.resend(&letter.event.to, &letter.event.id).await.unwrap_err(), SendError::NoSuchLetter);
    fails!(secret, host.discard(&letter.event.to, &letter.event.id).await.unwrap_err(), SendError::NoSuchLetter);
    let none = EventId([7; 16]);
    fails!(secret, host.cancel(&a, &none).await.unwrap_err(), SendError::NoSuchEvent { .. });
    fails!(secret, host.release(&a, &none).await.unwrap_err(), SendError::NoSuchEvent { .. });
    send_stopped(&host, a).await;
    wire.arrived(1).await;
    let running = waiting(&host, a).await.remove(0).id;
    fails!(secret, host.cancel(&a, &running).await.unwrap_err(), SendError::Running);
    fails!(secret, host.release(&a, &running).await.unwrap_err(), SendError::NotHeld { .. });
    for _ in 0..3 {
        host.send(event(a, "note")).await.unwrap();
    }
    fails!(secret, send(event(a, "note")).await, SendError::QueueFull { .. });
    wire.release(1);
    settle(&host).await;
    // A look-up that fails is no stopped host.
    let letter = host.send(NewEvent::new(b, "run", script(json!([["trap"]])))).await.unwrap();
    receipt(&host, &letter).await;
    disk.fail_look_ups(Some(StoreError::Failed(ugly(1 << 20))));
    fails!(secret, send(event(a, "note").id("another")).await, SendError::Store(_));
    fails!(secret, host.resend(&b, &letter).await.unwrap_err(), SendError::Store(_));
    fails!(secret, host.receipt(&letter).await.unwrap_err(), ReadError::Store(_));
    disk.fail_look_ups(None);
    host.send(event(a, "note").id("another")).await.unwrap();
    host.discard(&b, &letter).await.unwrap();
    settle(&host).await;
    disk.fail(Some(StoreError::Full));
    fails!(secret, send(event(a, "note")).await, SendError::Unavailable(Unavailable::DiskFull));
    disk.fail(Some(StoreError::Failed(ugly(1 << 20))));
    let stopped = host.stopped().await;
    fails!(secret, stopped, Unavailable::Stopped { .. });
    fails!(secret, send(event(a, "note")).await, SendError::Unavailable(Unavailable::Stopped { .. }));
    let read = host.get_at::<Value>(&a, "notes", &Path::root(), 1).await;
    if let Err(error) = read {
        secret.shown(&error);
    }
    let installed = host.install(probe_charm("late")).await.unwrap_err();
    fails!(secret, installed, InstallError::Unavailable(Unavailable::Stopped { .. }));
    fails!(secret, host.shutdown().await.unwrap_err(), Unavailable::Stopped { .. });
}

/// Starts a turn that stops at a request.
async fn send_stopped(host: &Host, charm: Did) {
    send(host, charm, json!([["fetch", { "url": WIRE }]])).await;
}

/// T7: each read that gives nothing, of a cell with 10 MiB of secret in it.
#[tokio::test(flavor = "multi_thread")]
async fn no_refused_read_tells_what_it_read() {
    let secret = Secret::new("reads");
    let host = builder().limits(roomy()).open().await.unwrap();
    let a = probe(&host, "a").await;
    fill(&host, a, "big", &secret).await;
    let deep: Path = Path(vec![Segment::Index(0), Segment::Key(ugly(1 << 20))]);
    let get = async |owner: Did, path: &Path| host.get::<Value>(&owner, "big", path).await.unwrap_err();
    fails!(secret, get(stranger(), &Path::root()).await, ReadError::NoSuchSpace(_));
    fails!(secret, get(a, &deep).await, ReadError::Mismatch(_));
    let wide = Path(vec![Segment::Key(ugly(1 << 20))]);
    fails!(secret, get(a, &wide).await, ReadError::Mismatch(_));
    let denied = host.get_as::<Value>(&stranger(), &a, &ugly(1 << 20), &deep).await.unwrap_err();
    fails!(secret, denied, ReadError::Denied { .. });
    let path = host.get::<Value>(&a, "big", "no path").await.unwrap_err();
    fails!(secret, path, ReadError::Path(_));
    fails!(secret, host.get::<bool>(&a, "big", "").await.unwrap_err(), ReadError::Type { .. });
    let later = host.get_at::<Value>(&a, "big", &Path::root(), u64::MAX).await.unwrap_err();
    fails!(secret, later, ReadError::NoSuchCommit { .. });
    host.prune(&a).await.unwrap();
    let earlier = host.get_at::<Value>(&a, "big", &Path::root(), 1).await.unwrap_err();
    fails!(secret, earlier, ReadError::Compacted { .. });
    secret.absent(&format!("{:?} {:?} {:?}", host.cells(&a).await.unwrap(), host.spaces(), host.counters()));
    let (other, disk) = GatedStore::new(MemoryStore::new());
    let stopped = builder().store(other).open().await.unwrap();
    let charm = probe(&stopped, "a").await;
    disk.fail(Some(StoreError::Failed("broken".to_owned())));
    stopped.send(NewEvent::new(charm, "note", value(json!(secret.text)))).await.unwrap_err();
    let read = stopped.get::<Value>(&charm, "notes", &Path::root()).await;
    // Nothing was written there yet, or it is not durable.
    if let Err(error) = read {
        fails!(secret, error, ReadError::Unavailable(_));
    }
    let event = stopped.receipt(&EventId([1; 16])).await;
    if let Err(error) = event {
        secret.shown(&error);
    }
    fails!(secret, ReadError::Unavailable(Unavailable::Closed), ReadError::Unavailable(Unavailable::Closed));
}

/// T7, D6: why something is not watched, or not any more, in bounds.
#[tokio::test(flavor = "multi_thread")]
async fn every_end_of_a_watcher_says_why_in_bounds() {
    let secret = Secret::new("watched");
    let (store, disk) = GatedStore::new(MemoryStore::new());
    let host = builder().store(store).open().await.unwrap();
    let a = probe(&host, "a").await;
    run(&host, a, json!([["set", "big", [], [secret.text]]])).await;
    let watch = async |watch: Watch| host.watch(watch).await.err().unwrap();
    fails!(secret, watch(Watch::cell(&stranger(), "x")).await, WatchError::NoSuchCharm { .. });
    fails!(secret, watch(Watch::cell(&a, "x").at("no path")).await, WatchError::Path(_));
    fails!(secret, watch(Watch::cell(&a, &ugly(1 << 20))).await, WatchError::Name(_));
    fails!(secret, watch(Watch::cells(&a, &ugly(1 << 20))).await, WatchError::Name(_));
    let wide = Path(vec![Segment::Key(ugly(1 << 20))]);
    fails!(secret, watch(Watch::cell(&a, "x").at(wide)).await, WatchError::Name(_));
    fails!(secret, watch(Watch::cell(&a, "x").from(u64::MAX)).await, WatchError::NoSuchCommit { .. });
    let as_stranger = async |watch: Watch| host.watch_as(&stranger(), watch).await.err().unwrap();
    fails!(secret, as_stranger(Watch::cell(&a, "big")).await, WatchError::Denied { .. });
    fails!(secret, as_stranger(Watch::cells(&a, "big")).await, WatchError::Denied { .. });
    fails!(secret, as_stranger(Watch::events(&a)).await, WatchError::OperatorOnly { .. });
    let mut watchers = Vec::new();
    for number in 0..WATCH_PREFIXES_MAX {
        watchers.push(host.watch(Watch::cells(&a, &number.to_string())).await.unwrap());
    }
    fails!(secret, watch(Watch::cells(&a, "")).await, WatchError::TooMany { .. });
    watchers.clear();
    let mut unreadable =
        host.watch(Watch::cell(&a, "big").at(Path(vec![Segment::Index(0), Segment::Index(0)]))).await.unwrap();
    let update = unreadable.next().await.unwrap().unwrap();
    if let Change::Unreadable { why, .. } = &update.change {
        secret.absent(why);
        assert!(why.len() <= MESSAGE_BYTES_MAX, "{}", why.len());
    }
    disk.fail_look_ups(Some(StoreError::Failed(ugly(1 << 20))));
    let mut event = host.watch(Watch::receipt(&EventId([1; 16]))).await.unwrap();
    fails!(secret, event.next().await.unwrap().unwrap_err(), WatchError::Store(_));
    disk.fail_look_ups(None);
    disk.fail(Some(StoreError::Failed(ugly(1 << 20))));
    host.send(event_of(a)).await.unwrap_err();
    let mut end = unreadable.next().await.unwrap();
    while end.is_ok() {
        end = unreadable.next().await.unwrap();
    }
    fails!(secret, end.unwrap_err(), WatchError::Unavailable(_));
}

fn event_of(charm: Did) -> NewEvent {
    NewEvent::new(charm, "note", value(json!(1)))
}
