//! Sums of numbers (C3): exact, or none.

use super::{Kind, Value, head, scan::write_head};

/// A number of the data model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Integer(i128),
    Float(f64),
}

/// A sum that the data model does not hold: what was needed, and what is out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfRange {
    pub expected: &'static str,
    pub kind: Kind,
}

/// Integers of the data model.
const INTEGERS: std::ops::RangeInclusive<i128> = -(1 << 64)..=(1 << 64) - 1;
/// Integers of which each is a float too.
const EXACT: std::ops::RangeInclusive<i128> = -(1 << 53)..=1 << 53;

impl Number {
    /// Returns the number that checked bytes are, none for another kind.
    pub fn of(bytes: &[u8]) -> Option<Number> {
        match (head(bytes, 0).ok()?, Kind::at(bytes, 0)) {
            ((0, argument, _), _) => Some(Number::Integer(argument.into())),
            ((1, argument, _), _) => Some(Number::Integer(-1 - i128::from(argument))),
            ((_, bits, _), Kind::Float) => Some(Number::Float(f64::from_bits(bits))),
            _ => None,
        }
    }

    /// Returns whether adding it changes nothing.
    pub fn is_zero(self) -> bool {
        match self {
            Number::Integer(integer) => integer == 0,
            Number::Float(float) => float == 0.0,
        }
    }

    /// Adds: two integers are an integer, anything else is a float.
    ///
    /// # Errors
    /// [`OutOfRange`], also of an integer beside a float that no float holds.
    pub fn plus(self, by: Number) -> Result<Number, OutOfRange> {
        let float = |number| match number {
            Number::Float(float) => Ok(float),
            Number::Integer(integer) if EXACT.contains(&integer) => Ok(integer as f64),
            Number::Integer(_) => {
                Err(OutOfRange { expected: "an integer from -2^53 to 2^53 beside a float", kind: Kind::Integer })
            }
        };
        if let (Number::Integer(a), Number::Integer(b)) = (self, by) {
            return match a + b {
                sum if INTEGERS.contains(&sum) => Ok(Number::Integer(sum)),
                _ => Err(OutOfRange { expected: "an integer from -2^64 to 2^64-1", kind: Kind::Integer }),
            };
        }
        match float(self)? + float(by)? {
            sum if sum.is_finite() => Ok(Number::Float(sum)),
            _ => Err(OutOfRange { expected: "a finite float", kind: Kind::Float }),
        }
    }

    /// Returns it as a value.
    pub fn to_value(self) -> Value {
        let mut bytes = Vec::with_capacity(9);
        match self {
            Number::Integer(integer) => match u64::try_from(integer) {
                Ok(argument) => write_head(&mut bytes, 0, argument),
                Err(_) => write_head(&mut bytes, 1, (-1 - integer) as u64),
            },
            Number::Float(float) => {
                bytes.push(0xfb);
                // There is no negative zero.
                bytes.extend((float + 0.0).to_bits().to_be_bytes());
            }
        }
        Value(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::VALUE_DEPTH_MAX;

    const MAX: i128 = (1 << 64) - 1;
    const MIN: i128 = -(1 << 64);

    fn sum(a: Number, b: Number) -> Result<Number, (&'static str, Kind)> {
        a.plus(b).map_err(|OutOfRange { expected, kind }| (expected, kind))
    }

    #[test]
    fn integers_add_up_exactly_to_the_ends_of_their_range_and_not_beyond() {
        use Number::Integer;
        for (a, b) in [(MAX, 0), (MAX, MIN), (MAX - 1, 1), (MIN, 0), (MIN + 1, -1), (-1, 1), (MIN, MAX)] {
            assert_eq!(sum(Integer(a), Integer(b)), Ok(Integer(a + b)));
        }
        for (a, b) in [(MAX, 1), (MAX, MAX), (MIN, -1), (MIN, MIN)] {
            assert_eq!(sum(Integer(a), Integer(b)), Err(("an integer from -2^64 to 2^64-1", Kind::Integer)));
        }
    }

    #[test]
    fn with_a_float_the_sum_is_a_float_and_nothing_is_rounded_away_in_silence() {
        use Number::{Float, Integer};
        assert_eq!(sum(Integer(2), Float(0.5)), Ok(Float(2.5)));
        assert_eq!(sum(Float(0.5), Integer(-(1 << 53))), Ok(Float(0.5 - (1_i64 << 53) as f64)));
        for large in [(1 << 53) + 1, -(1 << 53) - 1, MAX, MIN] {
            assert_eq!(sum(Integer(large), Float(1.0)).map_err(|error| error.1), Err(Kind::Integer));
            assert_eq!(sum(Float(1.0), Integer(large)).map_err(|error| error.1), Err(Kind::Integer));
        }
        assert_eq!(sum(Float(f64::MAX), Float(f64::MAX)), Err(("a finite float", Kind::Float)));
        assert_eq!(Float(-0.0).to_value(), Float(0.0).to_value());
    }

    proptest! {
        #[test]
        fn a_number_is_read_as_it_was_written(integer in MIN..=MAX, float in any::<f64>()) {
            let written = |number: Number| {
                let value = number.to_value();
                Value::from_bytes(value.as_bytes(), 9, VALUE_DEPTH_MAX).expect("canonical");
                Number::of(value.as_bytes())
            };
            prop_assert_eq!(written(Number::Integer(integer)), Some(Number::Integer(integer)));
            if float.is_finite() {
                prop_assert_eq!(written(Number::Float(float)), Some(Number::Float(float)));
            }
        }
    }
}
