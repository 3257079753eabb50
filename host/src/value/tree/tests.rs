use std::collections::BTreeMap;

use ipld_core::ipld::Ipld;
use proptest::{collection, prelude::*, sample::Index};

use super::*;
use crate::{
    limits::VALUE_DEPTH_MAX,
    value::tests::{encode, model_remove, model_set},
};

/// The second opinion: decode, change, encode.
type Model = Option<Ipld>;

/// A tree and the same value decoded.
struct Both {
    tree: Option<Tree>,
    model: Model,
}

impl Both {
    fn of(model: Ipld) -> Both {
        let value = Value::encode(&model).expect("in the data model");
        Both { tree: Some(Tree::new(value)), model: Some(model) }.checked()
    }

    /// Writes at a path, as a transaction does: decides where, then puts.
    fn set(&mut self, path: &[Segment], new: &Ipld) {
        let value = Value::encode(new).expect("in the data model");
        let before = self.model.clone();
        let wanted = model_set(before.clone(), path, 0, new);
        match (Tree::place(self.tree.as_ref(), path, &value), wanted) {
            (Ok(Place::Same), Ok(wanted)) => assert_eq!(Some(wanted), before, "{path:?}"),
            (Ok(Place::Put(steps, value)), Ok(wanted)) => {
                assert_ne!(Some(&wanted), before.as_ref(), "{path:?}");
                // What is put has its place in what is there: everything above it is.
                let parent = self.tree.as_ref().map(|tree| tree.find(&path[..steps.saturating_sub(1)]));
                assert!(steps == 0 || matches!(parent, Some(Ok(Some(_)))), "{path:?}");
                self.tree = Some(Tree::put(self.tree.as_ref(), &path[..steps], &value).expect("it was looked at"));
                self.model = Some(wanted);
            }
            (Err(mismatch), Err(steps)) => assert_eq!(mismatch.at, super::super::at(&path[..steps])),
            (Ok(_), wanted) => panic!("set {path:?}: done, model {wanted:?}"),
            (Err(mismatch), wanted) => panic!("set {path:?}: {mismatch}, model {wanted:?}"),
        }
        self.check();
    }

    fn remove(&mut self, path: &[Segment]) {
        let (Some(tree), Some(model)) = (&self.tree, &mut self.model) else { return };
        match (tree.remove(path), model_remove(model, path, 0)) {
            (Ok(after), Ok(removed)) => {
                assert_eq!(after.is_some(), removed, "{path:?}");
                self.tree = after.or_else(|| self.tree.take());
            }
            (Err(mismatch), Err(steps)) => assert_eq!(mismatch.at, super::super::at(&path[..steps])),
            (after, wanted) => panic!("remove {path:?}: {:?}, model {wanted:?}", after.is_ok()),
        }
        self.check();
    }

    fn checked(self) -> Both {
        self.check();
        self
    }

    /// Equal bytes, sizes and numbers, at every level.
    fn check(&self) {
        let (Some(tree), Some(model)) = (&self.tree, &self.model) else { return };
        let bytes = encode(model);
        assert_eq!((tree.len(), tree.to_value().as_bytes()), (bytes.len(), &bytes[..]));
        if let Tree::Large(large) = tree {
            sound(large);
        }
        let fresh = Tree::new(Value::from_bytes(&bytes, usize::MAX, VALUE_DEPTH_MAX).expect("canonical"));
        assert!(*tree == fresh, "equal whatever came before");
    }
}

/// Checks what every node says of what is below, and that no node is too large or lopsided.
fn sound(large: &Large) {
    fn below(parts: &[Part], heights: &mut Vec<usize>, height: usize) -> (u64, usize) {
        assert!(!parts.is_empty() && parts.len() <= PARTS_MAX);
        parts.iter().fold((0, 0), |(entries, bytes), part| {
            let found = match &part.body {
                Body::Entries => {
                    assert!(part.entries == 1 || part.bytes <= FLAT_BYTES_MAX, "{} in a stretch", part.bytes);
                    heights.push(height);
                    (part.entries, part.first.len())
                }
                Body::Nested(large) => {
                    sound(large);
                    heights.push(height);
                    (1, part.first.len() + large.bytes)
                }
                Body::Parts(parts) => below(parts, heights, height + 1),
            };
            assert_eq!(found, (part.entries, part.bytes));
            (entries + part.entries, bytes + part.bytes)
        })
    }
    let mut heights = Vec::new();
    let (entries, bytes) = below(&large.parts, &mut heights, 1);
    assert_eq!((entries, bytes + head_bytes(entries)), (large.entries, large.bytes));
    assert!(heights.iter().all(|height| *height == heights[0]), "all stretches are equally deep");
    let most = 2 + (heights.len() as f64).log(PARTS_MIN as f64) as usize;
    assert!(heights[0] <= most, "{} levels over {} stretches", heights[0], heights.len());
}

fn key(text: impl Into<String>) -> Segment {
    Segment::Key(text.into())
}

