//! Forms of the fp16 RMSNorm in engine arithmetic, against f64.
//!
//! How `reduce_l2_norm` and `layer_norm` add up on the engine is not published, so each is read in two ways: computed
//! exactly and rounded once, and from parts of which the sums are `reduce_sum`'s.

use anemone_ane::chips::Chip;
use anemone_ane::simulator::Simulator;
use anemone_lm::config::DeviceDtype;
use anemone_lm::programs::Target;
use anemone_lm::programs::head::tiled::{Rows, Tile};
use anemone_lm::programs::head::{EPS, Head};
use anemone_lm::random::Random;
use anemone_mil::builder::{BuildError, FunctionBuilder};
use anemone_mil::ops::call;
use anemone_mil::program::{Program, ValueId, Version};
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::types::{DType, Opset, TensorType};
use anemone_mil::weights::WeightMap;

use super::forms::run;
use super::fp16;

pub(super) const DIM: usize = 768;
pub(super) const POSITIONS: usize = 16;

pub(super) const HEAD: Head = Head {
    vocab: 1,
    dim: DIM,
    positions: POSITIONS,
    eps: EPS,
    target: Target { version: Version::V1_3, opset: Opset::IOS18, dtype: DeviceDtype::Fp16 },
};

/// The hidden vectors' rms.
pub(super) const SCALES: [f64; 8] = [1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4];

type Build = fn(&mut FunctionBuilder, ValueId) -> Result<ValueId, BuildError>;

/// A form, as x̂ of x; `ops` counts the gain's product, which all have.
struct Form {
    name: &'static str,
    program: Program,
    ops: usize,
}

impl Form {
    /// x̂ of a program that has it under this name.
    fn of(name: &'static str, mut program: Program) -> Form {
        let function = &mut program.functions[0];
        let ops = function.body.ops.iter().filter(|&&id| function.op(id).name != "const").count();
        function.body.outputs = vec![function.value_named("x_hat").unwrap()];
        function.body.inputs.retain(|&input| function.values[input.index()].name == "x");
        anemone_mil::passes::remove_dead_code(function);
        Form { name, program, ops }
    }

    fn built(name: &'static str, build: Build) -> Form {
        let mut f = FunctionBuilder::new("main", HEAD.target.version, HEAD.target.opset);
        let x = f.input("x", TensorType::new(DType::Fp16, &[1, DIM, 1, POSITIONS]));
        let x_hat = build(&mut f, x).unwrap();
        let mut program = Program::new(HEAD.target.version);
        program.functions.push(f.finish([x_hat]));
        let mut form = Form::of(name, program);
        form.ops += 1;
        form
    }

    /// With so many ops, where the program stands for one that has an op in place of several.
    fn written_in(self, ops: usize) -> Form {
        Form { ops, ..self }
    }

    fn run(&self, x: &Tensor) -> Vec<f64> {
        let engine = Simulator::without_rules(Chip::M4);
        run(&engine, Ok(self.program.clone()), &WeightMap::default(), &[x])[0].to_f64().unwrap()
    }
}

fn sum(f: &mut FunctionBuilder, name: &str, x: ValueId) -> Result<ValueId, BuildError> {
    f.bind(name, call::reduce_sum(x).axes([1]).keep_dims(true))
}

/// x / a for the largest magnitude a, which is at least 2^-8.5.
fn divided(f: &mut FunctionBuilder, x: ValueId) -> Result<[ValueId; 2], BuildError> {
    let magnitudes = f.bind("magnitudes", call::abs(x))?;
    let largest = f.bind("max", call::reduce_max(magnitudes).axes([1]).keep_dims(true))?;
    let largest = f.bind("largest", call::maximum(largest, (-8.5f64).exp2()))?;
    Ok([f.bind("scaled", call::real_div(x, largest))?, largest])
}

