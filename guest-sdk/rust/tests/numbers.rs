//! Numbers: a type takes what its shape takes, wherever it stands; floats come back bit by bit.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

mod common;

use std::collections::BTreeMap;
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroIsize, NonZeroU8, NonZeroU16, NonZeroU32, NonZeroU64,
    NonZeroUsize,
};

use charm_sdk::http::Response;
use charm_sdk::prelude::*;
use charm_sdk::testing;
use common::{Random, integers, read};

#[data]
struct Holds<T> {
    n: T,
}

#[data]
enum Carries<T> {
    New(T),
    Fields { n: T },
}

#[data]
#[serde(tag = "kind")]
enum Tagged<T> {
    Fields { n: T },
}

#[data]
#[serde(untagged)]
enum Untagged<T> {
    Number(T),
    Text(String),
}

fn map(key: &str, value: Value) -> Value {
    Value::Map([(key.to_owned(), value)].into())
}

/// What fits the shape is read, and the other way round; the error says where and why.
fn agree<T: Shape + 'static>(value: &Value, at: &str) -> bool {
    let fits = testing::check(value, &T::shape());
    match (&fits, read::<T>(value.clone())) {
        (Ok(()), Ok(_)) => true,
        (Err(Error::TypeMismatch { .. }), Err(Error::Decode(words))) => {
            let place = if at.is_empty() { "cell `value` does not fit: ".to_owned() } else { format!(" at {at}: ") };
            let told = words.contains(&place) && words.ends_with(", found integer out of range");
            assert!(told || at == "?", "{words}");
            false
        }
        (fits, read) => panic!("{}: {value:?}: {fits:?} {:?}", T::shape(), read.err()),
    }
}

fn everywhere<T: Shape + Clone + std::fmt::Debug + PartialEq + 'static>(
    least: i128,
    greatest: i128,
    without_zero: bool,
) {
    for n in integers() {
        let value = Value::Integer(n);
        let fits = (least..=greatest).contains(&n) && !(without_zero && n == 0);
        let nested = [
            agree::<T>(&value, ""),
            agree::<Option<T>>(&value, ""),
            agree::<Vec<T>>(&Value::List(vec![value.clone()]), "/0"),
            agree::<(bool, T)>(&Value::List(vec![Value::Bool(true), value.clone()]), "/1"),
            agree::<[T; 1]>(&Value::List(vec![value.clone()]), "/0"),
            agree::<BTreeMap<String, T>>(&map("key", value.clone()), "/key"),
            agree::<Holds<T>>(&map("n", value.clone()), "/n"),
            agree::<Holds<Option<Vec<T>>>>(&map("n", Value::List(vec![value.clone()])), "/n/0"),
            agree::<Carries<T>>(&map("New", value.clone()), "/New"),
            agree::<Carries<T>>(&map("Fields", map("n", value.clone())), "/Fields/n"),
        ];
        assert_eq!(nested, [fits; 10], "{}: {n}", T::shape());
        // Here serde keeps the value first, and knows no more where it stood; below -2^63 it keeps none.
        if n >= i64::MIN.into() {
            let tagged = [("kind".to_owned(), Value::String("Fields".into())), ("n".to_owned(), value.clone())];
            assert_eq!(agree::<Tagged<T>>(&Value::Map(tagged.into()), "?"), fits, "{n}");
            assert_eq!(agree::<Untagged<T>>(&value, "?"), fits, "{n}");
        }
    }
}

