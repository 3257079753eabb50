use proptest::{collection, prelude::*, sample::Index};
use serde_json::{Value as Json, json};

use super::*;

mod merges;

fn value(json: &Json) -> Value {
    Value::encode(json).expect("in the data model")
}

fn tree(json: &Json) -> Tree {
    Tree::new(value(json))
}

fn steps(path: &str) -> Vec<Segment> {
    path.parse::<Path>().expect("a path").0
}

/// What a turn does: a put, or a removal.
type Act<'a> = (&'a str, Option<Json>);

fn staged(before: Option<&Json>, acts: &[Act<'_>]) -> Staged {
    let mut staged = Staged::new(before.map(tree));
    for (path, put) in acts {
        act(&mut staged, &steps(path), put.as_ref());
    }
    staged
}

fn act(staged: &mut Staged, path: &[Segment], put: Option<&Json>) {
    let next = match put {
        Some(put) => staged.put(path, &value(put)),
        None => staged.remove(path),
    };
    if let Ok(Some(next)) = next {
        let bytes = next.bytes;
        staged.stage(next);
        assert_eq!(staged.bytes(), bytes);
    }
}

/// Edits apply to what was there, each changes something, and they lead to what the turn left.
fn check(before: Option<&Tree>, staged: Staged) -> Vec<Edit> {
    let bytes = staged.bytes();
    let after = staged.value().cloned();
    let Written { edits, after: written, .. } = staged.finish();
    assert!(written == after);
    let mut current = before.cloned();
    for edit in &edits {
        let next = value::apply(current.clone(), std::slice::from_ref(edit)).expect("its parent is there");
        assert!(next != current, "an edit changes nothing: {edit:?}");
        if let (Some(put), Some(current)) = (&edit.put, &current) {
            let place = Tree::place(Some(current), &edit.path.0, put).expect("its parent is there");
            assert!(matches!(place, Place::Put(steps, _) if steps == edit.path.0.len()), "{edit:?}");
        }
        current = next;
    }
    assert!(current == after, "the edits lead elsewhere");
    assert_eq!(edits.is_empty(), before == after.as_ref(), "a cell that ends as it began is no write");
    let carried: usize = edits.iter().map(Edit::bytes).sum();
    assert!(carried <= bytes, "{carried} bytes written, {bytes} counted");
    edits
}

/// C4, C7: what a turn leaves written is as little as it has to be.
#[test]
fn edits_of_one_turn_become_few() {
    let before = json!({"a": {"x": 1, "y": 2}, "l": [1, 2, 3]});
    let put = |path: &'static str, put: Json| (path, Some(put));
    let cases: [(&[Act<'_>], &[Act<'_>]); 12] = [
        (&[put("/a/x", json!(5)), put("/a/x", json!(6))], &[put("/a/x", json!(6))]),
        (&[put("/a/x", json!(5)), put("/a/x", json!(1))], &[]),
        (&[put("/a/x", json!(1))], &[]),
        (&[put("/b", json!({})), put("/b/c/d", json!(1))], &[put("/b", json!({"c": {"d": 1}}))]),
        (&[put("/b/c", json!(1))], &[put("/b", json!({"c": 1}))]),
        (&[put("/a/x", json!(5)), put("/a", json!(7))], &[put("/a", json!(7))]),
        (&[put("/a/z", json!(5)), ("/a/z", None)], &[]),
        (&[("/a/x", None), put("/a/x", json!(3))], &[put("/a/x", json!(3))]),
        (&[put("/l/3", json!(4)), put("/l/4", json!(5))], &[put("/l/3", json!(4)), put("/l/4", json!(5))]),
        (&[("/l/0", None), put("/l/0", json!(7))], &[("/l/0", None), put("/l/0", json!(7))]),
        (&[("", None), put("/n", json!(1)), put("/m", json!(2))], &[put("", json!({"n": 1, "m": 2}))]),
        (&[("", None), put("", before.clone())], &[]),
    ];
    for (acts, wanted) in cases {
        let edits = check(Some(&tree(&before)), staged(Some(&before), acts));
        let found: Vec<(String, Option<Value>)> =
            edits.into_iter().map(|edit| (edit.path.to_string(), edit.put)).collect();
        let wanted: Vec<(String, Option<Value>)> =
            wanted.iter().map(|(path, put)| ((*path).to_owned(), put.as_ref().map(value))).collect();
        assert_eq!(found, wanted, "{acts:?}");
    }
    // Behind an item that went, a path means another place than before.
    let moved: [(Json, &[Act<'_>]); 3] = [
        (json!([1, {}, {}]), &[put("/1", json!({"a": 1})), ("/0", None), put("/1/b", json!(2))]),
        (json!([1, 2, 3]), &[("/0", None), put("/1", json!(2))]),
        (
            json!([{"x": 1}, {"x": 2}]),
            &[put("/1/x", json!(3)), ("/0", None), put("/1", json!(4)), put("/0/x", json!(2))],
        ),
    ];
    for (before, acts) in moved {
        let edits = check(Some(&tree(&before)), staged(Some(&before), acts));
        assert_eq!(edits.len(), acts.len(), "{acts:?}");
    }
    assert!(check(None, staged(None, &[put("/x", json!(1)), ("", None)])).is_empty());
    // An item that goes and comes back behind the others.
    let same = json!([1, 1]);
    assert!(check(Some(&tree(&same)), staged(Some(&same), &[("/0", None), put("/1", json!(1))])).is_empty());
}

/// C7: the same path often, or much inside a new value, stays as much as is left of it.
#[test]
fn what_is_counted_is_what_is_left_to_write() {
    let mut staged = Staged::new(Some(tree(&json!({"list": []}))));
    for number in 0..1_000 {
        act(&mut staged, &steps("/count"), Some(&json!(number)));
        act(&mut staged, &steps("/new/inside"), Some(&json!(number)));
        act(&mut staged, &steps(&format!("/list/{number}")), Some(&json!(0)));
        act(&mut staged, &steps(&format!("/list/{number}")), Some(&json!(1)));
    }
    let edits = check(Some(&tree(&json!({"list": []}))), staged);
    assert_eq!(edits.len(), 2 + 1_000);
}

fn json_value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(json!(null)),
        (0..3).prop_map(|n| json!(n)),
        (0_usize..600).prop_map(|n| json!("s".repeat(n)))
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..5).prop_map(Json::from),
            collection::btree_map("[ab]{1,2}", inner, 0..5).prop_map(|map| json!(map)),
        ]
    })
}

