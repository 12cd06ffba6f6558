//! Running the binary, and files to run it on.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use npyz::WriterBuilder;
use serde_json::Value;

/// What a run of the command printed, and how it ended.
#[derive(Debug)]
pub struct Run {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Asserts that it ended with a status, and shows everything where it did not.
    #[track_caller]
    pub fn ended(self, status: i32) -> Run {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    /// Asserts that it failed for a reason that contains these words, without a panic or a result.
    #[track_caller]
    pub fn failed(self, status: i32, words: &[&str]) -> Run {
        let run = self.ended(status);
        for word in words {
            assert!(run.stderr.contains(word), "{word:?} is not in {run:#?}");
        }
        assert!(!run.stderr.contains("panicked"), "{run:#?}");
        run
    }

    /// Every line of standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }
}

/// The command, ready to be given arguments.
pub fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_anemone"))
}

/// Runs the command to its end.
pub fn anemone<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Run {
    finished(command().args(arguments).output().unwrap())
}

pub fn finished(output: Output) -> Run {
    Run {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A directory for one test's files.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file with this content, and its path as a string.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_string()
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_string()
    }
}

/// An array written by `npyz`, which our own reader shares nothing with.
pub fn array<T: npyz::AutoSerialize + Copy>(
    place: &Place,
    name: &str,
    shape: &[u64],
    values: &[T],
) -> String {
    let mut bytes = Vec::new();
    let mut writer =
        npyz::WriteOptions::new().default_dtype().shape(shape).writer(&mut bytes).begin_nd().unwrap();
    writer.extend(values.iter().copied()).unwrap();
    writer.finish().unwrap();
    place.file(name, bytes)
}

pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Each run adds x to the state s, and gives the product of x and what was in it before.
pub const ACCUMULATE: &str = r#"program(1.3)
{
    func main<ios18>(state<tensor<fp16, [2]>> s, tensor<fp16, [2]> x) {
            tensor<fp16, [2]> before = read_state(input = s)[name = string("before")];
            tensor<fp16, [2]> sum = add(x = before, y = x)[name = string("sum")];
            write_state(data = sum, input = s)[name = string("write")];
            tensor<fp16, [2]> y = mul(x = before, y = x)[name = string("y")];
        } -> (y);
}
"#;

/// y = x + x and z = x · x.
pub const TWO_OUTPUTS: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp32, [2]> x) {
            tensor<fp32, [2]> y = add(x = x, y = x)[name = string("y")];
            tensor<fp32, [2]> z = mul(x = x, y = x)[name = string("z")];
        } -> (y, z);
}
"#;

/// y = x · w with a bias, as Apple's compiler prints it.
pub const LINEAR: &str = r#"program(1.3)
[buildInfo = dict<string, string>({{"coremlc-version", "3505.4.1"}})]
{
    func main<ios18>(tensor<fp32, [2, 3]> x) {
            tensor<fp32, [4, 3]> w = const()[name = string("w"), val = tensor<fp32, [4, 3]>([[0x1p+0, 0x0p+0, 0x0p+0], [0x0p+0, 0x1p+0, 0x0p+0], [0x0p+0, 0x0p+0, 0x1p+0], [0x1p+0, 0x1p+0, 0x1p+0]])];
            tensor<fp32, [4]> b = const()[name = string("b"), val = tensor<fp32, [4]>([0x0p+0, 0x0p+0, 0x0p+0, 0x1p-1])];
            tensor<fp32, [2, 4]> y = linear(bias = b, weight = w, x = x)[name = string("y")];
        } -> (y);
}
"#;
