//! Which part of a shape decides on an edit, so that the rest of the value need not be looked at (C7).

use super::Shape;
use crate::{path::Segment, value::Kind};

/// Returns after how many steps of `path`, and by which shape, it is decided whether a value that fits `shape` still does after
/// an edit there; none when it does whatever is put. A step looks at one shape.
pub(super) fn decides<'a>(
    shape: &'a Shape,
    path: &[Segment],
    is_put: bool,
    steps: &mut u32,
) -> Option<(usize, &'a Shape)> {
    let (mut shape, mut depth) = (shape, 0);
    while let Some(step) = path.get(depth) {
        *steps = steps.saturating_sub(1);
        // A removal at the last step changes what is there, not what is inside of it.
        let is_removal = !is_put && depth + 1 == path.len();
        shape = match (shape, step) {
            (Shape::Any, _) => return None,
            (Shape::Map { fields, rest }, Segment::Key(key)) => match (fields.get(key), rest) {
                (Some(field), _) if is_removal && !field.optional => return Some((depth, shape)),
                _ if is_removal => return None,
                (Some(field), _) => &field.shape,
                (None, Some(rest)) => rest,
                (None, None) => return None,
            },
            (Shape::List(_), Segment::Index(_)) if is_removal => return None,
            (Shape::List(item), Segment::Index(_)) => item,
            // Any other length than it has is wrong.
            (Shape::Tuple(items), Segment::Index(index)) if !is_removal => match items.get(*index as usize) {
                Some(item) => item,
                None => return Some((depth, shape)),
            },
            (Shape::OneOf(shapes), _) => {
                *steps = steps.saturating_sub(shapes.len() as u32);
                // What is there is a container. When one alternative alone takes such, it is that one.
                let mut takers = shapes.iter().filter(|shape| takes(shape, step));
                match (takers.next(), takers.next()) {
                    (Some(only), None) => {
                        shape = only;
                        continue;
                    }
                    _ => return Some((depth, shape)),
                }
            }
            _ => return Some((depth, shape)),
        };
        depth += 1;
    }
    (*shape != Shape::Any).then_some((depth, shape))
}

/// Returns whether a value that such a step leads into may fit.
fn takes(shape: &Shape, step: &Segment) -> bool {
    matches!(
        (shape, step),
        (Shape::Any | Shape::OneOf(_), _)
            | (Shape::Map { .. } | Shape::Kind(Kind::Map), Segment::Key(_))
            | (Shape::List(_) | Shape::Tuple(_) | Shape::Kind(Kind::List), Segment::Index(_))
    )
}
