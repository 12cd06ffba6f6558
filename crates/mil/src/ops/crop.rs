//! Ops that cut patches out of images, as they are or resized.

use crate::error::ErrorKind;
use crate::eval::{Evaluation, Numbers, collect, room};
use crate::grad::{Pullback, lengths};
use crate::ops::copy::Moved;
use crate::ops::rules::{free, known_dims, strides};
use crate::ops::taps::{SamplingMode, Taps, linear};
use crate::ops::{Accuracy, DTypeSet, FLOAT, OpError, Operand, call, movement};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Opset, TensorType};

mod gradient;

/// Element types of boxes from ios17 on.
const BOX: DTypeSet = DTypeSet::of(&[DType::Fp16, DType::Fp32, DType::UInt16]);
/// Element types of the images that boxes are about.
const BOX_INDEX: DTypeSet = DTypeSet::of(&[DType::UInt16, DType::Int32]);
/// The element type of the scale of coordinates.
const SCALE: DTypeSet = DTypeSet::of(&[DType::Fp32]);

crate::ops! {
    /// `x [*D, H, W]` without its first `crop_height[0]` and last `crop_height[1]` rows, and without its first
    /// `crop_width[0]` and last `crop_width[1]` columns.
    Crop = crop(x: Operand[T], crop_height: Vec<i32>, crop_width: Vec<i32>) since IOS15 where [T: FLOAT]
        { infer: |row| row.ty(), eval: |row, _| row.evaluate(), accuracy: Accuracy::Exact; vjp: crop_vjp; flops: free }

    /// Patches of the images `x [B, C, H, W]`, each resized to `target_height` by `target_width`, both 1 by default. An
    /// element is made of the two neighbours of its place along each dimension, weighted by how near they are; what lies
    /// outside the image, before its first or behind its last element, is `pad_value`, 0 by default, as TensorFlow's
    /// `crop_and_resize` has it.
    ///
    /// Before ios17, boxes are `roi [N, 1, 4, 1, 1]`, each cut out of every image, with the result
    /// `[N, B, C, target_height, target_width]`; or `roi [N, 1, 5, 1, 1]`, whose first number says of which image, with the
    /// result `[N, 1, C, target_height, target_width]`. (coremltools infers `B` there too, where Core ML's documents
    /// have 1.) From then on they are `boxes [N, 4]` of the images `box_indices [N]`, by default of one image each, in
    /// their order, with the result `[N, C, target_height, target_width]`.
    ///
    /// `box_coordinate_mode` says what the four numbers are: `CORNERS_HEIGHT_FIRST` (the default) for the first row and
    /// column, and the last row and column; `CORNERS_WIDTH_FIRST` with columns first; `CENTER_SIZE_HEIGHT_FIRST` for the
    /// middle's row and column, the height and the width; `CENTER_SIZE_WIDTH_FIRST`. They are multiplied by
    /// `spatial_scale`, and with `normalized_coordinates` rows by `H − 1` and columns by `W − 1`. Places in the box are those
    /// that `resize_bilinear` takes in `0 … from − 1`, by `sampling_mode`.
    ///
    /// Of these the sources leave open, and this op has: a box from `c − s/2` to `c + s/2` for the middle `c` and the size
    /// `s`; places that lie in the box, as those of `resize_bilinear` do in the image; and no gradient by the boxes.
    CropResize = crop_resize(x: Operand[T]; #[only_before = IOS17] roi: Option<Operand>[T],
        #[since = IOS17] boxes: Option<Operand>[BOX_T], #[since = IOS17] box_indices: Option<Operand>[BOX_INDEX_T],
        target_height: i32 = 1, target_width: i32 = 1, normalized_coordinates: bool = false,
        spatial_scale: f64[S] = 1.0, box_coordinate_mode: String = "CORNERS_HEIGHT_FIRST",
        sampling_mode: String = "DEFAULT", #[since = IOS16] pad_value: f64[T] = 0.0)
        since IOS15 where [T: FLOAT, S: SCALE]
        since IOS16 where [T: FLOAT, S: SCALE]
        since IOS17 where [T: FLOAT, S: SCALE, BOX_T: BOX, BOX_INDEX_T: BOX_INDEX]
        { infer: |row| row.ty(), eval: |row, evaluation| row.evaluate(evaluation), accuracy: Accuracy::Sum(1);
          vjp: gradient::crop_resize; flops: |row| row.ty().ok()?.first()?.shape.elements()?.checked_mul(7) }
}

impl Crop {
    /// What is cut off before and behind each of the last two dimensions.
    fn amounts(&self) -> Result<[[u64; 2]; 2], OpError> {
        let pair = |parameter, given: &[i32]| match *given {
            [before, after] if before >= 0 && after >= 0 => Ok([before as u64, after as u64]),
            [_, _] => Err(OpError::rule(parameter, "must not be negative").found(format!("found {given:?}"))),
            _ => Err(movement::wrong_length(parameter, 2, Dim::from(given.len()))),
        };
        Ok([pair("crop_height", &self.crop_height)?, pair("crop_width", &self.crop_width)?])
    }

    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        let mut dims = self.x.shape().0.clone();
        let [.., height, width] = &mut dims[..] else { return Err(wrong_rank(&self.x)) };
        if self.x.rank() < 3 {
            return Err(wrong_rank(&self.x));
        }
        let [rows, columns] = self.amounts()?;
        for (parameter, dim, cut) in [("crop_height", height, rows), ("crop_width", width, columns)] {
            let Dim::Known(length) = *dim else { continue };
            *dim = length.checked_sub(cut[0] + cut[1]).map(Dim::Known).ok_or_else(|| {
                OpError::rule(parameter, format!("cuts off more than the {length} elements that there are"))
                    .found(format!("found {} and {}", cut[0], cut[1]))
            })?;
        }
        movement::result("x", self.x.dtype(), dims)
    }

    fn evaluate(&self) -> Result<Vec<Tensor>, OpError> {
        let dims = movement::dims(self.ty())?;
        Ok(vec![self.moved()?.read(self.x.tensor()?, &dims)?])
    }

    /// The elements that stay, of an `x` whose dimensions are known.
    ///
    /// # Errors
    ///
    /// When the parameters do not fit.
    pub fn moved(&self) -> Result<Moved, OpError> {
        let dims = movement::dims(self.ty())?;
        let steps = strides(&known_dims(self.x.shape())?);
        let ([rows, columns], rank) = (self.amounts()?, dims.len());
        let start = rows[0] as usize * steps[rank - 2] + columns[0] as usize;
        Ok(Moved { start, dims, steps: steps.into_iter().map(|step| step as isize).collect() })
    }
}

