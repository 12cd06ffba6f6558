//! Models in others' forms: what is read and written, and what is refused, with words that name it.
//!
//! That the numbers are transformers' and llama2.c's, `tests/lm/interop.py` shows.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use anemone_lm::checkpoint::Checkpoint;
use anemone_lm::config::ModelConfig;
use anemone_lm::interchange::{self, InterchangeError, hugging_face, llama2c};
use anemone_lm::model::Model;
use serde_json::{Value, json};

/// A Llama with grouped queries.
fn llama() -> ModelConfig {
    ModelConfig {
        vocab: 11,
        dim: 8,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        hidden: 6,
        max_positions: 5,
        ..ModelConfig::default()
    }
}

fn qwen3() -> ModelConfig {
    ModelConfig { head_dim: Some(6), qk_norm: true, tied: true, rope_theta: 1e6, norm_eps: 1e-6, ..llama() }
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A directory with a model of this configuration.
    fn directory(&self, name: &str, config: &ModelConfig) -> PathBuf {
        let directory = self.path(name);
        fs::create_dir(&directory).unwrap();
        hugging_face::write(&Model::new(config, 3).unwrap(), 7, &directory).unwrap();
        directory
    }

    /// What is said of a directory whose `config.json` has these fields changed; null takes one out.
    fn refused_config(&self, fields: &Value) -> String {
        let directory = self.path("changed");
        fs::create_dir_all(&directory).unwrap();
        hugging_face::write(&Model::new(&llama(), 3).unwrap(), 7, &directory).unwrap();
        change_config(&directory, fields);
        interchange::read(&directory).unwrap_err().to_string()
    }
}

fn change_config(directory: &Path, fields: &Value) {
    let path = directory.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (field, value) in fields.as_object().unwrap() {
        config[field] = value.clone();
    }
    fs::write(&path, config.to_string()).unwrap();
}

