//! Normalisations: softmax, layer, batch and instance normalisation.

use crate::eval::{Evaluation, Numbers, collect, filled};
use crate::ops::elementwise::larger;
use crate::ops::reduce::Grouping;
use crate::ops::rules::{self, per_element, same_as_first};
use crate::ops::{Accuracy, Constant, FLOAT, OpError, Operand};
use crate::tensor::Tensor;
use crate::types::{Shape, TensorType};

mod gradient;

crate::ops! {
    /// `exp(x − m) / Σ exp(x − m)` along `axis`, with the largest `m`.
    Softmax = softmax(x: Operand[T]; axis: i32 = -1) since IOS15 where [T: FLOAT]
        { infer: softmax_type, eval: softmax, accuracy: Accuracy::Ulp(4); vjp: gradient::softmax; flops: per_element::<_, 5> }

    /// `gamma · (x − mean) / √(variance + epsilon) + beta`, with the mean and the mean squared deviation of
    /// `x` over `axes`, all of them by default. `gamma` (1 by default) and `beta` (0) have the dimensions of
    /// `x` at `axes`; `epsilon` is 1e-5 by default.
    /// From ios17 on the parameters may have another floating-point type than `x`.
    LayerNorm = layer_norm(x: Operand[T]; axes: Option<Vec<i32>>, gamma: Option<Constant>[U],
        beta: Option<Constant>[U], epsilon: Option<f64>[U])
        since IOS15 where [T: FLOAT, U = T]
        since IOS17 where [T: FLOAT, U: FLOAT]
        { infer: layer_norm_type, eval: layer_norm, accuracy: Accuracy::Sum(2); vjp: gradient::layer_norm; flops: per_element::<_, 7> }

    /// `gamma · (x − mean) / √(variance + epsilon) + beta` for `x [n, C, *D]`, with one value per channel in
    /// `mean`, `variance`, `gamma` (1 by default) and `beta` (0), each `[C]`; `epsilon` is 1e-5 by default.
    /// From ios17 on they may have another floating-point type than `x`.
    BatchNorm = batch_norm(x: Operand[T], mean: Constant[U], variance: Constant[U]; gamma: Option<Constant>[U],
        beta: Option<Constant>[U], epsilon: Option<f64>[U])
        since IOS15 where [T: FLOAT, U = T]
        since IOS17 where [T: FLOAT, U: FLOAT]
        { infer: batch_norm_type, eval: batch_norm, accuracy: Accuracy::Sum(2); vjp: gradient::batch_norm; flops: per_element::<_, 2> }

    /// As `layer_norm`, of each channel of each of `x [n, C, *D]` over its one or two spatial dimensions: `gamma` (1 by
    /// default) and `beta` (0) are `[C]`, `epsilon` is 1e-5 by default.
    /// From ios17 on they may have another floating-point type than `x`.
    InstanceNorm = instance_norm(x: Operand[T]; gamma: Option<Constant>[U], beta: Option<Constant>[U],
        epsilon: Option<f64>[U])
        since IOS15 where [T: FLOAT, U = T]
        since IOS17 where [T: FLOAT, U: FLOAT]
        { infer: instance_norm_type, eval: instance_norm, accuracy: Accuracy::Sum(2); vjp: gradient::instance_norm; flops: per_element::<_, 7> }
}

/// The epsilon of the normalisations where none is given: coremltools passes 1e-5 as fp32, whatever the
/// type of `x`.
const DEFAULT_EPSILON: f32 = 1e-5;

impl Softmax {
    /// The position of the axis.
    ///
    /// # Errors
    ///
    /// When `x` has no such axis.
    pub fn position(&self) -> Result<usize, OpError> {
        rules::axis("axis", self.axis, self.x.rank())
    }
}

fn softmax_type(row: &Softmax) -> Result<Vec<TensorType>, OpError> {
    row.position()?;
    same_as_first(row)
}

