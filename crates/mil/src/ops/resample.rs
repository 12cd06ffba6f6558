//! Ops that read images at computed places.

use crate::eval::{Evaluation, Numbers, room};
use crate::ops::{Accuracy, DTypeSet, FLOAT, INT32, OpError, Operand, SMALL_INTEGER, movement};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType};

mod gradient;

/// Element types of coordinates in ios15.
const COORDINATE: DTypeSet = DTypeSet::of(&[DType::Fp32, DType::Int32]);
/// Element types of coordinates in ios16.
const COORDINATE_16: DTypeSet = FLOAT.and(INT32);
/// Element types of coordinates from ios17 on.
const COORDINATE_17: DTypeSet = COORDINATE_16.and(SMALL_INTEGER);

crate::ops! {
    /// The images `x [B, C, H, W]` at the places `coordinates [B, h, w, 2]`, as `[B, C, h, w]`; as PyTorch's `grid_sample`.
    /// A place is a column and a row: by `coordinates_mode` counted in elements (`unnormalized`), from −1 to 1
    /// (`normalized_minus_one_to_one`) or from 0 to 1 (`normalized_zero_to_one`), where the ends are the middles of the
    /// first and the last element with `align_corners`, else their outer edges.
    ///
    /// With the `sampling_mode` `bilinear` an element is made of the two neighbours of its place along each dimension,
    /// weighted by how near they are; with `nearest` it is the nearest one, at the same distance the one of even number.
    /// What lies outside the image, `padding_mode` says: `constant`, elements of `padding_value`; `border`, the nearest
    /// element; `reflection`, the image mirrored at the middles of its first and last elements; `symmetric`, at their outer
    /// edges. A coordinate that is not a number gives none.
    ///
    /// Which of two elements is nearest, and that coordinates counted in elements do not heed `align_corners`,
    /// coremltools' documentation does not say; its tests hold so.
    Resample = resample(x: Operand[T], coordinates: Operand[U], sampling_mode: String, padding_mode: String,
        padding_value: f64[T], coordinates_mode: String, align_corners: bool)
        since IOS15 where [T: FLOAT, U: COORDINATE]
        since IOS16 where [T: FLOAT, U: COORDINATE_16]
        since IOS17 where [T: FLOAT, U: COORDINATE_17]
        { infer: |row| row.ty(), eval: Resample::evaluate, accuracy: Accuracy::Sum(1); vjp: gradient::resample;
          flops: |row| row.ty().ok()?.first()?.shape.elements()?.checked_mul(7) }

    /// The images `x [B, C, H, W]` under affine maps, as `[B, C, output_height, output_width]`: the element at `(x, y)` is
    /// `x` at `(a₀x + a₁y + a₂, b₀x + b₁y + b₂)`, with `[a₀, a₁, a₂, b₀, b₁, b₂]` in `transform_matrix [B, 6]`, or
    /// `[1, 6]` for all; as PyTorch's `affine_grid` and `grid_sample`. Places are as in `resample`, from −1 to 1 in the
    /// result as in `x`; a dimension of one element has it in the middle, at 0, which coremltools' documentation does not
    /// say.
    ///
    /// `sampling_mode` must be `bilinear`, `padding_mode` `constant` with the `padding_value` 0, and `coordinates_mode`
    /// `normalized_minus_one_to_one`: there are no others yet. That Core ML has not got `align_corners = false` yet,
    /// coremltools documents, but does not refuse.
    Affine = affine(x: Operand[T], transform_matrix: Operand[T], output_height: i32, output_width: i32,
        sampling_mode: String, padding_mode: String, padding_value: f64[T], coordinates_mode: String,
        align_corners: bool) since IOS15 where [T: FLOAT]
        { infer: |row| row.ty(), eval: Affine::evaluate, accuracy: Accuracy::Sum(1); vjp: gradient::affine;
          flops: |row| row.ty().ok()?.first()?.shape.elements()?.checked_mul(7) }
}

/// What lies outside an image.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Padding {
    Constant(f64),
    Border,
    Reflection,
    Symmetric,
}

/// In what coordinates are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Elements,
    MinusOneToOne,
    ZeroToOne,
}

/// How an image is read at a place.
#[derive(Debug, Clone, Copy)]
struct Sampling {
    nearest: bool,
    padding: Padding,
    unit: Unit,
    align_corners: bool,
}

/// The value of a parameter that is one of a few words.
fn word<T: Copy>(parameter: &str, given: &str, words: &[(&str, T)]) -> Result<T, OpError> {
    words.iter().find(|(word, _)| *word == given).map(|&(_, value)| value).ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let all = match words.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => words.concat(),
        };
        OpError::rule(parameter, format!("must be {all}")).found(format!("found \"{given}\""))
    })
}

