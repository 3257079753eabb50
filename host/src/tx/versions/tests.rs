use super::*;
use crate::value::Value;

const KIB: usize = 1 << 10;

fn cell(name: &str) -> CellId {
    CellId { owner: Did::numbered(7), name: name.into() }
}

/// Versions that are written by hand: each commit is the next number.
struct Cells {
    versions: Arc<Versions>,
    order: u64,
}

impl Cells {
    fn new(old_bytes_max: usize) -> Cells {
        Cells { versions: Arc::new(Versions::load(0, Vec::new(), old_bytes_max)), order: 0 }
    }

    fn write(&mut self, names: &[&str]) {
        self.write_from(names, self.versions.snapshot());
    }

    fn write_from(&mut self, names: &[&str], from: Snapshot) {
        self.order += 1;
        let value = Tree::new(Value::encode(&"x".repeat(KIB)).expect("a text"));
        let replaced = value.len();
        let write = |name: &&str| Change { name: Arc::from(*name), value: Some(value.clone()), replaced };
        let writes = names.iter().map(write).collect();
        let released = self.versions.apply(&cell("").owner, self.order, self.order, writes, from);
        self.versions.release(released);
    }

    fn count(&self, name: &str) -> usize {
        self.versions.read().find(&cell("").owner, name).len()
    }

    fn old_bytes(&self) -> usize {
        self.versions.read().old_bytes
    }
}

fn seen(snapshot: &Snapshot, name: &str) -> Option<u64> {
    snapshot.read(&cell(name)).map(|version| version.order)
}

#[test]
fn a_snapshot_shows_one_commit() {
    let mut cells = Cells::new(usize::MAX);
    cells.write(&["c"]);
    let first = cells.versions.snapshot();
    cells.write(&["c"]);
    let second = cells.versions.snapshot();
    cells.write(&["c"]);
    assert_eq!((seen(&first, "c"), seen(&second, "c")), (Some(1), Some(2)));
    drop(first);
    cells.write(&["c"]);
    assert_eq!(seen(&second, "c"), Some(2));
}

/// Also when the cell is never written again.
#[test]
fn old_versions_go_when_the_last_snapshot_that_sees_them_closes() {
    let mut cells = Cells::new(usize::MAX);
    cells.write(&["a", "b"]);
    let (first, again) = (cells.versions.snapshot(), cells.versions.snapshot());
    cells.write(&["b"]);
    let second = cells.versions.snapshot();
    cells.write(&["a", "b"]);
    assert_eq!((cells.count("a"), cells.count("b")), (2, 3));
    drop(second);
    assert_eq!((cells.count("a"), cells.count("b")), (2, 2), "`a` is seen by the first still");
    drop(first);
    assert_eq!((seen(&again, "a"), seen(&again, "b")), (Some(1), Some(1)));
    drop(again);
    assert_eq!((cells.count("a"), cells.count("b"), cells.old_bytes()), (1, 1, 0));
    assert!(cells.versions.read().open.is_empty());
}

#[test]
fn a_commit_keeps_nothing_for_its_own_snapshot() {
    let mut cells = Cells::new(usize::MAX);
    for _ in 0..3 {
        cells.write(&["c"]);
        assert_eq!((cells.count("c"), cells.old_bytes()), (1, 0));
    }
}

/// A5
#[test]
fn over_the_bound_the_oldest_snapshots_are_lost() {
    let mut cells = Cells::new(4 * KIB);
    cells.write(&["c"]);
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(cells.versions.snapshot());
        cells.write(&["c"]);
        assert!(cells.old_bytes() <= 4 * KIB, "{}", cells.old_bytes());
    }
    let lost: Vec<bool> = open.iter().map(Snapshot::is_lost).collect();
    assert_eq!(lost, [true, true, true, true, true, true, true, false, false, false]);
    assert_eq!(seen(&open[0], "c"), None, "a lost snapshot shows nothing");
    assert_eq!(seen(&open[7], "c"), Some(8));
    drop(open);
    assert_eq!((cells.count("c"), cells.old_bytes()), (1, 0));
}

/// C7: versions share what was not written.
#[test]
fn an_old_version_counts_what_it_holds_alone() {
    let mut cells = Cells::new(usize::MAX);
    let value = Tree::new(Value::encode(&vec!["x".repeat(KIB); 64]).expect("a list"));
    let write = |cells: &mut Cells| {
        cells.order += 1;
        let change = Change { name: "c".into(), value: Some(value.clone()), replaced: KIB };
        let from = cells.versions.snapshot();
        let released = cells.versions.apply(&cell("").owner, cells.order, cells.order, vec![change], from);
        cells.versions.release(released);
    };
    write(&mut cells);
    let first = cells.versions.snapshot();
    write(&mut cells);
    assert_eq!(cells.old_bytes(), KIB + OLD_VERSION_COST);
    let second = cells.versions.snapshot();
    (0..9).for_each(|_| write(&mut cells));
    assert_eq!((cells.count("c"), cells.old_bytes()), (3, KIB + 9 * KIB + 2 * OLD_VERSION_COST));
    // What the second shared with the first, the first holds alone from now on.
    drop(second);
    assert_eq!((cells.count("c"), cells.old_bytes()), (2, 10 * KIB + OLD_VERSION_COST));
    (0..100).for_each(|_| write(&mut cells));
    assert_eq!(cells.old_bytes(), value.len() + OLD_VERSION_COST, "no more than all of it");
    drop(first);
    assert_eq!((cells.count("c"), cells.old_bytes()), (1, 0));
}

