//! What is assumed of a program's inputs.

use std::collections::BTreeMap;
use std::str::FromStr;

use anemone_mil::program::Program;
use anemone_mil::types::{DType, Type};

use super::Interval;

/// Why a range is none, or is not one of an input's values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// It is not written `NAME=LO..HI`.
    #[error("`{0}` is no range of an input; write NAME=LO..HI, such as x=-1..1")]
    Form(String),
    /// An end is no number.
    #[error("`{end}` in `{text}` is no number")]
    End {
        /// The range as written.
        text: String,
        /// The end that is at fault.
        end: String,
    },
    /// It goes downward.
    #[error("`{0}` holds nothing: its first number is larger than its second")]
    Empty(String),
    /// An input has two.
    #[error("the range of `{0}` is given twice")]
    Twice(String),
    /// There is no such input.
    #[error("no function has an input `{name}`; {inputs}")]
    Unknown {
        /// The name.
        name: String,
        /// What there is instead.
        inputs: String,
    },
    /// It is a state.
    #[error("`{0}` is a state, whose values are not bounded by what it holds at first")]
    State(String),
    /// The input's type holds none of the numbers.
    #[error("`{name}` is {ty}, which holds no number of {range}")]
    Type {
        /// The input.
        name: String,
        /// Its element type.
        ty: DType,
        /// The range.
        range: String,
    },
}

/// An input, and the numbers that its elements are among: `x=-1..1`.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedRange {
    /// The input's name.
    pub name: String,
    /// The numbers.
    pub range: Interval,
}

impl FromStr for NamedRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<NamedRange, RangeError> {
        let form = || RangeError::Form(text.to_string());
        let (name, range) = text.split_once('=').ok_or_else(form)?;
        let (low, high) = range.split_once("..").ok_or_else(form)?;
        if name.is_empty() {
            return Err(form());
        }
        let number = |end: &str| {
            let value = end.trim().parse::<f64>().ok().filter(|value| !value.is_nan());
            value.ok_or_else(|| RangeError::End { text: text.to_string(), end: end.to_string() })
        };
        let (low, high) = (number(low)?, number(high)?);
        if low > high {
            return Err(RangeError::Empty(text.to_string()));
        }
        Ok(NamedRange { name: name.trim().to_string(), range: Interval::new(low, high) })
    }
}

/// What is assumed of inputs: the range that is stated, or else [`Assumptions::DEFAULT`] for floating point, and
/// anything that the type holds for integers.
#[derive(Debug, Clone, Default)]
pub struct Assumptions {
    stated: BTreeMap<String, Interval>,
}

impl Assumptions {
    /// What floating-point inputs are assumed to hold, where nothing is stated: hidden values and gradients of networks
    /// that train well are smaller.
    pub const DEFAULT: Interval = Interval { low: -10.0, high: 10.0 };

    /// The assumptions that these ranges state.
    ///
    /// # Errors
    ///
    /// When an input has two.
    pub fn new(ranges: &[NamedRange]) -> Result<Assumptions, RangeError> {
        let mut stated = BTreeMap::new();
        for NamedRange { name, range } in ranges {
            if stated.insert(name.clone(), *range).is_some() {
                return Err(RangeError::Twice(name.clone()));
            }
        }
        Ok(Assumptions { stated })
    }

    /// Checks that what is stated is about inputs of the program, and numbers that they can hold.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub fn verify(&self, program: &Program) -> Result<(), RangeError> {
        self.stated.iter().try_for_each(|(name, range)| verify_one(program, name, *range))
    }

    /// What an input of this name and element type holds, and whether that is stated.
    pub(super) fn of(&self, name: &str, dtype: DType) -> (Interval, bool) {
        let Some(stated) = self.stated.get(name) else {
            let default = if dtype.is_float() { Assumptions::DEFAULT } else { Interval::of_type(dtype) };
            return (default, false);
        };
        (within(*stated, dtype).unwrap_or(*stated), true)
    }
}

/// The numbers of an interval that an element type holds, if there are any; an infinite end stays.
fn within(range: Interval, dtype: DType) -> Option<Interval> {
    let held = match dtype {
        DType::Fp16 => Interval::symmetric(65504.0),
        other => Interval::of_type(other),
    };
    let low = if range.low.is_infinite() { range.low } else { range.low.max(held.low) };
    let high = if range.high.is_infinite() { range.high } else { range.high.min(held.high) };
    if dtype.is_float() {
        return (low <= high).then_some(Interval::new(low, high));
    }
    let (low, high) = (low.max(held.low).ceil(), high.min(held.high).floor());
    (low <= high).then_some(Interval::new(low, high))
}

fn verify_one(program: &Program, name: &str, range: Interval) -> Result<(), RangeError> {
    let mut found = false;
    for function in &program.functions {
        let inputs = function.body.inputs.iter().map(|&id| function.value(id));
        let Some(input) = inputs.into_iter().find(|input| input.name == name) else { continue };
        found = true;
        if matches!(input.ty, Type::State(_)) {
            return Err(RangeError::State(name.to_string()));
        }
        let Some(ty) = input.ty.held_tensor() else { continue };
        if within(range, ty.dtype).is_none() {
            let range = range.to_string();
            return Err(RangeError::Type { name: name.to_string(), ty: ty.dtype, range });
        }
    }
    if found { Ok(()) } else { Err(RangeError::Unknown { name: name.to_string(), inputs: inputs(program) }) }
}

/// The names of a program's inputs, for people; of many the first.
fn inputs(program: &Program) -> String {
    /// So many are listed.
    const MOST: usize = 8;
    let mut names: Vec<&str> = Vec::new();
    for function in &program.functions {
        for &id in &function.body.inputs {
            let name = function.value(id).name.as_str();
            if names.len() <= MOST && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let more = if names.len() > MOST { ", …" } else { "" };
    names.truncate(MOST);
    match names.as_slice() {
        [] => "there are no inputs".to_string(),
        names => format!("there are {}{more}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        text.parse::<NamedRange>().map_or_else(|error| error.to_string(), |range| range.range.to_string())
    }

    #[test]
    fn a_range_has_a_name_and_two_numbers_in_order() {
        assert_eq!(message("x=-1..1"), "±1");
        assert_eq!(message("x=-inf..1e4"), "-inf..10000");
        assert_eq!(message("x = 0 .. 0"), "0..0");
        let form = "is no range of an input; write NAME=LO..HI, such as x=-1..1";
        for text in ["", "x", "x=1", "x=1,2", "=0..1", "0..1"] {
            assert_eq!(message(text), format!("`{text}` {form}"));
        }
        assert_eq!(message("x=a..1"), "`a` in `x=a..1` is no number");
        assert_eq!(message("x=0..NaN"), "`NaN` in `x=0..NaN` is no number");
        assert_eq!(message("x=0...1"), "0..0.1");
        assert_eq!(message("x=1..-1"), "`x=1..-1` holds nothing: its first number is larger than its second");
    }

    #[test]
    fn a_range_is_cut_to_what_the_type_holds() {
        assert_eq!(within(Interval::new(-1e9, 1.0), DType::Fp16), Some(Interval::new(-65504.0, 1.0)));
        assert_eq!(within(Interval::new(0.5, f64::INFINITY), DType::Int8), Some(Interval::new(1.0, 127.0)));
        assert_eq!(within(Interval::new(0.2, 0.8), DType::Int32), None);
        assert_eq!(within(Interval::new(1e5, 1e6), DType::Fp16), None);
    }
}
