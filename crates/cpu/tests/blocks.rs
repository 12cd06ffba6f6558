//! Nested blocks on both runtimes: they agree, they end, and what a block reads from around it is what stands there.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fmt::Write;
use std::sync::Arc;

use anemone_mil::runtime::{Executable, Runtime};
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::types::DType;
use anemone_mil::verify::{Verified, verify};
use anemone_mil::weights::WeightMap;
use common::{cpu, ordinary, prepare, reference, set_constant};
use proptest::prelude::*;

fn parsed(source: &str) -> Arc<Verified> {
    let parsed = text::parse(source).unwrap_or_else(|errors| panic!("{errors}\n{source}"));
    let verified = verify(parsed.program);
    Arc::new(verified.unwrap_or_else(|errors| panic!("{}", errors.render("main", source, &parsed.spans))))
}

fn runtimes() -> [Box<dyn Runtime>; 2] {
    [Box::new(reference(false)), Box::new(cpu(2))]
}

/// The outputs of a function, whose sizes the run decides, or its error.
fn outcome(executable: &mut dyn Executable, inputs: &[&Tensor]) -> Result<Vec<Tensor>, String> {
    let mut outputs = vec![Tensor::scalar(false); executable.outputs().len()];
    executable.run(inputs, &mut outputs).map(|()| outputs).map_err(|error| error.to_string())
}

/// Runs `main` on every runtime, which must agree.
fn run_everywhere(source: &str, inputs: &[&Tensor]) -> Result<Vec<Tensor>, String> {
    let program = parsed(source);
    let [expected, actual] =
        runtimes().map(|runtime| outcome(prepare(runtime.as_ref(), &program, inputs).as_mut(), inputs));
    assert_eq!(actual, expected, "{source}");
    expected
}

/// A program with one function, `main`, with these inputs, statements and outputs.
fn main_of(inputs: &str, statements: &str, outputs: &str) -> String {
    format!("program(1.3)\n{{\n    func main<ios18>({inputs}) {{\n{statements}\n    }} -> ({outputs});\n}}\n")
}

const LIST: &str = "list<tensor<fp32, [2]>, ?> ls = make_list(dtype = string(\"fp32\"), \
    dynamic_length = bool(true), elem_shape = (int32(2)), init_length = int32(3));";

#[test]
fn a_negative_index_counts_from_the_end() {
    let statements = format!(
        "{LIST} list<tensor<fp32, [2]>, ?> written = list_write(index = int32(-1), ls = ls, value = x);
         tensor<fp32, [2, 2]> y = list_gather(indices = tensor<int32, [2]>([2, -3]), ls = written);
         tensor<fp32, [2]> last = list_read(index = int32(-1), ls = written);"
    );
    let x = Tensor::vector(vec![1f32, 2.0]);
    let source = main_of("tensor<fp32, [2]> x", &statements, "y, last");
    let both = Tensor::from_values(&[2, 2], vec![1f32, 2.0, 0.0, 0.0]).unwrap();
    assert_eq!(run_everywhere(&source, &[&x]), Ok(vec![both, x]));
}

#[test]
fn a_place_that_a_list_does_not_have_is_refused() {
    let write = "list<tensor<fp32, [2]>, ?> y = list_write(index = n, ls = ls, value = x);";
    let read = "tensor<fp32, [2]> y = list_read(index = n, ls = ls);";
    for (statement, index, message) in [
        (write, -4, "`index`"),
        (write, i32::MIN, "`index`"),
        (write, i32::MAX, "budget"),
        (read, 3, "`index`"),
        (read, -4, "`index`"),
        (read, i32::MAX, "`index`"),
    ] {
        let statements = format!("{LIST} {statement} int32 length = list_length(ls = ls);");
        let outputs = if statement == read { "y" } else { "z" };
        let kept = if statement == read { "" } else { "int32 z = list_length(ls = y);" };
        let source = main_of("int32 n, tensor<fp32, [2]> x", &format!("{statements} {kept}"), outputs);
        let x = Tensor::vector(vec![1f32, 2.0]);
        let error = run_everywhere(&source, &[&Tensor::scalar(index), &x]).unwrap_err();
        assert!(error.contains(message), "{index}: {error}");
    }
}

