//! Cells, read in pages.

use charm_host::{Batch, Image, LIST_BYTES_MAX, Store};
use serde_json::json;

use super::{Kind, cell, did, entry, sorted, with_spaces, write};

/// C8: in the order of their bytes, and what is read without them is the same.
pub fn cells_are_read_in_pages(kind: &impl Kind) {
    let store = with_spaces(kind);
    let names = ["a", "a:1", "a:2", "a:3", "a;", "b", "ä"];
    for (number, name) in (1..).zip(["b", "a:2", "a", "a:9", "a;", "a:1", "a:3", "ä"]) {
        let cells = vec![write(1, name, number, Some(json!(number))), write(2, "a:0", number, Some(json!([number])))];
        store.commit(&Batch { log: vec![entry(number, 1, number)], cells, ..Batch::default() }).unwrap();
    }
    store.commit(&Batch { cells: vec![write(1, "a:9", 9, None)], ..Batch::default() }).unwrap();
    for look in [true, false] {
        let page = |start: &str, end: Option<&str>, max| {
            let (rows, next) = store.cells(&did(1), start, end, max).unwrap();
            (rows.iter().map(|row| row.name.to_string()).collect::<Vec<_>>(), next)
        };
        for max in 1..9 {
            let (mut all, mut start) = (Vec::new(), Some(String::new()));
            while let Some(from) = start {
                let (rows, next) = page(&from, None, max);
                assert!(rows.len() <= max, "no more than {max}");
                all.extend(rows);
                start = next;
            }
            assert_eq!(all, names, "in pages of {max}");
        }
        assert_eq!(page("a:", Some("a;"), 9), (vec!["a:1".into(), "a:2".into(), "a:3".into()], None));
        assert_eq!(page("a:9", Some("a;"), 9), (vec![], None));
        assert_eq!(store.cells(&did(3), "", None, 9).unwrap(), (vec![], None), "a space that is not there");
        let rows = store.cells(&did(1), "a:2", Some("a:3"), 9).unwrap().0;
        assert_eq!(rows, [cell(1, "a:2", 2, Some(json!(2)))]);
        let outline = store.outline().unwrap();
        assert!(outline.cells.is_empty());
        assert_eq!(sorted(outline), sorted(Image { cells: Vec::new(), ..store.load(None).unwrap() }));
        // The same from the index.
        while look && store.index().unwrap() {}
    }
    let long = json!("x".repeat(LIST_BYTES_MAX * 2 / 3));
    let cells = ["x", "y", "z"].map(|name| write(1, name, 10, Some(long.clone())));
    store.commit(&Batch { cells: cells.to_vec(), ..Batch::default() }).unwrap();
    let (rows, next) = store.cells(&did(1), "x", Some("zz"), 9).unwrap();
    assert!(next.is_some() && rows.len() < 3, "a page is bounded in bytes too: {}", rows.len());
}
