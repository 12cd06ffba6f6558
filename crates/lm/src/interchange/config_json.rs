//! Hugging Face's `config.json`: what it says of a Llama or Qwen3, and what is written of one.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::InterchangeError;
use crate::config::{ModelConfig, RopeScaling};
use crate::files::read_bounded;

/// The largest `config.json` that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// The characters of a value that a message shows.
const SHOWN: usize = 60;

/// The architectures that the programs compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Architecture {
    Llama,
    Qwen3,
}

/// The dimensions that a `config.json` of a `LlamaForCausalLM` or `Qwen3ForCausalLM` gives.
///
/// Fields that change nothing of what is computed are passed over. What is absent or null has transformers' default.
///
/// # Errors
///
/// A file that cannot be read or is no JSON object; a field that is missing, or whose value the programs do not
/// compute; dimensions out of range.
pub fn read(path: &Path) -> Result<ModelConfig, InterchangeError> {
    let fields = object(path, MAX_BYTES)?;
    let fields = Fields { path, within: "", fields: &fields };
    let architecture = fields.architecture()?;
    fields.refuse_what_is_not_computed()?;
    let (dim, heads) = (fields.required("hidden_size")?, fields.required("num_attention_heads")?);
    let (kv_heads, head_dim) = match architecture {
        Architecture::Llama => (fields.count("num_key_value_heads")?.unwrap_or(heads), None),
        Architecture::Qwen3 => (fields.required("num_key_value_heads")?, Some(128)),
    };
    let head_dim = fields.count("head_dim")?.or(head_dim);
    let layers = fields.required("num_hidden_layers")?;
    let rope = fields.rope()?;
    let mut config = ModelConfig {
        vocab: fields.required("vocab_size")?,
        dim,
        layers,
        heads,
        kv_heads,
        // As configurations leave it out.
        head_dim: head_dim.filter(|&size| heads.checked_mul(size) != Some(dim)),
        hidden: fields.required("intermediate_size")?,
        max_positions: fields.count("max_position_embeddings")?.unwrap_or(0),
        rope_theta: rope.number("rope_theta")?.or(fields.number("rope_theta")?).unwrap_or(10_000.0),
        rope_scaling: rope.scaling()?,
        norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
        qk_norm: architecture == Architecture::Qwen3,
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        soft_cap: None,
    };
    if layers == 0 {
        // Nothing of a layer is there to be described.
        config = ModelConfig { heads: 0, kv_heads: 0, head_dim: None, hidden: 0, qk_norm: false, ..config };
    }
    let refused = |source| InterchangeError::Dimensions { path: path.to_owned(), source };
    config.validate().map_err(refused)?;
    Ok(config)
}

/// A JSON object that is a whole file.
pub(super) fn object(path: &Path, max_bytes: u64) -> Result<Map<String, Value>, InterchangeError> {
    let refused = |reason| InterchangeError::Json { path: path.to_owned(), reason };
    let value = serde_json::from_slice(&read_bounded(path, max_bytes)?);
    match value.map_err(|error| refused(error.to_string()))? {
        Value::Object(fields) => Ok(fields),
        other => Err(refused(format!("it is {}", shown(&other)))),
    }
}

/// A value as messages show it.
pub(super) fn shown(value: &Value) -> String {
    let whole = value.to_string();
    match whole.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    }
}

