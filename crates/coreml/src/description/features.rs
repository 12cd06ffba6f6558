//! Inputs, outputs and states.

use std::fmt;

use anemone_mil::types::DType;

/// An input, output or state.
#[derive(Debug, Clone, PartialEq)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub short_description: String,
    /// What it is; `None` where the model does not say.
    pub kind: Option<FeatureKind>,
    /// Whether it may be left out.
    pub optional: bool,
}

/// What an input, output or state is.
#[derive(Debug, Clone, PartialEq)]
pub enum FeatureKind {
    /// A whole number.
    Int64,
    /// A number.
    Double,
    /// A string.
    String,
    /// An image.
    Image(ImageFeature),
    /// An array.
    Array(ArrayFeature),
    /// Numbers by name or whole number, as a classifier's probabilities; `None` where the keys are not said.
    Dictionary(Option<Item>),
    /// Whole numbers or strings.
    Sequence(Option<Item>, Option<SizeRange>),
    /// An array that is kept between runs; `None` where the model does not say which.
    State(Option<ArrayFeature>),
}

/// What a dictionary's keys or a sequence's items are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// Whole numbers.
    Int64,
    /// Strings.
    String,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFeature {
    /// Its width in pixels.
    pub width: i64,
    /// Its height in pixels.
    pub height: i64,
    /// Its colours.
    pub color_space: ColorSpace,
    /// What other sizes it may have.
    pub sizes: ImageSizes,
}

/// The colours of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorSpace {
    /// Grey, 8 bits.
    Grayscale,
    /// Red, green, blue, 8 bits each.
    Rgb,
    /// Blue, green, red, 8 bits each.
    Bgr,
    /// Grey, fp16.
    GrayscaleFloat16,
    /// One with another code.
    Other(i32),
}

/// The sizes that an image may have beside the one that it is described with, in pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSizes {
    /// No other.
    Fixed,
    /// These, width before height.
    Enumerated(Vec<(u64, u64)>),
    /// Any within these bounds.
    Range {
        /// Of the width.
        width: SizeRange,
        /// Of the height.
        height: SizeRange,
    },
}

/// An array.
#[derive(Debug, Clone, PartialEq)]
pub struct ArrayFeature {
    /// Its shape, or the one that it has by default; empty where any is taken.
    pub shape: Vec<i64>,
    /// Its elements.
    pub elements: ArrayType,
    /// What other shapes it may have.
    pub shapes: Shapes,
    /// What every element is where the input is left out.
    pub default: Option<DefaultElement>,
}

/// What the elements of an array are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The variants carry the names that Core ML gives them.
pub enum ArrayType {
    Float16,
    Float32,
    Double,
    Int8,
    Int32,
    /// One with another code.
    Other(i32),
}

/// The shapes that an array may have beside the one that it is described with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shapes {
    /// No other.
    Fixed,
    /// These.
    Enumerated(Vec<Vec<i64>>),
    /// Any with each dimension within these bounds.
    Range(Vec<SizeRange>),
}

/// Bounds of a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SizeRange {
    /// The least.
    pub lower: u64,
    /// The most, as written; negative where there is none.
    pub upper: i64,
}

/// What every element of an array is where it is left out.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)] // The variants carry the names of their types.
pub enum DefaultElement {
    Int(i32),
    Float(f32),
    Double(f64),
}

/// Each colour space that has a name, with its code.
const COLOR_SPACES: [(ColorSpace, i32, &str); 4] = [
    (ColorSpace::Grayscale, 10, "grey"),
    (ColorSpace::Rgb, 20, "RGB"),
    (ColorSpace::Bgr, 30, "BGR"),
    (ColorSpace::GrayscaleFloat16, 40, "grey fp16"),
];

impl ColorSpace {
    pub(super) fn from_code(code: i32) -> ColorSpace {
        let known = COLOR_SPACES.iter().find(|(_, known, _)| *known == code);
        known.map_or(ColorSpace::Other(code), |(color_space, _, _)| *color_space)
    }

