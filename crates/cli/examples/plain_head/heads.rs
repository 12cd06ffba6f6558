//! The heads that are compared: each gives a step's loss and gradients.

use std::error::Error;
use std::sync::Arc;

use anemone_lm::config::DeviceDtype;
use anemone_lm::head::{HeadKind, HeadRunner, Runtimes, transpose};
use anemone_lm::optimizer::LossScale;
use anemone_lm::programs::Target;
use anemone_lm::programs::head::{EMBED, EMBED_T, EPS, Head as Programs};
use anemone_mil::linear_cross_entropy::LossOptions;
use anemone_mil::program::{BlobReference, Program};
use anemone_mil::runtime::{Executable, Runtime, allocate_outputs};
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::types::TensorType;
use anemone_mil::verify::verify;
use anemone_mil::weights::{BlobError, BlobFile, WeightSource};
use half::f16;

/// The dimensions of a head: V, D, S.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub vocab: usize,
    pub dim: usize,
    pub positions: usize,
}

impl Sizes {
    fn programs(self, dtype: DeviceDtype) -> Programs {
        let Sizes { vocab, dim, positions } = self;
        Programs { vocab, dim, positions, eps: EPS, target: Target::new(dtype) }
    }
}

/// A step's loss, and dx `[D, S]`, dgain `[D]` and dE `[V, D]`, each times the loss scale.
pub struct Found {
    pub loss: f64,
    pub gradients: [Vec<f32>; 3],
    pub loss_scale: f32,
}

/// A head in training.
pub trait Head {
    /// The loss and gradients for gain and E, x `[D, S]` and a target per position.
    fn step(&mut self, weights: [&[f32]; 2], x: &[f32], targets: &[i32]) -> Result<Found, Box<dyn Error>>;

    /// Whether gradients of this norm are applied.
    fn accepts(&mut self, norm: f64) -> bool;
}

/// This project's head, as `anemone train` runs it.
pub struct Ours {
    runner: HeadRunner,
    loss_scale: LossScale,
}

impl Ours {
    pub fn new(
        sizes: Sizes,
        dtype: DeviceDtype,
        head: &dyn Runtime,
        products: &dyn Runtime,
    ) -> Result<Ours, Box<dyn Error>> {
        let runtimes = Runtimes { head, ..Runtimes::all(products) };
        let runner =
            HeadRunner::new(sizes.programs(dtype), HeadKind::Programs, LossOptions::default(), runtimes)?;
        let loss_scale = match dtype {
            DeviceDtype::Fp16 => LossScale::dynamic(),
            DeviceDtype::Fp32 => LossScale::none(),
        };
        Ok(Ours { runner, loss_scale })
    }
}

impl Head for Ours {
    fn step(
        &mut self,
        [gain, embed]: [&[f32]; 2],
        x: &[f32],
        targets: &[i32],
    ) -> Result<Found, Box<dyn Error>> {
        let Programs { dim, positions, target, .. } = *self.runner.head();
        let dims = [1, dim, 1, positions];
        let x = match target.dtype {
            DeviceDtype::Fp16 => Tensor::from_values(&dims, narrow(x))?,
            DeviceDtype::Fp32 => Tensor::from_values(&dims, x.to_vec())?,
        };
        self.runner.set_weights(gain, embed)?;
        let loss_scale = self.loss_scale.scale();
        let (totals, gradients) = self.runner.step(&x, targets, loss_scale)?;
        let gradients = [widen(gradients.dx), widen(gradients.dgain), widen(gradients.dembed)];
        Ok(Found { loss: totals.loss, gradients, loss_scale })
    }

    fn accepts(&mut self, norm: f64) -> bool {
        self.loss_scale.update(norm)
    }
}

/// The head as it is written plainly: four programs in fp16, (p − onehot)/S as it is for the backward one; RMSNorm's
/// backward and dE on the host, in fp32.
pub struct Plain {
    sizes: Sizes,
    rmsnorm: Prepared,
    forward: Prepared,
    softmax: Prepared,
    backward: Prepared,
    weight_gradient: Prepared,
}

