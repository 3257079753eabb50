//! What a host relies on in a store, said once and held against every store (T5, I2, S4, S11).
//!
//! The rows of a batch are what the host's group commit makes: a cell at most once, an event that was queued
//! and taken within one batch not at all.
#![allow(clippy::unwrap_used, reason = "tests")]

mod cells;
mod folder;
mod log;
mod past;
mod random;
mod turns;

use std::path::PathBuf;

use cells::cells_are_read_in_pages;
use charm_conformance::written;
use charm_host::*;
use log::{
    only_sealed_entries_have_a_seal, the_commits_that_handle_an_event_are_found_by_its_position,
    the_log_is_read_by_space, the_log_is_read_in_pages,
};
use past::{a_past_goes_and_what_stands_for_it_stays, commit, receipts_go_by_the_commits_that_settled_them};
use serde_json::json;
use turns::{a_turn_is_under_way_until_it_ends, what_a_turn_was_told_comes_in_the_order_of_its_segments};
use zeroize::Zeroizing;

/// A kind of store. Reopening is what a host does that starts again on what another one left.
trait Kind {
    type Store: Store;
    fn new() -> Self;
    fn open(&self) -> Self::Store;
}

/// In memory a store lives as long as it is held.
struct Memory(MemoryStore);

impl Kind for Memory {
    type Store = MemoryStore;

    fn new() -> Memory {
        Memory(MemoryStore::new())
    }

    fn open(&self) -> MemoryStore {
        self.0.clone()
    }
}

/// Hands look-ups on.
macro_rules! delegate {
    () => {
        fn load(&self, fresh_secret: Option<[u8; 32]>) -> Result<Image, StoreError> {
            self.0.load(fresh_secret)
        }

        fn component(&self, hash: &Hash) -> Result<Option<Component>, StoreError> {
            self.0.component(hash)
        }

        fn recording(&self, position: u64) -> Result<Vec<std::sync::Arc<[u8]>>, StoreError> {
            self.0.recording(position)
        }

        fn queued(&self, position: u64) -> Result<Option<charm_host::Queued>, StoreError> {
            self.0.queued(position)
        }

        fn receipt(&self, id: &EventId) -> Result<Option<ReceiptRow>, StoreError> {
            self.0.receipt(id)
        }

        fn receipts(&self, after: Option<&EventId>, max: usize) -> Result<Vec<ReceiptRow>, StoreError> {
            self.0.receipts(after, max)
        }

        fn entry(&self, space: &Did, seq: u64) -> Result<Option<LogEntry>, StoreError> {
            self.0.entry(space, seq)
        }

        fn log(&self, space: Option<&Did>, after: u64, max: usize) -> Result<Vec<LogEntry>, StoreError> {
            self.0.log(space, after, max)
        }

        fn handled(&self, position: u64, after: u64, max: usize) -> Result<Vec<LogEntry>, StoreError> {
            self.0.handled(position, after, max)
        }

        fn past(&self, space: &Did, name: Option<&str>) -> Result<Vec<CellRow>, StoreError> {
            self.0.past(space, name)
        }

        fn settled(&self, space: &Did, after: u64, max: usize) -> Result<Vec<ReceiptRow>, StoreError> {
            self.0.settled(space, after, max)
        }

        fn dead_letter(&self, position: u64) -> Result<Option<DeadLetter>, StoreError> {
            self.0.dead_letter(position)
        }

        fn dead_letter_of(&self, event: &EventId) -> Result<Option<DeadLetter>, StoreError> {
            self.0.dead_letter_of(event)
        }

        fn dead_letters(&self, charm: &Did, after: u64, max: usize) -> Result<Vec<DeadLetter>, StoreError> {
            self.0.dead_letters(charm, after, max)
        }
    };
}

/// On disk: journal, tail and index.
struct Folder {
    _parent: tempfile::TempDir,
    path: PathBuf,
}

impl Kind for Folder {
    type Store = FolderStore;

