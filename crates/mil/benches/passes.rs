//! Time to rewrite and to differentiate a program of about a thousand ops, such as a transformer of twelve layers.

#![allow(missing_docs, clippy::unwrap_used)] // Criterion's macro defines an undocumented function; benches unwrap.

use std::hint::black_box;

use anemone_mil::builder::{BuildError, FunctionBuilder};
use anemone_mil::grad::{Request, differentiate};
use anemone_mil::ops::call;
use anemone_mil::passes::{self, PassError, Rewritten};
use anemone_mil::program::{Program, ValueId, Version};
use anemone_mil::types::{DType, Opset, TensorType};
use anemone_mil::verify::{Verified, verify};
use criterion::{Criterion, criterion_group, criterion_main};

const LAYERS: usize = 12;
const HEADS: usize = 12;
const POSITIONS: usize = 256;
const DIM: usize = 768;
const HIDDEN: usize = 2048;

/// A function of layers as Llama has them: RMSNorm, rotated attention, RMSNorm, SwiGLU.
struct Layers {
    f: FunctionBuilder,
    weights: Vec<String>,
}

impl Layers {
    /// A weight, which a blob file keeps.
    fn weight(&mut self, name: String, dims: &[usize]) -> ValueId {
        let offset = 64 * (1 + self.weights.len() as u64);
        let id = self.f.blob(&name, TensorType::new(DType::Fp32, dims), "@model_path/weights.bin", offset);
        self.weights.push(name);
        id
    }

    /// x / √(mean x² + ε) · gain
    fn rms_norm(&mut self, name: &str, x: ValueId) -> Result<ValueId, BuildError> {
        let gain = self.weight(format!("{name}_gain"), &[DIM]);
        let squares = self.f.bind(&format!("{name}_squares"), call::mul(x, x))?;
        let mean = call::reduce_mean(squares).axes([-1]).keep_dims(true);
        let mean = self.f.bind(&format!("{name}_mean"), mean)?;
        let root = self.f.bind(&format!("{name}_root"), call::rsqrt(call::add(mean, 1e-5)))?;
        let normal = self.f.bind(&format!("{name}_normal"), call::mul(x, root))?;
        self.f.bind(name, call::mul(normal, gain))
    }

    /// x · W, or x · Wᵀ
    fn product(&mut self, name: &str, x: ValueId, dims: [usize; 2]) -> Result<ValueId, BuildError> {
        let weight = self.weight(format!("{name}_weight"), &dims);
        self.f.bind(name, call::matmul(x, weight).transpose_x(false).transpose_y(false))
    }

    /// x · cos + rotated(x) · sin: a stand-in for the rotation by ops that all have gradients.
    fn rotate(&mut self, name: &str, x: ValueId, tables: [ValueId; 2]) -> Result<ValueId, BuildError> {
        let straight = self.f.bind(&format!("{name}_straight"), call::mul(x, tables[0]))?;
        let turned = self.f.bind(&format!("{name}_turned"), call::mul(x, tables[1]))?;
        self.f.bind(name, call::sub(straight, turned))
    }

    fn attention(&mut self, layer: usize, x: ValueId, tables: [ValueId; 2]) -> Result<ValueId, BuildError> {
        let mut heads = Vec::with_capacity(3);
        for part in ["q", "k", "v"] {
            let name = format!("layer_{layer}_{part}");
            heads.push(self.product(&name, x, [DIM, DIM])?);
        }
        let q = self.rotate(&format!("layer_{layer}_q_rotated"), heads[0], tables)?;
        let k = self.rotate(&format!("layer_{layer}_k_rotated"), heads[1], tables)?;
        let name = |part: &str| format!("layer_{layer}_{part}");
        let scores = call::matmul(q, k).transpose_x(false).transpose_y(true);
        let scores = self.f.bind(&name("scores"), scores)?;
        let scaled = self.f.bind(&name("scaled"), call::mul(scores, 1.0 / ((DIM / HEADS) as f64).sqrt()))?;
        let p = self.f.bind(&name("p"), call::softmax(scaled).axis(-1))?;
        let mixed = call::matmul(p, heads[2]).transpose_x(false).transpose_y(false);
        let mixed = self.f.bind(&name("mixed"), mixed)?;
        self.product(&name("o"), mixed, [DIM, DIM])
    }

