//! What random programs are made of: the functions of the case files under `tests/ops`, with operands that suit them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anemone_mil::program::{Function, Version};
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::types::{DType, Opset};
use serde_json::Value;

use crate::common;

/// A function of a case file, with values for its inputs.
pub struct Fragment {
    pub function: Function,
    pub inputs: BTreeMap<String, Tensor>,
    pub version: Version,
}

/// The fragments, by the op that they are about, and by version and opset.
pub struct Fragments {
    pub all: Vec<Fragment>,
    pub by_op: BTreeMap<String, Vec<usize>>,
    pub by_opset: BTreeMap<(Version, Opset), Vec<usize>>,
}

impl Fragments {
    /// Reads all case files.
    pub fn read() -> Fragments {
        let mut fragments = Fragments { all: Vec::new(), by_op: BTreeMap::new(), by_opset: BTreeMap::new() };
        let mut files: Vec<_> = fs::read_dir(common::data_dir("ops"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "mil"))
            .collect();
        files.sort();
        for file in files {
            fragments.add_file(&file);
        }
        fragments
    }

    fn add_file(&mut self, file: &Path) {
        let program = text::parse(&fs::read_to_string(file).unwrap()).unwrap().program;
        let cases = fs::read_to_string(file.with_extension("json")).unwrap();
        let cases: BTreeMap<String, Value> = serde_json::from_str(&cases).unwrap();
        let stem = file.file_stem().unwrap().to_string_lossy();
        let op = stem.strip_suffix("_1_0").unwrap_or(&stem);
        for function in program.functions {
            let inputs = cases[&function.name]["inputs"].as_object().unwrap();
            let inputs = inputs.iter().map(|(name, values)| (name.clone(), tensor(values))).collect();
            let index = self.all.len();
            self.by_op.entry(op.to_string()).or_default().push(index);
            self.by_opset.entry((program.version, function.opset)).or_default().push(index);
            self.all.push(Fragment { function, inputs, version: program.version });
        }
    }
}

/// The tensor that a case file gives.
fn tensor(values: &Value) -> Tensor {
    let dtype = DType::from_name(values["dtype"].as_str().unwrap()).unwrap();
    let shape: Vec<usize> =
        values["shape"].as_array().unwrap().iter().map(|length| length.as_u64().unwrap() as usize).collect();
    let data = match &values["data"] {
        Value::Array(data) => data.clone(),
        one => vec![one.clone()],
    };
    let number = |value: &Value| match value {
        Value::String(name) => name.parse().unwrap(),
        value => value.as_f64().unwrap(),
    };
    if dtype.is_float() {
        let numbers: Vec<f64> = data.iter().map(number).collect();
        return Tensor::from_f64(dtype, &shape, &numbers).unwrap();
    }
    let integer = |value: &Value| value.as_bool().map_or_else(|| value.as_i64().unwrap(), i64::from);
    Tensor::from_i64(dtype, &shape, &data.iter().map(integer).collect::<Vec<_>>()).unwrap()
}
