//! C3, C7: append, add-unique, remove-by-value and increment, against a reference that decodes the whole value, changes it and
//! encodes it again.

use ipld_core::ipld::Ipld;
use proptest::collection::vec;

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Put(Ipld),
    Remove,
    Append(Ipld),
    AddUnique(Ipld),
    RemoveByValue(Ipld),
    Increment(Ipld),
}

fn encoded(data: &Ipld) -> Value {
    Value::encode(data).expect("in the data model")
}

/// Does it; false when it is refused.
fn stage(staged: &mut Staged, path: &[Segment], act: &Act) -> bool {
    let next = match act {
        Act::Put(data) => staged.put(path, &encoded(data)),
        Act::Remove => staged.remove(path),
        Act::Append(item) => staged.append(path, &encoded(item)),
        Act::AddUnique(item) => staged.add_unique(path, &encoded(item)),
        Act::Increment(by) => staged.increment(path, Number::of(encoded(by).as_bytes()).expect("a number")),
        Act::RemoveByValue(item) => {
            let items = match staged.list(path) {
                Ok(list) => list.map_or_else(Vec::new, |list| list.positions(encoded(item).as_bytes(), usize::MAX)),
                Err(_) => return false,
            };
            let most = staged.bytes() + items.len() * staged.bytes_to_take(path);
            staged.take(path, &items).expect("they are there");
            assert!(staged.bytes() <= most, "{} bytes, {most} foreseen", staged.bytes());
            return true;
        }
    };
    let Ok(next) = next else { return false };
    if let Some(next) = next {
        let bytes = next.bytes;
        staged.stage(next);
        assert_eq!(staged.bytes(), bytes);
    }
    true
}

/// Does the same in a decoded value; false when the value does not allow it, and may be anything then.
fn change(whole: &mut Option<Ipld>, path: &[Segment], act: &Act) -> bool {
    let Some((step, rest)) = path.split_first() else { return change_here(whole, act) };
    let makes_parents = match act {
        Act::Put(_) | Act::Append(_) | Act::AddUnique(_) => true,
        Act::Remove | Act::RemoveByValue(_) => false,
        Act::Increment(by) => !matches!(by, Ipld::Integer(0)),
    };
    match (whole.clone(), step) {
        (None, _) if !makes_parents => true,
        (None, Segment::Key(_)) => change_inside(whole, Ipld::Map(Default::default()), step, rest, act),
        (None, Segment::Index(_)) => change_inside(whole, Ipld::List(Vec::new()), step, rest, act),
        (Some(parent), _) => change_inside(whole, parent, step, rest, act),
    }
}

fn change_inside(whole: &mut Option<Ipld>, mut parent: Ipld, step: &Segment, rest: &[Segment], act: &Act) -> bool {
    let done = match (&mut parent, step) {
        (Ipld::Map(map), Segment::Key(key)) => {
            let mut child = map.remove(key);
            let done = change(&mut child, rest, act);
            map.extend(child.map(|child| (key.clone(), child)));
            done
        }
        (Ipld::List(list), Segment::Index(index)) => {
            let index = *index as usize;
            let mut child = list.get(index).cloned();
            let done = change(&mut child, rest, act);
            match child {
                Some(_) if index > list.len() => return false,
                Some(child) if index == list.len() => list.push(child),
                Some(child) => list[index] = child,
                None if index < list.len() => drop(list.remove(index)),
                None => {}
            }
            done
        }
        _ => false,
    };
    *whole = Some(parent);
    done
}

fn change_here(at: &mut Option<Ipld>, act: &Act) -> bool {
    match (act, at) {
        (Act::Put(data), at) => *at = Some(data.clone()),
        (Act::Remove, at) => *at = None,
        (Act::Append(item) | Act::AddUnique(item), at @ None) => *at = Some(Ipld::List(vec![item.clone()])),
        (Act::Append(item), Some(Ipld::List(list))) => list.push(item.clone()),
        (Act::AddUnique(item), Some(Ipld::List(list))) => {
            if !list.contains(item) {
                list.push(item.clone());
            }
        }
        (Act::RemoveByValue(item), Some(Ipld::List(list))) => list.retain(|other| other != item),
        (Act::RemoveByValue(_), None) => {}
        (Act::Increment(Ipld::Integer(0)), None | Some(Ipld::Integer(_) | Ipld::Float(_))) => {}
        (Act::Increment(by), at @ None) => *at = Some(by.clone()),
        (Act::Increment(Ipld::Integer(by)), Some(Ipld::Integer(number))) => *number += by,
        (Act::Increment(Ipld::Integer(by)), Some(Ipld::Float(number))) => *number += *by as f64,
        (Act::Increment(Ipld::Float(by)), Some(Ipld::Float(number))) => *number += by,
        (Act::Increment(Ipld::Float(by)), Some(number @ Ipld::Integer(_))) => {
            let Ipld::Integer(before) = *number else { return false };
            *number = Ipld::Float(before as f64 + by);
        }
        _ => return false,
    }
    true
}