/// A JSON object's fields, and how messages name them.
struct Fields<'a> {
    path: &'a Path,
    /// What stands before a field's name.
    within: &'static str,
    fields: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// A field's value; null is none.
    fn get(&self, field: &str) -> Option<&'a Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    fn refused(&self, field: &str, found: &Value, expected: &'static str) -> InterchangeError {
        let field = format!("{}{field}", self.within);
        InterchangeError::Field { path: self.path.to_owned(), field, found: shown(found), expected }
    }

    fn missing(&self, field: &str, expected: &'static str) -> InterchangeError {
        let field = format!("{}{field}", self.within);
        InterchangeError::NoField { path: self.path.to_owned(), field, expected }
    }

    /// A field's value, as `take` has it.
    fn typed<T>(
        &self,
        field: &str,
        expected: &'static str,
        take: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, InterchangeError> {
        let take = |value| take(value).ok_or_else(|| self.refused(field, value, expected));
        self.get(field).map(take).transpose()
    }

    fn count(&self, field: &str) -> Result<Option<usize>, InterchangeError> {
        self.typed(field, COUNT, |value| usize::try_from(value.as_u64()?).ok())
    }

    fn required(&self, field: &str) -> Result<usize, InterchangeError> {
        self.count(field)?.ok_or_else(|| self.missing(field, "which the model's dimensions need"))
    }

    fn number(&self, field: &str) -> Result<Option<f64>, InterchangeError> {
        self.typed(field, "a number is expected", Value::as_f64)
    }

    fn flag(&self, field: &str) -> Result<Option<bool>, InterchangeError> {
        self.typed(field, "true or false is expected", Value::as_bool)
    }

    fn architecture(&self) -> Result<Architecture, InterchangeError> {
        const EXPECTED: &str = "LlamaForCausalLM or Qwen3ForCausalLM is expected";
        let (field, named) = match self.get("architectures") {
            Some(value) => ("architectures", value),
            None => {
                ("model_type", self.get("model_type").ok_or_else(|| self.missing("architectures", EXPECTED))?)
            }
        };
        let name = match named.as_array().map(Vec::as_slice) {
            Some([name]) => name.as_str(),
            _ => named.as_str(),
        };
        match name {
            Some("LlamaForCausalLM" | "llama") => Ok(Architecture::Llama),
            Some("Qwen3ForCausalLM" | "qwen3") => Ok(Architecture::Qwen3),
            _ => Err(self.refused(field, named, EXPECTED)),
        }
    }

    /// Refuses settings with which the model would be another one.
    fn refuse_what_is_not_computed(&self) -> Result<(), InterchangeError> {
        for field in ["attention_bias", "mlp_bias", "use_sliding_window"] {
            if self.flag(field)? == Some(true) {
                return Err(self.refused(field, &Value::Bool(true), "only models with false are computed"));
            }
        }
        let only = |field: &str, expected: &'static str, fits: &dyn Fn(&Value) -> bool| match self.get(field)
        {
            Some(value) if !fits(value) => Err(self.refused(field, value, expected)),
            _ => Ok(()),
        };
        only("hidden_act", "only \"silu\" is computed", &|value| value == "silu")?;
        only("layer_types", "only layers of \"full_attention\" are computed", &|value| {
            value.as_array().is_some_and(|types| types.iter().all(|kind| kind == "full_attention"))
        })?;
        only("quantization_config", "only weights that are not quantised are read", &|_| false)?;
        only("partial_rotary_factor", ROTARY_PART, &|value| value.as_f64() == Some(1.0))
    }

    /// What describes the rotary embedding: an object of its own, else these fields themselves.
    fn rope(&self) -> Result<Fields<'a>, InterchangeError> {
        if let (Some(one), Some(other)) = (self.get("rope_parameters"), self.get("rope_scaling"))
            && one != other
        {
            return Err(self.refused("rope_scaling", other, "`rope_parameters` says something else"));
        }
        for (field, within) in [("rope_parameters", "rope_parameters."), ("rope_scaling", "rope_scaling.")] {
            if let Some(fields) = self.typed(field, "an object is expected", Value::as_object)? {
                return Ok(Fields { path: self.path, within, fields });
            }
        }
        Ok(Fields { path: self.path, within: "", fields: self.fields })
    }

    /// How frequencies are changed, in an object that [`Fields::rope`] gives.
    fn scaling(&self) -> Result<Option<RopeScaling>, InterchangeError> {
        if let Some(part) = self.get("partial_rotary_factor").filter(|part| part.as_f64() != Some(1.0)) {
            return Err(self.refused("partial_rotary_factor", part, ROTARY_PART));
        }
        // Older files say "type".
        let field = if self.get("rope_type").is_some() { "rope_type" } else { "type" };
        let Some(kind) = self.get(field) else {
            // Changes of a form that is not said are none that can be passed over.
            return match self.get("factor") {
                Some(_) => Err(self.missing("rope_type", "which says what `factor` is of")),
                None => Ok(None),
            };
        };
        match kind.as_str() {
            Some("default") => Ok(None),
            Some("llama3") => {
                const NEEDED: &str = "which \"llama3\" needs";
                let number = |field| self.number(field)?.ok_or_else(|| self.missing(field, NEEDED));
                let original = "original_max_position_embeddings";
                Ok(Some(RopeScaling {
                    factor: number("factor")?,
                    low_freq_factor: number("low_freq_factor")?,
                    high_freq_factor: number("high_freq_factor")?,
                    original_max_positions: self
                        .count(original)?
                        .ok_or_else(|| self.missing(original, NEEDED))?,
                }))
            }
            _ => Err(self.refused(field, kind, "only \"default\" and \"llama3\" are computed")),
        }
    }
}

const COUNT: &str = "a whole number, 0 or more, is expected";
const ROTARY_PART: &str = "only heads that are turned whole are computed";

/// A model's `config.json`; `longest` is the longest sequence that it is meant for, where its configuration has none.
///
/// # Errors
///
/// A soft cap, which neither architecture has.
pub(super) fn written(config: &ModelConfig, longest: usize) -> Result<Value, InterchangeError> {
    if config.soft_cap.is_some() {
        let what = "its logits have a soft cap, which neither a Llama nor a Qwen3 has";
        return Err(InterchangeError::NotExpressible { form: "config.json", what });
    }
    let (architecture, kind) = match config.qk_norm {
        true => ("Qwen3ForCausalLM", "qwen3"),
        false => ("LlamaForCausalLM", "llama"),
    };
    // A model without layers needs some numbers where readers divide by them.
    let [heads, kv_heads, head_dim, hidden] = match config.layers {
        0 => [1, 1, config.dim, 1],
        _ => [config.heads, config.kv_heads, config.head_size(), config.hidden],
    };
    let scaling = config.rope_scaling.map(|scaling| {
        json!({
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_max_positions,
        })
    });
    Ok(json!({
        "architectures": [architecture],
        "model_type": kind,
        "torch_dtype": "float32",
        "vocab_size": config.vocab,
        "hidden_size": config.dim,
        "num_hidden_layers": config.layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "intermediate_size": hidden,
        "hidden_act": "silu",
        "max_position_embeddings": if config.max_positions == 0 { longest } else { config.max_positions },
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling,
        "tie_word_embeddings": config.tied,
        "attention_bias": false,
        // The tokens of a vocabulary have no such meaning here.
        "bos_token_id": null,
        "eos_token_id": null,
    }))
}