fn wrong_rank(x: &Operand) -> OpError {
    OpError::rule("x", "must have rank 3 or more: [*D, H, W]").found(format!("found {}", x.ty))
}

/// `dx` is `dy` amid zeros.
fn crop_vjp(row: &Crop, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, dims) = (pullback.dy()?, pullback.dims(&row.x)?);
    if pullback.dims_of(dy)?.contains(&0) || dims.contains(&0) {
        return Ok(());
    }
    let [rows, columns] = row.amounts()?;
    let pad = lengths(&[rows, columns].concat().iter().map(|&cut| cut as usize).collect::<Vec<_>>())?;
    pullback.give(&row.x, call::pad(dy, pad).mode("constant"))
}

/// The images that a box is cut out of.
#[derive(Clone, Copy)]
enum Images {
    /// Every image, for a result with a dimension for them.
    Each,
    /// The one that the box names, or whose number it has, for a result with a dimension of one.
    OneOfRoi,
    /// The same, for a result without.
    One,
}

/// Where the four numbers of a box stand.
#[derive(Clone, Copy)]
struct BoxMode {
    /// Whether they are the middle and the size, not two corners.
    centered: bool,
    /// Whether what is about columns comes first.
    width_first: bool,
}

impl CropResize {
    fn box_mode(&self) -> Result<BoxMode, OpError> {
        let (centered, width_first) = match self.box_coordinate_mode.as_str() {
            "CORNERS_HEIGHT_FIRST" => (false, false),
            "CORNERS_WIDTH_FIRST" => (false, true),
            "CENTER_SIZE_HEIGHT_FIRST" => (true, false),
            "CENTER_SIZE_WIDTH_FIRST" => (true, true),
            other => {
                let modes = "CORNERS_HEIGHT_FIRST, CORNERS_WIDTH_FIRST, CENTER_SIZE_HEIGHT_FIRST or CENTER_SIZE_WIDTH_FIRST";
                return Err(OpError::rule("box_coordinate_mode", format!("must be {modes}"))
                    .found(format!("found \"{other}\"")));
            }
        };
        Ok(BoxMode { centered, width_first })
    }

