//! The head's training step in three forms, each with the host's part.

use std::collections::HashMap;
use std::sync::Arc;

use anemone_lm::head::merge::{
    Merged, scaled_for_rmsnorm_backward, scaled_for_weight_gradient, scaled_probabilities,
};
use anemone_lm::programs::head::tiled::{Rows, Tile};
use anemone_lm::programs::head::{Head, weight_path};
use anemone_lm::programs::{ProgramError, vocabulary_tiles};
use anemone_mil::builder::FunctionBuilder;
use anemone_mil::grad::{Pair, Request, differentiate};
use anemone_mil::ops::call;
use anemone_mil::program::{Function, Program, ValueId, Version};
use anemone_mil::runtime::{Runtime, allocate_outputs};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{Opset, TensorType};
use anemone_mil::verify::verify;
use anemone_mil::weights::{BlobFile, BlobWriter, WeightMap};

use super::{Case, Step, fp16};

/// The results of a program, of inputs in its own order.
pub(super) fn run(
    runtime: &dyn Runtime,
    program: Result<Program, ProgramError>,
    weights: &WeightMap,
    inputs: &[&Tensor],
) -> Vec<Tensor> {
    let program = Arc::new(verify(program.unwrap()).unwrap());
    let types: Vec<TensorType> = inputs.iter().map(|input| input.ty()).collect();
    let mut executable = runtime.prepare(&program, "main", &types, weights).unwrap();
    let mut outputs = allocate_outputs(executable.as_ref()).unwrap();
    executable.run(inputs, &mut outputs).unwrap();
    outputs
}

fn single(tensor: &Tensor) -> Vec<f32> {
    tensor.to_f64().unwrap().into_iter().map(|value| value as f32).collect()
}

fn double(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn largest(values: impl IntoIterator<Item = f64>) -> f32 {
    values.into_iter().fold(0.0f64, |largest, value| largest.max(value.abs())) as f32
}

/// A case on a runtime, in tiles.
struct Planned<'a> {
    case: &'a Case,
    runtime: &'a dyn Runtime,
    /// With each the rows of E.
    tiles: Vec<(Tile<'static>, Tensor)>,
    xn: Tensor,
}

impl<'a> Planned<'a> {
    fn new(case: &'a Case, runtime: &'a dyn Runtime, most: usize) -> Planned<'a> {
        let Head { vocab, dim, .. } = case.head;
        let tile = |rows: std::ops::Range<usize>| {
            let head = Head { vocab: rows.len(), ..case.head };
            let embed = fp16(&[1, 1, rows.len(), dim], &case.embed[rows.start * dim..rows.end * dim]);
            (Tile { head, rows: Rows::Input }, embed)
        };
        let tiles = vocabulary_tiles(vocab, most).map(tile).collect();
        let norm = Tile { head: case.head, rows: Rows::Input };
        let xn = run(runtime, norm.final_rmsnorm(), &WeightMap::default(), &[&case.gain, &case.x]).remove(0);
        Planned { case, runtime, tiles, xn }
    }

    fn run(&self, program: Result<Program, ProgramError>, inputs: &[&Tensor]) -> Vec<Tensor> {
        run(self.runtime, program, &WeightMap::default(), inputs)
    }

    /// `[1, D, 1, S]`.
    fn activation(&self, values: &[f32]) -> Tensor {
        fp16(&[1, self.case.head.dim, 1, self.case.head.positions], &double(values))
    }

    fn weight(&self) -> f32 {
        1.0 / self.case.head.positions as f32
    }

    /// The step, from Eᵀp·w and p·w·xnᵀ: the host takes the targets' part off, and the norm's backward comes last.
    fn finish(&self, merged: &Merged, mut dxn: Vec<f32>, mut dembed: Vec<f64>) -> Step {
        let Head { dim, positions, .. } = self.case.head;
        let (xn, weight) = (single(&self.xn), self.weight());
        let mut loss = 0.0;
        for (s, &target) in self.case.targets.iter().enumerate() {
            loss += f64::from(merged.log_sum_exp(s) * weight);
            for d in 0..dim {
                let (e, x) = (self.case.embed[target * dim + d], xn[d * positions + s]);
                loss -= e * f64::from(x * weight);
                dxn[d * positions + s] -= e as f32 * weight;
                dembed[target * dim + d] -= f64::from(x * weight);
            }
        }
        let (dxn, scale) = scaled_for_rmsnorm_backward(&dxn);
        let norm = Tile { head: self.case.head, rows: Rows::Input };
        let inputs = [&self.activation(&dxn), &self.case.gain, &self.case.x];
        let found = self.run(norm.rmsnorm_backward(), &inputs);
        let unscaled = |tensor: &Tensor, times: f64| {
            tensor.to_f64().unwrap().iter().map(|value| value * times / f64::from(scale)).collect()
        };
        let (dx, dgain) = (unscaled(&found[0], 1.0), unscaled(&found[1], positions as f64));
        Step { loss, dx, dgain, dembed }
    }
}

