//! Cases of ops that resize images, cut patches out of them, and read them at places.

use anemone_mil::builder::BuildError;
use anemone_mil::ops::call;
use anemone_mil::program::ValueId;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, Opset};

use super::case::{Case, GRID, Maker, Random};

/// The cases, several for some ops.
pub const CASES: &[(&str, Maker)] = &[
    ("resize_nearest_neighbor", resize_nearest_neighbor),
    ("resize_bilinear", resize_bilinear),
    ("resize", resize),
    ("crop", crop),
    ("crop_resize", crop_resize),
    ("resample", resample),
    ("affine", affine),
    ("non_maximum_suppression", non_maximum_suppression),
];

type Result = std::result::Result<Vec<ValueId>, BuildError>;

const MODES: [&str; 5] =
    ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"];

fn length(case: &mut Case) -> i32 {
    1 + case.random.below(4) as i32
}

fn resize_nearest_neighbor(case: &mut Case) -> Result {
    let dims = case.dims_between(3, 5);
    let x = case.input(&dims);
    let (height, width) = (length(case), length(case));
    case.bind(call::resize_nearest_neighbor(x, height, width))
}

fn resize_bilinear(case: &mut Case) -> Result {
    let dims = case.dims_between(3, 5);
    let x = case.input(&dims);
    let (height, width) = (length(case), length(case));
    let mode = case.pick(&MODES);
    let op = call::resize_bilinear(x).target_size_height(height).target_size_width(width);
    case.bind(op.sampling_mode(mode))
}

fn resize(case: &mut Case) -> Result {
    let dims = case.dims_between(1, 4);
    let x = case.input(&dims);
    let count = 1 + case.random.below(dims.len().min(3));
    let shape: Vec<i32> = (0..count).map(|_| length(case) - 1).collect();
    let (kind, mode) = (case.pick(&["LINEAR", "NEAREST_NEIGHBOR"]), case.pick(&MODES));
    let resized = Tensor::from_i64(DType::UInt32, &[], &[count as i64]).unwrap();
    case.bind(call::resize(x, shape, resized).interpolation_mode(kind).sampling_mode(mode))
}

fn crop(case: &mut Case) -> Result {
    let mut dims = case.dims_between(3, 5);
    let mut amounts = || [case.random.below(3) as i32, case.random.below(3) as i32];
    let (height, width) = (amounts(), amounts());
    let rank = dims.len();
    dims[rank - 2] += height.iter().sum::<i32>() as usize;
    dims[rank - 1] += width.iter().sum::<i32>() as usize;
    let x = case.input(&dims);
    case.bind(call::crop(x, height, width))
}

const BOX_MODES: [&str; 4] =
    ["CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST", "CENTER_SIZE_HEIGHT_FIRST", "CENTER_SIZE_WIDTH_FIRST"];

/// Boxes of every image, or of one each, in the image and beyond it; before ios17 in one operand with their images.
fn crop_resize(case: &mut Case) -> Result {
    let dims = [2, 1 + case.random.below(2), 2 + case.random.below(3), 2 + case.random.below(3)];
    let x = case.input(&dims);
    let (count, normalized) = (1 + case.random.below(2), case.coin());
    let longest = if normalized { 1.25 } else { 4.0 };
    let numbers: Vec<f64> = (0..4 * count).map(|_| case.random.between(0.0, longest)).collect();
    let images: Vec<i32> = (0..count).map(|_| case.random.below(2) as i32).collect();
    let mut op = call::crop_resize(x);
    if case.opset >= Opset::IOS17 {
        op = op.boxes(Tensor::from_f64(case.dtype, &[count, 4], &numbers).unwrap());
        if case.coin() {
            op = op.box_indices(Tensor::vector(images));
        }
    } else {
        let of_each = case.coin();
        let first = |n: usize| if of_each { None } else { Some(f64::from(images[n])) };
        let boxes = numbers.chunks(4).enumerate();
        let roi: Vec<f64> =
            boxes.flat_map(|(n, numbers)| first(n).into_iter().chain(numbers.to_vec())).collect();
        op = op.roi(Tensor::from_f64(case.dtype, &[count, 1, roi.len() / count, 1, 1], &roi).unwrap());
    }
    let (height, width) = (length(case), length(case));
    let (mode, sampling) = (case.pick(&BOX_MODES), case.pick(&MODES));
    let op = op.target_height(height).target_width(width).normalized_coordinates(normalized);
    case.bind(op.box_coordinate_mode(mode).sampling_mode(sampling))
}