/// x / a · (Σ (x/a)² + D·ε/a²)^-½ · √D, from x / a, a and the sum of the squares.
fn from_sum(f: &mut FunctionBuilder, [scaled, largest, sum]: [ValueId; 3]) -> Result<ValueId, BuildError> {
    let root_eps = f.bind("root_eps", call::real_div((EPS * DIM as f64).sqrt(), largest))?;
    let eps = f.bind("eps", call::mul(root_eps, root_eps))?;
    let sum = f.bind("sum_eps", call::add(sum, eps))?;
    let reciprocal = f.bind("reciprocal", call::pow(sum, -0.5))?;
    let factor = f.bind("factor", call::mul(reciprocal, (DIM as f64).sqrt()))?;
    f.bind("x_hat", call::mul(scaled, factor))
}

fn by_largest_and_product(f: &mut FunctionBuilder, x: ValueId) -> Result<ValueId, BuildError> {
    let [scaled, largest] = divided(f, x)?;
    let squares = f.bind("squares", call::mul(scaled, scaled))?;
    let sum = product(f, squares, 1.0)?;
    from_sum(f, [scaled, largest, sum])
}

/// Σ_c y·part, by a product with a row of parts.
fn product(f: &mut FunctionBuilder, y: ValueId, part: f64) -> Result<ValueId, BuildError> {
    let matrix = f.bind("matrix", call::reshape(y, [1, DIM as i32, POSITIONS as i32]))?;
    let parts = f.bind("parts", call::fill([1, 1, DIM as i32]).value(fp16(&[], &[part])))?;
    let row = f.bind("row", call::matmul(parts, matrix).transpose_x(false).transpose_y(false))?;
    f.bind("sum", call::reshape(row, [1, 1, 1, POSITIONS as i32]))
}

fn by_largest_and_reduction(f: &mut FunctionBuilder, x: ValueId) -> Result<ValueId, BuildError> {
    let [scaled, largest] = divided(f, x)?;
    let squares = f.bind("squares", call::mul(scaled, scaled))?;
    let sum = sum(f, "sum", squares)?;
    from_sum(f, [scaled, largest, sum])
}

/// The form that is kept, but for the mean, which is a product.
fn by_scale_and_product(f: &mut FunctionBuilder, x: ValueId) -> Result<ValueId, BuildError> {
    let magnitudes = f.bind("magnitudes", call::abs(x))?;
    let largest = f.bind("max", call::reduce_max(magnitudes).axes([1]).keep_dims(true))?;
    let largest = f.bind("largest", call::maximum(largest, (-8.5f64).exp2()))?;
    let scale = f.bind("scale", call::real_div(128.0, largest))?;
    let scaled = f.bind("scaled", call::mul(x, scale))?;
    let squares = f.bind("squares", call::mul(scaled, scaled))?;
    let mean = product(f, squares, 1.0 / DIM as f64)?;
    let root_eps = f.bind("root_eps", call::mul(scale, EPS.sqrt()))?;
    let eps = f.bind("eps", call::mul(root_eps, root_eps))?;
    let variance = f.bind("variance", call::add(mean, eps))?;
    let reciprocal = f.bind("reciprocal", call::pow(variance, -0.5))?;
    f.bind("x_hat", call::mul(scaled, reciprocal))
}

/// x / ‖x‖ · √D. It has no place for ε.
fn over_norm(f: &mut FunctionBuilder, x: ValueId, norm: ValueId) -> Result<ValueId, BuildError> {
    let direction = f.bind("direction", call::real_div(x, norm))?;
    f.bind("x_hat", call::mul(direction, (DIM as f64).sqrt()))
}

fn l2_norm_rounded_once(f: &mut FunctionBuilder, x: ValueId) -> Result<ValueId, BuildError> {
    let wide = f.bind("wide", call::cast(x, "fp32"))?;
    let squares = f.bind("squares", call::mul(wide, wide))?;
    let sum = sum(f, "sum", squares)?;
    let norm = f.bind("norm", call::pow(sum, 0.5))?;
    let norm = f.bind("norm_once", call::cast(norm, "fp16"))?;
    over_norm(f, x, norm)
}