    fn new() -> Folder {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("store");
        Folder { _parent: parent, path }
    }

    fn open(&self) -> FolderStore {
        FolderStore::open(&self.path).unwrap()
    }
}

/// The same, with every batch in the index before anybody looks.
struct Indexed(Folder);

struct AtOnce(FolderStore);

impl Kind for Indexed {
    type Store = AtOnce;

    fn new() -> Indexed {
        Indexed(Folder::new())
    }

    fn open(&self) -> AtOnce {
        AtOnce(self.0.open())
    }
}

impl Store for AtOnce {
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.0.commit(batch)?;
        while self.0.index()? {}
        assert_eq!(self.0.lag(), Lag::default());
        Ok(())
    }

    delegate!();
}

/// Makes the tests of the suite, once for each kind of store.
macro_rules! suite {
    ($($test:ident),* $(,)?) => {
        mod memory { $(#[test] fn $test() { super::$test(&<super::Memory as super::Kind>::new()); })* }
        mod on_disk { $(#[test] fn $test() { super::$test(&<super::Folder as super::Kind>::new()); })* }
        mod indexed { $(#[test] fn $test() { super::$test(&<super::Indexed as super::Kind>::new()); })* }
    };
}

suite! {
    a_new_store_is_empty,
    the_first_secret_is_kept,
    everything_of_a_batch_is_there_and_again_after_reopening,
    a_cell_has_its_last_value,
    a_removed_cell_is_not_there,
    cells_are_read_in_pages,
    a_past_goes_and_what_stands_for_it_stays,
    receipts_go_by_the_commits_that_settled_them,
    a_space_moves_to_its_new_head,
    spaces_come_in_the_order_they_were_added,
    the_last_position_stays_until_it_is_replaced,
    an_event_waits_until_it_is_taken,
    events_come_in_the_order_of_their_positions,
    a_turn_is_under_way_until_it_ends,
    what_a_turn_was_told_comes_in_the_order_of_its_segments,
    receipts_are_found_by_id,
    receipts_are_listed_in_pages_by_id,
    every_outcome_is_kept,
    dead_letters_are_found_and_listed_in_pages_until_they_are_buried,
    the_log_is_read_in_pages,
    the_log_is_read_by_space,
    the_commits_that_handle_an_event_are_found_by_its_position,
    only_sealed_entries_have_a_seal,
    a_component_is_there_until_it_goes,
    an_empty_batch_changes_nothing,
    the_greatest_numbers_and_texts_come_back,
}

const SECRET: [u8; 32] = [7; 32];

fn did(n: u8) -> Did {
    MemoryKeyring::default().create(&Zeroizing::new([n; 32])).unwrap()
}

fn id(n: u8) -> EventId {
    EventId([n; 16])
}

fn value(json: serde_json::Value) -> Value {
    Value::encode(&json).unwrap()
}

fn space(n: u8) -> SpaceRow {
    SpaceRow::new(did(n), format!("space-{n}"))
}

/// A component that comes.
fn bytes(n: u8) -> (Hash, Option<Component>) {
    let component = Component::from(vec![n; usize::from(n)]);
    (component.sha256(), Some(component))
}

/// A component that is installed.
fn install(n: u8) -> InstallRow {
    InstallRow { component: [n; 32], rights: [n + 1; 32] }
}

fn event(n: u8, to: u8) -> Event {
    Event {
        id: id(n),
        sender: did(9),
        to: did(to),
        stream: "notes".into(),
        payload: value(json!({ "n": n })),
        on_commit: Some(OnCommit { stream: "done".into(), tag: value(json!([n])) }),
        receipt_of: n.is_multiple_of(3).then_some(id(n + 1)),
        supplied: n.is_multiple_of(2),
        awaited: n.is_multiple_of(3),
        deliver_after: n.is_multiple_of(4).then_some(u64::from(n)),
        expires_at: n.is_multiple_of(5).then_some(u64::from(n)),
    }
}

fn queued(position: u64, to: u8) -> Queued {
    Queued { position, space: did(to), event: event(position as u8, to) }
}

fn receipt(n: u8, outcome: Outcome) -> ReceiptRow {
    let committed = outcome == Outcome::Committed;
    let message = (!committed).then(|| format!("why {n}, in a few words"));
    let receipt = Receipt { id: id(n), outcome, commit: committed.then_some(u64::from(n)), message };
    let (space, seq, time_ms) = (did(1), u64::from(n), 1_700_000_000_000 + u64::from(n));
    ReceiptRow {
        receipt,
        sender: did(9),
        to: did(1),
        digest: n.is_multiple_of(2).then_some([n; 16]),
        space,
        seq,
        time_ms,
    }
}

fn entry(order: u64, of: u8, seq: u64) -> LogEntry {
    let taken = order.is_multiple_of(2).then_some(Taken { position: order, late: order.is_multiple_of(4) });
    let record = vec![order as u8; 40].into();
    LogEntry { order, space: did(of), seq, position: order + 1, taken, record, seal: None }
}

fn cell(of: u8, name: &str, order: u64, content: Option<serde_json::Value>) -> CellRow {
    CellRow { space: did(of), name: name.into(), order, seq: order, value: content.map(value) }
}

/// The same as it is written.
fn write(of: u8, name: &str, order: u64, content: Option<serde_json::Value>) -> CellWrite {
    written(cell(of, name, order, content))
}

fn letter(position: u64, to: u8) -> DeadLetter {
    let receipt = receipt(position as u8, Outcome::Faulted).receipt;
    DeadLetter { position, time_ms: 1_700_000_000_000 + position, event: event(position as u8, to), receipt }
}

/// A store that knows the spaces 1 and 2.
fn with_spaces(kind: &impl Kind) -> impl Store {
    let store = kind.open();
    store.load(Some(SECRET)).unwrap();
    store.commit(&Batch { spaces: vec![space(1), space(2)], ..Batch::default() }).unwrap();
    store
}

/// An image in an order that does not depend on the store, where the contract leaves the order open.
fn sorted(mut image: Image) -> String {
    image.cells.sort_by(|a, b| (a.space, &a.name).cmp(&(b.space, &b.name)));
    let values: Vec<_> =
        image.cells.iter().map(|row| row.value.as_ref().map(|value| value.as_bytes().to_vec())).collect();
    let payloads: Vec<_> = image.queued.iter().map(|queued| queued.event.payload.as_bytes().to_vec()).collect();
    format!("{image:?} {values:?} {payloads:?} {:?} {:?}", image.turns, image.asked)
}

fn picture(store: &impl Store) -> String {
    sorted(store.load(None).unwrap())
}

fn a_new_store_is_empty(kind: &impl Kind) {
    let store = kind.open();
    let image = store.load(Some(SECRET)).unwrap();
    assert_eq!(picture(&store), sorted(Image { secret: SECRET, ..Image::default() }));
    assert_eq!((image.secret, image.end, image.position, image.pruned), (SECRET, [0; 32], 0, 0));
    assert!(image.cuts.is_empty() && image.spaces.is_empty() && image.kept.is_empty() && image.components.is_empty());
    assert_eq!(store.receipt(&id(1)), Ok(None));
    assert_eq!(store.entry(&did(1), 1), Ok(None));
    assert_eq!(store.log(None, 0, 10), Ok(vec![]));
    assert_eq!(store.dead_letter(1), Ok(None));
}

fn the_first_secret_is_kept(kind: &impl Kind) {
    let store = kind.open();
    // Whoever only reads leaves no secret behind that anybody could guess.
    assert_eq!(store.load(None).unwrap().secret, [0; 32]);
    assert_eq!(store.load(Some(SECRET)).unwrap().secret, SECRET);
    assert_eq!(store.load(Some([8; 32])).unwrap().secret, SECRET);
    drop(store);
    assert_eq!(kind.open().load(Some([9; 32])).unwrap().secret, SECRET);
}

const NOTES: Notes = Notes { paused: true, chain: 1_001, dropped: 7 };

fn whole_batch() -> Batch {
    let mut sealed = entry(2, 1, 2);
    sealed.seal = Some([5; 64]);
    Batch {
        position: Some(7),
        spaces: vec![space(3)],
        notes: vec![(did(1), NOTES), (did(3), NOTES)],
        kept: vec![(did(1), Some(vec![1])), (did(2), Some(vec![2])), (did(2), None), (did(1), Some(vec![1, 2]))],
        log: vec![entry(1, 1, 1), sealed],
        end: Some([4; 32]),
        heads: vec![(did(1), 2, [6; 32])],
        signed: vec![(did(1), 1, [7; 64]), (did(1), 2, [8; 64])],
        cells: vec![write(1, "token", 2, Some(json!({ "value": "abc" }))), write(1, "gone", 1, None)],
        queued: vec![queued(6, 2), queued(7, 1)],
        taken: vec![],
        turns: vec![turns::under_way(6, 1, 1), turns::under_way(6, 1, 2)],
        recordings: vec![turns::piece(6, 1), turns::piece(6, 2)],
        asked: vec![(6, vec![[1; 32]]), (7, vec![[1; 32]]), (6, vec![[1; 32], [2; 32]]), (7, vec![])],
        receipts: vec![receipt(3, Outcome::Committed), receipt(4, Outcome::Rejected)],
        dead: vec![letter(4, 1)],
        buried: vec![],
        letters_dropped: vec![(did(1), 2), (did(1), 1)],
        components: vec![bytes(1), (Component::from(vec![1; 9]).sha256(), None), bytes(3), bytes(2), bytes(3)],
        installed: vec![
            (did(1), Some(install(1))),
            (did(2), Some(install(2))),
            (did(2), None),
            (did(1), Some(install(3))),
        ],
        checkpoints: vec![(did(1), Point { seq: 1, order: 0, at: 2 })],
        cuts: vec![],
        pruned: None,
    }
}

fn everything_of_a_batch_is_there_and_again_after_reopening(kind: &impl Kind) {
    let batch = whole_batch();
    let before = {
        let store = with_spaces(kind);
        store.commit(&batch).unwrap();
        picture(&store)
    };
    let store = kind.open();
    assert_eq!(picture(&store), before);
    let image = store.load(None).unwrap();
    assert_eq!((image.order, image.position, image.spaces.len(), image.cells.len()), (2, 7, 3, 1));
    let notes = |n: u8| image.spaces.iter().find(|row| row.did == did(n)).unwrap().notes;
    assert_eq!([notes(1), notes(2), notes(3)], [NOTES, Notes::default(), NOTES]);
    assert_eq!(image.kept, [(did(1), vec![1, 2])]);
    assert_eq!(image.queued, batch.queued);
    let found = |position| store.queued(position).unwrap();
    assert_eq!(found(image.queued[0].position).as_ref(), Some(&image.queued[0]));
    assert_eq!(found(99), None);
    assert_eq!(image.turns, batch.turns[1].1.clone().into_iter().collect::<Vec<_>>());
    assert_eq!(image.asked, [(6, vec![[1; 32], [2; 32]])], "the last list of each, and none that is empty");
    assert_eq!(store.recording(6).unwrap(), [batch.recordings[0].bytes.clone(), batch.recordings[1].bytes.clone()]);
    assert_eq!(image.dead, [(did(1), 4, id(4))]);
    assert_eq!(image.end, [4; 32]);
    let first = image.spaces.iter().find(|row| row.did == did(1)).unwrap();
    assert_eq!((first.seq, first.head, first.signed), (2, [6; 32], Some((2, [8; 64]))));
    assert_eq!((first.history_bytes, first.checkpoint), (80, Point { seq: 1, order: 0, at: 2 }));
    assert_eq!(image.spaces.iter().find(|row| row.did == did(1)).unwrap().letters_dropped, 3, "more is added");
    assert_eq!(store.log(None, 0, 10).unwrap(), batch.log);
    assert_eq!(store.entry(&did(1), 2).unwrap().as_ref(), batch.log.last());
    assert_eq!(store.receipt(&id(4)).unwrap().as_ref(), batch.receipts.last());
    assert_eq!(store.dead_letter(4).unwrap().as_ref(), batch.dead.last());
}

fn a_cell_has_its_last_value(kind: &impl Kind) {
    let store = with_spaces(kind);
    for order in 1..=3 {
        let cells = vec![write(1, "n", order, Some(json!(order))), write(2, "n", order, Some(json!([order])))];
        store.commit(&Batch { log: vec![entry(order, 1, order)], cells, ..Batch::default() }).unwrap();
    }
    let mut cells = store.load(Some(SECRET)).unwrap().cells;
    cells.sort_by_key(|row| row.space != did(1));
    assert_eq!(cells, [cell(1, "n", 3, Some(json!(3))), cell(2, "n", 3, Some(json!([3])))]);
}

/// H1: nothing is kept of a cell that was removed but its history.
fn a_removed_cell_is_not_there(kind: &impl Kind) {
    let store = with_spaces(kind);
    store.commit(&Batch { cells: vec![write(1, "n", 1, Some(json!(1)))], ..Batch::default() }).unwrap();
    store.commit(&Batch { cells: vec![write(1, "n", 2, None)], ..Batch::default() }).unwrap();
    assert_eq!(store.load(Some(SECRET)).unwrap().cells, []);
    store.commit(&Batch { cells: vec![write(1, "n", 3, Some(json!(3)))], ..Batch::default() }).unwrap();
    drop(store);
    assert_eq!(kind.open().load(Some(SECRET)).unwrap().cells, [cell(1, "n", 3, Some(json!(3)))]);
}

fn a_space_moves_to_its_new_head(kind: &impl Kind) {
    let store = with_spaces(kind);
    store.commit(&Batch { heads: vec![(did(1), 5, [1; 32])], ..Batch::default() }).unwrap();
    store.commit(&Batch { heads: vec![(did(1), 6, [2; 32]), (did(2), 1, [3; 32])], ..Batch::default() }).unwrap();
    let spaces = store.load(Some(SECRET)).unwrap().spaces;
    let find = |n: u8| spaces.iter().find(|row| row.did == did(n)).unwrap().clone();
    assert_eq!(find(1), SpaceRow { seq: 6, head: [2; 32], ..space(1) });
    assert_eq!(find(2), SpaceRow { seq: 1, head: [3; 32], ..space(2) });
}

fn spaces_come_in_the_order_they_were_added(kind: &impl Kind) {
    let store = kind.open();
    let added: Vec<SpaceRow> = [5, 1, 4, 2, 3].map(space).into();
    for row in &added {
        store.commit(&Batch { spaces: vec![row.clone()], ..Batch::default() }).unwrap();
    }
    let found = store.load(Some(SECRET)).unwrap().spaces;
    assert_eq!(found.len(), added.len());
    assert!(added.iter().all(|row| found.contains(row)));
}

fn the_last_position_stays_until_it_is_replaced(kind: &impl Kind) {
    let store = with_spaces(kind);
    store.commit(&Batch { position: Some(40), ..Batch::default() }).unwrap();
    store.commit(&Batch { position: None, cells: vec![write(1, "n", 1, Some(json!(1)))], ..Batch::default() }).unwrap();
    assert_eq!(store.load(Some(SECRET)).unwrap().position, 40);
    store.commit(&Batch { position: Some(41), ..Batch::default() }).unwrap();
    drop(store);
    assert_eq!(kind.open().load(Some(SECRET)).unwrap().position, 41);
}

fn an_event_waits_until_it_is_taken(kind: &impl Kind) {
    let store = with_spaces(kind);
    store.commit(&Batch { queued: vec![queued(1, 1), queued(2, 1), queued(3, 2)], ..Batch::default() }).unwrap();
    store.commit(&Batch { taken: vec![1, 3], queued: vec![queued(4, 1)], ..Batch::default() }).unwrap();
    assert_eq!(store.load(Some(SECRET)).unwrap().queued, [queued(2, 1), queued(4, 1)]);
    // Taking what is not there is nothing.
    store.commit(&Batch { taken: vec![1, 99], ..Batch::default() }).unwrap();
    assert_eq!(store.load(Some(SECRET)).unwrap().queued.len(), 2);
}

/// S3: after a restart events are handled in the order in which they were sent.
fn events_come_in_the_order_of_their_positions(kind: &impl Kind) {
    let store = with_spaces(kind);
    store.commit(&Batch { queued: vec![queued(30, 1), queued(4, 2)], ..Batch::default() }).unwrap();
    store.commit(&Batch { queued: vec![queued(200, 1), queued(5, 2)], ..Batch::default() }).unwrap();
    let positions: Vec<u64> = store.load(Some(SECRET)).unwrap().queued.iter().map(|queued| queued.position).collect();
    assert_eq!(positions, [4, 5, 30, 200]);
}

fn receipts_are_found_by_id(kind: &impl Kind) {
    let store = with_spaces(kind);
    let rows: Vec<_> = (1..=20).map(|n| receipt(n, Outcome::Committed)).collect();
    store.commit(&Batch { receipts: rows.clone(), ..Batch::default() }).unwrap();
    for row in rows {
        assert_eq!(store.receipt(&row.receipt.id).unwrap(), Some(row));
    }
    assert_eq!(store.receipt(&id(21)), Ok(None));
}

fn receipts_are_listed_in_pages_by_id(kind: &impl Kind) {
    let store = with_spaces(kind);
    let rows: Vec<_> = (0..=20).map(|n| receipt(n * 12, Outcome::Committed)).collect();
    let shuffled = (0..21).map(|n| rows[n * 8 % 21].clone()).collect();
    assert_eq!(store.receipts(None, 5), Ok(vec![]));
    store.commit(&Batch { receipts: shuffled, ..Batch::default() }).unwrap();
    let mut found: Vec<ReceiptRow> = Vec::new();
    loop {
        let after = found.last().map(|row| row.receipt.id);
        let page = store.receipts(after.as_ref(), 4).unwrap();
        assert!(page.len() <= 4);
        let Some(first) = page.first() else { break };
        assert!(after.is_none_or(|after| after < first.receipt.id), "a page begins after the one before it");
        found.extend(page);
    }
    assert_eq!(found, rows);
    assert_eq!(store.receipts(Some(&id(13)), 1).unwrap(), rows[2..3], "after an id that has no receipt");
    assert_eq!(store.receipts(None, 0), Ok(vec![]));
}

fn a_component_is_there_until_it_goes(kind: &impl Kind) {
    let store = with_spaces(kind);
    let ((first, one), (second, other)) = (bytes(1), bytes(200));
    let both = vec![(first, one.clone()), (second, other.clone())];
    store.commit(&Batch { components: both, ..Batch::default() }).unwrap();
    let all = || store.load(None).unwrap().components;
    let mut sorted = vec![first, second];
    sorted.sort_unstable();
    assert_eq!(all(), sorted);
    assert_eq!((store.component(&first), store.component(&second)), (Ok(one.clone()), Ok(other)));
    assert_eq!(store.component(&[0; 32]), Ok(None));
    // It goes, comes back and goes within one batch, or the other way round.
    let away = vec![(first, None), (first, one.clone()), (first, None), (second, None), bytes(200)];
    store.commit(&Batch { components: away, ..Batch::default() }).unwrap();
    assert_eq!((all(), store.component(&first)), (vec![second], Ok(None)));
    store.commit(&Batch { components: vec![(first, one.clone())], ..Batch::default() }).unwrap();
    drop(store);
    let store = kind.open();
    assert_eq!((store.load(None).unwrap().components, store.component(&first)), (sorted, Ok(one)));
}

/// S4: the closed set.
fn every_outcome_is_kept(kind: &impl Kind) {
    let store = with_spaces(kind);
    let rows: Vec<_> = Outcome::ALL.into_iter().zip(1..).map(|(outcome, n)| receipt(n, outcome)).collect();
    store.commit(&Batch { receipts: rows.clone(), ..Batch::default() }).unwrap();
    drop(store);
    let store = kind.open();
    for row in rows {
        assert_eq!(store.receipt(&row.receipt.id).unwrap(), Some(row));
    }
}

/// S11
fn dead_letters_are_found_and_listed_in_pages_until_they_are_buried(kind: &impl Kind) {
    let store = with_spaces(kind);
    let letters: Vec<DeadLetter> = (1..=20).map(|n| letter(n, 1 + (n % 2) as u8)).collect();
    store.commit(&Batch { dead: letters.clone(), ..Batch::default() }).unwrap();
    for n in [1, 2] {
        let own: Vec<_> = letters.iter().filter(|letter| letter.event.to == did(n)).cloned().collect();
        for page in own.chunks(3) {
            assert_eq!(store.dead_letters(&did(n), page[0].position - 1, 3), Ok(page.to_vec()));
            assert_eq!(store.dead_letter_of(&page[0].event.id), Ok(Some(page[0].clone())));
        }
    }
    store.commit(&Batch { buried: (2..20).chain([99]).collect(), ..Batch::default() }).unwrap();
    assert_eq!(store.load(Some(SECRET)).unwrap().dead, [(did(2), 1, id(1)), (did(1), 20, id(20))]);
    assert_eq!((store.dead_letter(2), store.dead_letter_of(&id(2))), (Ok(None), Ok(None)));
}

fn an_empty_batch_changes_nothing(kind: &impl Kind) {
    let store = with_spaces(kind);
    store.commit(&whole_batch()).unwrap();
    let before = picture(&store);
    store.commit(&Batch::default()).unwrap();
    assert_eq!(picture(&store), before);
}

fn the_greatest_numbers_and_texts_come_back(kind: &impl Kind) {
    let store = with_spaces(kind);
    let order = i64::MAX as u64;
    let name = "é".repeat(NAME_BYTES_MAX / 2);
    let large = value(json!("x".repeat(1 << 20)));
    let row = CellRow { space: did(1), name: name.as_str().into(), order, seq: order, value: Some(large.clone()) };
    let message = Some("\u{10ffff}".repeat(MESSAGE_BYTES_MAX / 4));
    let long = Receipt { id: id(255), outcome: Outcome::Faulted, commit: Some(order), message };
    let (space, seq, time_ms) = (did(1), u64::MAX >> 1, u64::MAX >> 1);
    let long = ReceiptRow { receipt: long, sender: did(9), to: did(1), digest: Some([255; 16]), space, seq, time_ms };
    let batch = Batch {
        position: Some(u64::MAX >> 16),
        log: vec![LogEntry { record: large.as_bytes().into(), ..entry(order, 1, order) }],
        cells: vec![written(row.clone())],
        receipts: vec![long.clone()],
        queued: vec![Queued { position: order, space: did(1), event: Event { payload: large, ..event(1, 1) } }],
        ..Batch::default()
    };
    store.commit(&batch).unwrap();
    drop(store);
    let store = kind.open();
    let image = store.load(Some(SECRET)).unwrap();
    assert_eq!(
        (image.order, image.position, image.cells, image.queued),
        (order, u64::MAX >> 16, vec![row], batch.queued)
    );
    assert_eq!(store.receipt(&id(255)).unwrap(), Some(long));
    assert_eq!(store.log(None, order - 1, 1).unwrap(), batch.log);
}
