//! What is done to one input: read, verify, rewrite, run on the reference and, if that ran, on the fast runtime.

use std::sync::{Arc, OnceLock};

use anemone_ane::chips::Chips;
use anemone_ane::rules;
use anemone_cpu::{Cpu, Options};
use anemone_mil::error::{Errors, Spans};
use anemone_mil::eval::{Budget, Interpreter};
use anemone_mil::passes;
use anemone_mil::program::{Function, Version};
use anemone_mil::runtime::Runtime;
use anemone_mil::tensor::Tensor;
use anemone_mil::text::{self, Comments};
use anemone_mil::types::{DType, Dim, Shape, TensorType, Type};
use anemone_mil::verify::{Verified, verify, verify_blobs};
use anemone_mil::weights::{BlobFile, WeightSource};

/// What a run may use.
const BUDGET: Budget = Budget { elements: 1 << 18, work: 1 << 20 };

/// How far an input came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Refused,
    Parsed,
    Verified,
    Ran,
}

/// Takes a program as far as it goes. Whatever is wrong with it must end as an error, which is rendered as the
/// command would.
///
/// # Panics
///
/// When a program that was read is not the same after printing and reading again.
pub fn exercise(source: &str, weights: &dyn WeightSource) -> Stage {
    let parsed = match text::parse(source) {
        Ok(parsed) => parsed,
        Err(errors) => {
            render(&errors, source, &Spans::default());
            return Stage::Refused;
        }
    };
    let printed = text::write_with_comments(&parsed.program, &parsed.comments);
    let again = text::parse(&printed).map(|again| again.program);
    assert!(again.as_ref().is_ok_and(|again| *again == parsed.program), "printed and read again: {again:?}");
    render_warnings(&parsed.warnings, source, &parsed.spans);
    let verified = match verify(parsed.program) {
        Ok(verified) => Arc::new(verified),
        Err(errors) => {
            render(&errors, source, &parsed.spans);
            return Stage::Parsed;
        }
    };
    render_warnings(verified.warnings(), source, &parsed.spans);
    let (refused, doubtful) = rules::as_errors(&rules::check(&verified, Chips::ALL));
    render_warnings(&refused, source, &parsed.spans);
    render_warnings(&doubtful, source, &parsed.spans);
    if let Err(errors) = verify_blobs(verified.program(), weights) {
        render(&errors, source, &parsed.spans);
    }
    rewrite(&verified, &parsed.comments);
    // Every function runs, whether one before it did or not.
    let ran =
        verified.program().functions.iter().filter(|function| runs(&verified, function, weights)).count();
    if ran > 0 { Stage::Ran } else { Stage::Verified }
}

/// Applies every pass that needs nothing but a program. What it makes prints and reads as the same, with all comments.
fn rewrite(verified: &Verified, comments: &Comments) {
    let results = [
        ("dead-code", passes::dead_code(verified)),
        ("common-subexpressions", passes::common_subexpressions(verified)),
        ("fold-constants", passes::fold_constants(verified, None, BUDGET)),
        ("dialect=1.0", passes::dialect(verified, Version::V1_0)),
        ("dialect=1.3", passes::dialect(verified, Version::V1_3)),
    ];
    for (pass, result) in results {
        let Ok(rewritten) = result else {
            assert!(pass.starts_with("dialect"), "{pass} makes what does not verify: {result:?}");
            continue;
        };
        let program = rewritten.program.program();
        let followed = comments.follow(verified.program(), &rewritten.ids);
        let again =
            text::parse(&text::write_with_comments(program, &followed)).expect("what is printed is read");
        assert_eq!(again.program, *program, "{pass}, printed and read");
        assert_eq!(again.comments.0.len(), comments.0.len(), "{pass} keeps comments");
    }
}

fn render(errors: &Errors, source: &str, spans: &Spans) {
    assert!(!errors.is_empty(), "refused without a reason");
    assert!(!errors.render("input.mil", source, spans).is_empty());
}

fn render_warnings(warnings: &Errors, source: &str, spans: &Spans) {
    if !warnings.is_empty() {
        render(warnings, source, spans);
    }
}

/// Reads all that a weight file holds; damage must end as an error.
pub fn exercise_file(file: &BlobFile) {
    for record in file.records().flatten() {
        let bits = u64::from(record.dtype.bits());
        let count = (record.size_bytes * 8).saturating_sub(record.padding_bits.min(7)) / bits;
        let ty = TensorType { dtype: record.dtype, shape: Shape(vec![Dim::Known(count)]) };
        if let Ok(tensor) = file.read(record.offset, &ty) {
            assert!(tensor.len() as u64 <= file.size_bytes() * 8, "more values than the file has bits");
        }
    }
}

/// Whether a function runs to its end.
fn runs(verified: &Arc<Verified>, function: &Function, weights: &dyn WeightSource) -> bool {
    let declared = function.body.inputs.iter().map(|&id| &function.value(id).ty);
    let inputs = declared.filter(|ty| !matches!(ty, Type::State(_))).map(input);
    let Some(inputs) = inputs.collect::<Option<Vec<Tensor>>>() else { return false };
    let types: Vec<TensorType> = inputs.iter().map(Tensor::ty).collect();
    let interpreter = Interpreter { budget: BUDGET, ..Interpreter::default() };
    let Ok(mut executable) = interpreter.prepare(verified, &function.name, &types, weights) else {
        return false;
    };
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let mut outputs = vec![Tensor::scalar(0.0f32); executable.outputs().len()];
    let ran = executable.run(&inputs, &mut outputs).is_ok();
    // The fast runtime has no budget: it gets what the reference could do within one.
    if ran && let Ok(mut fast) = cpu().prepare(verified, &function.name, &types, weights) {
        let mut outputs = vec![Tensor::scalar(0.0f32); fast.outputs().len()];
        assert!(fast.run(&inputs, &mut outputs).is_ok(), "`{}` runs on eval only", function.name);
    }
    ran
}

/// The fast runtime, on the calling thread alone.
fn cpu() -> &'static Cpu {
    static CPU: OnceLock<Cpu> = OnceLock::new();
    CPU.get_or_init(|| {
        Cpu::with_options(Options { threads: Some(1), ..Options::default() }).expect("no thread is started")
    })
}

/// An input of a declared type, small and large values and zeros in it; a `?` becomes 3.
fn input(ty: &Type) -> Option<Tensor> {
    let TensorType { dtype, shape } = ty.as_tensor()?;
    let dims: Vec<Dim> = shape.0.iter().map(|dim| dim.or(Dim::Known(3))).collect();
    let shape = Shape(dims);
    let count = shape.elements().filter(|&count| count <= BUDGET.elements)?;
    let dims = shape.to_known()?;
    match dtype {
        DType::Fp16 | DType::Fp32 | DType::Fp64 | DType::Bf16 => {
            const VALUES: [f64; 11] =
                [0.5, -1.0, 3.0, 0.0, 1e-3, -0.0, 65504.0, -7.25, f64::INFINITY, f64::NAN, 1e-30];
            let values: Vec<f64> = (0..count as usize).map(|i| VALUES[i % VALUES.len()]).collect();
            Tensor::from_f64(dtype, &dims, &values).ok()
        }
        _ => {
            let (least, most) = dtype.integer_range().unwrap_or((0, 1));
            let values = [0, 1, 2, -1, most, 3, least].map(|v| v.clamp(least, most) as i64);
            let values: Vec<i64> = (0..count as usize).map(|i| values[i % values.len()]).collect();
            Tensor::from_i64(dtype, &dims, &values).ok().or_else(|| Tensor::zeros(dtype, &dims))
        }
    }
}