impl Sampling {
    /// The scale and the shift that make a coordinate along a dimension a place among its elements.
    fn linear(&self, length: usize) -> (f64, f64) {
        let length = length as f64;
        match (self.unit, self.align_corners) {
            (Unit::Elements, _) => (1.0, 0.0),
            (Unit::MinusOneToOne, true) => ((length - 1.0) / 2.0, (length - 1.0) / 2.0),
            (Unit::MinusOneToOne, false) => (length / 2.0, (length - 1.0) / 2.0),
            (Unit::ZeroToOne, true) => (length - 1.0, 0.0),
            (Unit::ZeroToOne, false) => (length, -0.5),
        }
    }

    /// Where images are mirrored along a dimension: at what distance the mirrors stand, and where the first does.
    fn mirrors(&self, length: usize) -> Option<(f64, f64)> {
        match self.padding {
            Padding::Reflection => Some((length as f64 - 1.0, 0.0)),
            Padding::Symmetric => Some((length as f64, -0.5)),
            Padding::Constant(_) | Padding::Border => None,
        }
    }

    /// Where the coordinate lies among the elements of a dimension; outside them only where they are padded by a constant.
    fn place(&self, coordinate: f64, length: usize) -> f64 {
        let (scale, shift) = self.linear(length);
        let mut place = coordinate * scale + shift;
        if let Some((distance, first)) = self.mirrors(length) {
            // Back and forth between the mirrors; between those of a single element there is only one place.
            let from_first = (place - first).abs() % (2.0 * distance);
            place = if distance == 0.0 && !place.is_nan() {
                first
            } else {
                distance - (from_first - distance).abs() + first
            };
        }
        match self.padding {
            Padding::Constant(_) => place,
            _ if place.is_nan() => place,
            _ => place.clamp(0.0, length.saturating_sub(1) as f64),
        }
    }

    /// The elements at a place along a dimension, with their weights; `None` for an element outside.
    fn taps(&self, place: f64, length: usize) -> [(Option<usize>, f64); 2] {
        let inside = |at: f64| (at >= 0.0 && at < length as f64).then_some(at as usize);
        if self.nearest {
            return [(inside(place.round_ties_even()), 1.0), (None, 0.0)];
        }
        let low = place.floor();
        [(inside(low), 1.0 - (place - low)), (inside(low + 1.0), place - low)]
    }

    /// Appends what a channel has at places.
    fn read(&self, plane: &[f64], [height, width]: [usize; 2], places: &[[f64; 2]], values: &mut Vec<f64>) {
        let outside = if let Padding::Constant(value) = self.padding { value } else { 0.0 };
        values.extend(places.iter().map(|&[x, y]| {
            if x.is_nan() || y.is_nan() {
                return f64::NAN;
            }
            if x.is_infinite() || y.is_infinite() {
                return outside;
            }
            let mut sum = 0.0;
            for (row, down) in self.taps(y, height) {
                for (column, across) in self.taps(x, width) {
                    // What has no weight has no part, not even an infinity.
                    if down * across != 0.0 {
                        let element = row.zip(column).map_or(outside, |(i, j)| plane[i * width + j]);
                        sum += down * across * element;
                    }
                }
            }
            sum
        }));
    }

    /// The images of `x` at `coordinates`, a column and a row for each of `count` places of each image.
    fn sample(
        &self,
        x: &Operand,
        coordinates: &[f64],
        count: usize,
        dims: &[usize],
        evaluation: &Evaluation,
    ) -> Result<Vec<Tensor>, OpError> {
        let &[images, channels, height, width] = x.dims()? else { return Err(wrong_images(x)) };
        let elements = x.floats()?;
        let mut values = room(dims.iter().product())?;
        let mut places = room(count)?;
        for image in 0..images {
            places.clear();
            let own = coordinates.chunks_exact(2).skip(image * count).take(count);
            places.extend(own.map(|pair| [self.place(pair[0], width), self.place(pair[1], height)]));
            for channel in 0..channels {
                let start = (image * channels + channel) * height * width;
                self.read(&elements[start..start + height * width], [height, width], &places, &mut values);
            }
        }
        Ok(vec![evaluation.tensor(x.dtype(), dims, Numbers::Float(values))?])
    }
}

fn wrong_images(x: &Operand) -> OpError {
    OpError::rule("x", "must have rank 4: [B, C, H, W]").found(format!("found {}", x.ty))
}

/// The dimensions of images, of which each must have an element.
fn images(x: &Operand) -> Result<[Dim; 4], OpError> {
    let [images, channels, height, width] = x.shape().0[..] else { return Err(wrong_images(x)) };
    if [height, width].contains(&Dim::Known(0)) {
        return Err(OpError::rule("x", "the images must not be empty").found(format!("found {}", x.ty)));
    }
    Ok([images, channels, height, width])
}