/// Against a model that keeps everything.
#[test]
fn random_snapshots_see_what_was_there() {
    let (mut cells, mut random) = (Cells::new(usize::MAX), 1u64);
    let mut next = |max: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % max
    };
    let names = ["a", "b", "c", "d"];
    let (mut latest, mut open) = (BTreeMap::new(), Vec::new());
    for _ in 0..1_000 {
        match next(3) {
            0 if open.len() < 20 => open.push((cells.versions.snapshot(), latest.clone())),
            1 if !open.is_empty() => drop(open.swap_remove(next(open.len() as u64) as usize)),
            _ => {
                let written = &names[next(4) as usize..];
                cells.write(written);
                latest.extend(written.iter().map(|name| (*name, cells.order)));
            }
        }
        for (snapshot, then) in &open {
            assert!(names.iter().all(|name| seen(snapshot, name) == then.get(name).copied()));
        }
    }
    open.clear();
    assert!(names.iter().all(|name| cells.count(name) == 1));
    assert_eq!(cells.old_bytes(), 0);
}

/// C8: against a model that keeps everything, in pages of any size; the names are those of the cells.
#[test]
fn random_snapshots_list_what_was_there() {
    let (mut cells, mut random) = (Cells::new(usize::MAX), 7u64);
    let mut next = |max: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % max
    };
    let owner = cell("").owner;
    let (mut latest, mut open) = (BTreeMap::<String, u64>::new(), Vec::new());
    for _ in 0..2_000 {
        match next(4) {
            0 if open.len() < 20 => open.push((cells.versions.snapshot(), latest.clone())),
            1 if !open.is_empty() => drop(open.swap_remove(next(open.len() as u64) as usize)),
            2 => {
                let name = format!("a:{}", next(6));
                cells.order += 1;
                let change = Change { name: name.as_str().into(), value: None, replaced: 0 };
                let from = cells.versions.snapshot();
                let released = cells.versions.apply(&owner, cells.order, cells.order, vec![change], from);
                cells.versions.release(released);
                latest.remove(&name);
            }
            _ => {
                let name = format!("{}:{}", ["a", "b"][next(2) as usize], next(6));
                cells.write(&[&name]);
                latest.insert(name, cells.order);
            }
        }
        let (range, max) = (Range::of("a:", None, None), 1 + next(4) as usize);
        for (snapshot, then) in &open {
            let (mut listed, mut rest) = (Vec::new(), Some(range.clone()));
            while let Some(range) = rest {
                let (page, last) = snapshot.list(&owner, &range, max, 2);
                assert!(page.len() <= max);
                listed.extend(page.into_iter().map(|(name, version)| (name.to_string(), version.order)));
                rest = last.map(|last| range.rest(&after(&last)));
            }
            let there = then.iter().filter(|(name, _)| name.starts_with("a:"));
            assert_eq!(listed, there.map(|(name, order)| (name.clone(), *order)).collect::<Vec<_>>());
            // What has come or gone since, each name of it.
            let moved = |name: &String| latest.contains_key(name) != then.contains_key(name);
            let first = (0..6).map(|number| format!("a:{number}")).find(moved);
            let at = (snapshot.order(), snapshot.order());
            let (found, _) = cells.versions.moved(&owner, &range, at, usize::MAX);
            assert_eq!(found.first().map(|(name, _)| name.to_string()), first);
        }
    }
    open.clear();
    let inner = cells.versions.read();
    let space = &inner.spaces[&owner];
    assert_eq!(space.names.len(), space.cells.len());
    assert!(space.names.iter().all(|name| space.cells.contains_key(name)));
    assert_eq!(space.names.len(), latest.len(), "names of removed cells are kept nowhere");
}

#[test]
fn what_changed_is_told_up_to_a_bound() {
    let mut cells = Cells::new(usize::MAX);
    cells.write(&["a"]);
    cells.write(&["b", "c"]);
    cells.versions.advance(3);
    let told = |since, max| cells.versions.changed_since(since, max).map(|cells| cells.len());
    assert_eq!(
        (told(0, 3), told(0, 2), told(1, 2), told(2, 9), told(3, 9)),
        (Some(3), None, Some(2), Some(0), Some(0))
    );
    // In no space that is meant: two commits are passed over, or are too many.
    let others = |passed| cells.versions.changed_in(0, (0, passed), |_| false).map(|cells| cells.len());
    assert_eq!((others(2), others(1)), (Some(0), None));
}
