//! Random batches: whatever is in the index, in the tail, or was cut off by a kill, a store on disk answers as one in memory.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
};

use charm_conformance::{Random, copy_store, seed, times};

use super::{
    turns::{ended, piece, under_way},
    *,
};

/// What comes next in a store that holds what `Made` says.
#[derive(Default)]
struct Made {
    spaces: u8,
    order: u64,
    seqs: [u64; 8],
    position: u64,
    receipts: u8,
    waiting: Vec<u64>,
    /// Turns under way, and how many segments they have committed.
    turns: BTreeMap<u64, u32>,
    dead: Vec<u64>,
    floors: [u64; 8],
    receipts_floor: u64,
    orders: HashMap<(u8, u64), u64>,
}

impl Made {
    fn batch(&mut self, random: &mut Random) -> Batch {
        let mut batch = Batch::default();
        if self.spaces < 8 && (self.spaces == 0 || random.chance(200)) {
            self.spaces += 1;
            batch.spaces.push(space(self.spaces));
        }
        let one = |random: &mut Random| random.below(u64::from(self.spaces)) as u8 + 1;
        for _ in 0..random.below(4) {
            let of = one(random);
            self.order += 1 + random.below(2);
            let seq = &mut self.seqs[usize::from(of) - 1];
            *seq += 1;
            self.orders.insert((of, *seq), self.order);
            let name = ["x", "y", "z"][random.below(3) as usize];
            let content = (!random.chance(200)).then(|| json!(self.order));
            let Batch { log, heads, cells, .. } = commit(of, self.order, *seq, &[(name, content)]);
            batch.log.extend(log);
            batch.heads.retain(|(space, ..)| *space != did(of));
            batch.heads.extend(heads);
            batch.cells.retain(|row| (row.space, &*row.name) != (did(of), name));
            batch.cells.extend(cells);
        }
        for _ in 0..random.below(3) {
            self.position += 1;
            batch.queued.push(queued(self.position, one(random)));
            self.waiting.push(self.position);
            batch.position = Some(self.position);
        }
        for _ in 0..random.below(3) {
            // One event of the last few: some turns wait more than once.
            let Some(position) = self.waiting.iter().rev().nth(random.below(4) as usize) else { continue };
            let number = self.turns.entry(*position).or_default();
            *number += 1;
            batch.turns.push(under_way(*position, one(random), *number));
            batch.recordings.push(piece(*position, *number));
        }
        for _ in 0..random.below(3) {
            let requests = (0..random.below(3)).map(|n| [n as u8; 32]).collect();
            batch.asked.push((random.below(6), requests));
        }
        if !self.waiting.is_empty() && random.chance(500) {
            let position = self.waiting.swap_remove(random.below(self.waiting.len() as u64) as usize);
            // Never in one batch: the host leaves both out.
            match batch.queued.iter().any(|queued| queued.position == position) {
                true => self.waiting.push(position),
                false => {
                    batch.taken.push(position);
                    batch.turns.extend(self.turns.remove(&position).map(|_| ended(position)));
                    if random.chance(500) {
                        batch.dead.push(letter(position, one(random)));
                        self.dead.push(position);
                    }
                }
            }
        }
        if !self.dead.is_empty() && random.chance(300) {
            let position = self.dead.swap_remove(random.below(self.dead.len() as u64) as usize);
            match batch.dead.iter().any(|letter| letter.position == position) {
                true => self.dead.push(position),
                false => {
                    batch.buried.push(position);
                    batch.letters_dropped.push((did(one(random)), 1));
                }
            }
        }
        if self.receipts < 250 && random.chance(700) {
            self.receipts += 1;
            // Ids in no order.
            let mut row = receipt(self.receipts.wrapping_mul(37), Outcome::Rejected);
            // None of a dead letter: those stay as long as that.
            row.receipt.id.0[0] ^= 0x80;
            batch.receipts.push(ReceiptRow { seq: self.receipts.into(), ..row });
        }
        if random.chance(150) {
            let of = one(random);
            let (last, floor) = (self.seqs[usize::from(of) - 1], self.floors[usize::from(of) - 1]);
            let seq = floor + random.below(last - floor + 1);
            let is_further = seq > floor;
            let floor = if is_further {
                self.floors[usize::from(of) - 1] = seq;
                Point { seq, order: self.orders[&(of, seq)], at: last }
            } else {
                Point::default()
            };
            let (mut receipts, mut messages) = (0, 0);
            if of == 1 {
                messages = random.below(u64::from(self.receipts) + 1);
                self.receipts_floor = self.receipts_floor.max(random.below(messages + 1));
                receipts = self.receipts_floor;
            }
            batch.cuts.push(CutRow { space: did(of), floor, receipts, messages });
            batch.pruned = Some(self.order);
        }
        if random.chance(200) {
            batch.checkpoints.push((did(one(random)), Point { seq: self.order, order: 0, at: self.position }));
        }
        if random.chance(200) {
            batch.notes.push((did(one(random)), Notes { dropped: self.order, ..NOTES }));
        }
        if random.chance(200) {
            batch.kept.push((did(one(random)), random.chance(700).then(|| vec![self.order as u8])));
        }
        if random.chance(200) {
            let row = random.chance(700).then(|| install(random.below(3) as u8));
            batch.installed.push((did(one(random)), row));
        }
        if random.chance(300) {
            let (hash, component) = bytes(random.below(4) as u8 * 60);
            batch.components.push((hash, component.filter(|_| random.chance(600))));
        }
        if random.chance(200) {
            batch.signed.push((did(one(random)), self.order, [self.order as u8; 64]));
        }
        if !batch.log.is_empty() {
            batch.end = Some([self.order as u8; 32]);
        }
        batch
    }
}

