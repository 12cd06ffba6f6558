//! Directories of Hugging Face's transformers: `config.json` beside `model.safetensors`, or beside shards and their
//! index.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value};

use super::config_json::{self, shown};
use super::{InterchangeError, read_config};
use crate::checkpoint::{self, Checkpoint, MAX_CHECKPOINT_BYTES};
use crate::config::ModelConfig;
use crate::files::{FileError, atomic_write, read_bounded};
use crate::model::{CLASSIFIER, EMBEDDING, Model, ModelError, layer_parameter, parameters};
use crate::tokenizer::{Tokenizer, TokenizerError};

/// The file with a model's dimensions.
pub const CONFIG: &str = "config.json";
/// The file with a model's weights.
pub const WEIGHTS: &str = "model.safetensors";
/// The file with a model's tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
/// The file that says which shard holds which tensor.
pub const INDEX: &str = "model.safetensors.index.json";

/// The largest index that is read, in bytes.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// The model in a directory. Weights of fp16 and bf16 are widened, which is exact.
///
/// # Errors
///
/// As [`read_config`] for the dimensions. For the weights: a file that cannot be read or is damaged, a tensor that is
/// missing, or that the model does not have, or has another shape; an index that is wrong.
pub fn read(directory: &Path) -> Result<Model, InterchangeError> {
    let config = read_config(&directory.join(CONFIG))?;
    let mut weights = Weights::expected(&config);
    let (whole, index) = (directory.join(WEIGHTS), directory.join(INDEX));
    let listed_by = if whole.exists() {
        weights.take_file(&whole)?;
        whole
    } else if index.exists() {
        for shard in weights.shards(directory, &index)? {
            weights.take_file(&shard)?;
        }
        index
    } else {
        return Err(InterchangeError::NoWeights(directory.to_owned()));
    };
    weights.into_model(config, &listed_by)
}

/// The tokenizer in a directory, where there is one.
///
/// # Errors
///
/// As [`Tokenizer::read`].
pub fn read_tokenizer(directory: &Path) -> Result<Option<Tokenizer>, TokenizerError> {
    let path = directory.join(TOKENIZER);
    if path.exists() { Tokenizer::read(&path).map(Some) } else { Ok(None) }
}

/// Writes a tokenizer into a directory that is there, replacing an older one atomically.
///
/// # Errors
///
/// A file that cannot be written.
pub fn write_tokenizer(tokenizer: &Tokenizer, directory: &Path) -> Result<(), FileError> {
    atomic_write(&directory.join(TOKENIZER), |file| file.write_all(tokenizer.json().as_bytes()))
}

/// The weights of a model, as far as they have been read.
struct Weights {
    shapes: HashMap<String, Vec<usize>>,
    values: HashMap<String, Vec<f32>>,
    /// Tensors that files may have beside the model's, and which change nothing: tables that old versions stored.
    passed_over: Vec<String>,
    tied: bool,
}

impl Weights {
    fn expected(config: &ModelConfig) -> Weights {
        let mut shapes: HashMap<String, Vec<usize>> =
            parameters(config).into_iter().map(|description| (description.name, description.shape)).collect();
        if config.tied {
            // It may be written all the same.
            shapes.insert(CLASSIFIER.to_string(), vec![config.vocab, config.dim]);
        }
        let table = |layer| layer_parameter(layer, "self_attn.rotary_emb.inv_freq");
        let passed_over = (0..config.layers).map(table).collect();
        Weights { shapes, values: HashMap::new(), passed_over, tied: config.tied }
    }

    /// Whether the model cannot do without a tensor.
    fn needs(&self, name: &str) -> bool {
        self.shapes.contains_key(name) && !(self.tied && name == CLASSIFIER)
    }

    /// The shards that an index names, in the order of their names, after it was compared with the model.
    fn shards(&self, directory: &Path, index: &Path) -> Result<Vec<PathBuf>, InterchangeError> {
        let map = weight_map(index)?;
        let path = || index.to_owned();
        let extra = |name: &&String| !self.shapes.contains_key(*name) && !self.passed_over.contains(name);
        if let Some(name) = map.keys().find(extra) {
            return Err(InterchangeError::ExtraTensor { path: path(), name: name.clone() });
        }
        self.nothing_missing(index, |name| map.contains_key(name))?;
        let mut shards = BTreeMap::new();
        for (name, shard) in &map {
            let refused = |shard: String, reason| {
                Err(InterchangeError::Index { path: path(), name: name.clone(), shard, reason })
            };
            let Some(file) = shard.as_str() else {
                return refused(shown(shard), "which is no file's name");
            };
            // An index is not to lead out of its directory.
            if Path::new(file).file_name().is_none_or(|name| name != file) {
                return refused(file.to_string(), "which is not a file's name alone");
            }
            let at = directory.join(file);
            if !at.is_file() {
                return refused(file.to_string(), "which is not there");
            }
            shards.insert(file, at);
        }
        Ok(shards.into_values().collect())
    }