/// A path that mostly leads somewhere in a value.
fn path_into(value: Option<&Tree>, choices: &[Index]) -> Vec<Segment> {
    let (mut path, mut at) = (Vec::new(), value.map(|value| value.to_value().decode::<Json>().expect("JSON")));
    for choice in choices {
        let (step, next) = match &at {
            Some(Json::Object(map)) => {
                let keys = ["a", "b", "ab", "ba"];
                let key = map.keys().nth(choice.index(map.len() + 1)).map_or(keys[choice.index(4)], String::as_str);
                (Segment::Key(key.to_owned()), map.get(key).cloned())
            }
            Some(Json::Array(list)) => {
                let index = choice.index(list.len() + 1);
                (Segment::Index(index as u32), list.get(index).cloned())
            }
            Some(_) => break,
            None => (Segment::Key("n".to_owned()), None),
        };
        path.push(step);
        at = next;
    }
    path
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    /// C4, C7: whatever a turn does to a cell, its edits lead there from what was there before.
    #[test]
    fn the_edits_of_a_turn_lead_to_what_it_left(
        before in proptest::option::weighted(0.9, json_value()),
        acts in collection::vec((collection::vec(any::<Index>(), 0..4), proptest::option::weighted(0.6, json_value())), 0..12),
    ) {
        let mut staged = Staged::new(before.as_ref().map(tree));
        for (choices, put) in acts {
            let path = path_into(staged.value(), &choices);
            act(&mut staged, &path, put.as_ref());
        }
        check(before.as_ref().map(tree).as_ref(), staged);
    }
}