fn full(row: &CellRow) -> String {
    format!("{row:?} {:?}", row.value.as_ref().map(Value::as_bytes))
}

/// All turns under way, what turns have asked for, and what is there of any that they were told. Each event that waits is found at
/// its place.
fn turns(store: &impl Store) -> String {
    for queued in store.load(None).unwrap().queued {
        assert_eq!(store.queued(queued.position).unwrap().as_ref(), Some(&queued));
    }
    let told: Vec<_> = (0..=255).map(|position| store.recording(position).unwrap()).collect();
    let Image { turns, asked, .. } = store.load(None).unwrap();
    format!("{turns:?} {asked:?} {told:?}")
}

/// Everything that a store says, asked for in pages of any size.
fn answers(store: &impl Store, random: &mut Random) -> Vec<String> {
    let mut all = Vec::new();
    let mut image = store.load(None).unwrap();
    // The contract leaves the order of spaces open.
    image.spaces.sort_by_key(|row| row.did);
    image.kept.sort();
    for n in 0..4 {
        all.push(format!("{:?}", store.component(&bytes(n * 60).0).unwrap().map(|component| component.sha256())));
    }
    all.push(format!(
        "{:?} {:?} {:?} {:?}",
        image.spaces,
        image.dead,
        image.kept,
        (image.end, image.position, &image.components)
    ));
    all.push(sorted(image));
    let max = 1 + random.below(7) as usize;
    fn pages<T: Debug>(all: &mut Vec<String>, mut next: impl FnMut(Option<&T>) -> Vec<T>) {
        let mut last: Option<T> = None;
        loop {
            let mut page = next(last.as_ref());
            all.extend(page.iter().map(|row| format!("{row:?}")));
            let Some(row) = page.pop() else { return };
            last = Some(row);
        }
    }
    pages(&mut all, |last: Option<&ReceiptRow>| store.receipts(last.map(|row| &row.receipt.id), max).unwrap());
    pages(&mut all, |last: Option<&LogEntry>| store.log(None, last.map_or(0, |entry| entry.order), max).unwrap());
    for of in 1..=8 {
        let did = did(of);
        let mut start = Some(String::new());
        while let Some(from) = start {
            let (rows, next) = store.cells(&did, &from, None, max).unwrap();
            all.extend(rows.iter().map(full));
            start = next;
        }
        pages(&mut all, |last: Option<&LogEntry>| {
            store.log(Some(&did), last.map_or(0, |entry| entry.order), max).unwrap()
        });
        pages(&mut all, |last: Option<&DeadLetter>| {
            store.dead_letters(&did, last.map_or(0, |letter| letter.position), max).unwrap()
        });
        pages(&mut all, |last: Option<&ReceiptRow>| {
            let page = store.settled(&did, last.map_or(0, |row| row.seq), max).unwrap();
            // Some of one commit may be left for another page: those are not looked at.
            page.into_iter().take(1).collect()
        });
        all.push(format!("{:?}", store.past(&did, None).unwrap().iter().map(full).collect::<Vec<_>>()));
        all.push(format!("{:?}", store.past(&did, Some("y")).unwrap().iter().map(full).collect::<Vec<_>>()));
        for seq in 0..40 {
            all.push(format!("{:?}", store.entry(&did, seq).unwrap()));
        }
    }
    all.push(turns(store));
    for n in 0..=255 {
        all.push(format!("{:?} {:?}", store.receipt(&id(n)).unwrap(), store.dead_letter_of(&id(n)).unwrap()));
        all.push(format!("{:?}", store.dead_letter(u64::from(n)).unwrap()));
    }
    all
}