/// A safetensors file of tensors that are each (name, dtype, shape, bytes).
fn safetensors(tensors: &[(&str, &str, &[usize], Vec<u8>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let begin = data.len();
        data.extend_from_slice(bytes);
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [begin, data.len()] });
        header.insert(name.to_string(), entry);
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

/// The tensors of a model in a dtype: that of the upper halves of fp32 for bf16.
fn tensors(model: &Model, dtype: &'static str) -> Vec<(String, &'static str, Vec<usize>, Vec<u8>)> {
    let bytes = |value: f32| match dtype {
        "BF16" => value.to_le_bytes()[2..].to_vec(),
        "F16" => half::f16::from_f32(value).to_le_bytes().to_vec(),
        _ => value.to_le_bytes().to_vec(),
    };
    let tensor = |parameter: &anemone_lm::model::Parameter| {
        let bytes = parameter.values.iter().flat_map(|&value| bytes(value)).collect();
        (parameter.name.clone(), dtype, parameter.shape.clone(), bytes)
    };
    model.parameters.iter().map(tensor).collect()
}

fn write_tensors(path: &Path, tensors: &[(String, &'static str, Vec<usize>, Vec<u8>)]) {
    let tensors: Vec<_> = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (&name[..], *dtype, &shape[..], bytes.clone()))
        .collect();
    fs::write(path, safetensors(&tensors)).unwrap();
}

#[test]
fn what_is_written_is_read_again() {
    let place = Place::new();
    let scaled: ModelConfig = serde_json::from_value(json!({
        "vocab": 11, "dim": 8, "layers": 1, "heads": 2, "kv_heads": 2, "hidden": 6, "max_positions": 64,
        "rope_scaling":
            { "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_positions": 16 }
    }))
    .unwrap();
    let none = ModelConfig { max_positions: 9, ..ModelConfig::default() };
    for (name, config) in [("llama", llama()), ("qwen3", qwen3()), ("scaled", scaled), ("no layers", none)] {
        let read = interchange::read(&place.directory(name, &config)).unwrap();
        assert_eq!(read, Model::new(&config, 3).unwrap(), "{name}");
    }
    for (name, config) in [("untied.bin", llama()), ("tied.bin", ModelConfig { tied: true, ..llama() })] {
        let model = Model::new(&config, 3).unwrap();
        llama2c::write(&model, &place.path(name)).unwrap();
        assert_eq!(interchange::read(&place.path(name)).unwrap(), model, "{name}");
    }
}

#[test]
fn halves_and_shards_are_read() {
    let place = Place::new();
    let directory = place.directory("model", &llama());
    let mut model = Model::new(&llama(), 3).unwrap();
    // What all three dtypes hold.
    for parameter in &mut model.parameters {
        parameter.values.iter_mut().for_each(|value| *value = (*value * 1000.0).round() / 64.0);
    }
    for dtype in ["F32", "F16", "BF16"] {
        write_tensors(&directory.join("model.safetensors"), &tensors(&model, dtype));
        assert_eq!(interchange::read(&directory).unwrap(), model, "{dtype}");
    }
    let all = tensors(&model, "F16");
    fs::remove_file(directory.join("model.safetensors")).unwrap();
    let index = |second: &str| {
        let shard = |i: usize| if i < 4 { "one.safetensors" } else { second };
        let map: serde_json::Map<_, _> =
            all.iter().enumerate().map(|(i, tensor)| (tensor.0.clone(), json!(shard(i)))).collect();
        fs::write(directory.join("model.safetensors.index.json"), json!({ "weight_map": map }).to_string())
            .unwrap();
    };
    write_tensors(&directory.join("one.safetensors"), &all[..4]);
    write_tensors(&directory.join("two.safetensors"), &all[4..]);
    index("two.safetensors");
    assert_eq!(interchange::read(&directory).unwrap(), model);

    for (second, words) in
        [("three.safetensors", "is not there"), ("../two.safetensors", "not a file's name alone")]
    {
        index(second);
        let refused = interchange::read(&directory).unwrap_err();
        assert!(matches!(refused, InterchangeError::Index { .. }), "{refused}");
        assert!(refused.to_string().contains(words), "{refused}");
    }
    // Both shards have the same, and what the index says of the second is missing.
    index("two.safetensors");
    write_tensors(&directory.join("two.safetensors"), &all[..4]);
    let refused = interchange::read(&directory).unwrap_err();
    assert!(matches!(refused, InterchangeError::ExtraTensor { .. }), "{refused}");
    write_tensors(&directory.join("two.safetensors"), &all[5..]);
    let refused = interchange::read(&directory).unwrap_err().to_string();
    assert!(refused.contains("has no tensor") && refused.contains(&all[4].0), "{refused}");
}

#[test]
fn missing_extra_and_misshaped_tensors_are_named() {
    let place = Place::new();
    let directory = place.directory("model", &llama());
    let weights = directory.join("model.safetensors");
    let model = Model::new(&llama(), 3).unwrap();
    let refused = |tensors: &[(String, &'static str, Vec<usize>, Vec<u8>)]| {
        write_tensors(&weights, tensors);
        interchange::read(&directory).unwrap_err().to_string()
    };
    let all = tensors(&model, "F32");
    let named = all[3].0.clone();
    let mut changed = all.clone();
    changed.remove(3);
    assert!(
        refused(&changed)
            .ends_with(&format!("has no tensor `{named}`, which a model of these dimensions has"))
    );
    changed.push(("model.layers.7.mlp.up_proj.weight".into(), "F32", vec![1], vec![0; 4]));
    assert!(refused(&changed).contains("has a tensor `model.layers.7.mlp.up_proj.weight`, which no model"));
    changed = all.clone();
    changed[3].2.reverse();
    assert!(
        refused(&changed).contains(&format!("tensor `{named}` has the shape [8, 4], [4, 8] is expected"))
    );
    changed = all.clone();
    changed[3].1 = "I32";
    assert!(refused(&changed).contains(&format!("tensor `{named}` is of I32; F32, F16 and BF16 are read")));

    // What old files have beside is passed over.
    changed = all.clone();
    changed.push(("model.layers.1.self_attn.rotary_emb.inv_freq".into(), "F32", vec![2], vec![0; 8]));
    write_tensors(&weights, &changed);
    assert_eq!(interchange::read(&directory).unwrap(), model);

    let whole = fs::read(&weights).unwrap();
    for len in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&weights, &whole[..len]).unwrap();
        let refused = interchange::read(&directory).unwrap_err().to_string();
        assert!(refused.contains("is not a whole safetensors file"), "{refused}");
    }
    fs::remove_file(&weights).unwrap();
    let refused = interchange::read(&directory).unwrap_err().to_string();
    assert!(refused.contains("holds neither `model.safetensors` nor"), "{refused}");
}

#[test]
fn a_tied_classifier_may_be_written_where_it_is_the_embedding() {
    let place = Place::new();
    let config = ModelConfig { tied: true, ..llama() };
    let directory = place.directory("model", &config);
    let model = Model::new(&config, 3).unwrap();
    let mut all = tensors(&model, "F32");
    let embedding = all[0].clone();
    all.push(("lm_head.weight".into(), embedding.1, embedding.2, embedding.3));
    write_tensors(&directory.join("model.safetensors"), &all);
    assert_eq!(interchange::read(&directory).unwrap(), model);
    all.last_mut().unwrap().3[0] ^= 1;
    write_tensors(&directory.join("model.safetensors"), &all);
    let refused = interchange::read(&directory).unwrap_err().to_string();
    assert!(
        refused.contains("`lm_head.weight` is not the embedding's, though `tie_word_embeddings`"),
        "{refused}"
    );
}

#[test]
fn settings_that_are_not_computed_are_named() {
    let place = Place::new();
    for (fields, words) in [
        (json!({ "attention_bias": true }), "`attention_bias` is true, only models with false"),
        (json!({ "mlp_bias": true }), "`mlp_bias` is true"),
        (json!({ "hidden_act": "gelu" }), "`hidden_act` is \"gelu\", only \"silu\""),
        (json!({ "use_sliding_window": true }), "`use_sliding_window` is true"),
        (json!({ "layer_types": ["full_attention", "sliding_attention"] }), "`layer_types` is ["),
        (json!({ "quantization_config": { "bits": 4 } }), "`quantization_config` is {"),
        (
            json!({ "rope_scaling": { "rope_type": "yarn", "factor": 4.0 } }),
            "`rope_scaling.rope_type` is \"yarn\"",
        ),
        (json!({ "rope_scaling": { "type": "linear", "factor": 4.0 } }), "`rope_scaling.type` is \"linear\""),
        (json!({ "rope_scaling": { "factor": 4.0 } }), "there is no `rope_scaling.rope_type`"),
        (
            json!({ "rope_scaling": { "rope_type": "llama3", "factor": 4.0 } }),
            "no `rope_scaling.low_freq_factor`",
        ),
        (
            json!({ "rope_parameters": { "partial_rotary_factor": 0.5 } }),
            "`rope_parameters.partial_rotary_factor`",
        ),
        (json!({ "rope_parameters": 5 }), "`rope_parameters` is 5, an object is expected"),
        (json!({ "architectures": ["GPT2LMHeadModel"] }), "`architectures` is [\"GPT2LMHeadModel\"]"),
        (json!({ "architectures": ["LlamaForCausalLM", "Qwen3ForCausalLM"] }), "`architectures` is ["),
        (json!({ "architectures": null, "model_type": "mamba" }), "`model_type` is \"mamba\""),
        (json!({ "architectures": null, "model_type": null }), "there is no `architectures`"),
        (json!({ "hidden_size": null }), "there is no `hidden_size`"),
        (json!({ "hidden_size": "8" }), "`hidden_size` is \"8\", a whole number"),
        (json!({ "vocab_size": -11 }), "`vocab_size` is -11, a whole number"),
        (json!({ "num_hidden_layers": 1.5 }), "`num_hidden_layers` is 1.5"),
        (json!({ "rms_norm_eps": "small" }), "`rms_norm_eps` is \"small\", a number"),
        (json!({ "tie_word_embeddings": 1 }), "`tie_word_embeddings` is 1, true or false"),
        (json!({ "num_key_value_heads": 3 }), "heads is 2, which kv_heads, 3, does not divide"),
        (json!({ "vocab_size": 1u64 << 60 }), "`vocab` is"),
        (json!({ "num_attention_heads": u64::MAX }), "`heads` is"),
        (json!({ "hidden_size": 16 }), "has the shape"),
    ] {
        let refused = place.refused_config(&fields);
        assert!(refused.contains(words), "{fields}: {refused}");
        assert!(!refused.contains('\n') && refused.len() < 400, "{refused}");
    }
    let directory = place.path("changed");
    for (text, words) in [("{", "is not a JSON object"), ("[]", "it is []"), ("", "is not a JSON object")] {
        fs::write(directory.join("config.json"), text).unwrap();
        let refused = interchange::read(&directory).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    fs::remove_file(directory.join("config.json")).unwrap();
    assert!(interchange::read(&directory).unwrap_err().to_string().starts_with("cannot read"));
}

/// What transformers writes since version 5, and Llama 3's files have had before.
#[test]
fn both_forms_of_the_rotary_embedding_are_read() {
    let place = Place::new();
    let directory = place.directory("model", &llama());
    let llama3 = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16
    });
    let mut with_theta = llama3.clone();
    with_theta["rope_theta"] = json!(500_000.0);
    for fields in [
        json!({ "rope_theta": 500_000.0, "rope_scaling": llama3 }),
        json!({ "rope_theta": null, "rope_scaling": null, "rope_parameters": with_theta }),
    ] {
        change_config(&directory, &fields);
        let config = interchange::read_config(&directory.join("config.json")).unwrap();
        assert_eq!(config.rope_theta, 500_000.0);
        assert_eq!(config.rope_scaling.unwrap().original_max_positions, 16);
    }
}