/// Does all of it in both and compares after each, and the edits at the end.
fn compare(before: Option<Ipld>, acts: &[(Vec<Segment>, Act)]) {
    let tree = before.as_ref().map(|before| Tree::new(encoded(before)));
    let (mut staged, mut whole) = (Staged::new(tree.clone()), before);
    for (path, act) in acts {
        let mut changed = whole.clone();
        let is_taken = change(&mut changed, path, act);
        assert_eq!(stage(&mut staged, path, act), is_taken, "{act:?}");
        if is_taken {
            whole = changed;
        }
        let found = staged.value().map(Tree::to_value);
        assert!(found == whole.as_ref().map(encoded), "{act:?}");
    }
    check(tree.as_ref(), staged);
}

fn bytes(length: usize) -> Ipld {
    Ipld::Bytes(vec![7; length])
}

fn ipld() -> impl Strategy<Value = Ipld> {
    let leaf = prop_oneof![
        (-2..3_i128).prop_map(Ipld::Integer),
        (-2..3_i32).prop_map(|quarters| Ipld::Float(f64::from(quarters) / 4.0)),
        // Some long enough for trees.
        prop_oneof![0..3_usize, 400..403_usize, 1_100..1_103_usize].prop_map(bytes),
    ];
    leaf.prop_recursive(2, 12, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Ipld::List),
            collection::btree_map("[ab]", inner, 0..3).prop_map(Ipld::Map),
        ]
    })
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => ipld().prop_map(Act::Put),
        1 => Just(Act::Remove),
        4 => ipld().prop_map(Act::Append),
        2 => ipld().prop_map(Act::AddUnique),
        3 => ipld().prop_map(Act::RemoveByValue),
        2 => (-2..3_i128).prop_map(|by| Act::Increment(Ipld::Integer(by))),
        1 => (1..3_i32).prop_map(|quarters| Act::Increment(Ipld::Float(f64::from(quarters) / 4.0))),
    ]
}

fn any_path() -> impl Strategy<Value = Vec<Segment>> {
    let step = prop_oneof!["[ab]".prop_map(Segment::Key), (0..3_u32).prop_map(Segment::Index)];
    prop_oneof![2 => Just(Vec::new()), 3 => vec(step, 1..3)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_a_turn_merges_is_what_the_reference_makes_of_it(
        before in proptest::option::weighted(0.8, ipld()),
        acts in vec((any_path(), any_act()), 1..14),
    ) {
        compare(before, &acts);
    }
}

/// The head of a list grows there, and shrinks again.
#[test]
fn lists_grow_and_shrink_over_the_lengths_of_their_heads() {
    let edges = [(24, bytes(0)), (24, bytes(60)), (256, bytes(0)), (256, bytes(1_100)), (65_536, Ipld::Integer(1))];
    for (edge, item) in edges {
        for length in edge - 2..=edge + 1 {
            let list = Ipld::List(vec![item.clone(); length]);
            let new = Ipld::Integer(5);
            for (at, whole) in [
                (vec![], list.clone()),
                (steps("/k"), Ipld::Map([("k".to_owned(), list.clone())].into())),
                (steps("/1"), Ipld::List(vec![Ipld::Null, list])),
            ] {
                let acts = [
                    (at.clone(), Act::AddUnique(new.clone())),
                    (at.clone(), Act::Append(new.clone())),
                    (at.clone(), Act::AddUnique(new.clone())),
                    (at.clone(), Act::RemoveByValue(new.clone())),
                    (at.clone(), Act::Append(new.clone())),
                    ([&at[..], &steps("/3")].concat(), Act::Put(new.clone())),
                    (at, Act::RemoveByValue(new.clone())),
                ];
                compare(Some(whole), &acts);
            }
        }
    }
}

/// C7: an append looks at none of the items but those of one stretch.
#[test]
fn an_append_to_a_large_list_costs_what_it_costs_in_a_small_one() {
    let cost = |length: usize| {
        let tree = Tree::new(encoded(&Ipld::List((0..length as i128).map(Ipld::Integer).collect())));
        let staged = Staged::new(Some(tree));
        let heads = value::HEADS.get();
        assert!(staged.append(&[], &encoded(&bytes(9))).expect("a list").is_some());
        value::HEADS.get() - heads
    };
    let (small, large) = (cost(300), cost(100_000));
    assert!(large <= 2 * small, "{small} heads in a list of 300, {large} in one of 100,000");
}

/// C7: an edit for each equal item, from the last to the first.
#[test]
fn every_equal_item_goes_and_no_other() {
    let before = json!([1, 2, 1, [1], 1, "1", 1.5]);
    let mut staged = Staged::new(Some(tree(&before)));
    assert!(stage(&mut staged, &[], &Act::RemoveByValue(Ipld::Integer(1))));
    assert_eq!(staged.bytes(), 3 * 4);
    let edits = check(Some(&tree(&before)), staged);
    let paths: Vec<String> = edits.iter().map(|edit| edit.path.to_string()).collect();
    assert_eq!(paths, ["/4", "/2", "/0"]);
}