/// T5, S4, S9, S11: the index moves, the host ends or is killed at random moments, and readers come.
#[test]
fn a_store_on_disk_answers_as_one_in_memory() {
    let mut random = Random::new(seed());
    for round in 0..times(12) {
        let folder = tempfile::tempdir().unwrap();
        let mut path = folder.path().join("store");
        let (mut store, memory) = (FolderStore::open(&path).unwrap(), MemoryStore::new());
        store.load(Some(SECRET)).unwrap();
        memory.load(Some(SECRET)).unwrap();
        let (mut made, mut cuts) = (Made::default(), false);
        for step in 0..60 {
            let batch = made.batch(&mut random);
            cuts |= !batch.cuts.is_empty();
            store.commit(&batch).unwrap();
            memory.commit(&batch).unwrap();
            match random.below(20) {
                0..4 => drop(store.index().unwrap()),
                4 | 5 => {
                    drop(store);
                    store = FolderStore::open(&path).unwrap();
                }
                6 | 7 => {
                    // As a host that was killed leaves it.
                    let copy = folder.path().join(format!("store {step}"));
                    copy_store(&path, &copy);
                    drop(store);
                    path = copy;
                    store = FolderStore::open(&path).unwrap();
                }
                8 => {
                    drop(store);
                    std::fs::remove_file(path.join("index.db")).unwrap();
                    store = FolderStore::open(&path).unwrap();
                    // What has gone is in the journal still.
                    cuts = true;
                }
                _ => {}
            }
            assert_eq!(turns(&store), turns(&memory), "round {round}, step {step}");
            if step % 6 == 5 {
                // A past is there until the index is without it.
                while std::mem::take(&mut cuts) && store.index().unwrap() {
                    cuts = true;
                }
                let (mut one, mut other) = (random.clone(), random.clone());
                let expected = answers(&memory, &mut one);
                let found = answers(&store, &mut other);
                let first = expected.iter().zip(&found).find(|(expected, found)| expected != found);
                assert_eq!((first, found.len()), (None, expected.len()), "round {round}, step {step}");
                let reader = FolderStore::open_read_only(&path).unwrap();
                assert!(answers(&reader, &mut random) == expected, "round {round}, step {step}, beside the host");
            }
        }
    }
}