#[test]
fn what_lies_between_is_zero_where_a_list_grows() {
    let statements = format!(
        "{LIST} list<tensor<fp32, [2]>, ?> w = list_write(index = int32(5), ls = ls, value = x);
         tensor<fp32, [3, 2]> y = list_gather(indices = tensor<int32, [3]>([3, 4, 5]), ls = w);
         int32 length = list_length(ls = w);"
    );
    let x = Tensor::vector(vec![1f32, 2.0]);
    let source = main_of("tensor<fp32, [2]> x", &statements, "y, length");
    let y = Tensor::from_values(&[3, 2], vec![0f32, 0.0, 0.0, 0.0, 1.0, 2.0]).unwrap();
    assert_eq!(run_everywhere(&source, &[&x]), Ok(vec![y, Tensor::scalar(6i32)]));
}

#[test]
fn endless_loops_end() {
    let body = "tensor<fp32, [2]> a = add(x = v, y = x); tensor<fp32, [2]> b = mul(x = a, y = x);
        tensor<fp32, [1]> c = reduce_sum(axes = tensor<int32, [1]>([0]), keep_dims = bool(true), x = b);
        tensor<fp32, [2]> d = add(x = b, y = c);";
    let inner = "int32 n = while_loop(loop_vars = (int32(0)))
        (int32 i) { } -> (p) (int32 j) { int32 k = add(x = j, y = int32(1)); } -> (k);";
    let loops = [("", "", "v"), ("", body, "d"), (inner, "", "v"), ("", inner, "v")];
    // An emulator takes a minute for one of them.
    let count = if std::env::var_os("ANEMONE_EMULATOR").is_some() { 1 } else { loops.len() };
    for (condition, body, result) in loops.into_iter().take(count) {
        let statements = format!(
            "tensor<fp32, [2]> y = while_loop(loop_vars = (x))
             (tensor<fp32, [2]> u) {{ {condition} }} -> (p)
             (tensor<fp32, [2]> v) {{ {body} }} -> ({result});"
        );
        let source = main_of("bool p, tensor<fp32, [2]> x", &statements, "y");
        let program = parsed(&source);
        let x = Tensor::vector(vec![1f32, 2.0]);
        for runtime in runtimes() {
            let inputs = [&Tensor::scalar(true), &x];
            let error = outcome(prepare(runtime.as_ref(), &program, &inputs).as_mut(), &inputs).unwrap_err();
            assert!(error.contains("budget"), "{}: {error}", runtime.name());
        }
    }
}

#[test]
fn a_list_that_grows_without_end_ends() {
    let statements = "list<tensor<bool, [4096]>, ?> ls = make_list(dtype = string(\"bool\"),
            dynamic_length = bool(true), elem_shape = (int32(4096)), init_length = int32(0));
        list<tensor<bool, [4096]>, ?> y = while_loop(loop_vars = (ls))
            (list<tensor<bool, [4096]>, ?> u) { } -> (p)
            (list<tensor<bool, [4096]>, ?> v) {
                int32 n = list_length(ls = v);
                list<tensor<bool, [4096]>, ?> w = list_write(index = n, ls = v, value = x);
            } -> (w);
        int32 length = list_length(ls = y);";
    let program = parsed(&main_of("bool p, tensor<bool, [4096]> x", statements, "length"));
    let x = Tensor::vector(vec![true; 4096]);
    for runtime in runtimes() {
        let inputs = [&Tensor::scalar(true), &x];
        let error = outcome(prepare(runtime.as_ref(), &program, &inputs).as_mut(), &inputs).unwrap_err();
        assert!(error.contains("budget"), "{}: {error}", runtime.name());
    }
}

