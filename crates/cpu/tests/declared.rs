//! Both runtimes hold every result to its declared type, where data decides the shape.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;

use anemone_mil::runtime::Runtime;
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::types::DType;
use anemone_mil::verify::verify;
use anemone_mil::weights::WeightMap;
use common::{cpu, prepare, reference};

/// A statement that binds `y`, of the type that it is declared to have, from `x` and what decides the shape, `n`.
struct Case {
    statement: &'static str,
    declared: &'static str,
    n: Tensor,
    x: &'static [usize],
}

impl Case {
    fn new(statement: &'static str, declared: &'static str, n: &[i32], x: &'static [usize]) -> Case {
        Case { statement, declared, n: Tensor::vector(n.to_vec()), x }
    }

    /// What each runtime makes of it: the shape of `y`, and of what reads it, or the error.
    fn outcomes(&self, through: &str) -> Vec<Result<Vec<Vec<usize>>, String>> {
        let dims: Vec<String> = self.x.iter().map(usize::to_string).collect();
        let source = format!(
            "program(1.3)\n{{\n    func main<ios18>(tensor<int32, [{}]> n, tensor<fp32, [{}]> x) {{
                {} y = {};
                {} z = {through}(x = y);
            }} -> (y, z);\n}}\n",
            self.n.len(),
            dims.join(", "),
            self.declared,
            self.statement,
            self.declared
        );
        let parsed = text::parse(&source).unwrap();
        let program = verify(parsed.program);
        let program =
            program.unwrap_or_else(|errors| panic!("{}", errors.render("", &source, &parsed.spans)));
        let program = Arc::new(program);
        let count: usize = self.x.iter().product();
        let x = Tensor::from_values(self.x, (0..count).map(|i| i as f32).collect()).unwrap();
        let runtimes: [Box<dyn Runtime>; 4] =
            [Box::new(reference(false)), Box::new(reference(true)), Box::new(cpu(1)), Box::new(cpu(2))];
        let outcome = |runtime: Box<dyn Runtime>| {
            let mut main = prepare(runtime.as_ref(), &program, &[&self.n, &x]);
            let mut outputs = vec![Tensor::scalar(false); 2];
            let run = main.run(&[&self.n, &x], &mut outputs);
            run.map(|()| outputs.iter().map(|y| y.shape().to_vec()).collect())
                .map_err(|error| error.to_string())
        };
        runtimes.map(outcome).to_vec()
    }
}

const RESHAPE: &str = "reshape(shape = n, x = x)";
const BY_SIZE: &str = "slice_by_size(begin = tensor<int32, [2]>([0, 1]), size = n, x = x)";
const BY_INDEX: &str = "slice_by_index(begin = tensor<int32, [2]>([0, 0]), end = n, x = x)";
const FROM_INDEX: &str = "slice_by_index(begin = n, end = tensor<int32, [2]>([4, 6]), x = x)";
const FILL: &str = "fill(shape = n, value = fp32(0x1p+0))";
const TILE: &str = "tile(reps = n, x = x)";

#[test]
fn a_result_of_the_declared_type_is_one() {
    let cases = [
        (Case::new(RESHAPE, "tensor<fp32, [3, 8]>", &[3, 8], &[4, 6]), vec![3, 8]),
        (Case::new(RESHAPE, "tensor<fp32, [3, ?]>", &[3, -1], &[4, 6]), vec![3, 8]),
        (Case::new(BY_SIZE, "tensor<fp32, [2, 3]>", &[2, 3], &[4, 6]), vec![2, 3]),
        (Case::new(BY_INDEX, "tensor<fp32, [2, 3]>", &[2, 3], &[4, 6]), vec![2, 3]),
        (Case::new(FROM_INDEX, "tensor<fp32, [2, 3]>", &[2, 3], &[4, 6]), vec![2, 3]),
        (Case::new(FILL, "tensor<fp32, [2, 3]>", &[2, 3], &[1]), vec![2, 3]),
        (Case::new(TILE, "tensor<fp32, [4, 6]>", &[2, 3], &[2, 2]), vec![4, 6]),
    ];
    for (case, expected) in cases {
        for through in ["relu", "identity"] {
            for outcome in case.outcomes(through) {
                assert_eq!(outcome, Ok(vec![expected.clone(); 2]), "{}", case.statement);
            }
        }
    }
}

