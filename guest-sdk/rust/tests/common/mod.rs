//! What tests of types share: a handler that does as the test says, and values at random.
#![allow(clippy::unwrap_used, missing_docs, dead_code, reason = "a test; each file uses a part")]

use std::cell::RefCell;
use std::collections::BTreeMap;

use charm_sdk::prelude::*;
use charm_sdk::testing::{self, Host};

type Act = Box<dyn FnOnce() -> Result<()>>;

thread_local! {
    static ACT: RefCell<Option<Act>> = const { RefCell::new(None) };
}

#[charm]
pub struct Any {
    value: Cell<Value>,
}

#[handlers]
impl Any {
    pub fn act(&self, _: ()) -> Result<()> {
        ACT.take().unwrap()()
    }
}

/// Does something inside a handler, and returns what it returned.
pub fn within<R: 'static>(act: impl FnOnce() -> R + 'static) -> R {
    let host = Host::new();
    let did = host.install::<Any>("any");
    let result = std::rc::Rc::new(RefCell::new(None));
    let to = std::rc::Rc::clone(&result);
    ACT.set(Some(Box::new(move || {
        *to.borrow_mut() = Some(act());
        Ok(())
    })));
    let receipt = host.deliver(&did, Any::ACT, &());
    let result = result.borrow_mut().take();
    result.unwrap_or_else(|| panic!("{receipt:?}"))
}

/// The value that a cell of such type holds.
pub fn written<T: Shape + 'static>(value: T) -> Result<Value> {
    within(move || {
        Cell::own("value").set(&value)?;
        Cell::<Value>::own("value").need()
    })
}

/// What a cell of such type reads.
pub fn read<T: Shape + 'static>(value: Value) -> Result<T> {
    within(move || {
        Cell::own("value").set(&value)?;
        Cell::<T>::own("value").need()
    })
}

/// Numbers at random from a seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) ^ (self.0 << 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Integers at and beside the ends of all widths.
pub fn integers() -> Vec<i128> {
    let ends = [0, 7, 8, 15, 16, 31, 32, 63, 64].map(|bits| 1i128 << bits);
    let mut all: Vec<i128> = ends.iter().flat_map(|end| [-end - 1, -end, 1 - end, end - 1, *end, end + 1]).collect();
    all.retain(|value| (-(1i128 << 64)..1i128 << 64).contains(value));
    all.sort_unstable();
    all.dedup();
    all
}

/// The value with one place changed.
pub fn changed(value: &Value, random: &mut Random) -> Value {
    let inside = random.below(4) > 0;
    match value {
        Value::List(items) if inside && !items.is_empty() => {
            let (mut items, at) = (items.clone(), random.below(items.len()));
            match random.below(6) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => items[at] = changed(&items[at], random),
            }
            Value::List(items)
        }
        Value::Map(entries) if inside && !entries.is_empty() => {
            let (mut entries, at) = (entries.clone(), random.below(entries.len()));
            let key = entries.keys().nth(at).unwrap().clone();
            match random.below(6) {
                0 => drop(entries.remove(&key)),
                1 => drop(entries.insert("more".into(), leaf(random))),
                2 => {
                    let value = entries.remove(&key).unwrap();
                    entries.insert(format!("{key}2"), value);
                }
                _ => drop(entries.insert(key.clone(), changed(&entries[&key], random))),
            }
            Value::Map(entries)
        }
        _ => leaf(random),
    }
}

fn leaf(random: &mut Random) -> Value {
    // serde keeps no integer below -2^63 while it looks for the variant of a tagged or untagged enum.
    let integers: Vec<i128> = integers().into_iter().filter(|value| *value >= i64::MIN.into()).collect();
    let text = ["", "x", "a", "One", "one", "Plain", "plain"][random.below(7)];
    match random.below(10) {
        0 => Value::Null,
        1 => Value::Bool(true),
        2 | 3 => Value::Integer(integers[random.below(integers.len())]),
        4 => Value::Float([0.5, -1e300, 1e-320][random.below(3)]),
        5 => Value::Bytes(vec![1, 2]),
        6 => Value::List(vec![Value::Integer(1); random.below(3)]),
        7 => Value::Map(BTreeMap::new()),
        8 => Value::Map([(text.to_owned(), Value::Integer(3))].into()),
        _ => Value::String(text.into()),
    }
}

/// What serde writes fits the shape and is read again; what fits the shape is read, whatever it is.
pub fn agrees<T: Shape + Clone + PartialEq + std::fmt::Debug + 'static>(samples: impl IntoIterator<Item = T>) {
    let shape = T::shape();
    let mut random = Random(7);
    for sample in samples {
        let value = written(sample.clone()).unwrap_or_else(|error| panic!("{shape}: {sample:?}: {error}"));
        testing::check(&value, &shape).unwrap_or_else(|error| panic!("{shape}: {value:?}: {error}"));
        assert_eq!(read::<T>(value.clone()).as_ref(), Ok(&sample), "{shape}: {value:?}");
        for _ in 0..200 {
            let mut other = changed(&value, &mut random);
            if random.below(3) == 0 {
                other = changed(&other, &mut random);
            }
            if testing::check(&other, &shape).is_ok()
                && let Err(error) = read::<T>(other.clone())
            {
                panic!("{shape} lets in {other:?}: {error}");
            }
        }
    }
}
