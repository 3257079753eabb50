use serde_json::{Value as Json, json};

use super::*;
use crate::store::index::file::SCHEMA;

fn edit(path: &str, put: Option<&Json>) -> Edit {
    let put = put.map(|put| Value::encode(put).expect("in the data model"));
    Edit { path: path.parse().expect("a path"), put }
}

/// A database with one space, and what its one cell holds by all edits so far.
struct Disk {
    connection: Connection,
    order: u64,
    value: Option<Tree>,
}

impl Disk {
    fn new() -> Disk {
        let connection = Connection::open_in_memory().expect("a database");
        connection.execute_batch(SCHEMA).expect("a schema");
        let sql = "INSERT INTO space (cid, did, name, seq, head) VALUES (1, ?1, 'a', 0, ?2)";
        connection.execute(sql, params![Did::numbered(7).public_key(), [0u8; 32]]).expect("a space");
        Disk { connection, order: 0, value: None }
    }

    /// Writes edits as one batch; returns the bytes of the rows that were written.
    fn write(&mut self, edits: &[Edit]) -> usize {
        self.order += 1;
        self.value = value::apply(self.value.take(), edits).expect("they apply");
        let space = Did::numbered(7);
        let (order, name) = (self.order, "c".into());
        let transaction = self.connection.transaction().expect("a transaction");
        let row = CellWrite { space, name, order, seq: order, edits: edits.to_vec() };
        write(&transaction, 1, &row, 0).expect("written");
        transaction.commit().expect("committed");
        let sql = "SELECT (SELECT ifnull(sum(length(value)), 0) FROM cell WHERE g = ?1)
                        + (SELECT ifnull(sum(length(edits)), 0) FROM edit WHERE g = ?1)";
        self.connection.query_row(sql, [self.order as i64], |row| row.get::<_, i64>(0)).expect("a sum") as usize
    }

    /// Checks that the cell comes back, and that no more is kept beside the value than may be.
    fn check(&self) {
        let cells = load(&self.connection).expect("cells");
        let [row] = &cells[..] else {
            assert!(cells.is_empty() && self.value.is_none(), "one cell, until it is removed");
            return;
        };
        assert_eq!((row.order, row.seq), (self.order, self.order));
        assert_eq!(row.value, self.value.as_ref().map(Tree::to_value));
        let sql = "SELECT ifnull(length(value), 0), (SELECT ifnull(sum(length(edits)), 0) FROM edit), (SELECT count(*) FROM edit) FROM cell";
        let (held, edits, rows): (i64, i64, i64) =
            self.connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).expect("one cell");
        assert!(
            edits + rows * EDIT_ROW_BYTES as i64 <= held.max(EDITS_BYTES_MIN as i64),
            "{edits} bytes beside {held}"
        );
    }
}

/// C7: the rows that are written for an edit do not grow with the cell.
#[test]
fn rows_of_an_edit_do_not_grow_with_the_cell() {
    let mut disk = Disk::new();
    disk.write(&[edit("", Some(&json!({})))]);
    let order = json!({"id": 1, "text": "t".repeat(180)});
    let mut block = Vec::new();
    for number in 0..4_000 {
        block.push(disk.write(&[edit(&format!("/order-{number:05}"), Some(&order))]));
    }
    disk.check();
    let all = |range: std::ops::Range<usize>| block[range].iter().sum::<usize>();
    let own = Value::encode(&order).expect("a map").as_bytes().len() + 16;
    for end in [500, 1_000, 2_000, 4_000] {
        assert!(all(0..end) <= 4 * own * end, "{} bytes for {end} edits of {own}", all(0..end));
    }
}

/// Edits of every kind, a value that grows, shrinks, goes and comes back.
#[test]
fn a_cell_comes_back_from_its_base_and_its_edits() {
    let mut disk = Disk::new();
    let mut random = 1_u64;
    let mut next = |max: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % max
    };
    disk.write(&[edit("", Some(&json!({"list": []})))]);
    let (mut items, mut bases) = (0, 0);
    for round in 0..1_500 {
        let text = json!("s".repeat(next(300) as usize));
        let edits = match next(40) {
            0 => vec![edit("", None)],
            1 => vec![edit("", Some(&json!({"list": []})))],
            _ if disk.value.is_none() => vec![edit("", Some(&json!({"list": []}))), edit("/k", Some(&text))],
            n if n < 20 => vec![edit(&format!("/key-{}", next(50)), Some(&text))],
            n if n < 25 && items > 0 => vec![edit(&format!("/list/{}", next(items)), None)],
            _ => vec![edit(&format!("/list/{items}"), Some(&text)), edit("/n", Some(&json!(round)))],
        };
        for Edit { path, put } in &edits {
            match (path.to_string().as_str(), put) {
                ("", _) => items = 0,
                (item, None) if item.starts_with("/list/") => items -= 1,
                (item, Some(_)) if item.starts_with("/list/") => items += 1,
                _ => {}
            }
        }
        let is_edit = !edits[0].path.is_root();
        disk.write(&edits);
        let sql = "SELECT count(*) FROM edit";
        let kept: i64 = disk.connection.query_row(sql, [], |row| row.get(0)).expect("a count");
        bases += u32::from(is_edit && kept == 0);
        disk.check();
    }
    assert!(bases > 20, "{bases} new bases");
}