#[test]
fn a_result_of_another_size_than_declared_is_refused() {
    let declared = "but it is declared as";
    let cases = [
        (Case::new(RESHAPE, "tensor<fp32, [3, 8]>", &[8, 3], &[4, 6]), declared),
        (Case::new(RESHAPE, "tensor<fp32, [3, 8]>", &[-1, 6], &[4, 6]), declared),
        (Case::new(RESHAPE, "tensor<fp32, [?, 8]>", &[3, 4], &[4, 6]), "`shape`"),
        (Case::new(RESHAPE, "tensor<fp32, [3, 8]>", &[5, 5], &[4, 6]), "`shape`"),
        (Case::new(RESHAPE, "tensor<fp32, [3, 8]>", &[-3, -8], &[4, 6]), "`shape`"),
        (Case::new(RESHAPE, "tensor<fp32, [3, 8]>", &[i32::MAX, i32::MAX], &[4, 6]), "`shape`"),
        (Case::new(BY_SIZE, "tensor<fp32, [2, 3]>", &[2, 4], &[4, 6]), declared),
        (Case::new(BY_SIZE, "tensor<fp32, [2, 3]>", &[2, 9], &[4, 6]), "`size`"),
        (Case::new(BY_INDEX, "tensor<fp32, [2, 3]>", &[2, 4], &[4, 6]), declared),
        (Case::new(FROM_INDEX, "tensor<fp32, [2, 3]>", &[3, 3], &[4, 6]), declared),
        (Case::new(FILL, "tensor<fp32, [2, 3]>", &[3, 2], &[1]), declared),
        (Case::new(FILL, "tensor<fp32, [2, 3]>", &[-2, 3], &[1]), "`shape`"),
        (Case::new(FILL, "tensor<fp32, [2, 3]>", &[i32::MAX, i32::MAX], &[1]), "too large"),
        (Case::new(TILE, "tensor<fp32, [4, 6]>", &[3, 2], &[2, 2]), declared),
        (Case::new(TILE, "tensor<fp32, [4, 6]>", &[-1, 2], &[2, 2]), "`reps`"),
    ];
    for (case, message) in cases {
        for through in ["relu", "identity"] {
            let outcomes = case.outcomes(through);
            for outcome in &outcomes {
                let error = outcome.as_ref().expect_err(case.statement);
                assert!(error.contains(message), "{}: {error}", case.statement);
                assert!(error.contains("`y`"), "{error}");
            }
        }
    }
}

#[test]
fn the_error_names_both_types() {
    let case = Case::new(RESHAPE, "tensor<fp32, [3, 8]>", &[8, 3], &[4, 6]);
    let expected = "`y` is tensor<fp32, [8, 3]>, but it is declared as tensor<fp32, [3, 8]>".to_string();
    let outcomes = case.outcomes("relu");
    assert_eq!(outcomes[0], Err(expected.clone()));
    assert_eq!(outcomes[2], Err(expected));
}

/// Scalars decide the length of a range, and the size of what is hot.
#[test]
fn scalars_that_decide_lengths() {
    for (statement, ty, good, bad) in [
        ("range_1d(end = n, start = int32(0), step = int32(1))", "tensor<int32, [5]>", 5, 6),
        ("range_1d(end = int32(9), start = n, step = int32(2))", "tensor<int32, [3]>", 4, 0),
        (
            "one_hot(axis = int32(-1), indices = tensor<int32, [2]>([0, 1]), off_value = int32(0), \
             on_value = int32(1), one_hot_vector_size = n)",
            "tensor<int32, [2, 4]>",
            4,
            5,
        ),
    ] {
        let source = format!(
            "program(1.3)\n{{\n    func main<ios18>(int32 n) {{ {ty} y = {statement}; }} -> (y);\n}}\n"
        );
        let parsed = text::parse(&source).unwrap();
        let program = verify(parsed.program);
        let program =
            program.unwrap_or_else(|errors| panic!("{}", errors.render("", &source, &parsed.spans)));
        let program = Arc::new(program);
        let runtimes: [Box<dyn Runtime>; 2] = [Box::new(reference(false)), Box::new(cpu(1))];
        for runtime in runtimes {
            for (n, expected) in [(good, true), (bad, false)] {
                let n = Tensor::scalar(n);
                let mut outputs = vec![Tensor::scalar(false)];
                let outcome = prepare(runtime.as_ref(), &program, &[&n]).run(&[&n], &mut outputs);
                assert_eq!(outcome.is_ok(), expected, "{statement}: {outcome:?}");
                if let Err(error) = outcome {
                    assert!(error.to_string().contains("but it is declared as"), "{error}");
                }
            }
        }
    }
}

/// Shapes that no memory holds are refused while preparing, by an error: nothing is asked of memory for them before.
#[test]
fn shapes_beyond_memory_are_refused() {
    let (rows, wide) = ("[70368744177664, 1]", "[70368744177664, 2]");
    for (ty, statement) in [
        (wide, "resize(x = b, shape = tensor<int32, [1]>([2]), resized_dims = uint32(1))"),
        (rows, "reverse(x = b, axes = tensor<int32, [1]>([0]))"),
        (wide, "pad(x = b, pad = tensor<int32, [2]>([0, 1]))"),
        (wide, "tile(x = b, reps = tensor<int32, [2]>([1, 2]))"),
    ] {
        let source = format!(
            "program(1.3)\n{{\n    func main<ios17>(tensor<fp16, [1, 1]> x) {{
                tensor<fp16, [1048576, 1]> a = tile(x = x, reps = tensor<int32, [2]>([1048576, 1]));
                tensor<fp16, {rows}> b = tile(x = a, reps = tensor<int32, [2]>([67108864, 1]));
                tensor<fp16, {ty}> c = {statement};
                tensor<fp16, [1, 1]> y = slice_by_size(x = c, begin = tensor<int32, [2]>([0, 0]), size = tensor<int32, [2]>([1, 1]));
            }} -> (y);\n}}\n"
        );
        let program = Arc::new(verify(text::parse(&source).unwrap().program).unwrap());
        let x = [Tensor::zeros(DType::Fp16, &[1, 1]).unwrap().ty()];
        let prepared = cpu(2).prepare(&program, "main", &x, &WeightMap::default());
        let error = prepared.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("memory"), "{statement}: {error}");
    }
}