/// RMSNorm as its formula stands. 1/D has six decimals; the gain is an input.
fn plain_rmsnorm(Sizes { dim, positions, .. }: Sizes) -> String {
    let x = format!("tensor<fp16, [1, {dim}, 1, {positions}]>");
    let (one, gain) =
        (format!("tensor<fp16, [1, 1, 1, {positions}]>"), format!("tensor<fp16, [1, {dim}, 1, 1]>"));
    let inverse = format!("{:.6}", 1.0 / dim as f64);
    format!(
        r#"program(1.3)
{{
    func main<ios18>({x} x, {gain} gain) {{
        {x} squares = mul(x = x, y = x)[name = string("squares")];
        {one} sum = reduce_sum(axes = tensor<int32, [1]>([1]), keep_dims = bool(true), x = squares)[name = string("sum")];
        {one} mean = mul(x = sum, y = fp16({inverse}))[name = string("mean")];
        {one} mean_eps = add(x = mean, y = fp16(0.00001))[name = string("mean_eps")];
        {one} reciprocal = pow(x = mean_eps, y = fp16(-0.5))[name = string("reciprocal")];
        {x} x_hat = mul(x = x, y = reciprocal)[name = string("x_hat")];
        {x} xn = mul(x = x_hat, y = gain)[name = string("xn")];
    }} -> (xn);
}}
"#
    )
}

impl Plain {
    pub fn new(sizes: Sizes, engine: &dyn Runtime, host: &dyn Runtime) -> Result<Plain, Box<dyn Error>> {
        let programs = sizes.programs(DeviceDtype::Fp16);
        let rmsnorm = text::parse(&plain_rmsnorm(sizes))?.program;
        Ok(Plain {
            sizes,
            rmsnorm: Prepared::new(rmsnorm, engine)?,
            forward: Prepared::new(programs.classifier_forward()?, engine)?,
            softmax: Prepared::new(programs.softmax()?, engine)?,
            backward: Prepared::new(programs.classifier_backward()?, engine)?,
            weight_gradient: Prepared::new(
                sizes.programs(DeviceDtype::Fp32).classifier_weight_gradient()?,
                host,
            )?,
        })
    }
}

impl Head for Plain {
    fn step(
        &mut self,
        [gain, embed]: [&[f32]; 2],
        x: &[f32],
        targets: &[i32],
    ) -> Result<Found, Box<dyn Error>> {
        let Sizes { vocab, dim, positions } = self.sizes;
        let embed = narrow(embed);
        let mut embed_t = vec![f16::ZERO; embed.len()];
        transpose(&embed, &mut embed_t, vocab, dim);
        self.forward.set_constant(EMBED, Tensor::from_values(&[vocab, dim, 1, 1], embed)?)?;
        self.backward.set_constant(EMBED_T, Tensor::from_values(&[1, dim, vocab], embed_t)?)?;
        let x = Tensor::from_values(&[1, dim, 1, positions], narrow(x))?;
        let narrow_gain = Tensor::from_values(&[1, dim, 1, 1], narrow(gain))?;

        let xn = self.rmsnorm.run(&[&x, &narrow_gain])?.clone();
        let logits = self.forward.run(&[&xn])?;
        let mut dlogits = widen(self.softmax.run(&[logits])?);
        let mut loss = 0.0;
        for (s, &target) in targets.iter().enumerate() {
            let p = &mut dlogits[target as usize * positions + s];
            // A probability that fp16 has as 0 counts as the least that it has.
            loss -= f64::from(p.clamp(f16::MIN_POSITIVE_SUBNORMAL.to_f32(), f32::INFINITY)).ln()
                / positions as f64;
            *p -= 1.0;
        }
        dlogits.iter_mut().for_each(|d| *d /= positions as f32);
        let dlogits = Tensor::from_values(&[1, vocab, 1, positions], narrow(&dlogits))?;
        let dxn = widen(self.backward.run(&[&dlogits])?);
        let wide = |tensor: &Tensor| Tensor::from_values(tensor.shape(), widen(tensor));
        let dembed = widen(self.weight_gradient.run(&[&wide(&dlogits)?, &wide(&xn)?])?);
        let [dx, dgain] = rmsnorm_backward(&widen(&x), &dxn, gain, positions);
        Ok(Found { loss, gradients: [dx, dgain, dembed], loss_scale: 1.0 })
    }