    fn feed_forward(&mut self, layer: usize, x: ValueId) -> Result<ValueId, BuildError> {
        let name = |part: &str| format!("layer_{layer}_{part}");
        let gate = self.product(&name("gate"), x, [DIM, HIDDEN])?;
        let up = self.product(&name("up"), x, [DIM, HIDDEN])?;
        let silu = self.f.bind(&name("silu"), call::silu(gate))?;
        let gated = self.f.bind(&name("gated"), call::mul(silu, up))?;
        self.product(&name("down"), gated, [HIDDEN, DIM])
    }

    fn layer(&mut self, layer: usize, x: ValueId, tables: [ValueId; 2]) -> Result<ValueId, BuildError> {
        let normal = self.rms_norm(&format!("layer_{layer}_norm_1"), x)?;
        let attention = self.attention(layer, normal, tables)?;
        let x = self.f.bind(&format!("layer_{layer}_residual_1"), call::add(x, attention))?;
        let normal = self.rms_norm(&format!("layer_{layer}_norm_2"), x)?;
        let feed_forward = self.feed_forward(layer, normal)?;
        self.f.bind(&format!("layer_{layer}_residual_2"), call::add(x, feed_forward))
    }
}

/// The program, and the names of its weights.
fn llama() -> Result<(Verified, Vec<String>), BuildError> {
    let f = FunctionBuilder::new("main", Version::V1_3, Opset::IOS18);
    let mut layers = Layers { f, weights: Vec::new() };
    let mut x = layers.f.input("x", TensorType::new(DType::Fp32, &[1, POSITIONS, DIM]));
    let tables =
        ["cos", "sin"].map(|name| layers.f.input(name, TensorType::new(DType::Fp32, &[POSITIONS, DIM])));
    for layer in 0..LAYERS {
        x = layers.layer(layer, x, tables)?;
    }
    let mut program = Program::new(Version::V1_3);
    program.functions.push(layers.f.finish([x]));
    Ok((verify(program).unwrap(), layers.weights))
}

/// Every pass, one after the other.
fn all_passes(program: &Verified) -> Result<Rewritten, PassError> {
    let types = [("x", TensorType::new(DType::Fp32, &[1, POSITIONS, DIM]))];
    let program = passes::specialize(program, "main", &types)?.program;
    let program = passes::dead_code(&program)?.program;
    let program = passes::common_subexpressions(&program)?.program;
    let program = passes::fold_constants(&program, None, passes::FOLD_BUDGET)?.program;
    let (rewritten, _) = passes::unbake(&program, "main", &[])?;
    let program = passes::dialect(&rewritten.program, Version::V1_0)?.program;
    passes::dialect(&program, Version::V1_3)
}

fn benches(c: &mut Criterion) {
    let (program, weights) = llama().unwrap();
    let weights: Vec<&str> = weights.iter().map(String::as_str).collect();
    let ops = program.program().functions[0].ops.len();
    let mut group = c.benchmark_group(format!("{ops} ops; limits: passes 100 ms, differentiate 100 ms"));
    group.bench_function("verify", |b| b.iter(|| verify(black_box(program.program().clone())).unwrap()));
    group.bench_function("passes", |b| b.iter(|| all_passes(black_box(&program)).unwrap()));
    group.bench_function("differentiate", |b| {
        b.iter(|| differentiate(black_box(&program), "main", &Request::all(&weights)).unwrap());
    });
    group.finish();
}

criterion_group!(passes_and_gradients, benches);
criterion_main!(passes_and_gradients);