fn l2_norm_of_parts(f: &mut FunctionBuilder, x: ValueId) -> Result<ValueId, BuildError> {
    let squares = f.bind("squares", call::mul(x, x))?;
    let sum = sum(f, "sum", squares)?;
    let norm = f.bind("norm", call::pow(sum, 0.5))?;
    over_norm(f, x, norm)
}

/// [x, −x], whose mean is 0 and whose variance is mean(x²).
fn mirrored(f: &mut FunctionBuilder, x: ValueId) -> Result<ValueId, BuildError> {
    let mirror = f.bind("mirror", call::mul(x, -1.0))?;
    f.bind("both", call::concat(vec![x, mirror], 1).interleave(false))
}

fn first_half(f: &mut FunctionBuilder, y: ValueId) -> Result<ValueId, BuildError> {
    let size = [1, DIM as i32, 1, POSITIONS as i32];
    f.bind("x_hat", call::slice_by_size(y, [0, 0, 0, 0], size))
}

fn layer_norm_rounded_once(f: &mut FunctionBuilder, x: ValueId) -> Result<ValueId, BuildError> {
    let both = mirrored(f, x)?;
    let y = f.bind("y", call::layer_norm(both).axes([1]).epsilon(EPS))?;
    first_half(f, y)
}

fn layer_norm_of_parts(f: &mut FunctionBuilder, x: ValueId) -> Result<ValueId, BuildError> {
    let both = mirrored(f, x)?;
    let part = 0.5 / DIM as f64;
    let total = sum(f, "total", both)?;
    let mean = f.bind("mean", call::mul(total, part))?;
    let centred = f.bind("centred", call::sub(both, mean))?;
    let squares = f.bind("squares", call::mul(centred, centred))?;
    let sum = sum(f, "sum", squares)?;
    let variance = f.bind("variance", call::mul(sum, part))?;
    let variance = f.bind("variance_eps", call::add(variance, EPS))?;
    let reciprocal = f.bind("reciprocal", call::pow(variance, -0.5))?;
    let y = f.bind("y", call::mul(centred, reciprocal))?;
    first_half(f, y)
}

/// Gaussian columns of this rms; with outliers, eight channels of them 30 to 100 times as large. What fp16 does not hold is
/// its largest number.
pub(super) fn hidden(rms: f64, outliers: bool) -> Tensor {
    let mut random = Random::stream(11, 0);
    let mut x: Vec<f64> = (0..DIM * POSITIONS).map(|_| rms * random.normal()).collect();
    if outliers {
        for channel in (0..8).map(|i| i * 97) {
            let factor = 30.0 + 70.0 * random.uniform();
            x[channel * POSITIONS..][..POSITIONS].iter_mut().for_each(|x| *x *= factor);
        }
    }
    x.iter_mut().for_each(|x| *x = x.clamp(-65504.0, 65504.0));
    fp16(&[1, DIM, 1, POSITIONS], &x)
}

/// x·(mean(x²) + ε)^-½.
fn exact(x: &Tensor) -> Vec<f64> {
    let x = x.to_f64().unwrap();
    let mut squares = [0.0; POSITIONS];
    x.iter().enumerate().for_each(|(at, x)| squares[at % POSITIONS] += x * x / DIM as f64);
    x.iter().enumerate().map(|(at, x)| x / (squares[at % POSITIONS] + EPS).sqrt()).collect()
}

/// Mean and largest relative error where the exact value is a normal number, and how many values are not finite.
#[derive(Debug, Clone, Copy)]
struct Errors {
    mean: f64,
    largest: f64,
    infinite: usize,
}

impl Errors {
    fn of(found: &[f64], exact: &[f64]) -> Errors {
        let infinite = found.iter().filter(|value| !value.is_finite()).count();
        let normal = found.iter().zip(exact).filter(|(a, b)| a.is_finite() && b.abs() >= 2f64.powi(-14));
        let relative: Vec<f64> = normal.map(|(a, b)| (a / b - 1.0).abs()).collect();
        let largest = relative.iter().copied().fold(0.0, f64::max);
        Errors { mean: relative.iter().sum::<f64>() / relative.len().max(1) as f64, largest, infinite }
    }