impl Resample {
    fn sampling(&self) -> Result<Sampling, OpError> {
        let padding = [
            ("constant", Padding::Constant(self.padding_value)),
            ("border", Padding::Border),
            ("reflection", Padding::Reflection),
            ("symmetric", Padding::Symmetric),
        ];
        let unit = [
            ("unnormalized", Unit::Elements),
            ("normalized_minus_one_to_one", Unit::MinusOneToOne),
            ("normalized_zero_to_one", Unit::ZeroToOne),
        ];
        Ok(Sampling {
            nearest: word("sampling_mode", &self.sampling_mode, &[("bilinear", false), ("nearest", true)])?,
            padding: word("padding_mode", &self.padding_mode, &padding)?,
            unit: word("coordinates_mode", &self.coordinates_mode, &unit)?,
            align_corners: self.align_corners,
        })
    }

    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        let [batch, channels, ..] = images(&self.x)?;
        self.sampling()?;
        let wrong = |message: String| {
            OpError::rule("coordinates", message).found(format!("found {}", self.coordinates.ty))
        };
        let [of, height, width, two] = self.coordinates.shape().0[..] else {
            return Err(wrong("must have rank 4: [B, h, w, 2]".to_string()));
        };
        if !two.agrees_with(Dim::Known(2)) {
            return Err(wrong("must hold two numbers for each place: [B, h, w, 2]".to_string()));
        }
        if !of.agrees_with(batch) {
            return Err(wrong(format!("must be of as many images as `x`, {}", self.x.ty)));
        }
        movement::result("coordinates", self.x.dtype(), vec![batch, channels, height, width])
    }

    fn evaluate(&self, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
        let dims = movement::dims(self.ty())?;
        let coordinates = self.coordinates.floats()?;
        self.sampling()?.sample(&self.x, &coordinates, dims[2] * dims[3], &dims, evaluation)
    }
}

impl Affine {
    fn sampling(&self) -> Result<Sampling, OpError> {
        for (parameter, given, only) in [
            ("sampling_mode", &self.sampling_mode, "bilinear"),
            ("padding_mode", &self.padding_mode, "constant"),
            ("coordinates_mode", &self.coordinates_mode, "normalized_minus_one_to_one"),
        ] {
            word(parameter, &given.to_ascii_lowercase(), &[(only, ())])?;
        }
        if self.padding_value != 0.0 {
            return Err(
                OpError::rule("padding_value", "must be 0").found(format!("found {}", self.padding_value))
            );
        }
        let (padding, unit) = (Padding::Constant(0.0), Unit::MinusOneToOne);
        Ok(Sampling { nearest: false, padding, unit, align_corners: self.align_corners })
    }

    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        let [batch, channels, ..] = images(&self.x)?;
        self.sampling()?;
        let matrix = &self.transform_matrix;
        let fits = |of: Dim| of == Dim::Known(1) || of.agrees_with(batch);
        match matrix.shape().0[..] {
            [of, six] if six.agrees_with(Dim::Known(6)) && fits(of) => {}
            _ => {
                let message = match batch {
                    Dim::Known(1) => "must be [1, 6]".to_string(),
                    batch => format!("must be [{batch}, 6] or [1, 6]"),
                };
                return Err(OpError::rule("transform_matrix", message).found(format!("found {}", matrix.ty)));
            }
        }
        let height = movement::positive("output_height", self.output_height)?;
        let width = movement::positive("output_width", self.output_width)?;
        movement::result("output_height", self.x.dtype(), vec![batch, channels, height, width])
    }

    /// The coordinate of element `i` of `count` along a dimension of the result.
    fn coordinate(&self, i: usize, count: usize) -> f64 {
        let (i, length) = (i as f64, count as f64);
        match self.align_corners {
            _ if count == 1 => 0.0,
            true => (2.0 * i - (length - 1.0)) / (length - 1.0),
            false => (2.0 * i - (length - 1.0)) / length,
        }
    }

    /// `[x, y, 1]` for each element of the result.
    fn grid(&self, height: usize, width: usize) -> impl Iterator<Item = [f64; 3]> {
        (0..height).flat_map(move |i| {
            (0..width).map(move |j| [self.coordinate(j, width), self.coordinate(i, height), 1.0])
        })
    }

    fn evaluate(&self, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
        let dims = movement::dims(self.ty())?;
        let (count, matrices) = (dims[2] * dims[3], self.transform_matrix.floats()?);
        let mut coordinates = room(dims[0].saturating_mul(2 * count))?;
        for matrix in matrices.chunks_exact(6).cycle().take(dims[0]) {
            for place in self.grid(dims[2], dims[3]) {
                let product = |row: &[f64]| row.iter().zip(place).map(|(a, b)| a * b).sum::<f64>();
                coordinates.extend([product(&matrix[..3]), product(&matrix[3..])]);
            }
        }
        self.sampling()?.sample(&self.x, &coordinates, count, &dims, evaluation)
    }
}