    fn accepts(&mut self, _: f64) -> bool {
        true
    }
}

/// dx `[D, S]` and dgain `[D]` of RMSNorm, for x and dxn `[D, S]`.
fn rmsnorm_backward(x: &[f32], dxn: &[f32], gain: &[f32], positions: usize) -> [Vec<f32>; 2] {
    let dim = gain.len();
    let (mut dx, mut dgain) = (vec![0.0; x.len()], vec![0.0; dim]);
    for s in 0..positions {
        let at = |d: usize| d * positions + s;
        let mean = (0..dim).map(|d| x[at(d)] * x[at(d)]).sum::<f32>() / dim as f32;
        let r = (mean + EPS as f32).powf(-0.5);
        let along = (0..dim).map(|d| dxn[at(d)] * gain[d] * x[at(d)] * r).sum::<f32>() / dim as f32;
        for d in 0..dim {
            let x_hat = x[at(d)] * r;
            dx[at(d)] = r * (dxn[at(d)] * gain[d] - x_hat * along);
            dgain[d] += dxn[at(d)] * x_hat;
        }
    }
    [dx, dgain]
}

/// A program on a runtime, with weights of zero at first.
struct Prepared {
    executable: Box<dyn Executable>,
    outputs: Vec<Tensor>,
}

struct Zeros;

impl WeightSource for Zeros {
    fn file(&self, path: &str) -> Result<Arc<BlobFile>, BlobError> {
        Err(BlobError::PathRefused { path: path.to_string(), reason: "is not a file: weights come later" })
    }

    fn load(&self, _: &BlobReference, ty: &TensorType) -> Result<Tensor, BlobError> {
        let dims = ty.shape.to_known();
        dims.and_then(|dims| Tensor::zeros(ty.dtype, &dims)).ok_or_else(|| BlobError::UnknownSize(ty.clone()))
    }
}

impl Prepared {
    fn new(program: Program, runtime: &dyn Runtime) -> Result<Prepared, Box<dyn Error>> {
        let verified = Arc::new(verify(program)?);
        let function = &verified.program().functions[0];
        let inputs = function.body.inputs.iter();
        let inputs: Vec<TensorType> = inputs.filter_map(|&id| function.value(id).ty.as_tensor()).collect();
        let executable = runtime.prepare(&verified, &function.name, &inputs, &Zeros)?;
        let outputs = allocate_outputs(executable.as_ref())?;
        Ok(Prepared { executable, outputs })
    }

    fn set_constant(&mut self, name: &str, value: Tensor) -> Result<(), Box<dyn Error>> {
        let constant = self.executable.constant(name)?;
        Ok(self.executable.set_constant(constant, Arc::new(value))?)
    }

    fn run(&mut self, inputs: &[&Tensor]) -> Result<&Tensor, Box<dyn Error>> {
        self.executable.run(inputs, &mut self.outputs)?;
        Ok(&self.outputs[0])
    }
}

fn narrow(values: &[f32]) -> Vec<f16> {
    values.iter().map(|&value| f16::from_f32(value)).collect()
}

fn widen(tensor: &Tensor) -> Vec<f32> {
    let half = tensor.as_slice::<f16>().map(|values| values.iter().map(|value| value.to_f32()).collect());
    half.or_else(|| Some(tensor.as_slice::<f32>()?.to_vec())).unwrap_or_default()
}
