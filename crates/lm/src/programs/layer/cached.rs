//! A layer that continues a text: the keys and values of the positions before are in a cache of P positions, which the
//! host writes.

use anemone_mil::ops::call;
use anemone_mil::program::{Program, ValueId};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, TensorType};

use super::{Layer, Writer};
use crate::programs::{ProgramError, program};

impl Layer<'_> {
    /// [`Layer::forward`], which also gives the keys and values of all positions, `[B·K, 1, Dh, T]` each.
    ///
    /// # Errors
    ///
    /// A dimension is 0.
    pub fn prefill(&self) -> Result<Program, ProgramError> {
        let (mut writer, x) = self.writer()?;
        let (h, heads) = writer.attention(x)?;
        let y = writer.feed_forward(h)?;
        Ok(program(self.target, writer.f.finish([y, heads.keys, heads.values])))
    }

    /// One position after others, for B = T = 1 and a cache of P positions:
    ///
    /// | input, after x `[1, D, 1, 1]` and the parameters | shape |
    /// |---|---|
    /// | `key_cache`, `value_cache` | `[K, 1, P, Dh]`: of position p at index p |
    /// | `length` | int32 `[1, 1, 1, 1]`: so many positions are in the cache, the first ones |
    /// | `q_cos`, `q_sin`, `k_cos`, `k_sin` | `[1, 1, Dh/2, 1]`: the [tables](crate::programs::rotary::tables) of this position, those of q over √Dh |
    ///
    /// It gives y `[1, D, 1, 1]` and the position's own keys and values, `[K, 1, 1, Dh]`.
    ///
    /// # Errors
    ///
    /// A dimension is 0.
    pub fn decode(&self, positions: usize) -> Result<Program, ProgramError> {
        if positions == 0 {
            return Err(ProgramError::Empty("P"));
        }
        let layer = Layer { batch: 1, seq: 1, ..*self };
        let (config, dtype) = (layer.config, layer.target.mil_dtype());
        let (heads, size) = (config.kv_heads, config.head_size());
        let (mut writer, x) = layer.writer()?;
        for name in ["key_cache", "value_cache"] {
            writer.input(name, TensorType::new(dtype, &[heads, 1, positions, size]));
        }
        writer.input("length", TensorType::new(DType::Int32, &[1; 4]));
        for name in ["q_cos", "q_sin", "k_cos", "k_sin"] {
            writer.input(name, TensorType::new(dtype, &[1, 1, size / 2, 1]));
        }
        let (h, [keys, values]) = writer.attention_to_cache(x, positions)?;
        let y = writer.feed_forward(h)?;
        Ok(program(layer.target, writer.f.finish([y, keys, values])))
    }
}

impl Writer<'_> {
    /// h, and the position's keys and values as rows.
    fn attention_to_cache(
        &mut self,
        x: ValueId,
        positions: usize,
    ) -> Result<(ValueId, [ValueId; 2]), ProgramError> {
        let config = self.layer.config;
        let row = [config.kv_heads, 1, 1, config.head_size()];
        let heads = self.heads(x)?;
        let (keys, values) = (self.given("key_cache")?, self.given("value_cache")?);
        let before = call::matmul(heads.queries, keys).transpose_x(true).transpose_y(true);
        let before = self.f.bind("scores_before", before)?;
        let indices: Vec<i64> = (0..positions as i64).collect();
        let indices = Tensor::from_i64(DType::Int32, &[1, 1, 1, positions], &indices)?;
        let indices = self.f.constant("cache_positions", indices);
        let unwritten = self.f.bind("unwritten", call::greater_equal(indices, self.given("length")?))?;
        let before = self.f.bind("scores_written", call::select(unwritten, f64::NEG_INFINITY, before))?;
        let own = call::matmul(heads.queries, heads.keys).transpose_x(true).transpose_y(false);
        let own = self.f.bind("own_score", own)?;
        let scores = self.f.bind("scores", call::concat(vec![before, own], 3).interleave(false))?;
        let probabilities = self.f.bind("probabilities", call::softmax(scores).axis(-1))?;
        let sizes = vec![i32::try_from(positions).unwrap_or(i32::MAX), 1];
        let parts = call::split(probabilities, 3).split_sizes(sizes);
        let parts = self.f.bind_all(&["probabilities_before", "own_probability"], parts)?;
        let mixed = call::matmul(parts[0], values).transpose_x(false).transpose_y(false);
        let mixed = self.f.bind("mixed_before", mixed)?;
        let own_values = self.reshape("own_values", heads.values, &row)?;
        let own_mixed = self.f.bind("own_mixed", call::mul(parts[1], own_values))?;
        let mixed = self.f.bind("mixed_values", call::add(mixed, own_mixed))?;
        let own_keys = self.reshape("own_keys", heads.keys, &row)?;
        Ok((self.attended(x, mixed)?, [own_keys, own_values]))
    }
}
