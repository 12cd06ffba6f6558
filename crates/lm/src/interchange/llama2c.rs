//! The `.bin` files of [llama2.c](https://github.com/karpathy/llama2.c), version 0: seven little-endian i32 (dim,
//! hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len), then fp32 values.
//!
//! vocab_size is negative where the classifier has a matrix of its own. The rows of query and key matrices stand in the
//! order that turns neighbours: see [`rotary`]. The cosines and sines that older readers took from the file are written,
//! and passed over when reading.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use anemone_mil::files::is_lfs_pointer;

use super::InterchangeError;
use crate::config::ModelConfig;
use crate::files::{FileError, atomic_write, open};
use crate::model::{CLASSIFIER, EMBEDDING, Model, ModelError, NORM_GAIN, layer_parameter, parameters};
use crate::programs::rotary;

/// The bytes of the header.
const HEADER_BYTES: usize = 7 * 4;
/// What the files of later versions begin with.
const LATER_VERSIONS: i32 = 0x616b_3432;
/// The form's name in messages.
const FORM: &str = "a file of llama2.c";

/// What comes after the header, in order.
enum Section {
    /// A parameter.
    Parameter {
        name: String,
        /// Whether its rows turn neighbours.
        turned: bool,
    },
    /// Cosines and sines, each `[seq_len, Dh/2]`.
    Tables,
}

fn sections(config: &ModelConfig) -> Vec<Section> {
    let parameter = |name: String| Section::Parameter { turned: false, name };
    let mut sections = vec![parameter(EMBEDDING.into())];
    for name in [
        "input_layernorm.weight",
        "self_attn.q_proj.weight",
        "self_attn.k_proj.weight",
        "self_attn.v_proj.weight",
        "self_attn.o_proj.weight",
        "post_attention_layernorm.weight",
        "mlp.gate_proj.weight",
        "mlp.down_proj.weight",
        "mlp.up_proj.weight",
    ] {
        let turned = matches!(name, "self_attn.q_proj.weight" | "self_attn.k_proj.weight");
        let section = |layer| Section::Parameter { name: layer_parameter(layer, name), turned };
        sections.extend((0..config.layers).map(section));
    }
    sections.extend([parameter(NORM_GAIN.into()), Section::Tables]);
    if !config.tied {
        sections.push(parameter(CLASSIFIER.into()));
    }
    sections
}

/// The values of both tables.
fn table_values(config: &ModelConfig) -> u64 {
    2 * config.max_positions as u64 * (config.head_size() as u64 / 2)
}

/// The model in a file.
///
/// # Errors
///
/// A file that cannot be read, of another version, with dimensions out of range, or of another size than they say:
/// that is known before any weight is read.
pub fn read(path: &Path) -> Result<Model, InterchangeError> {
    let file = open(path)?;
    let failed = |source| FileError::read(path, source);
    let found = file.metadata().map_err(failed)?.len();
    let mut file = BufReader::with_capacity(1 << 16, file);
    if is_lfs_pointer(file.fill_buf().map_err(failed)?) {
        return Err(FileError::LfsPointer(path.to_owned()).into());
    }
    let mut header = Vec::new();
    file.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut header).map_err(failed)?;
    let config = dimensions(path, &header)?;
    let shapes: HashMap<String, usize> = parameters(&config)
        .into_iter()
        .map(|description| (description.name, description.shape.iter().product()))
        .collect();
    let weights: u64 = shapes.values().map(|&count| count as u64).sum();
    let expected = HEADER_BYTES as u64 + 4 * (weights + table_values(&config));
    if found != expected {
        let reason = format!("its header describes {expected} bytes, it has {found}");
        return Err(InterchangeError::Llama2c { path: path.to_owned(), reason });
    }
    let (size, dim) = (config.head_size(), config.dim);
    let mut values = HashMap::new();
    for section in sections(&config) {
        match section {
            Section::Parameter { name, turned } => {
                let count = shapes.get(&name).copied().unwrap_or(0);
                let read = read_values(&mut file, count).map_err(failed)?;
                let read = if turned { rotary::halves_from_neighbours(&read, size, dim) } else { read };
                values.insert(name, read);
            }
            Section::Tables => {
                file.seek_relative(4 * table_values(&config) as i64).map_err(failed)?;
            }
        }
    }
    let take = |name: &str| values.remove(name).ok_or_else(|| ModelError::NoParameter(name.into()));
    Ok(Model::with_values(&config, take)?)
}