/// Logits, probabilities and gradients, tile by tile.
pub(super) fn with_logits(case: &Case, runtime: &dyn Runtime, most: usize) -> Step {
    let planned = Planned::new(case, runtime, most);
    let Head { dim, positions, .. } = case.head;
    let weight = planned.weight();
    let mut merged = Merged::new(0, positions);
    let mut found = Vec::new();
    for (tile, embed) in &planned.tiles {
        let logits = planned.run(tile.forward(), &[embed, &planned.xn]).remove(0);
        let softmax = planned.run(tile.softmax(), &[&logits]);
        let [largest, sum, exponentials] = [0, 1, 2].map(|output| single(&softmax[output]));
        merged.add(&largest, &sum, &[]);
        found.push((largest, exponentials));
    }
    let bounds = [largest(case.embed.iter().copied()), largest(planned.xn.to_f64().unwrap())];
    let (mut dxn, mut dembed) = (vec![0.0; dim * positions], Vec::new());
    for ((tile, embed), (largest, exponentials)) in planned.tiles.iter().zip(&found) {
        let factors = merged.probability_factors(largest);
        let (scaled, scale) = scaled_probabilities(exponentials, &factors, weight, bounds);
        let dlogits = fp16(&[1, tile.head.vocab, 1, positions], &double(&scaled));
        let part = single(&planned.run(tile.backward(), &[&dlogits, embed])[0]);
        dxn.iter_mut().zip(part).for_each(|(sum, part)| *sum += part / scale);
        let rows = planned.run(tile.weight_gradient(), &[&dlogits, &planned.xn]).remove(0);
        dembed.extend(rows.to_f64().unwrap().into_iter().map(|value| value / f64::from(scale)));
    }
    planned.finish(&merged, dxn, dembed)
}

/// Without logits between programs.
pub(super) fn fused(case: &Case, runtime: &dyn Runtime, most: usize) -> Step {
    let planned = Planned::new(case, runtime, most);
    let Head { dim, positions, .. } = case.head;
    let mut merged = Merged::new(dim, positions);
    let mut maxima = Vec::new();
    for (tile, embed) in &planned.tiles {
        let mut found = planned.run(tile.fused_forward(), &[embed, &planned.xn]);
        merged.add(&single(&found[0]), &single(&found[1]), &single(&found[2]));
        maxima.push(found.remove(0));
    }
    let mut dembed = Vec::new();
    for ((tile, embed), largest) in planned.tiles.iter().zip(&maxima) {
        let factors = merged.probability_factors(&single(largest));
        let (scaled, scale) = scaled_for_weight_gradient(&single(&planned.xn), &factors, planned.weight());
        let inputs = [embed, largest, &planned.activation(&scaled), &planned.xn];
        let rows = planned.run(tile.fused_weight_gradient(), &inputs).remove(0);
        dembed.extend(rows.to_f64().unwrap().into_iter().map(|value| value / f64::from(scale)));
    }
    let dxn = merged.mean_row().into_iter().map(|row| row * planned.weight()).collect();
    planned.finish(&merged, dxn, dembed)
}