    pub(super) fn code(self) -> i32 {
        match self {
            ColorSpace::Other(code) => code,
            known => {
                COLOR_SPACES.iter().find(|(found, _, _)| *found == known).map_or(0, |(_, code, _)| *code)
            }
        }
    }
}

/// Each element type of arrays that has a name, with its code.
const ARRAY_TYPES: [(ArrayType, i32, &str); 5] = [
    (ArrayType::Float16, 65552, "fp16"),
    (ArrayType::Float32, 65568, "fp32"),
    (ArrayType::Double, 65600, "fp64"),
    (ArrayType::Int8, 131_080, "int8"),
    (ArrayType::Int32, 131_104, "int32"),
];

impl ArrayType {
    /// The type of its elements in a program; `None` for one that is not known.
    pub fn dtype(self) -> Option<DType> {
        match self {
            ArrayType::Float16 => Some(DType::Fp16),
            ArrayType::Float32 => Some(DType::Fp32),
            ArrayType::Double => Some(DType::Fp64),
            ArrayType::Int8 => Some(DType::Int8),
            ArrayType::Int32 => Some(DType::Int32),
            ArrayType::Other(_) => None,
        }
    }

    pub(super) fn from_code(code: i32) -> ArrayType {
        let known = ARRAY_TYPES.iter().find(|(_, known, _)| *known == code);
        known.map_or(ArrayType::Other(code), |(array_type, _, _)| *array_type)
    }

    pub(super) fn code(self) -> i32 {
        match self {
            ArrayType::Other(code) => code,
            known => ARRAY_TYPES.iter().find(|(found, _, _)| *found == known).map_or(0, |(_, code, _)| *code),
        }
    }
}

impl SizeRange {
    /// Whether a size is within the bounds.
    pub fn contains(self, size: u64) -> bool {
        self.lower <= size && u64::try_from(self.upper).map_or(true, |upper| size <= upper)
    }
}

impl ArrayFeature {
    /// Whether an array of this shape may be given.
    pub fn takes(&self, shape: &[usize]) -> bool {
        let is = |described: &[i64]| {
            described.len() == shape.len()
                && described.iter().zip(shape).all(|(&size, &given)| usize::try_from(size) == Ok(given))
        };
        match &self.shapes {
            Shapes::Fixed => self.shape.is_empty() || is(&self.shape),
            Shapes::Enumerated(shapes) => shapes.iter().any(|shape| is(shape)),
            Shapes::Range(ranges) => {
                ranges.len() == shape.len()
                    && ranges.iter().zip(shape).all(|(range, &given)| range.contains(given as u64))
            }
        }
    }
}

impl ImageFeature {
    /// Whether an image of this size in pixels may be given.
    pub fn takes(&self, width: u64, height: u64) -> bool {
        let is_described = i64::try_from(width) == Ok(self.width) && i64::try_from(height) == Ok(self.height);
        match &self.sizes {
            ImageSizes::Fixed => is_described,
            ImageSizes::Enumerated(sizes) => sizes.contains(&(width, height)),
            ImageSizes::Range { width: widths, height: heights } => {
                widths.contains(width) && heights.contains(height)
            }
        }
    }

    /// Its colour channels: red, green and blue in some order, or grey.
    pub fn channels(&self) -> usize {
        match self.color_space {
            ColorSpace::Rgb | ColorSpace::Bgr => 3,
            ColorSpace::Grayscale | ColorSpace::GrayscaleFloat16 | ColorSpace::Other(_) => 1,
        }
    }
}

impl fmt::Display for ColorSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match COLOR_SPACES.iter().find(|(known, _, _)| known == self) {
            Some((_, _, name)) => f.write_str(name),
            None => write!(f, "colour space {}", self.code()),
        }
    }
}

impl fmt::Display for ArrayType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ARRAY_TYPES.iter().find(|(known, _, _)| known == self) {
            Some((_, _, name)) => f.write_str(name),
            None => write!(f, "elements {}", self.code()),
        }
    }
}

impl fmt::Display for SizeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.upper {
            ..0 => write!(f, "{}..", self.lower),
            upper => write!(f, "{}..{upper}", self.lower),
        }
    }
}

