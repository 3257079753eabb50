//! Writes and removals, and what a model that knows no bytes makes of them (C3).

use proptest::prelude::*;
use serde_json::{Value as Json, json};

/// A write or a removal, and what a plain model of C3 makes of it.
#[derive(Clone, Debug)]
pub struct Edit {
    /// Keys and indexes.
    pub path: Vec<Json>,
    /// None removes.
    pub value: Option<Json>,
}

pub fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let step = prop_oneof![
        prop_oneof![Just("a"), Just("b"), Just("bb"), Just("")].prop_map(Json::from),
        (0_u32..3).prop_map(Json::from),
    ];
    let leaf =
        prop_oneof![Just(json!(null)), any::<i8>().prop_map(Json::from), Just(json!([])), Just(json!({ "a": 1 }))];
    let edit = (prop::collection::vec(step, 0..4), prop::option::weighted(0.7, leaf));
    prop::collection::vec(edit.prop_map(|(path, value)| Edit { path, value }), 1..24)
}

/// Applies an edit; false when the path leads through another kind or past an end.
pub fn apply(whole: &mut Option<Json>, edit: &Edit) -> bool {
    let Some((step, rest)) = edit.path.split_first() else {
        whole.clone_from(&edit.value);
        return true;
    };
    let rest = Edit { path: rest.to_vec(), value: edit.value.clone() };
    if whole.is_none() && rest.value.is_none() {
        return true;
    }
    let fresh = if step.is_string() { json!({}) } else { json!([]) };
    let mut parent = whole.clone().unwrap_or(fresh);
    let done = match (&mut parent, step) {
        (Json::Object(map), Json::String(key)) => {
            let mut child = map.get(key).cloned();
            let done = apply(&mut child, &rest);
            match child {
                Some(child) => map.insert(key.clone(), child),
                None => map.remove(key),
            };
            done
        }
        (Json::Array(list), index) if index.is_number() => {
            let index = index.as_u64().unwrap() as usize;
            let mut child = list.get(index).cloned();
            let done = (index <= list.len() || rest.value.is_none()) && apply(&mut child, &rest);
            match child {
                Some(child) if index < list.len() => list[index] = child,
                Some(child) => list.push(child),
                None if index < list.len() => drop(list.remove(index)),
                None => {}
            }
            done
        }
        _ => false,
    };
    if done {
        *whole = Some(parent);
    }
    done
}