/// The programs as the formulas stand, in fp16, and dlogits = (p − onehot) / S as it is.
pub(super) fn plain(case: &Case, runtime: &dyn Runtime) -> Step {
    let Head { vocab, dim, positions, .. } = case.head;
    let mut weights = WeightMap::default();
    let transposed: Vec<f64> =
        (0..dim).flat_map(|d| case.embed.iter().skip(d).step_by(dim).copied()).collect();
    for (file, tensor) in [
        ("embed.bin", fp16(&[vocab, dim, 1, 1], &case.embed)),
        ("embed_t.bin", fp16(&[1, dim, vocab], &transposed)),
    ] {
        let mut writer = BlobWriter::new(std::io::Cursor::new(Vec::new())).unwrap();
        writer.append(&tensor).unwrap();
        let blob = BlobFile::from_bytes(writer.finish().unwrap().into_inner()).unwrap();
        weights.insert(weight_path(file), blob);
    }
    let run = |program, inputs: &[&Tensor]| run(runtime, program, &weights, inputs);
    let norm = plain_rmsnorm(case.head);
    let mut known = HashMap::from([("gain".to_string(), case.gain.clone()), ("x".into(), case.x.clone())]);
    run_by_name(runtime, &norm.forward, &mut known);
    let xn = known["xn"].clone();
    let logits = run(case.head.classifier_forward(), &[&xn]).remove(0);
    let mut p = run(case.head.softmax(), &[&logits]).remove(0).to_f64().unwrap();
    let mut loss = 0.0;
    for (s, target) in case.targets.iter().enumerate() {
        let p = &mut p[target * positions + s];
        loss -= p.ln() / positions as f64;
        *p -= 1.0;
    }
    let dlogits: Vec<f64> = p.iter().map(|p| p / positions as f64).collect();
    let dlogits = fp16(&[1, vocab, 1, positions], &dlogits);
    let dxn = run(case.head.classifier_backward(), &[&dlogits]).remove(0);
    let dembed = run(case.head.classifier_weight_gradient(), &[&dlogits, &xn])[0].to_f64().unwrap();
    known.insert("d_xn".into(), dxn);
    run_by_name(runtime, &norm.backward, &mut known);
    let [dgain, dx] = ["d_gain", "d_x"].map(|name| known[name].to_f64().unwrap());
    Step { loss, dx, dgain, dembed }
}

/// RMSNorm as its formula stands, and its derivative.
fn plain_rmsnorm(head: Head) -> Pair {
    let Head { dim, positions, .. } = head;
    let dtype = head.target.mil_dtype();
    let mut f = FunctionBuilder::new("main", Version::V1_3, Opset::IOS18);
    let gain = f.input("gain", TensorType::new(dtype, &[1, dim, 1, 1]));
    let x = f.input("x", TensorType::new(dtype, &[1, dim, 1, positions]));
    let squares = f.bind("squares", call::mul(x, x)).unwrap();
    let sum = f.bind("sum", call::reduce_sum(squares).axes([1]).keep_dims(true)).unwrap();
    let mean = f.bind("mean", call::mul(sum, 1.0 / dim as f64)).unwrap();
    let variance = f.bind("variance", call::add(mean, head.eps)).unwrap();
    let reciprocal = f.bind("reciprocal", call::pow(variance, -0.5)).unwrap();
    let x_hat = f.bind("x_hat", call::mul(x, reciprocal)).unwrap();
    let xn = f.bind("xn", call::mul(x_hat, gain)).unwrap();
    let mut program = Program::new(Version::V1_3);
    program.functions.push(f.finish([xn]));
    differentiate(&verify(program).unwrap(), "main", &Request::all(&["gain", "x"])).unwrap()
}

/// Runs a function on what is known by the names of its inputs, and adds its results by theirs.
fn run_by_name(runtime: &dyn Runtime, function: &Function, known: &mut HashMap<String, Tensor>) {
    let name = |&id: &ValueId| function.value(id).name.clone();
    let mut program = Program::new(Version::V1_3);
    program.functions.push(function.clone());
    let inputs: Vec<&Tensor> = function.body.inputs.iter().map(|id| &known[&name(id)]).collect();
    let found = run(runtime, Ok(program), &WeightMap::default(), &inputs);
    known.extend(function.body.outputs.iter().map(name).zip(found));
}