impl fmt::Display for DefaultElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DefaultElement::Int(value) => value.fmt(f),
            DefaultElement::Float(value) => value.fmt(f),
            DefaultElement::Double(value) => value.fmt(f),
        }
    }
}

impl fmt::Display for ImageFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "image {}, {} × {}", self.color_space, self.width, self.height)?;
        match &self.sizes {
            ImageSizes::Fixed => Ok(()),
            ImageSizes::Enumerated(sizes) => {
                let sizes: Vec<String> =
                    sizes.iter().map(|(width, height)| format!("{width} × {height}")).collect();
                write!(f, ", or one of {}", sizes.join(", "))
            }
            ImageSizes::Range { width, height } => write!(f, ", or {width} × {height}"),
        }
    }
}

impl fmt::Display for ArrayFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.elements, self.shape)?;
        match &self.shapes {
            Shapes::Fixed => {}
            Shapes::Enumerated(shapes) => {
                let shapes: Vec<String> = shapes.iter().map(|shape| format!("{shape:?}")).collect();
                write!(f, ", or one of {}", shapes.join(", "))?;
            }
            Shapes::Range(ranges) => {
                let ranges: Vec<String> = ranges.iter().map(SizeRange::to_string).collect();
                write!(f, ", or [{}]", ranges.join(", "))?;
            }
        }
        match self.default {
            Some(default) => write!(f, ", {default} by default"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for FeatureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = |item: &Option<Item>| match item {
            Some(Item::Int64) => "int64",
            Some(Item::String) => "string",
            None => "unknown",
        };
        match self {
            FeatureKind::Int64 => f.write_str("int64"),
            FeatureKind::Double => f.write_str("fp64"),
            FeatureKind::String => f.write_str("string"),
            FeatureKind::Image(image) => image.fmt(f),
            FeatureKind::Array(array) => array.fmt(f),
            FeatureKind::Dictionary(keys) => write!(f, "dictionary from {} to fp64", items(keys)),
            FeatureKind::Sequence(item, Some(range)) => write!(f, "sequence of {range} {}", items(item)),
            FeatureKind::Sequence(item, None) => write!(f, "sequence of {}", items(item)),
            FeatureKind::State(Some(array)) => write!(f, "state {array}"),
            FeatureKind::State(None) => f.write_str("state"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_an_array_may_have() {
        let array =
            |shapes| ArrayFeature { shape: vec![2, 6], elements: ArrayType::Float32, shapes, default: None };
        let fixed = array(Shapes::Fixed);
        assert!(fixed.takes(&[2, 6]) && !fixed.takes(&[6, 2]) && !fixed.takes(&[2, 6, 1]));
        assert!(ArrayFeature { shape: vec![], ..fixed }.takes(&[3]));
        let listed = array(Shapes::Enumerated(vec![vec![1, 6], vec![4, 6]]));
        assert!(listed.takes(&[4, 6]) && !listed.takes(&[2, 6]));
        let upper = |upper| SizeRange { lower: 2, upper };
        let ranged = array(Shapes::Range(vec![upper(3), upper(-1)]));
        assert!(ranged.takes(&[2, 2]) && ranged.takes(&[3, 1000]));
        assert!(!ranged.takes(&[4, 2]) && !ranged.takes(&[2, 1]) && !ranged.takes(&[2]));
    }

    #[test]
    fn sizes_that_an_image_may_have() {
        let image = |sizes| ImageFeature { width: 12, height: 10, color_space: ColorSpace::Rgb, sizes };
        assert!(image(ImageSizes::Fixed).takes(12, 10) && !image(ImageSizes::Fixed).takes(10, 12));
        assert!(image(ImageSizes::Enumerated(vec![(3, 4)])).takes(3, 4));
        let any = SizeRange { lower: 5, upper: -1 };
        let ranged = image(ImageSizes::Range { width: any, height: SizeRange { lower: 1, upper: 4 } });
        assert!(ranged.takes(100, 4) && !ranged.takes(4, 4) && !ranged.takes(5, 5));
    }
}