#[test]
fn integers_fit_the_type_as_they_fit_the_shape() {
    macro_rules! widths {
        ($($type:ty, $non_zero:ty, $range:ty;)+) => {$(
            everywhere::<$type>(<$range>::MIN.into(), <$range>::MAX.into(), false);
            everywhere::<$non_zero>(<$range>::MIN.into(), <$range>::MAX.into(), true);
        )+};
    }
    widths! {
        u8, NonZeroU8, u8;
        u16, NonZeroU16, u16;
        u32, NonZeroU32, u32;
        u64, NonZeroU64, u64;
        i8, NonZeroI8, i8;
        i16, NonZeroI16, i16;
        i32, NonZeroI32, i32;
        i64, NonZeroI64, i64;
    }
    // In a charm these have 32 bits, so they are described like that everywhere.
    assert_eq!([usize::shape(), isize::shape()], [u32::shape(), i32::shape()]);
    assert_eq!([NonZeroUsize::shape(), NonZeroIsize::shape()], [NonZeroU32::shape(), NonZeroI32::shape()]);
}

#[test]
fn a_quantity_below_zero_is_refused_with_its_place() {
    #[data]
    struct Order {
        item: String,
        quantity: u32,
    }

    let order =
        Value::Map([("item".into(), Value::String("s3cr3t".into())), ("quantity".into(), Value::Integer(-2))].into());
    let refused = testing::check(&order, &Order::shape()).unwrap_err();
    assert_eq!(refused.to_string(), "needed u32 at /quantity, found integer out of range");
    let refused = read::<Order>(order).unwrap_err();
    assert_eq!(refused.to_string(), "cell `value` does not fit at /quantity: needed u32, found integer out of range");
}

#[test]
fn whole_numbers_are_taken_where_a_float_is_declared() {
    for n in integers() {
        let value = Value::Integer(n);
        assert_eq!(read::<f64>(value.clone()), Ok(n as f64));
        assert_eq!(read::<f32>(value.clone()), Ok(n as f32), "{n}");
        assert_eq!(read::<Option<f64>>(value.clone()), Ok(Some(n as f64)));
        assert_eq!(read::<Vec<f32>>(Value::List(vec![value.clone()])), Ok(vec![n as f32]));
        assert_eq!(read::<BTreeMap<String, f64>>(map("a", value.clone())), Ok([("a".to_owned(), n as f64)].into()));
        assert_eq!(read::<Holds<f32>>(map("n", value.clone())), Ok(Holds { n: n as f32 }));
        assert_eq!(read::<(f64, f32)>(Value::List(vec![value.clone(); 2])), Ok((n as f64, n as f32)));
        assert_eq!(read::<Carries<f64>>(map("New", value.clone())), Ok(Carries::New(n as f64)));
        if n >= i64::MIN.into() {
            assert_eq!(read::<Untagged<f64>>(value.clone()), Ok(Untagged::Number(n as f64)));
            let tagged = [("kind".to_owned(), Value::String("Fields".into())), ("n".to_owned(), value)];
            assert_eq!(read::<Tagged<f32>>(Value::Map(tagged.into())), Ok(Tagged::Fields { n: n as f32 }));
        }
    }
    assert_eq!(Response::new(200, "[5, -5, 18446744073709551615]").json(), Ok(vec![5.0, -5.0, u64::MAX as f64]));
    assert_eq!(Response::new(200, "[5]").json(), Ok(vec![5f32]));
}

/// As serde_json does: the nearest one, also when it is not the same.
#[test]
fn an_f32_takes_the_nearest_of_a_float() {
    assert_eq!(read::<f32>(Value::Float(0.1)), Ok(0.1f32));
    assert_eq!(Response::new(200, "0.1").json(), Ok(0.1f32));
    let mut random = Random(3);
    for _ in 0..2_000 {
        let float = f32::from_bits(random.next() as u32);
        if float.is_finite() {
            assert_eq!(common::written(float).and_then(read::<f32>), Ok(float));
            assert_eq!(Response::new(200, float.to_string()).json(), Ok(float));
        }
    }
    let refused = read::<Holds<f32>>(map("n", Value::Float(1e300))).unwrap_err();
    assert_eq!(refused.to_string(), "cell `value` does not fit at /n: needed f32, found float out of range");
}

