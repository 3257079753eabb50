//! Shapes: reading them, and checking values against them (C1).

use charm_conformance::Random;
use charm_host::{Kind, MESSAGE_BYTES_MAX, SHAPE_BYTES_MAX, Shape, Value};
use ipld_core::ipld::Ipld;

use super::{change, corpus, fuzz, tree};

/// Says by the grammar's words whether a value fits.
fn fits(shape: &Shape, tree: &Ipld) -> bool {
    match (shape, tree) {
        (Shape::Any, _) => true,
        (Shape::Kind(Kind::Float), Ipld::Integer(_)) => true,
        (Shape::Int(range), Ipld::Integer(found)) => range.contains(found),
        (Shape::Kind(kind), tree) => {
            let found = match tree {
                Ipld::Null => Kind::Null,
                Ipld::Bool(_) => Kind::Bool,
                Ipld::Integer(_) => Kind::Integer,
                Ipld::Float(_) => Kind::Float,
                Ipld::String(_) => Kind::String,
                Ipld::Bytes(_) => Kind::Bytes,
                Ipld::List(_) => Kind::List,
                Ipld::Map(_) => Kind::Map,
                Ipld::Link(_) => Kind::Link,
            };
            *kind == found
        }
        (Shape::Literal(text), Ipld::String(found)) => text == found,
        (Shape::List(item), Ipld::List(items)) => items.iter().all(|tree| fits(item, tree)),
        (Shape::Tuple(items), Ipld::List(found)) => {
            items.len() == found.len() && items.iter().zip(found).all(|(item, tree)| fits(item, tree))
        }
        (Shape::Map { fields, rest }, Ipld::Map(entries)) => {
            let named = fields
                .iter()
                .all(|(key, field)| entries.get(key).map_or(field.optional, |tree| fits(&field.shape, tree)));
            let mut others = entries.iter().filter(|(key, _)| !fields.contains_key(*key));
            named && others.all(|(_, tree)| rest.as_ref().is_none_or(|rest| fits(rest, tree)))
        }
        (Shape::OneOf(shapes), tree) => shapes.iter().any(|shape| fits(shape, tree)),
        _ => false,
    }
}

/// A shape that parses is shown as text that parses to the same; it fits itself, and its check says what the grammar says.
#[test]
fn shapes_are_what_their_text_says() {
    let seed = std::cell::RefCell::new(Random::new(0));
    fuzz("shapes", 150_000, &corpus("shapes"), change, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(shape) = text.parse::<Shape>() else { return };
        assert!(text.len() <= SHAPE_BYTES_MAX);
        assert_eq!(shape.to_string().parse::<Shape>().as_ref(), Ok(&shape));
        assert!(shape.fits(&Shape::Any));
        let mut random = seed.borrow_mut();
        for _ in 0..4 {
            let tree = tree::value(&mut random, 4);
            let checked = shape.check(&Value::encode(&tree).unwrap());
            assert_eq!(checked.is_ok(), fits(&shape, &tree), "{shape}: {tree:?}");
            if let Err(mismatch) = checked {
                assert!(mismatch.to_string().len() <= MESSAGE_BYTES_MAX, "{mismatch}");
            }
        }
    });
}