fn softmax(row: &Softmax, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let dims = row.x.dims()?;
    let axis = row.position()?;
    let mut values = row.x.floats()?;
    if values.is_empty() {
        return Ok(vec![evaluation.tensor(row.x.dtype(), dims, Numbers::Float(values))?]);
    }
    let inner = dims[axis + 1..].iter().product();
    // Whole rows of neighbours at a time, so that a long axis far from the last is read in order.
    for block in values.chunks_exact_mut(dims[axis] * inner) {
        let mut shifts = filled(inner, f64::NEG_INFINITY)?;
        for line in block.chunks_exact(inner) {
            shifts.iter_mut().zip(line).for_each(|(shift, &x)| *shift = larger(*shift, x));
        }
        let mut sums = filled(inner, 0.0)?;
        for line in block.chunks_exact_mut(inner) {
            for ((x, shift), sum) in line.iter_mut().zip(&shifts).zip(&mut sums) {
                *x = (*x - shift).exp();
                *sum += *x;
            }
        }
        for line in block.chunks_exact_mut(inner) {
            line.iter_mut().zip(&sums).for_each(|(x, sum)| *x /= sum);
        }
    }
    Ok(vec![evaluation.tensor(row.x.dtype(), dims, Numbers::Float(values))?])
}

/// What the normalisations with parameters share.
struct Affine<'a> {
    x: &'a Operand,
    gamma: Option<&'a Operand>,
    beta: Option<&'a Operand>,
}

impl LayerNorm {
    fn affine(&self) -> Affine<'_> {
        Affine { x: &self.x, gamma: self.gamma.as_deref(), beta: self.beta.as_deref() }
    }

    /// What is added to the variance.
    pub fn shift(&self) -> f64 {
        self.epsilon.unwrap_or(f64::from(DEFAULT_EPSILON))
    }

    /// The positions of the normalised axes in rising order, and those of the others.
    ///
    /// # Errors
    ///
    /// When `axes` names one that there is not, or one twice.
    pub fn split_axes(&self) -> Result<(Vec<usize>, Vec<usize>), OpError> {
        let rank = self.x.rank();
        match &self.axes {
            Some(axes) => {
                let axes = rules::axes("axes", axes, rank)?;
                Ok((0..rank).partition(|axis| axes.contains(axis)))
            }
            None => Ok(((0..rank).collect(), Vec::new())),
        }
    }
}

impl BatchNorm {
    fn affine(&self) -> Affine<'_> {
        Affine { x: &self.x, gamma: self.gamma.as_deref(), beta: self.beta.as_deref() }
    }

    /// What is added to the variance.
    pub fn shift(&self) -> f64 {
        self.epsilon.unwrap_or(f64::from(DEFAULT_EPSILON))
    }
}

impl InstanceNorm {
    fn affine(&self) -> Affine<'_> {
        Affine { x: &self.x, gamma: self.gamma.as_deref(), beta: self.beta.as_deref() }
    }

    /// What is added to the variance.
    pub fn shift(&self) -> f64 {
        self.epsilon.unwrap_or(f64::from(DEFAULT_EPSILON))
    }
}

impl Affine<'_> {
    /// Checks a parameter against the shape it must have.
    fn check(name: &str, parameter: &Operand, shape: &Shape) -> Result<(), OpError> {
        if parameter.shape().agrees_with(shape) {
            return Ok(());
        }
        Err(OpError::rule(name, format!("must have the shape {shape}"))
            .found(format!("found {}", parameter.shape())))
    }

    /// Checks `gamma` and `beta`.
    fn check_both(&self, shape: &Shape) -> Result<(), OpError> {
        for (name, parameter) in [("gamma", self.gamma), ("beta", self.beta)] {
            if let Some(parameter) = parameter {
                Affine::check(name, parameter, shape)?;
            }
        }
        Ok(())
    }

    /// `gamma · value + beta`, where `grouping` says which of their elements belongs to a value.
    fn apply(&self, values: &mut [f64], grouping: &Grouping) -> Result<(), OpError> {
        if let Some(gamma) = self.gamma {
            let gamma = gamma.floats()?;
            grouping.for_each(|element, parameter| values[element] *= gamma[parameter]);
        }
        if let Some(beta) = self.beta {
            let beta = beta.floats()?;
            grouping.for_each(|element, parameter| values[element] += beta[parameter]);
        }
        Ok(())
    }
}

