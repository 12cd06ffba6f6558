//! One layer of a Llama: attention and a feed-forward network, each after an RMSNorm and added to what came in.
//!
//! Activations are `[B, C, 1, T]`, weights are inputs of the program, matrices as the weights of 1×1 convolutions
//! `[to, from, 1, 1]`, gains `[1, C, 1, 1]`:
//!
//! ```text
//! xn = rmsnorm(x) · g                      q = Wq·xn   k = Wk·xn   v = Wv·xn
//! q, k turned by their positions           (an RMSNorm over each head before it, in Qwen3)
//! scores = qᵀk / √Dh, −∞ where the key comes later
//! h = x + Wo · (v · softmax(scores)ᵀ)
//! y = h + W2 · (silu(W1·hn) · (W3·hn))     hn = rmsnorm(h) · g'
//! ```
//!
//! The backward is derived ([`Layer::differentiated`]). A T×T matrix is never among what forward keeps for it.

mod cached;

use anemone_mil::builder::FunctionBuilder;
use anemone_mil::grad::{Request, differentiate};
use anemone_mil::ops::call;
use anemone_mil::program::{Program, ValueId};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::TensorType;
use anemone_mil::verify::verify;

use super::normalization::{self, normalize};
use super::rotary;
use super::{ProgramError, Target, main_function, program};
use crate::config::ModelConfig;

/// What a parameter of a layer does, which decides what it begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The gain of an RMSNorm.
    Gain,
    /// A matrix within the layer.
    Inner,
    /// A matrix whose product is added to the residual stream.
    Residual,
}

/// A parameter of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerParameter {
    /// Its name within the layer, in checkpoints.
    pub name: &'static str,
    /// Its name as an input of the programs.
    pub input: &'static str,
    /// Its dimensions in checkpoints: `[to, from]`, or `[C]` of a gain.
    pub shape: Vec<usize>,
    /// What it does.
    pub role: Role,
}

impl LayerParameter {
    /// Its dimensions as an input of the programs.
    pub fn device_shape(&self) -> [usize; 4] {
        match *self.shape.as_slice() {
            [to, from] => [to, from, 1, 1],
            [channels] => [1, channels, 1, 1],
            _ => [1; 4],
        }
    }
}

/// The parameters of each layer of a model, in the order of the programs' inputs after x.
pub fn layer_parameters(config: &ModelConfig) -> Vec<LayerParameter> {
    let (dim, hidden, head) = (config.dim, config.hidden, config.head_size());
    let (queries, keys) = (config.heads * head, config.kv_heads * head);
    let parameter =
        |name, input, shape: &[usize], role| LayerParameter { name, input, shape: shape.to_vec(), role };
    let gain = |name, input, channels| parameter(name, input, &[channels], Role::Gain);
    let inner = |name, input, to| parameter(name, input, &[to, dim], Role::Inner);
    let residual = |name, input, from| parameter(name, input, &[dim, from], Role::Residual);
    let mut parameters = vec![
        gain("input_layernorm.weight", "attention_gain", dim),
        inner("self_attn.q_proj.weight", "wq", queries),
        inner("self_attn.k_proj.weight", "wk", keys),
        inner("self_attn.v_proj.weight", "wv", keys),
        residual("self_attn.o_proj.weight", "wo", queries),
    ];
    if config.qk_norm {
        parameters.push(gain("self_attn.q_norm.weight", "q_gain", head));
        parameters.push(gain("self_attn.k_norm.weight", "k_gain", head));
    }
    parameters.extend([
        gain("post_attention_layernorm.weight", "ffn_gain", dim),
        inner("mlp.gate_proj.weight", "w1", hidden),
        inner("mlp.up_proj.weight", "w3", hidden),
        residual("mlp.down_proj.weight", "w2", hidden),
    ]);
    parameters
}

/// The programs of a model's layers, for batches of B sequences of T tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer<'a> {
    /// The model.
    pub config: &'a ModelConfig,
    /// Sequences B.
    pub batch: usize,
    /// Tokens per sequence T.
    pub seq: usize,
    /// How the programs are written.
    pub target: Target,
}

/// Forward and backward of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerPair {
    /// x and the parameters → y, and then what backward needs.
    pub forward: Program,
    /// d_y, and what else it reads, by name, of forward's inputs and results → d_x, and d_NAME of each parameter's
    /// input.
    pub backward: Program,
}

/// The values that backward computes again: each has T×T elements per head.
const RECOMPUTED: [&str; 4] = ["scores", "later", "masked_scores", "probabilities"];