/// C3, C4: edits at every kind of edge, with heads that grow and shrink at 24, 256 and 65,536 entries.
#[test]
fn edits_at_the_edges_of_containers_give_the_canonical_bytes() {
    for entries in [0_u32, 1, 22, 23, 24, 25, 254, 255, 256, 257, 65_534, 65_535, 65_536] {
        let list = Ipld::List((0..entries).map(|number| Ipld::Integer(number.into())).collect());
        let name = |number: u32| format!("k{number}");
        let map = Ipld::Map((0..entries).map(|number| (name(number), Ipld::Integer(number.into()))).collect());
        let places = [0, 1, entries / 2, entries.saturating_sub(1), entries, entries + 1];
        let mut lists = Both::of(list);
        for at in places {
            lists.set(&[Segment::Index(at)], &Ipld::Bool(true));
        }
        let mut maps = Both::of(map);
        for step in places.map(|at| key(name(at))).into_iter().chain([key(""), key("z".repeat(300))]) {
            maps.set(std::slice::from_ref(&step), &Ipld::String("changed".to_owned()));
            maps.set(&[step, key("below")], &Ipld::Null);
        }
        for at in places {
            lists.remove(&[Segment::Index(at)]);
            maps.remove(&[key(name(at))]);
        }
    }
}

/// A tree that grows from nothing and shrinks to it, entry by entry, in order, backwards and in turns.
#[test]
fn a_tree_grows_and_shrinks_one_entry_at_a_time() {
    let value = |number: u32| Ipld::String("v".repeat(number as usize % 90));
    let orders: [fn(u32) -> u32; 3] = [|n| n, |n| 599 - n, |n| n * 211 % 600];
    for order in orders {
        let mut both = Both { tree: None, model: None };
        for number in (0..600).map(order) {
            both.set(&[key("m"), key(format!("{number}"))], &value(number));
        }
        for number in (0..600).map(order) {
            both.remove(&[key("m"), key(format!("{number}"))]);
        }
        assert_eq!(
            both.tree.expect("a map").to_value(),
            Value::encode(&BTreeMap::from([("m", BTreeMap::<String, u8>::new())])).expect("a map")
        );
        let mut list = Both::of(Ipld::List(Vec::new()));
        (0..600).for_each(|number| list.set(&[Segment::Index(number)], &value(number)));
        (0..600).for_each(|number| list.remove(&[Segment::Index(number * 7 % (600 - number))]));
        assert_eq!(list.tree.map(|tree| tree.len()), Some(1));
    }
}

/// C7: what an edit copies is bounded, whatever the value holds.
#[test]
fn an_edit_in_a_large_value_copies_a_bounded_number_of_bytes() {
    const BOUND: usize = 32 << 10;
    let order = |number: u32| {
        Ipld::Map([("id", number), ("total", 7)].map(|(key, n)| (key.to_owned(), Ipld::Integer(n.into()))).into())
    };
    for entries in [40_u32, 400, 4_000, 40_000] {
        let name = |number: u32| format!("order-{number:06}");
        let map: BTreeMap<String, Ipld> = (0..entries).map(|number| (name(number), order(number))).collect();
        let tree = Tree::new(Value::encode(&map).expect("a map"));
        let one = Value::encode(&1).expect("an integer");
        let mut most = 0;
        for at in [0, entries / 3, entries - 1, entries] {
            for path in [vec![key(name(at))], vec![key(name(at)), key("total")]] {
                COPIED.set(0);
                let Ok(Place::Put(steps, value)) = Tree::place(Some(&tree), &path, &one) else {
                    panic!("another value")
                };
                let after = Tree::put(Some(&tree), &path[..steps], &value).expect("a map");
                assert!(after != tree);
                after.remove(&path).expect("a map").expect("it was there");
                most = most.max(COPIED.get());
            }
        }
        assert!(most <= BOUND, "{most} bytes copied for an edit in {} bytes", tree.len());
    }
}

/// C7: a text that no stretch can hold is shared by what is written beside it.
#[test]
fn an_edit_beside_a_large_text_does_not_copy_it() {
    let text = Ipld::String("x".repeat(1_000_000));
    let one = Value::encode(&1).expect("an integer");
    let map = Value::encode(&BTreeMap::from([("b", text.clone())])).expect("a map");
    let list = Value::encode(&vec![text]).expect("a list");
    for (value, step) in [(&map, key("a")), (&map, key("c")), (&map, key("bb")), (&list, Segment::Index(1))] {
        let tree = Tree::new(value.clone());
        COPIED.set(0);
        let after = Tree::put(Some(&tree), std::slice::from_ref(&step), &one).expect("a container");
        let before = after.remove(std::slice::from_ref(&step)).expect("a container").expect("it was there");
        assert!(COPIED.get() < 16 << 10, "{} bytes copied at {step:?}", COPIED.get());
        assert!(before == tree && after != tree);
    }
}