    /// What boxes are given by, and of which images they are.
    fn given_boxes(&self) -> Result<(&Operand, Images), OpError> {
        let (name, given) = match self.since >= Opset::IOS17 {
            true => ("boxes", self.boxes.as_ref()),
            false => ("roi", self.roi.as_ref()),
        };
        let boxes = given.ok_or_else(|| {
            OpError::new(ErrorKind::MissingParameter, Some(name), "this parameter is required")
        })?;
        let is = |dim: Dim, length: u64| dim.agrees_with(Dim::Known(length));
        match (name, &boxes.shape().0[..]) {
            ("boxes", &[_, four]) if is(four, 4) => Ok((boxes, Images::One)),
            ("roi", &[_, one, numbers, two, three]) if [one, two, three].iter().all(|&dim| is(dim, 1)) => {
                match numbers.known() {
                    Some(4) => Ok((boxes, Images::Each)),
                    Some(5) => Ok((boxes, Images::OneOfRoi)),
                    _ => Err(OpError::rule(name, "must hold 4 or 5 numbers for each box")
                        .found(format!("found {}", boxes.ty))),
                }
            }
            ("boxes", _) => Err(OpError::rule(name, "must be [N, 4]").found(format!("found {}", boxes.ty))),
            _ => Err(OpError::rule(name, "must be [N, 1, 4, 1, 1] or [N, 1, 5, 1, 1]")
                .found(format!("found {}", boxes.ty))),
        }
    }

    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        let [images, channels, ..] = self.x.shape().0[..] else { return Err(self.wrong_images()) };
        if self.x.rank() != 4 {
            return Err(self.wrong_images());
        }
        let (boxes, of) = self.given_boxes()?;
        let count = boxes.shape().0[0];
        self.box_mode()?;
        SamplingMode::named(&self.sampling_mode)?;
        self.check_indices(count, images)?;
        if self.normalized_coordinates && !boxes.dtype().is_float() {
            return Err(OpError::rule("boxes", "must be fp16 or fp32 where coordinates are normalized")
                .found(format!("found {}", boxes.ty)));
        }
        let height = movement::positive("target_height", self.target_height)?;
        let width = movement::positive("target_width", self.target_width)?;
        let mut dims = vec![count, channels, height, width];
        match of {
            Images::Each => dims.insert(1, images),
            Images::OneOfRoi => dims.insert(1, Dim::Known(1)),
            Images::One => {}
        }
        movement::result("x", self.x.dtype(), dims)
    }

    fn wrong_images(&self) -> OpError {
        OpError::rule("x", "must have rank 4: [B, C, H, W]").found(format!("found {}", self.x.ty))
    }

    /// Refuses `box_indices` of another shape, known ones of no image, and boxes of no image where there are none.
    fn check_indices(&self, count: Dim, images: Dim) -> Result<(), OpError> {
        if self.since < Opset::IOS17 {
            return Ok(());
        }
        let Some(indices) = &self.box_indices else {
            let (Some(boxes), Some(images)) = (count.known(), images.known()) else { return Ok(()) };
            return match boxes <= images {
                true => Ok(()),
                false => Err(OpError::rule("boxes", "must not be more than images, without `box_indices`")
                    .found(format!("found {boxes} for {images}"))),
            };
        };
        if indices.rank() != 1 || !indices.shape().0[0].agrees_with(count) {
            return Err(OpError::rule("box_indices", format!("must be [{count}], as many as boxes"))
                .found(format!("found {}", indices.ty)));
        }
        match (indices.known_integers(), images.known()) {
            (Some(known), Some(images)) => {
                let length = usize::try_from(images).unwrap_or(usize::MAX);
                let length = length.min(isize::MAX as usize);
                known.iter().try_for_each(|&at| movement::index("box_indices", at, length, false).map(drop))
            }
            _ => Ok(()),
        }
    }

    /// By what the coordinates along each dimension of the image are multiplied.
    fn scales(&self, height: usize, width: usize) -> [f64; 2] {
        [height, width].map(|length| match self.normalized_coordinates {
            true => self.spatial_scale * (length as f64 - 1.0),
            false => self.spatial_scale,
        })
    }

    /// The first and last row, and the first and last column, of each box; and its image, where each box has one.
    fn boxes(&self, images: usize, scales: [f64; 2]) -> Result<Vec<PlacedBox>, OpError> {
        let (boxes, of) = self.given_boxes()?;
        let mode = self.box_mode()?;
        let numbers = boxes.floats()?;
        let per_box = if let Images::OneOfRoi = of { 5 } else { 4 };
        let indices = self.box_indices.as_ref().map(Operand::integers).transpose()?;
        let placed = numbers.chunks_exact(per_box).enumerate().map(|(n, numbers)| {
            let image = match (of, &indices) {
                (Images::Each, _) => None,
                (Images::OneOfRoi, _) => Some(image_of("roi", numbers[0], images)?),
                (Images::One, Some(indices)) => {
                    Some(movement::index("box_indices", indices[n], images, false)?)
                }
                (Images::One, None) => Some(n),
            };
            let numbers = &numbers[per_box - 4..];
            let [rows, columns] = [usize::from(mode.width_first), usize::from(!mode.width_first)]
                .map(|at| [numbers[at], numbers[at + 2]])
                .map(|[a, b]| if mode.centered { [a - b / 2.0, a + b / 2.0] } else { [a, b] });
            Ok(PlacedBox {
                image,
                rows: rows.map(|row| row * scales[0]),
                columns: columns.map(|column| column * scales[1]),
            })
        });
        placed.collect()
    }

    fn evaluate(&self, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
        let dims = movement::dims(self.ty())?;
        let &[images, channels, height, width] = self.x.dims()? else { return Err(self.wrong_images()) };
        let mode = SamplingMode::named(&self.sampling_mode)?;
        let x = self.x.floats()?;
        let target = [dims[dims.len() - 2], dims[dims.len() - 1]];
        let mut values = room(dims.iter().product())?;
        for one in self.boxes(images, self.scales(height, width))? {
            let rows = places(mode, target[0], one.rows, height)?;
            let columns = places(mode, target[1], one.columns, width)?;
            for image in one.image.map_or(0..images, |image| image..image + 1) {
                for channel in 0..channels {
                    let start = (image * channels + channel) * height * width;
                    let plane = &x[start..start + height * width];
                    sample(plane, width, &rows, &columns, self.pad_value, &mut values);
                }
            }
        }
        Ok(vec![evaluation.tensor(self.x.dtype(), &dims, Numbers::Float(values))?])
    }
}

