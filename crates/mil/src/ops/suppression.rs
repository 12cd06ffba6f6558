//! Choosing boxes that do not overlap.

use std::cmp::Ordering;

use crate::error::ErrorKind;
use crate::eval::{Evaluation, Numbers, collect, filled};
use crate::grad::Pullback;
use crate::ops::{Accuracy, FLOAT, OpError, Operand, call, movement};
use crate::program::ValueId;
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Opset, Shape, TensorType};

crate::ops! {
    /// Of the boxes of each image, those that overlap with no better one: the best box is taken; then, as long as there are
    /// fewer than `max_boxes`, the best of the others whose intersection with no box that was taken is more than
    /// `iou_threshold` of their union. A box's score is the largest over the classes. With `per_class_suppression` only boxes
    /// of the same class, which is that of the largest score, suppress each other. Boxes are `(x, y, width, height)` with
    /// the middle `(x, y)`.
    ///
    /// Before ios17, of `boxes [n, B, 4]` and `scores [n, B, K]` those whose score is below `score_threshold` are rejected,
    /// but never the best. The results are the boxes `[n, max_boxes, 4]` and scores `[n, max_boxes, K]` that were taken,
    /// which boxes they are, `[n, max_boxes]`, and how many, `[n]`. From then on there is no such threshold, boxes are the
    /// last dimension of `boxes [n, 4, B]` and `scores [n, K, B]` as of the results, and the last result is not there. What
    /// is left of `max_boxes` is filled with 0, and with −1 for which box it is.
    ///
    /// Of these the documentation of coremltools does not say which class a box has, with what results are filled, and that
    /// the best box is never rejected; the reference in its tests does. Of boxes with equal scores the first comes first; a
    /// score that is not a number is below all others.
    NonMaximumSuppression = non_maximum_suppression(boxes: Operand[T], scores: Operand[T], iou_threshold: f64[T],
        max_boxes: i32; #[only_before = IOS17] score_threshold: Option<f64>[T], per_class_suppression: bool = false)
        since IOS15 where [T: FLOAT]
        since IOS17 where [T: FLOAT]
        { infer: |row| row.types(), eval: NonMaximumSuppression::evaluate, accuracy: Accuracy::Exact; vjp: give_back;
          flops: NonMaximumSuppression::flops; [by_opset] }
}

/// A box by its edges.
#[derive(Clone, Copy)]
struct Edges {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    area: f64,
}

impl Edges {
    fn new(x: f64, y: f64, width: f64, height: f64) -> Edges {
        let (across, down) = (width / 2.0, height / 2.0);
        Edges { left: x - across, right: x + across, top: y - down, bottom: y + down, area: width * height }
    }

    /// The intersection with another box over the union; not a number for two boxes without an area.
    fn overlap(self, other: Edges) -> f64 {
        let across = (self.right.min(other.right) - self.left.max(other.left)).max(0.0);
        let down = (self.bottom.min(other.bottom) - self.top.max(other.top)).max(0.0);
        let intersection = across * down;
        intersection / (self.area + other.area - intersection)
    }
}

/// A box that may be taken.
#[derive(Clone, Copy)]
struct Candidate {
    at: usize,
    score: f64,
    class: usize,
    edges: Edges,
}

/// The order by score, the largest first; what is not a number comes last.
fn best_first(a: f64, b: f64) -> Ordering {
    b.partial_cmp(&a).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// The sizes of the operands.
struct Sizes {
    images: usize,
    boxes: usize,
    classes: usize,
}

impl NonMaximumSuppression {
    /// Whether boxes are the last dimension.
    fn boxes_last(&self) -> bool {
        self.since >= Opset::IOS17
    }

    /// The type of what has `numbers` of each of `boxes`.
    fn laid_out(&self, images: Dim, boxes: Dim, numbers: Dim) -> TensorType {
        let dims = if self.boxes_last() { [images, numbers, boxes] } else { [images, boxes, numbers] };
        TensorType { dtype: self.boxes.dtype(), shape: Shape(dims.to_vec()) }
    }

    fn types(&self) -> Result<Vec<TensorType>, OpError> {
        let most = movement::positive("max_boxes", self.max_boxes)?;
        let wrong = |parameter: &str, form: String, found: &Operand| {
            OpError::rule(parameter, format!("must be {form}")).found(format!("found {}", found.ty))
        };
        let form = |numbers: &str| match self.boxes_last() {
            true => format!("[n, {numbers}, B]"),
            false => format!("[n, B, {numbers}]"),
        };
        let scores = match self.scores.shape().0[..] {
            [images, boxes, classes] if !self.boxes_last() => [images, boxes, classes],
            [images, classes, boxes] if self.boxes_last() => [images, boxes, classes],
            _ => return Err(wrong("scores", form("K"), &self.scores)),
        };
        let [images, boxes, classes] = scores;
        if !self.laid_out(images, boxes, Dim::Known(4)).shape.agrees_with(self.boxes.shape()) {
            let message = format!("{}, for the scores {}", form("4"), self.scores.ty);
            return Err(wrong("boxes", message, &self.boxes));
        }
        if classes == Dim::Known(0) {
            return Err(wrong("scores", "of a class or more".to_string(), &self.scores));
        }
        let indices = TensorType { dtype: DType::Int32, shape: Shape(vec![images, most]) };
        let mut types =
            vec![self.laid_out(images, most, Dim::Known(4)), self.laid_out(images, most, classes), indices];
        if !self.boxes_last() {
            types.push(TensorType { dtype: DType::Int32, shape: Shape(vec![images]) });
        }
        let elements = types
            .iter()
            .try_for_each(|ty| movement::result("max_boxes", ty.dtype, ty.shape.0.clone()).map(drop));
        elements.map(|()| types)
    }

    fn sizes(&self) -> Result<Sizes, OpError> {
        match *self.scores.dims()? {
            [images, classes, boxes] if self.boxes_last() => Ok(Sizes { images, boxes, classes }),
            [images, boxes, classes] => Ok(Sizes { images, boxes, classes }),
            _ => Err(OpError::rule("scores", "must have rank 3")),
        }
    }

    /// Where number `number` of box `at` of an image lies, of `numbers` for each of `boxes`.
    fn position(&self, image: usize, [boxes, numbers]: [usize; 2], at: usize, number: usize) -> usize {
        match self.boxes_last() {
            true => (image * numbers + number) * boxes + at,
            false => (image * boxes + at) * numbers + number,
        }
    }

    /// The boxes of an image that may be taken, the best first.
    fn candidates(
        &self,
        image: usize,
        sizes: &Sizes,
        boxes: &[f64],
        scores: &[f64],
    ) -> Result<Vec<Candidate>, OpError> {
        let candidate = |at: usize| {
            let score = |class| scores[self.position(image, [sizes.boxes, sizes.classes], at, class)];
            let best = |best: usize, class: usize| match best_first(score(class), score(best)) {
                Ordering::Less => class,
                _ => best,
            };
            let class = (1..sizes.classes).fold(0, best);
            let number = |number| boxes[self.position(image, [sizes.boxes, 4], at, number)];
            let edges = Edges::new(number(0), number(1), number(2), number(3));
            Candidate { at, score: score(class), class, edges }
        };
        let mut candidates = collect((0..sizes.boxes).map(candidate))?;
        candidates.sort_by(|a, b| best_first(a.score, b.score));
        if let Some(threshold) = self.score_threshold {
            let enough = candidates.iter().filter(|candidate| candidate.score >= threshold).count();
            candidates.truncate(enough.max(1));
        }
        Ok(candidates)
    }

    /// Which boxes of an image are taken.
    fn taken(&self, candidates: &[Candidate]) -> Vec<usize> {
        let mut taken: Vec<Candidate> = Vec::new();
        for candidate in candidates {
            if taken.len() >= self.max_boxes.max(0) as usize {
                break;
            }
            let suppresses = |better: &Candidate| {
                (!self.per_class_suppression || better.class == candidate.class)
                    && better.edges.overlap(candidate.edges) > self.iou_threshold
            };
            if !taken.iter().any(suppresses) {
                taken.push(*candidate);
            }
        }
        taken.into_iter().map(|candidate| candidate.at).collect()
    }

    fn evaluate(&self, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
        let types = self.types()?;
        let sizes = self.sizes()?;
        let most = self.max_boxes.max(0) as usize;
        let pairs = (sizes.boxes as u64).saturating_mul(sizes.boxes.min(most) as u64);
        evaluation.charge(pairs.saturating_mul(sizes.images as u64))?;
        let (boxes, scores) = (self.boxes.floats()?, self.scores.floats()?);
        let mut of_boxes = filled(sizes.images * most * 4, 0.0)?;
        let mut of_scores = filled(sizes.images * most * sizes.classes, 0.0)?;
        let (mut indices, mut counts) = (filled(sizes.images * most, -1)?, filled(sizes.images, 0)?);
        for image in 0..sizes.images {
            let taken = self.taken(&self.candidates(image, &sizes, &boxes, &scores)?);
            counts[image] = taken.len() as i64;
            for (place, &at) in taken.iter().enumerate() {
                indices[image * most + place] = at as i64;
                for (to, from, numbers) in
                    [(&mut of_boxes, &boxes, 4), (&mut of_scores, &scores, sizes.classes)]
                {
                    for number in 0..numbers {
                        to[self.position(image, [most, numbers], place, number)] =
                            from[self.position(image, [sizes.boxes, numbers], at, number)];
                    }
                }
            }
        }
        let numbers = [
            Numbers::Float(of_boxes),
            Numbers::Float(of_scores),
            Numbers::Integer(indices),
            Numbers::Integer(counts),
        ];
        types
            .iter()
            .zip(numbers)
            .map(|(ty, numbers)| {
                let dims = ty.shape.to_known().ok_or_else(|| {
                    OpError::new(ErrorKind::Malformed, None, "the shape of a result is not known")
                })?;
                evaluation.tensor(ty.dtype, &dims, numbers)
            })
            .collect()
    }

    /// For each pair of a box and one that may be taken, the two edges and the area of the intersection, and the ratio.
    fn flops(&self) -> Option<u64> {
        let dims = self.scores.shape().to_known()?;
        let &[images, first, second] = &dims[..] else { return None };
        let boxes = if self.boxes_last() { second } else { first } as u64;
        let most = u64::try_from(self.max_boxes).ok()?;
        boxes.checked_mul(most.min(boxes))?.checked_mul(images as u64)?.checked_mul(12)
    }
}

/// `dx` has `dy` where the results were taken from, and 0 elsewhere.
fn give_back(row: &NonMaximumSuppression, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let axis = if row.boxes_last() { 2 } else { 1 };
    let indices = pullback.result(2);
    let most = pullback.dims_of(indices)?;
    let taken = call::cast(call::greater_equal(indices, 0), row.boxes.dtype().name());
    let kept = [call::maximum(indices, 0).into(), taken.into()];
    let kept: Vec<ValueId> = kept
        .into_iter()
        .map(|call: crate::builder::AnyCall| pullback.bind(call))
        .collect::<Result<_, _>>()?;
    for (result, operand) in [&row.boxes, &row.scores].into_iter().enumerate() {
        let dims = pullback.dims(operand)?;
        if !pullback.wants(operand) || dims.contains(&0) || most.contains(&0) {
            continue;
        }
        let dy = pullback.d(result)?;
        let wanted = pullback.dims_of(dy)?;
        let flat = if row.boxes_last() { [most[0], 1, most[1]] } else { [most[0], most[1], 1] };
        let at = pullback.reshape(kept[0], &flat)?;
        let at = pullback.broadcast(at, &wanted)?;
        let taken = pullback.reshape(kept[1], &flat)?;
        let updates = pullback.bind(call::mul(dy, taken))?;
        let zeros = pullback.zeros(operand.dtype(), &dims)?;
        pullback.give(operand, call::scatter_along_axis(zeros, at, updates).axis(axis).mode("add"))?;
    }
    Ok(())
}
