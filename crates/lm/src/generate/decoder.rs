//! A model's layers, continuing one text by a cache of keys and values.

use anemone_mil::runtime::Runtime;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;

use crate::config::ModelConfig;
use crate::device::{narrow, zeros};
use crate::element::DeviceElement;
use crate::layers::LayersError;
use crate::model::Model;
use crate::prepared::Prepared;
use crate::programs::Target;
use crate::programs::layer::{Layer, layer_parameters};
use crate::programs::rotary;

/// A text's first positions are run this many, or a multiple, at once: so programs of few lengths are prepared.
const STRIDE: usize = 16;

/// One layer's weights, in the order of the programs' inputs, and its cache.
struct CachedLayer {
    weights: Vec<Tensor>,
    /// Keys and values `[K, 1, P, Dh]`.
    cache: [Tensor; 2],
}

/// A model's layers, prepared to continue one text of at most P positions.
pub(super) struct Decoder<'a> {
    config: ModelConfig,
    target: Target,
    runtime: &'a dyn Runtime,
    /// P.
    positions: usize,
    layers: Vec<CachedLayer>,
    /// The text's first positions, so many at once.
    prefill: Option<(usize, Prepared)>,
    decode: Prepared,
    /// Positions in the cache.
    length: usize,
    /// The same, as an input.
    length_input: Tensor,
    /// `q_cos`, `q_sin`, `k_cos`, `k_sin`.
    rotation: [Tensor; 4],
    /// What goes into a layer.
    x: Tensor,
}