/// The dimensions that a header gives.
fn dimensions(path: &Path, header: &[u8]) -> Result<ModelConfig, InterchangeError> {
    let refused = |reason: String| InterchangeError::Llama2c { path: path.to_owned(), reason };
    let (fields, _) = header.as_chunks::<4>();
    let fields: Vec<i32> = fields.iter().map(|&bytes| i32::from_le_bytes(bytes)).collect();
    let [dim, hidden, layers, heads, kv_heads, vocab, longest] = fields[..] else {
        return Err(refused(format!("it has {} bytes, its header alone has {HEADER_BYTES}", header.len())));
    };
    if dim == LATER_VERSIONS {
        return Err(refused(format!("it is of version {hidden}")));
    }
    let named = [("dim", dim), ("hidden_dim", hidden), ("n_layers", layers), ("n_heads", heads)];
    let named = named.into_iter().chain([("n_kv_heads", kv_heads), ("seq_len", longest)]);
    if let Some((name, value)) = named.into_iter().find(|&(_, value)| value <= 0) {
        return Err(refused(format!("its {name} is {value}")));
    }
    let config = ModelConfig {
        vocab: vocab.unsigned_abs() as usize,
        dim: dim as usize,
        layers: layers as usize,
        heads: heads as usize,
        kv_heads: kv_heads as usize,
        hidden: hidden as usize,
        max_positions: longest as usize,
        tied: vocab > 0,
        ..ModelConfig::default()
    };
    config.validate().map_err(|source| refused(source.to_string()))?;
    Ok(config)
}

/// `count` little-endian values.
fn read_values(file: &mut impl Read, count: usize) -> std::io::Result<Vec<f32>> {
    let mut values = Vec::new();
    let mut bytes = vec![0; 1 << 16];
    while values.len() < count {
        let part = (4 * (count - values.len())).min(bytes.len());
        file.read_exact(&mut bytes[..part])?;
        values.extend(bytes[..part].as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)));
    }
    Ok(values)
}

/// Writes a model, replacing an older file atomically.
///
/// # Errors
///
/// A model that is no Llama with θ = 10 000 and ε = 1e-5 and heads of D/H, which readers of the form take for granted;
/// a file that cannot be written.
pub fn write(model: &Model, path: &Path) -> Result<(), InterchangeError> {
    let config = &model.config;
    let header = header(config)?;
    let (size, dim) = (config.head_size(), config.dim);
    let mut written = Vec::new();
    for section in sections(config) {
        written.push(match section {
            Section::Parameter { name, turned } => (Some(model.parameter(&name)?), turned),
            Section::Tables => (None, false),
        });
    }
    atomic_write(path, |file| {
        header.iter().try_for_each(|field| file.write_all(&field.to_le_bytes()))?;
        for (parameter, turned) in written {
            match parameter {
                Some(parameter) if turned => {
                    write_values(file, &rotary::neighbours_from_halves(&parameter.values, size, dim))?;
                }
                Some(parameter) => write_values(file, &parameter.values)?,
                None => write_tables(file, config)?,
            }
        }
        Ok(())
    })?;
    Ok(())
}

/// A model's header, where the form can hold the model.
fn header(config: &ModelConfig) -> Result<[i32; 7], InterchangeError> {
    let defaults = ModelConfig::default();
    let what = if config.layers == 0 {
        Some("it has no layers")
    } else if config.qk_norm {
        Some("its queries and keys are normalised")
    } else if config.dim.checked_div(config.heads) != Some(config.head_size())
        || !config.dim.is_multiple_of(config.heads)
    {
        Some("the size of its heads is not D/H")
    } else if config.rope_theta != defaults.rope_theta || config.rope_scaling.is_some() {
        Some("its rotary embedding is not the plain one of θ = 10000")
    } else if config.norm_eps != defaults.norm_eps {
        Some("the ε of its norms is not 1e-5")
    } else if config.soft_cap.is_some() {
        Some("its logits have a soft cap")
    } else if config.max_positions == 0 {
        Some("the longest sequence that it is meant for is not known")
    } else {
        None
    };
    let refused = |what| InterchangeError::NotExpressible { form: FORM, what };
    if let Some(what) = what {
        return Err(refused(what));
    }
    let field = |value: usize| i32::try_from(value).map_err(|_| refused("a dimension is too large for it"));
    let vocab = field(config.vocab)?;
    Ok([
        field(config.dim)?,
        field(config.hidden)?,
        field(config.layers)?,
        field(config.heads)?,
        field(config.kv_heads)?,
        if config.tied { vocab } else { -vocab },
        field(config.max_positions)?,
    ])
}

fn write_values(file: &mut dyn Write, values: &[f32]) -> std::io::Result<()> {
    values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes()))
}

/// Cosines, then sines, a row for each position.
fn write_tables(file: &mut dyn Write, config: &ModelConfig) -> std::io::Result<()> {
    let frequencies = rotary::frequencies(config);
    for function in [f64::cos, f64::sin] {
        for position in 0..config.max_positions {
            let row: Vec<f32> = frequencies.iter().map(|f| function(f * position as f64) as f32).collect();
            write_values(file, &row)?;
        }
    }
    Ok(())
}