    /// Takes over all tensors of a file.
    fn take_file(&mut self, path: &Path) -> Result<(), InterchangeError> {
        let bytes = read_bounded(path, MAX_CHECKPOINT_BYTES)?;
        let tensors = checkpoint::deserialize(path, &bytes)?;
        for (name, view) in tensors.iter() {
            if self.passed_over.iter().any(|passed_over| passed_over == name) {
                continue;
            }
            let named = || (path.to_owned(), name.to_owned());
            let Some(shape) = self.shapes.get(name).filter(|_| !self.values.contains_key(name)) else {
                let (path, name) = named();
                return Err(InterchangeError::ExtraTensor { path, name });
            };
            if view.shape() != shape {
                let ((path, name), found, expected) = (named(), view.shape().to_vec(), shape.clone());
                return Err(InterchangeError::Shape { path, name, found, expected });
            }
            let values = values(&view).ok_or_else(|| {
                let (path, name) = named();
                InterchangeError::Dtype { path, name, found: format!("{:?}", view.dtype()) }
            })?;
            self.values.insert(name.to_owned(), values);
        }
        Ok(())
    }

    fn nothing_missing(&self, path: &Path, has: impl Fn(&str) -> bool) -> Result<(), InterchangeError> {
        let missing = self.shapes.keys().filter(|name| self.needs(name) && !has(name)).min();
        match missing {
            Some(name) => Err(InterchangeError::MissingTensor { path: path.to_owned(), name: name.clone() }),
            None => Ok(()),
        }
    }

    /// The model, when everything is there; `path` is the file that lists it.
    fn into_model(mut self, config: ModelConfig, path: &Path) -> Result<Model, InterchangeError> {
        self.nothing_missing(path, |name| self.values.contains_key(name))?;
        if config.tied {
            let classifier = self.values.remove(CLASSIFIER);
            let embedding = self.values.get(EMBEDDING);
            if classifier.is_some_and(|classifier| Some(&classifier) != embedding) {
                let (path, name) = (path.to_owned(), CLASSIFIER.to_string());
                return Err(InterchangeError::NotTied { path, name });
            }
        }
        let take = |name: &str| self.values.remove(name).ok_or_else(|| ModelError::NoParameter(name.into()));
        Ok(Model::with_values(&config, take)?)
    }
}

/// An index's map from tensors to shards.
fn weight_map(index: &Path) -> Result<Map<String, Value>, InterchangeError> {
    const FIELD: &str = "weight_map";
    const EXPECTED: &str = "an object from tensors to files is expected";
    let (path, field) = (index.to_owned(), FIELD.to_string());
    match config_json::object(index, MAX_INDEX_BYTES)?.remove(FIELD) {
        Some(Value::Object(map)) => Ok(map),
        Some(other) => Err(InterchangeError::Field { path, field, found: shown(&other), expected: EXPECTED }),
        None => Err(InterchangeError::NoField { path, field, expected: EXPECTED }),
    }
}

/// A tensor's values in fp32; none for other types than weights have.
fn values(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let bytes = view.data();
    let halves = bytes.as_chunks::<2>().0.iter();
    match view.dtype() {
        Dtype::F32 => Some(bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()),
        Dtype::F16 => Some(halves.map(|&bytes| f16::from_le_bytes(bytes).to_f32()).collect()),
        Dtype::BF16 => Some(halves.map(|&bytes| bf16::from_le_bytes(bytes).to_f32()).collect()),
        _ => None,
    }
}

/// Writes a model into a directory that is there, in fp32: what transformers' `AutoModelForCausalLM.from_pretrained`
/// loads. Each file replaces an older one atomically. `longest` is the longest sequence that the model is meant for,
/// where its configuration does not say.
///
/// # Errors
///
/// A soft cap, which the form has no word for; a file that cannot be written.
pub fn write(model: &Model, longest: usize, directory: &Path) -> Result<(), InterchangeError> {
    let config = config_json::written(&model.config, longest)?;
    let mut weights = Checkpoint::default();
    // transformers asks for which framework the tensors are.
    weights.metadata.insert("format".into(), "pt".into());
    for parameter in &model.parameters {
        weights.insert(&parameter.name, &parameter.shape, parameter.values.clone())?;
    }
    weights.write(&directory.join(WEIGHTS))?;
    atomic_write(&directory.join(CONFIG), |file| writeln!(file, "{config:#}"))?;
    Ok(())
}