/// Memory for the blocks of a function must not grow with the square of their number.
#[test]
fn many_blocks_are_prepared() {
    let (mut statements, mut last) = (String::new(), "x".to_string());
    for i in 0..3000 {
        let next = format!("y{i}");
        writeln!(
            statements,
            "tensor<fp32, [2]> {next} = cond(pred = p)
             () {{ tensor<fp32, [2]> a = add(x = {last}, y = x); }} -> (a) () {{ }} -> ({last});"
        )
        .unwrap();
        last = next;
    }
    let source = main_of("bool p, tensor<fp32, [2]> x", &statements, &last);
    let x = Tensor::vector(vec![1f32, 2.0]);
    let results = run_everywhere(&source, &[&Tensor::scalar(true), &x]);
    assert_eq!(results, Ok(vec![Tensor::vector(vec![3001f32, 6002.0])]));
}

#[test]
fn blocks_nest_as_deeply_as_text_allows() {
    let mut block = "tensor<fp32, [2]> inner = add(x = x, y = x);".to_string();
    for depth in 0..64 {
        let (above, below) =
            (format!("d{depth}"), if depth == 0 { "inner".into() } else { format!("d{}", depth - 1) });
        block = format!(
            "tensor<fp32, [2]> {above} = cond(pred = p) () {{ {block} }} -> ({below}) () {{ }} -> (x);"
        );
    }
    let source = main_of("bool p, tensor<fp32, [2]> x", &block, "d63");
    let x = Tensor::vector(vec![1f32, 2.0]);
    let results = run_everywhere(&source, &[&Tensor::scalar(true), &x]);
    assert_eq!(results, Ok(vec![Tensor::vector(vec![2f32, 4.0])]));
}

#[test]
fn blocks_read_and_write_states_at_any_depth() {
    let statements = "
        int32 end = while_loop(loop_vars = (int32(0)))
            (int32 i) { bool go = less(x = i, y = n); } -> (go)
            (int32 j) {
                tensor<fp32, [2]> unused = cond(pred = p)
                    () {
                        tensor<fp32, [2]> held = read_state(input = s);
                        tensor<fp32, [2]> sum = add(x = held, y = x);
                        write_state(data = sum, input = s);
                    } -> (sum)
                    () { } -> (x);
                int32 next = add(x = j, y = int32(1));
            } -> (next);
        tensor<fp32, [2]> y = read_state(input = s);";
    let inputs =
        "bool p, state<tensor<fp32, [2]>> first, int32 n, tensor<fp32, [2]> x, state<tensor<fp32, [2]>> s";
    let program = parsed(&main_of(inputs, statements, "y"));
    let (p, n, x) = (Tensor::scalar(true), Tensor::scalar(5i32), Tensor::vector(vec![1f32, 2.0]));
    for runtime in runtimes() {
        let mut main = prepare(runtime.as_ref(), &program, &[&p, &n, &x]);
        let five = Tensor::vector(vec![5f32, 10.0]);
        assert_eq!(outcome(main.as_mut(), &[&p, &n, &x]), Ok(vec![five.clone()]), "{}", runtime.name());
        assert_eq!(main.state("s"), Some(&five));
        assert_eq!(main.state("first"), Some(&Tensor::vector(vec![0f32, 0.0])));
    }
}

#[test]
fn a_constant_is_replaced_in_blocks_of_any_depth() {
    let statements = "
        tensor<fp32, [2]> c = const()[val = tensor<fp32, [2]>([1, 1])];
        int32 end, tensor<fp32, [2]> y, tensor<fp32, [2]> given = while_loop(loop_vars = (int32(0), x, c))
            (int32 i, tensor<fp32, [2]> u, tensor<fp32, [2]> k) { bool go = less(x = i, y = n); } -> (go)
            (int32 j, tensor<fp32, [2]> v, tensor<fp32, [2]> l) {
                tensor<fp32, [2]> w = cond(pred = p)
                    () { tensor<fp32, [2]> sum = add(x = v, y = c); } -> (sum)
                    () { } -> (c);
                int32 next = add(x = j, y = int32(1));
            } -> (next, w, l);
        tensor<fp32, [2]> either = cond(pred = p) () { } -> (c) () { } -> (x);";
    let program = parsed(&main_of("bool p, int32 n, tensor<fp32, [2]> x", statements, "y, given, either"));
    let (n, x) = (Tensor::scalar(3i32), Tensor::vector(vec![1f32, 2.0]));
    let (ones, tens) = (Tensor::vector(vec![1f32, 1.0]), Tensor::vector(vec![10f32, 20.0]));
    for runtime in runtimes() {
        let (yes, no) = (Tensor::scalar(true), Tensor::scalar(false));
        let mut main = prepare(runtime.as_ref(), &program, &[&yes, &n, &x]);
        let sum = Tensor::vector(vec![4f32, 5.0]);
        let first = outcome(main.as_mut(), &[&yes, &n, &x]);
        assert_eq!(first, Ok(vec![sum, ones.clone(), ones.clone()]), "{}", runtime.name());
        set_constant(main.as_mut(), "c", &tens);
        let sum = Tensor::vector(vec![31f32, 62.0]);
        let second = outcome(main.as_mut(), &[&yes, &n, &x]);
        assert_eq!(second, Ok(vec![sum, tens.clone(), tens.clone()]), "{}", runtime.name());
        let third = outcome(main.as_mut(), &[&no, &n, &x]);
        assert_eq!(third, Ok(vec![tens.clone(), tens.clone(), x.clone()]), "{}", runtime.name());
    }
}