impl Layer<'_> {
    /// x `[B, D, 1, T]` and the layer's parameters → y `[B, D, 1, T]`.
    ///
    /// # Errors
    ///
    /// A dimension is 0.
    pub fn forward(&self) -> Result<Program, ProgramError> {
        let (mut writer, x) = self.writer()?;
        let (h, _) = writer.attention(x)?;
        let y = writer.feed_forward(h)?;
        Ok(program(self.target, writer.f.finish([y])))
    }

    /// A program with the inputs x and the parameters, and x.
    fn writer(&self) -> Result<(Writer<'_>, ValueId), ProgramError> {
        let dims = [("B", self.batch), ("T", self.seq), ("H", self.config.heads), ("F", self.config.hidden)];
        if let Some((letter, _)) = dims.into_iter().find(|(_, length)| *length == 0) {
            return Err(ProgramError::Empty(letter));
        }
        let mut writer = Writer { layer: self, f: main_function(self.target), inputs: Vec::new() };
        let dtype = self.target.mil_dtype();
        let x = writer.f.input("x", TensorType::new(dtype, &[self.batch, self.config.dim, 1, self.seq]));
        for parameter in layer_parameters(self.config) {
            writer.input(parameter.input, TensorType::new(dtype, &parameter.device_shape()));
        }
        Ok((writer, x))
    }

    /// Forward and backward.
    ///
    /// # Errors
    ///
    /// A dimension is 0.
    pub fn differentiated(&self) -> Result<LayerPair, ProgramError> {
        let verified = verify(self.forward()?)?;
        let version = verified.program().version;
        let function = &verified.program().functions[0];
        let norms = normalization::recognize(function, version);
        let rules: Vec<_> = norms.iter().map(|norm| (norm, norm.input(), norm.rule())).collect();
        let parameters = layer_parameters(self.config);
        let request = Request {
            of: vec!["y"],
            wrt: std::iter::once("x").chain(parameters.iter().map(|parameter| parameter.input)).collect(),
            recompute: RECOMPUTED.to_vec(),
            groups: rules.iter().map(|(norm, input, rule)| norm.group(input, rule)).collect(),
            ..Request::default()
        };
        let pair = differentiate(&verified, &function.name, &request)?;
        Ok(LayerPair {
            forward: program(self.target, pair.forward),
            backward: program(self.target, pair.backward),
        })
    }
}

/// Builds a layer.
struct Writer<'a> {
    layer: &'a Layer<'a>,
    f: FunctionBuilder,
    /// Inputs but x, by name.
    inputs: Vec<(&'static str, ValueId)>,
}

/// Queries `[B·K, G, Dh, T]`, keys and values `[B·K, 1, Dh, T]`.
struct Heads {
    queries: ValueId,
    keys: ValueId,
    values: ValueId,
}