/// A box in elements of the image.
struct PlacedBox {
    /// The image, where it is one.
    image: Option<usize>,
    rows: [f64; 2],
    columns: [f64; 2],
}

/// The image that a floating-point number names.
fn image_of(parameter: &str, number: f64, images: usize) -> Result<usize, OpError> {
    if number >= 0.0 && number < images as f64 && number.fract() == 0.0 {
        return Ok(number as usize);
    }
    let message = format!("the first number of a box must be one of {images} images");
    Err(OpError::rule(parameter, message).found(format!("found {number}")))
}

/// A place in an image.
enum Place {
    Inside(Taps),
    Outside,
    /// What lies at a place that is not a number is none.
    Nowhere,
}

/// The places that a box's elements have along a dimension of so many elements.
fn places(mode: SamplingMode, count: usize, ends: [f64; 2], length: usize) -> Result<Vec<Place>, OpError> {
    let last = length as f64 - 1.0;
    collect((0..count).map(|i| match mode.place(i, count, ends) {
        place if place.is_nan() => Place::Nowhere,
        place if place < 0.0 || place > last => Place::Outside,
        place => Place::Inside(linear(place, length)),
    }))
}

/// Appends the elements at the places.
fn sample(plane: &[f64], width: usize, rows: &[Place], columns: &[Place], pad: f64, values: &mut Vec<f64>) {
    for row in rows {
        for column in columns {
            values.push(match (row, column) {
                (Place::Nowhere, _) | (_, Place::Nowhere) => f64::NAN,
                (Place::Outside, _) | (_, Place::Outside) => pad,
                (Place::Inside(down), Place::Inside(across)) => {
                    let mut sum = 0.0;
                    for &(i, height) in down {
                        for &(j, share) in across {
                            // What has no weight has no part, not even an infinity.
                            if height * share != 0.0 {
                                sum += height * share * plane[i * width + j];
                            }
                        }
                    }
                    sum
                }
            });
        }
    }
}