/// A weight that only a dead op of a block reads is not read; one that a live op reads is, wherever the op stands.
#[test]
fn weights_of_ops_in_blocks_are_read_if_they_are_needed() {
    let blob = |op: &str, name: &str| {
        format!(
            "tensor<fp32, [2]> {name} = {op}(x = x, y = tensor<fp32, [2]>(BLOBFILE(path = \
            string(\"@model_path/missing.bin\"), offset = uint64(64))));"
        )
    };
    let of = |statement: &str, result: &str| {
        let block = format!(
            "tensor<fp32, [2]> y = cond(pred = p) () {{ {statement} }} -> ({result}) () {{ }} -> (x);"
        );
        parsed(&main_of("bool p, tensor<fp32, [2]> x", &block, "y"))
    };
    let x = Tensor::vector(vec![1f32, 2.0]);
    let inputs = [&Tensor::scalar(true), &x];
    let (dead, live) = (of(&blob("add", "a"), "x"), of(&blob("add", "a"), "a"));
    for runtime in runtimes() {
        assert_eq!(outcome(prepare(runtime.as_ref(), &dead, &inputs).as_mut(), &inputs), Ok(vec![x.clone()]));
        let types = inputs.map(Tensor::ty);
        let error = runtime.prepare(&live, "main", &types, &WeightMap::default()).err().unwrap().to_string();
        assert!(error.contains("missing.bin"), "{error}");
    }
}

#[test]
fn a_result_of_another_size_than_declared_is_refused() {
    // The loop's value is declared to keep its length, and does not.
    let statements = "int32 end, tensor<fp32, [?]> y = while_loop(loop_vars = (int32(0), x))
        (int32 i, tensor<fp32, [?]> u) { bool go = less(x = i, y = int32(2)); } -> (go)
        (int32 j, tensor<fp32, [?]> v) {
            tensor<fp32, [?]> w = concat(axis = int32(0), interleave = bool(false), values = (v, x));
            int32 next = add(x = j, y = int32(1));
        } -> (next, w);
        tensor<fp32, [5]> z = identity(x = y);";
    let source = main_of("tensor<fp32, [2]> x", statements, "z");
    let x = Tensor::vector(vec![1f32, 2.0]);
    let error = run_everywhere(&source, &[&x]).unwrap_err();
    assert!(error.contains('6') && error.contains('5'), "{error}");
}

/// Statements of nested blocks, at random.
struct Generator {
    state: u64,
    names: usize,
    text: String,
}