impl<'a> Decoder<'a> {
    /// Prepares the layers with their present weights.
    pub(super) fn new(
        model: &Model,
        positions: usize,
        target: Target,
        runtime: &'a dyn Runtime,
    ) -> Result<Decoder<'a>, LayersError> {
        let config = model.config.clone();
        let (dtype, size) = (target.mil_dtype(), config.head_size());
        let parameters = layer_parameters(&config);
        let layer = |index: usize| -> Result<CachedLayer, LayersError> {
            let weights = parameters.iter().zip(model.layer(index, &parameters)?);
            let weights = weights.map(|(parameter, present)| -> Result<Tensor, LayersError> {
                let mut weight = zeros(dtype, &parameter.device_shape())?;
                narrow(&present.values, &mut weight);
                Ok(weight)
            });
            let weights = weights.collect::<Result<_, _>>()?;
            let cache = || zeros(dtype, &[config.kv_heads, 1, positions, size]);
            Ok(CachedLayer { weights, cache: [cache()?, cache()?] })
        };
        let layers = (0..config.layers).map(layer).collect::<Result<_, _>>()?;
        let table = || zeros(dtype, &[1, 1, size / 2, 1]);
        let decode = Layer { config: &config, batch: 1, seq: 1, target }.decode(positions)?;
        Ok(Decoder {
            layers,
            prefill: None,
            decode: Prepared::new::<LayersError>(decode, runtime)?,
            length: 0,
            length_input: zeros(DType::Int32, &[1; 4])?,
            rotation: [table()?, table()?, table()?, table()?],
            x: zeros(dtype, &[1, config.dim, 1, 1])?,
            target,
            runtime,
            positions,
            config,
        })
    }

    /// P.
    pub(super) fn positions(&self) -> usize {
        self.positions
    }

    /// The number of positions that [`Decoder::begin`] runs for `count` tokens.
    pub(super) fn padded(&self, count: usize) -> usize {
        count.next_multiple_of(STRIDE).min(self.positions).max(count)
    }

    /// Begins a text: its first `count` positions, from x `[1, D, 1, N]` for N = [`Decoder::padded`] of them. Gives what
    /// comes out of the last layer, `[1, D, 1, N]`.
    pub(super) fn begin<E>(&mut self, x: Tensor, count: usize) -> Result<&Tensor, LayersError>
    where
        E: DeviceElement + anemone_mil::tensor::Element,
    {
        let seq = self.padded(count);
        let mut prefill = match self.prefill.take() {
            Some((length, prepared)) if length == seq => prepared,
            _ => {
                let layer = Layer { config: &self.config, batch: 1, seq, target: self.target };
                Prepared::new::<LayersError>(layer.prefill()?, self.runtime)?
            }
        };
        let mut x = x;
        for CachedLayer { weights, cache } in &mut self.layers {
            let inputs: Vec<&Tensor> = std::iter::once(&x).chain(&*weights).collect();
            prefill.run(&inputs)?;
            for (cache, new) in cache.iter_mut().zip(&prefill.outputs[1..]) {
                fill::<E>(cache, new, [self.positions, seq, self.config.head_size()], count);
            }
            std::mem::swap(&mut x, &mut prefill.outputs[0]);
        }
        self.length = count;
        // What came out last.
        std::mem::swap(&mut x, &mut prefill.outputs[0]);
        let (_, prefill) = self.prefill.insert((seq, prefill));
        Ok(&prefill.outputs[0])
    }

    /// Goes on with one position, whose x is `[1, D, 1, 1]`. Gives what comes out of the last layer, `[1, D, 1, 1]`.
    pub(super) fn go_on<E>(&mut self, x: &Tensor) -> Result<&Tensor, LayersError>
    where
        E: DeviceElement + anemone_mil::tensor::Element,
    {
        self.turn_to::<E>(self.length);
        let (positions, size) = (self.positions, self.config.head_size());
        self.x.clone_from(x);
        for CachedLayer { weights, cache } in &mut self.layers {
            let mut inputs: Vec<&Tensor> = std::iter::once(&self.x).chain(&*weights).collect();
            inputs.extend([&cache[0], &cache[1], &self.length_input]);
            inputs.extend(&self.rotation);
            self.decode.run(&inputs)?;
            for (cache, new) in cache.iter_mut().zip(&self.decode.outputs[1..]) {
                let rows = cache.as_mut_slice::<E>().unwrap_or_default().chunks_mut(positions * size);
                let new = new.as_slice::<E>().unwrap_or_default().chunks(size);
                for (rows, new) in rows.zip(new) {
                    rows[self.length * size..][..size].copy_from_slice(new);
                }
            }
            std::mem::swap(&mut self.x, &mut self.decode.outputs[0]);
        }
        self.length += 1;
        Ok(&self.x)
    }

    /// Sets the inputs that say which position comes.
    fn turn_to<E>(&mut self, position: usize)
    where
        E: DeviceElement + anemone_mil::tensor::Element,
    {
        if let Some([length]) = self.length_input.as_mut_slice::<i32>() {
            *length = i32::try_from(position).unwrap_or(i32::MAX);
        }
        let scale = (self.config.head_size() as f64).sqrt().recip();
        let tables = rotary::tables(&self.config, position, 1);
        let values = [(0, scale), (1, scale), (0, 1.0), (1, 1.0)];
        for (input, (table, scale)) in self.rotation.iter_mut().zip(values) {
            let input = input.as_mut_slice::<E>().unwrap_or_default();
            for (to, value) in input.iter_mut().zip(&tables[table]) {
                *to = E::from_f32((value * scale) as f32);
            }
        }
    }
}

/// Puts the first `count` of the positions of keys or values `[K, 1, Dh, T]` at the beginning of a cache
/// `[K, 1, P, Dh]`.
fn fill<E>(cache: &mut Tensor, new: &Tensor, [positions, seq, size]: [usize; 3], count: usize)
where
    E: DeviceElement + anemone_mil::tensor::Element,
{
    let cache = cache.as_mut_slice::<E>().unwrap_or_default();
    let new = new.as_slice::<E>().unwrap_or_default();
    for (cache, new) in cache.chunks_mut(positions * size).zip(new.chunks(size * seq)) {
        for (position, row) in cache.chunks_mut(size).take(count).enumerate() {
            let column = new.iter().skip(position).step_by(seq);
            row.iter_mut().zip(column).for_each(|(to, from)| *to = *from);
        }
    }
}