impl Writer<'_> {
    fn input(&mut self, name: &'static str, ty: TensorType) {
        let id = self.f.input(name, ty);
        self.inputs.push((name, id));
    }

    /// h `[B, D, 1, T]`: x, and what attention adds to it.
    fn attention(&mut self, x: ValueId) -> Result<(ValueId, Heads), ProgramError> {
        let heads = self.heads(x)?;
        let scores = call::matmul(heads.queries, heads.keys).transpose_x(true).transpose_y(false);
        let scores = self.f.bind("scores", scores)?;
        let later = self.later()?;
        let masked = self.f.bind("masked_scores", call::select(later, f64::NEG_INFINITY, scores))?;
        let probabilities = self.f.bind("probabilities", call::softmax(masked).axis(-1))?;
        let mixed = call::matmul(heads.values, probabilities).transpose_x(false).transpose_y(true);
        let mixed = self.f.bind("mixed_values", mixed)?;
        Ok((self.attended(x, mixed)?, heads))
    }

    /// What attention works on: from x, normalised, and turned by its positions.
    fn heads(&mut self, x: ValueId) -> Result<Heads, ProgramError> {
        let &Layer { config, batch, seq, .. } = self.layer;
        let (size, heads, group) = (config.head_size(), config.kv_heads, config.group());
        let xn = self.normalized(x, config.dim, "attention_gain", "xn")?;
        let q = self.product("q", "wq", xn)?;
        let k = self.product("k", "wk", xn)?;
        let v = self.product("v", "wv", xn)?;
        let scale = (size as f64).sqrt().recip();
        let q = self.turned(q, config.heads, "q", scale)?;
        let k = self.turned(k, heads, "k", 1.0)?;
        Ok(Heads {
            queries: self.reshape("queries", q, &[batch * heads, group, size, seq])?,
            keys: self.reshape("keys", k, &[batch * heads, 1, size, seq])?,
            values: self.reshape("values", v, &[batch * heads, 1, size, seq])?,
        })
    }

    /// x, and the product of Wo and what the heads mixed.
    fn attended(&mut self, x: ValueId, mixed: ValueId) -> Result<ValueId, ProgramError> {
        let &Layer { config, batch, seq, .. } = self.layer;
        let mixed = self.reshape("attended", mixed, &[batch, config.heads * config.head_size(), 1, seq])?;
        let out = self.product("attention_out", "wo", mixed)?;
        Ok(self.f.bind("h", call::add(x, out))?)
    }

    /// Whether a key comes after a query, `[1, 1, T, T]`.
    fn later(&mut self) -> Result<ValueId, ProgramError> {
        let seq = self.layer.seq;
        let positions: Vec<i64> = (0..seq as i64).collect();
        let mut constant = |name: &str, dims: &[usize]| -> Result<ValueId, ProgramError> {
            let dtype = anemone_mil::types::DType::Int32;
            Ok(self.f.constant(name, Tensor::from_i64(dtype, dims, &positions)?))
        };
        let keys = constant("key_positions", &[1, 1, 1, seq])?;
        let queries = constant("query_positions", &[1, 1, seq, 1])?;
        Ok(self.f.bind("later", call::greater(keys, queries))?)
    }

    /// Queries or keys `[B, heads·Dh, 1, T]`, turned by their positions and times `scale`; normalised before, where the
    /// model does.
    fn turned(&mut self, x: ValueId, heads: usize, name: &str, scale: f64) -> Result<ValueId, ProgramError> {
        let &Layer { config, batch, seq, .. } = self.layer;
        let size = config.head_size();
        let mut x = x;
        if config.qk_norm {
            x = self.reshape(&format!("{name}_heads"), x, &[batch * heads, size, 1, seq])?;
            x = self.normalized(x, size, &format!("{name}_gain"), &format!("{name}_normal"))?;
        }
        let halves = self.reshape(&format!("{name}_halves"), x, &[batch * heads, 2, size / 2, seq])?;
        let names = [format!("{name}_first"), format!("{name}_second")];
        let split = call::split(halves, 1).split_sizes(vec![1, 1]);
        let parts = self.f.bind_all(&[&names[0], &names[1]], split)?;
        let [cos, sin] = self.rotation(name, scale)?;
        let mut times = |part: usize, table: ValueId, suffix: &str| {
            self.f.bind(&format!("{}_{suffix}", names[part]), call::mul(parts[part], table))
        };
        let (first_cos, second_sin) = (times(0, cos, "cos")?, times(1, sin, "sin")?);
        let (second_cos, first_sin) = (times(1, cos, "cos")?, times(0, sin, "sin")?);
        let first = self.f.bind(&format!("{name}_first_turned"), call::sub(first_cos, second_sin))?;
        let second = self.f.bind(&format!("{name}_second_turned"), call::add(second_cos, first_sin))?;
        let joined = call::concat(vec![first, second], 1).interleave(false);
        Ok(self.f.bind(&format!("{name}_turned"), joined)?)
    }

    /// Cosines and sines of the angles that queries or keys are turned by, times `scale`: inputs, where there are such.
    fn rotation(&mut self, name: &str, scale: f64) -> Result<[ValueId; 2], ProgramError> {
        let names = [format!("{name}_cos"), format!("{name}_sin")];
        if let [Ok(cos), Ok(sin)] = [self.given(&names[0]), self.given(&names[1])] {
            return Ok([cos, sin]);
        }
        let &Layer { config, seq, target, .. } = self.layer;
        let [cos, sin] = rotary::tables(config, 0, seq).map(|table| {
            let table: Vec<f64> = table.iter().map(|value| value * scale).collect();
            Tensor::from_f64(target.mil_dtype(), &[1, 1, config.head_size() / 2, seq], &table)
        });
        Ok([self.f.constant(&names[0], cos?), self.f.constant(&names[1], sin?)])
    }

    /// y `[B, D, 1, T]`: h, and what the feed-forward network adds to it.
    fn feed_forward(&mut self, h: ValueId) -> Result<ValueId, ProgramError> {
        let hn = self.normalized(h, self.layer.config.dim, "ffn_gain", "hn")?;
        let gate = self.product("gate", "w1", hn)?;
        let up = self.product("up", "w3", hn)?;
        let active = self.f.bind("gate_active", call::silu(gate))?;
        let inner = self.f.bind("inner", call::mul(active, up))?;
        let out = self.product("ffn_out", "w2", inner)?;
        Ok(self.f.bind("y", call::add(h, out))?)
    }

    /// x `[B, C, 1, T]`, normalised over its channels, times a gain.
    fn normalized(
        &mut self,
        x: ValueId,
        channels: usize,
        gain: &str,
        name: &str,
    ) -> Result<ValueId, ProgramError> {
        let Layer { config, target, .. } = self.layer;
        let normalized = normalize(&mut self.f, x, channels, config.norm_eps, target.dtype, false)?;
        let gain = self.given(gain)?;
        Ok(self.f.bind(name, call::mul(normalized.x_hat, gain))?)
    }

    /// The product of a matrix and x `[B, from, 1, T]`: `[B, to, 1, T]`.
    fn product(&mut self, name: &str, matrix: &str, x: ValueId) -> Result<ValueId, ProgramError> {
        let matrix = self.given(matrix)?;
        let conv = call::conv(x, matrix).strides([1, 1]).pad_type("valid").pad([0, 0, 0, 0]);
        Ok(self.f.bind(name, conv.dilations([1, 1]).groups(1))?)
    }

    /// An input but x.
    fn given(&self, name: &str) -> Result<ValueId, ProgramError> {
        let found = self.inputs.iter().find(|(input, _)| *input == name);
        found.map(|&(_, id)| id).ok_or_else(|| ProgramError::NoParameter(name.to_string()))
    }

    fn reshape(&mut self, name: &str, x: ValueId, dims: &[usize]) -> Result<ValueId, ProgramError> {
        super::reshape(&mut self.f, name, x, dims)
    }
}