/// C7, T4: comparing two versions looks at what they do not share.
#[test]
fn what_two_trees_share_is_equal_without_a_look() {
    let list: Vec<String> = (0..20_000).map(|number| format!("item {number}")).collect();
    let tree = Tree::new(Value::encode(&list).expect("a list"));
    let (x, y) = (Value::encode("item x").expect("a text"), Value::encode("item 77").expect("a text"));
    let path = [Segment::Index(77)];
    let other = Tree::put(Some(&tree), &path, &x).expect("a list");
    let same = Tree::put(Some(&other), &path, &y).expect("a list");
    assert!(other != tree && same == tree);
    assert!(tree.find(&path).expect("a list") == same.find(&path).expect("a list"));
    // As long as the other, so that length says nothing.
    let swapped = Tree::put(Some(&tree), &path, &Value::encode("item 78").expect("a text")).expect("a list");
    assert!(swapped.len() == tree.len() && swapped != tree);
}

/// A list inside a list inside a map, each a tree, and a text that no stretch can hold.
#[test]
fn trees_stand_inside_trees() {
    let inner = |n: i32| Ipld::List((0..300).map(|number| Ipld::Integer((n * number).into())).collect());
    let middle = Ipld::List((0..50).map(inner).collect());
    let map = [("a", Ipld::String("x".repeat(5_000))), ("b", middle), ("c", Ipld::Null)];
    let mut both = Both::of(Ipld::Map(map.map(|(key, value)| (key.to_owned(), value)).into()));
    let at = |first: &str, rest: &[u32]| -> Vec<Segment> {
        [key(first)].into_iter().chain(rest.iter().map(|index| Segment::Index(*index))).collect()
    };
    both.set(&at("b", &[49, 299]), &Ipld::String("y".repeat(3_000)));
    both.set(&at("b", &[50, 0]), &Ipld::Null);
    both.set(&at("b", &[0, 300]), &inner(3));
    both.set(&at("b", &[0, 300, 17]), &Ipld::Bool(false));
    both.remove(&at("b", &[0, 300, 0]));
    both.set(&at("a", &[0]), &Ipld::Null);
    both.set(&at("d", &[1]), &Ipld::Null);
    both.set(&at("a", &[]), &Ipld::String("z".repeat(9_000)));
    (0..299).for_each(|_| both.remove(&at("b", &[49, 0])));
    (0..50).for_each(|_| both.remove(&at("b", &[0])));
    both.remove(&at("b", &[]));
}

fn key_text() -> impl Strategy<Value = String> {
    prop_oneof![6 => "[a-c]{0,3}", 2 => "[a-z]{20,26}", 1 => "[a-z]{250,260}", 1 => "[a-zé水𐅑]{0,4}"]
}

fn leaf() -> impl Strategy<Value = Ipld> {
    prop_oneof![
        Just(Ipld::Null),
        any::<i64>().prop_map(|number| Ipld::Integer(number.into())),
        (0_usize..700).prop_map(|length| Ipld::Bytes(vec![7; length])),
        (0_usize..3_000).prop_map(|length| Ipld::String("s".repeat(length))),
    ]
}

fn ipld() -> impl Strategy<Value = Ipld> {
    leaf().prop_recursive(4, 96, 24, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..60).prop_map(Ipld::List),
            collection::btree_map(key_text(), inner, 0..40).prop_map(Ipld::Map),
        ]
    })
}

#[derive(Clone, Debug)]
enum Edit {
    Set(Ipld),
    Remove,
}

fn edit() -> impl Strategy<Value = (Vec<Index>, Vec<Segment>, Edit)> {
    let step = prop_oneof![key_text().prop_map(Segment::Key), (0_u32..4).prop_map(Segment::Index)];
    let edit = prop_oneof![3 => ipld().prop_map(Edit::Set), 2 => Just(Edit::Remove)];
    (collection::vec(any::<Index>(), 0..5), collection::vec(step, 0..2), edit)
}

/// A path that mostly leads somewhere: the steps of a walk through the value, then a few that are made up.
fn path_into(ipld: &Ipld, choices: &[Index], made_up: &[Segment]) -> Vec<Segment> {
    let (mut path, mut value) = (Vec::new(), ipld);
    for choice in choices {
        match value {
            Ipld::Map(entries) if !entries.is_empty() => {
                let (step, child) = entries.iter().nth(choice.index(entries.len())).expect("in range");
                path.push(Segment::Key(step.clone()));
                value = child;
            }
            Ipld::List(items) if !items.is_empty() => {
                // Now and then just behind the last.
                let index = choice.index(items.len() + 1);
                path.push(Segment::Index(index as u32));
                match items.get(index) {
                    Some(item) => value = item,
                    None => return path,
                }
            }
            _ => break,
        }
    }
    path.extend(made_up.iter().cloned());
    path
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// C3, C7: any edits, one after the other, give what decoding, changing and encoding gives: bytes, sizes, errors.
    #[test]
    fn random_edits_do_what_they_do_on_a_decoded_value(first in ipld(), edits in collection::vec(edit(), 1..30)) {
        let mut both = Both::of(first);
        for (walk, made_up, edit) in edits {
            let Some(model) = &both.model else { break };
            let path = path_into(model, &walk, &made_up);
            match edit {
                Edit::Set(new) => both.set(&path, &new),
                Edit::Remove if path.is_empty() => {}
                Edit::Remove => both.remove(&path),
            }
        }
    }
}