/// Places of which none is near an element or a mirror, where the gradient has kinks: elements in `[B, C, 4, 3]`.
fn resample(case: &mut Case) -> Result {
    case.kinked();
    case.has_rounded_factors();
    let dims = [1 + case.random.below(2), 1 + case.random.below(2), 4, 3];
    let (unit, align) = case.pick(&[
        ("unnormalized", true),
        ("normalized_minus_one_to_one", true),
        ("normalized_minus_one_to_one", false),
        ("normalized_zero_to_one", true),
        ("normalized_zero_to_one", false),
    ]);
    let x = case.input(&dims);
    let mut at = 0;
    let coordinate = |random: &mut Random| {
        at += 1;
        let length = if at % 2 == 1 { dims[3] as f64 } else { dims[2] as f64 };
        let place = random.below(7) as f64 - 2.0 + random.between(0.25, 0.375);
        let coordinate = match (unit, align) {
            ("normalized_minus_one_to_one", true) => 2.0 * place / (length - 1.0) - 1.0,
            ("normalized_minus_one_to_one", false) => (2.0 * place + 1.0) / length - 1.0,
            ("normalized_zero_to_one", true) => place / (length - 1.0),
            ("normalized_zero_to_one", false) => (place + 0.5) / length,
            _ => place,
        };
        (coordinate / GRID).round() * GRID
    };
    let places = [dims[0], 2, 1 + case.random.below(2), 2];
    // In ios15 coordinates are fp32.
    let dtype = if case.opset >= Opset::IOS16 { case.dtype } else { DType::Fp32 };
    let coordinates = case.constant_of(dtype, &places, coordinate);
    let padding = case.pick(&["constant", "border", "reflection", "symmetric"]);
    let sampling = case.pick(&["bilinear", "nearest"]);
    case.bind(call::resample(x, coordinates, sampling, padding, 0.5, unit, align))
}

/// Maps that are near one which takes the corners of the result between the elements of `[B, C, 3, 3]`.
fn affine(case: &mut Case) -> Result {
    case.kinked();
    case.has_rounded_factors();
    let batch = 1 + case.random.below(2);
    let channels = 1 + case.random.below(2);
    let x = case.input(&[batch, channels, 3, 3]);
    let of = if case.coin() { batch } else { 1 };
    let near = [0.5, 0.125, 0.0, 0.125, 0.5, 0.0];
    let mut at = 0;
    let matrix = case.input_of(&[of, 6], |random| {
        at += 1;
        near[(at - 1) % 6] + random.between(-0.03125, 0.03125)
    });
    let mode = "normalized_minus_one_to_one";
    case.bind(call::affine(x, matrix, 2, 2, "bilinear", "constant", 0.0, mode, true))
}

/// Scores that stay in their order, and boxes that overlap much or not at all.
fn non_maximum_suppression(case: &mut Case) -> Result {
    let (count, classes) = (3 + case.random.below(2), 1 + case.random.below(2));
    let last = case.opset >= Opset::IOS17;
    let laid_out = |numbers: usize| if last { [2, numbers, count] } else { [2, count, numbers] };
    let scores = case.distinct_input(&laid_out(classes), 0.125);
    let mut at = 0;
    let boxes = case.input_of(&laid_out(4), |random| {
        let number = if last { at / count % 4 } else { at % 4 };
        at += 1;
        // The middle of one of two boxes, and the sides.
        if number < 2 { 4.0 * random.below(2) as f64 + random.between(0.0, 0.125) } else { 2.0 }
    });
    let most = 2 + case.random.below(4) as i32;
    let mut op = call::non_maximum_suppression(boxes, scores, 0.5, most).per_class_suppression(case.coin());
    let results = if last {
        3
    } else {
        op = op.score_threshold(-0.125);
        4
    };
    let names: Vec<String> = (0..results).map(|i| format!("y_{i}")).collect();
    case.builder.bind_all(&names.iter().map(String::as_str).collect::<Vec<_>>(), op)
}