    fn cell(self) -> String {
        if self.infinite > 0 {
            return format!("{} infinite", self.infinite);
        }
        format!("{:.1e}, {:.1e}", self.mean, self.largest)
    }
}

/// Half a unit in the last place for each of x·i, v with its two parts, v^-½ and x̂.
const BOUND: f64 = 4.0 / 2048.0;

/// The form that is kept.
const KEPT: &str = "x · (128 / largest), a convolution with 1/D";

fn kept() -> Program {
    Tile { head: HEAD, rows: Rows::Input }.final_rmsnorm().unwrap()
}

#[test]
fn the_rmsnorm_for_the_engine_is_the_most_exact_of_those_whose_arithmetic_is_known() {
    let forms = [
        Form::of("`emit head`, for other runtimes", HEAD.final_rmsnorm().unwrap()),
        Form::built("x / largest, a product with ones", by_largest_and_product),
        Form::built("x / largest, `reduce_sum`", by_largest_and_reduction),
        Form::built("x · (128 / largest), a product with 1/D", by_scale_and_product),
        Form::of(KEPT, kept()),
        Form::built("`reduce_l2_norm`, rounded once", l2_norm_rounded_once).written_in(4),
        Form::built("`reduce_l2_norm`, of parts", l2_norm_of_parts).written_in(4),
        Form::built("`layer_norm` of [x, −x], rounded once", layer_norm_rounded_once),
        Form::built("`layer_norm` of [x, −x], of parts", layer_norm_of_parts).written_in(5),
    ];
    for outliers in [false, true] {
        println!("| outliers: {outliers} | ops | {} |", SCALES.map(|rms| format!("{rms:e}")).join(" | "));
        let cases = SCALES.map(|rms| hidden(rms, outliers));
        let errors =
            forms.each_ref().map(|form| cases.each_ref().map(|x| Errors::of(&form.run(x), &exact(x))));
        for (form, errors) in forms.iter().zip(&errors) {
            println!("| {} | {} | {} |", form.name, form.ops, errors.map(Errors::cell).join(" | "));
        }
        let worst = |errors: &[Errors]| errors.iter().map(|errors| errors.largest).fold(0.0, f64::max);
        let finite = |errors: &[Errors]| errors.iter().all(|errors| errors.infinite == 0);
        let (kept, of_kept) = forms.iter().zip(&errors).find(|(form, _)| form.name == KEPT).unwrap();
        assert!(finite(of_kept) && worst(of_kept) < BOUND, "{of_kept:?}");
        for (form, errors) in forms.iter().zip(&errors) {
            let known = !form.name.contains("rounded once");
            if known && finite(errors) {
                let (kept_worst, worst) = (worst(of_kept), worst(errors));
                let better = kept_worst < worst || kept_worst == worst && kept.ops <= form.ops;
                assert!(better, "{}: {} ops, {errors:?}; kept: {of_kept:?}", form.name, form.ops);
            }
        }
    }
}

/// The reciprocal of the largest magnitude may be 13.5 units in the last place off, as the engine's table of
/// reciprocals is: it cancels.
#[test]
fn errors_of_the_reciprocal_cancel_in_the_rmsnorm() {
    let x = hidden(1.0, true);
    let source = text::write(&kept());
    let numerator = source.lines().find(|line| line.contains("scale_x_0 = const")).unwrap();
    for units in [-13.5, 13.5] {
        let c = 128.0 * (1.0 + units / 1024.0);
        let changed = format!("{}val = fp16({c})];", numerator.split("val = ").next().unwrap());
        let program = text::parse(&source.replace(numerator, &changed)).unwrap().program;
        let errors = Errors::of(&Form::of("another scale", program).run(&x), &exact(&x));
        println!("{units} units: {errors:?}");
        assert!(errors.infinite == 0 && errors.largest < BOUND, "{units}: {errors:?}");
    }
}