#[test]
fn damaged_llama2c_files_are_errors() {
    let place = Place::new();
    let path = place.path("model.bin");
    llama2c::write(&Model::new(&llama(), 3).unwrap(), &path).unwrap();
    let whole = fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        interchange::read(&path).unwrap_err().to_string()
    };
    for len in [28, 29, whole.len() / 2, whole.len() - 1] {
        let words = format!("its header describes {} bytes, it has {len}", whole.len());
        assert!(refused(&whole[..len]).ends_with(&words));
    }
    assert!(refused(&[&whole[..], &[0]].concat()).contains("its header describes"));
    for len in [0, 27] {
        assert!(refused(&whole[..len]).contains("its header alone has 28"));
    }
    let with = |field: usize, value: i32| {
        let mut bytes = whole.clone();
        bytes[4 * field..][..4].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    for (field, value, words) in [
        (0, 0, "its dim is 0"),
        (1, -6, "its hidden_dim is -6"),
        (2, i32::MAX, "`layers` is 2147483647"),
        (3, 3, "dim is 8, which heads, 3, does not divide"),
        (4, 0, "its n_kv_heads is 0"),
        (5, 0, "`vocab` is 0"),
        (5, i32::MIN, "`vocab` is 2147483648"),
        (5, 11, "its header describes"),
        (6, i32::MAX, "`max_positions` is 2147483647"),
        (6, 1 << 20, "its header describes"),
        (0, 0x616b_3432, "it is of version 6"),
    ] {
        let refused = refused(&with(field, value));
        assert!(refused.contains(words), "{field} {value}: {refused}");
    }
    assert!(refused(b"version https://git-lfs.github.com/spec/v1\noid sha256:0").contains("Git LFS"));
    assert!(interchange::read(&place.path("none.bin")).unwrap_err().to_string().starts_with("cannot read"));
}