#[test]
fn doubles_come_back_bit_by_bit() {
    let mut random = Random(1);
    let special =
        [0.0, -0.0, f64::MIN, f64::MAX, f64::MIN_POSITIVE, 5e-324, 0.9999999999999999, 0.1, 1e23, 9007199254740993.0];
    let any = (0..20_000).map(|_| f64::from_bits(random.next()));
    let fractions: Vec<f64> = (1..5_000).map(|n| f64::from(n) / 7.0).collect();
    let all: Vec<f64> = special.into_iter().chain(any.filter(|float| float.is_finite())).chain(fractions).collect();
    let text = http::Request::post("http://a.example").json(&all).unwrap().body;
    let again: Vec<f64> = Response::new(200, text).json().unwrap();
    let bits = |floats: &[f64]| floats.iter().map(|float| float.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&again), bits(&all));
    // In cells zero has no sign (C2).
    let again: Vec<f64> = common::written(all.clone()).and_then(read).unwrap();
    let canonical: Vec<f64> = all.iter().map(|float| if *float == 0.0 { 0.0 } else { *float }).collect();
    assert_eq!(bits(&again), bits(&canonical));
}

/// The error of an answer or a cell says where and why, and quotes nothing.
#[test]
fn what_does_not_decode_says_where_and_why() {
    #[data]
    struct Answer {
        access_token: String,
        items: Vec<Item>,
        kind: Option<Kind>,
        letter: Option<char>,
    }
    #[data]
    struct Item {
        price: u16,
    }
    #[data]
    enum Kind {
        Good,
        Bad(u8),
    }

    for (text, words) in [
        (r#"{"items": []}"#, "does not fit `Answer` at /access_token: missing"),
        (
            r#"{"access_token": 5, "items": []}"#,
            "does not fit `Answer` at /access_token: needed a string, found integer",
        ),
        (
            r#"{"access_token": "s3cr3t", "items": [{"price": 1}, {"price": 70000}]}"#,
            "does not fit `Answer` at /items/1/price: needed u16, found integer out of range",
        ),
        (r#"{"access_token": "s3cr3t", "items": [{}]}"#, "does not fit `Answer` at /items/0/price: missing"),
        (r#"{"access_token": "s3cr3t", "items": {}}"#, "does not fit `Answer` at /items: needed a sequence, found map"),
        (
            r#"{"access_token": "s3cr3t", "items": [], "kind": "s3cr3t"}"#,
            "does not fit `Answer` at /kind: needed `Good` or `Bad`, found another",
        ),
        (
            r#"{"access_token": "s3cr3t", "items": [], "kind": {"Bad": "s3cr3t"}}"#,
            "does not fit `Answer` at /kind/Bad: needed u8, found string",
        ),
        (
            r#"{"access_token": "s3cr3t", "items": [], "kind": {"Bad": 1, "s3cr3t": 2}}"#,
            "does not fit `Answer` at /kind: needed one variant of Kind, found a map of 2 keys",
        ),
        (
            r#"{"access_token": "s3cr3t", "items": [], "letter": "s3cr3t"}"#,
            "does not fit `Answer` at /letter: needed a character, found string of another content",
        ),
        (
            r#"{"access_token": "s3cr3t", "access_token": "s3cr3t"}"#,
            "does not fit `Answer` at /access_token: there twice, or under two names",
        ),
        ("[]", "does not fit `Answer`: needed struct Answer with 4 elements, found 0"),
        (r#""s3cr3t""#, "does not fit `Answer`: needed struct Answer, found string"),
        (r#"{"access_token": s3cr3t}"#, "is no JSON: expected value at line 1 column 18"),
        ("", "is no JSON: EOF while parsing a value at line 1 column 0"),
    ] {
        let error = Response::new(200, text).json::<Answer>().unwrap_err().to_string();
        assert_eq!(error, format!("the answer (status 200) {words}"), "{text}");
    }
    let error = Response::new(200, "[1]").json::<BTreeMap<String, Vec<Answer>>>().unwrap_err().to_string();
    assert_eq!(error, "the answer (status 200) does not fit `BTreeMap`: needed a map, found list");
}