impl Generator {
    fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 27)) >> 33) as usize % bound
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    fn any(&mut self, values: &[String]) -> String {
        values[self.below(values.len())].clone()
    }

    /// Some statements; `values` are the tensors that are seen, to which theirs are added.
    fn statements(&mut self, values: &mut Vec<String>, depth: usize) {
        for _ in 0..=self.below(4) {
            let y = self.name("y");
            let kind = if depth == 0 { self.below(4) } else { self.below(6) };
            let (a, b) = (self.any(values), self.any(values));
            match kind {
                0..=2 => {
                    let op = ["add", "maximum", "sub"][kind];
                    writeln!(self.text, "tensor<fp32, [2, 3]> {y} = {op}(x = {a}, y = {b});").unwrap();
                }
                3 => {
                    let ones = "tensor<fp32, [3]>([1, -1, 2])";
                    writeln!(self.text, "tensor<fp32, [2, 3]> {y} = add(x = {a}, y = {ones});").unwrap();
                }
                4 => self.cond(&y, values, depth),
                _ => self.while_loop(&y, values, depth),
            }
            values.push(y);
        }
    }

    fn cond(&mut self, y: &str, values: &[String], depth: usize) {
        let p = ["p", "q"][self.below(2)];
        writeln!(self.text, "tensor<fp32, [2, 3]> {y} = cond(pred = {p})").unwrap();
        for end in ["", ";"] {
            self.text.push_str("() {\n");
            let mut seen = values.to_vec();
            self.statements(&mut seen, depth - 1);
            let yielded = self.any(&seen);
            writeln!(self.text, "}} -> ({yielded}){end}").unwrap();
        }
    }

    fn while_loop(&mut self, y: &str, values: &[String], depth: usize) {
        let (first, second, rounds) = (self.any(values), self.any(values), self.below(4));
        let [end, z, i, j, u, v, go, next] =
            ["end", "z", "i", "j", "u", "v", "go", "next"].map(|p| self.name(p));
        let other = self.name("w");
        let ty = "tensor<fp32, [2, 3]>";
        let vars = format!("int32(0), {first}, {second}");
        writeln!(self.text, "int32 {end}, {ty} {y}, {ty} {z} = while_loop(loop_vars = ({vars}))").unwrap();
        let unused = self.name("unused");
        writeln!(self.text, "(int32 {i}, {ty} {unused}, {ty} {other}) {{").unwrap();
        writeln!(self.text, "bool {go} = less(x = {i}, y = int32({rounds})); }} -> ({go})").unwrap();
        writeln!(self.text, "(int32 {j}, {ty} {u}, {ty} {v}) {{").unwrap();
        let mut seen = values.to_vec();
        seen.extend([u, v]);
        self.statements(&mut seen, depth - 1);
        let yielded = [self.any(&seen), self.any(&seen)].join(", ");
        writeln!(self.text, "int32 {next} = add(x = {j}, y = int32(1)); }} -> ({next}, {yielded});").unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_blocks_agree(seed: u64) {
        let mut generator = Generator { state: seed, names: 0, text: String::new() };
        generator.text.push_str("tensor<fp32, [2, 3]> c = const()[val = tensor<fp32, [2, 3]>([[1, 2, 3], [4, 5, 6]])];\n");
        let mut values = ["x", "c"].map(str::to_string).to_vec();
        generator.statements(&mut values, 3);
        generator.statements(&mut values, 3);
        let last = values.last().unwrap().clone();
        let outputs = [last, generator.any(&values[2..]), "c".into()];
        let outputs = if outputs[0] == outputs[1] { outputs[1..].join(", ") } else { outputs.join(", ") };
        let source = main_of("bool p, bool q, tensor<fp32, [2, 3]> x", &generator.text, &outputs);
        let program = parsed(&source);
        let (x, other) = (ordinary(seed, DType::Fp32, &[2, 3]), ordinary(seed ^ 1, DType::Fp32, &[2, 3]));
        let (p, q) = (Tensor::scalar(seed % 2 == 0), Tensor::scalar(seed % 3 == 0));
        let [mut expected, mut actual] =
            runtimes().map(|runtime| prepare(runtime.as_ref(), &program, &[&p, &q, &x]));
        for [p, q] in [[&p, &q], [&q, &p]] {
            let inputs = [p, q, &x];
            prop_assert_eq!(outcome(actual.as_mut(), &inputs), outcome(expected.as_mut(), &inputs), "{}", source);
            set_constant(expected.as_mut(), "c", &other);
            set_constant(actual.as_mut(), "c", &other);
        }
    }
}