fn layer_norm_type(row: &LayerNorm) -> Result<Vec<TensorType>, OpError> {
    let affine = row.affine();
    let (axes, _) = row.split_axes()?;
    let normalized = axes.iter().map(|&axis| affine.x.shape().0[axis]).collect();
    affine.check_both(&Shape(normalized))?;
    Ok(vec![affine.x.ty.clone()])
}

fn layer_norm(row: &LayerNorm, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    layer_norm_type(row)?;
    let (axes, others) = row.split_axes()?;
    row.affine().normalize(&axes, &others, row.shift(), evaluation)
}

impl Affine<'_> {
    /// `gamma · (x − mean) / √(variance + shift) + beta` with mean and variance over `axes`; all elements at the same
    /// place but for `others` have one `gamma` and `beta`.
    fn normalize(
        &self,
        axes: &[usize],
        others: &[usize],
        shift: f64,
        evaluation: &Evaluation,
    ) -> Result<Vec<Tensor>, OpError> {
        let dims = self.x.dims()?;
        let mut values = self.x.floats()?;
        if values.is_empty() {
            return Ok(vec![evaluation.tensor(self.x.dtype(), dims, Numbers::Float(values))?]);
        }
        let grouping = Grouping::new(dims, axes);
        let count = grouping.elements_each as f64;
        let sums = grouping.fold(&values, 0.0, |sum, x| sum + x)?;
        grouping.for_each(|element, result| values[element] -= sums[result] / count);
        let squares = grouping.fold(&values, 0.0, |sum, x| sum + x * x)?;
        let deviations: Vec<f64> = collect(squares.iter().map(|sum| (sum / count + shift).sqrt()))?;
        grouping.for_each(|element, result| values[element] /= deviations[result]);
        self.apply(&mut values, &Grouping::new(dims, others))?;
        Ok(vec![evaluation.tensor(self.x.dtype(), dims, Numbers::Float(values))?])
    }
}

fn instance_norm_type(row: &InstanceNorm) -> Result<Vec<TensorType>, OpError> {
    let x = &row.x;
    if !(3..=4).contains(&x.rank()) {
        let error = OpError::rule("x", "must have rank 3 or 4: [n, C, *D]");
        return Err(error.found(format!("found {}", x.ty)));
    }
    row.affine().check_both(&Shape(vec![x.shape().0[1]]))?;
    Ok(vec![x.ty.clone()])
}

fn instance_norm(row: &InstanceNorm, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    instance_norm_type(row)?;
    let spatial: Vec<usize> = (2..row.x.rank()).collect();
    let others: Vec<usize> = (0..row.x.rank()).filter(|&axis| axis != 1).collect();
    row.affine().normalize(&spatial, &others, row.shift(), evaluation)
}

fn batch_norm_type(row: &BatchNorm) -> Result<Vec<TensorType>, OpError> {
    let affine = row.affine();
    if !(3..=5).contains(&affine.x.rank()) {
        return Err(
            OpError::rule("x", "must have rank 3 to 5: [n, C, *D]").found(format!("found {}", affine.x.ty))
        );
    }
    let channels = Shape(vec![affine.x.shape().0[1]]);
    Affine::check("mean", &row.mean, &channels)?;
    Affine::check("variance", &row.variance, &channels)?;
    affine.check_both(&channels)?;
    Ok(vec![affine.x.ty.clone()])
}

fn batch_norm(row: &BatchNorm, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    batch_norm_type(row)?;
    let affine = row.affine();
    let dims = affine.x.dims()?;
    let others: Vec<usize> = (0..dims.len()).filter(|&axis| axis != 1).collect();
    let grouping = Grouping::new(dims, &others);
    let mean = row.mean.floats()?;
    let deviations: Vec<f64> =
        row.variance.floats()?.iter().map(|variance| (variance + row.shift()).sqrt()).collect();
    let mut values = affine.x.floats()?;
    grouping.for_each(|element, channel| {
        values[element] = (values[element] - mean[channel]) / deviations[channel];
    });
    affine.apply(&mut values, &grouping)?;
    Ok(vec![evaluation.tensor(affine.x.dtype(), dims, Numbers::Float(values))?])
}