#[test]
fn what_a_form_cannot_say_is_not_written() {
    let place = Place::new();
    let capped = Model::new(&ModelConfig { soft_cap: Some(30.0), ..llama() }, 3).unwrap();
    let refused = hugging_face::write(&capped, 7, place.0.path()).unwrap_err().to_string();
    assert!(refused.contains("config.json cannot hold this model: its logits have a soft cap"), "{refused}");
    for (config, words) in [
        (qwen3(), "its queries and keys are normalised"),
        (ModelConfig { head_dim: Some(6), ..llama() }, "the size of its heads is not D/H"),
        (ModelConfig { rope_theta: 5e5, ..llama() }, "its rotary embedding"),
        (ModelConfig { norm_eps: 1e-6, ..llama() }, "the ε of its norms"),
        (ModelConfig { max_positions: 0, ..llama() }, "the longest sequence"),
        (ModelConfig::default(), "it has no layers"),
        (capped.config.clone(), "its logits have a soft cap"),
    ] {
        let refused = llama2c::write(&Model::new(&config, 3).unwrap(), &place.path("model.bin"));
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("a file of llama2.c cannot hold this model") && refused.contains(words),
            "{refused}"
        );
    }
    assert_eq!(fs::read_dir(place.0.path()).unwrap().count(), 0);
}

/// A reader of checkpoints finds every tensor of the file that others are given.
#[test]
fn the_written_weights_are_fp32_by_their_names() {
    let place = Place::new();
    let directory = place.directory("model", &qwen3());
    let file = Checkpoint::read(&directory.join("model.safetensors")).unwrap();
    let model = Model::new(&qwen3(), 3).unwrap();
    assert_eq!(file.tensors().count(), model.parameters.len());
    for parameter in &model.parameters {
        assert_eq!(file.tensor(&parameter.name, &parameter.shape).unwrap(), parameter.values);
    }
    assert_eq!(file.metadata["format"], "pt");
}
