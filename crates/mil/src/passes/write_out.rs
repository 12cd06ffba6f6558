//! Writing ops out as simpler ones.

use super::{PassError, Rewritten, Site, replace_ops};
use crate::bind;
use crate::builder::FunctionBuilder;
use crate::ops::{Operand, Writer};
use crate::program::ValueId;
use crate::types::TensorType;
use crate::verify::{Verified, count};

/// Writes the ops of a function out whose rows say how, for a backend that knows only the simpler ones. An op stays whose
/// dimensions are not all known, or that has elements of nothing. Results are within the accuracy of the ops that were
/// written out.
///
/// # Errors
///
/// [`PassError::Unsound`] where the result does not verify.
pub fn write_out(program: &Verified, function: &str) -> Result<Rewritten, PassError> {
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| {
        let here = site.function().name == function;
        Ok(if here { written_out(site, build) } else { None })
    };
    replace_ops(program, replace, |number| format!("{} written out", count(number, "op")))
}

/// What stands for the results of an op; `None` where it stays.
fn written_out(site: Site<'_>, build: &mut FunctionBuilder) -> Option<Vec<ValueId>> {
    let row = site.row()?;
    let write_out = row.write_out?;
    let operands = bind::operands(site.op(), row, site.facts()).ok()?;
    let some = |ty: &TensorType| ty.shape.elements().is_some_and(|elements| elements > 0);
    let at_hand = |operand: &Operand| some(&operand.ty) && (operand.id.is_some() || operand.value.is_some());
    let results = || site.op().results.iter().map(|&result| site.facts().ty(result).as_tensor());
    if !operands.iter().all(at_hand) || !results().all(|ty| ty.as_ref().is_some_and(some)) {
        return None;
    }
    write_out(&operands, &mut Writer::new(build, row.name, site.name())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{text, verify};

    fn written(function: &str) -> Rewritten {
        let source = format!("program(1.3)\n{{\n    {function}\n}}\n");
        let program = verify::verify(text::parse(&source).unwrap().program).unwrap();
        write_out(&program, "main").unwrap()
    }

    #[test]
    fn a_layer_becomes_its_steps() {
        let rewritten = written(
            r#"func main<ios18>(tensor<fp32, [3, 1, 2]> x, tensor<fp32, [1, 2]> h) {
            tensor<fp32, [2, 2]> w = const()[name = string("w"), val = tensor<fp32, [2, 2]>([[0x1p+0, 0x1p+0], [0x1p+0, 0x1p+0]])];
            tensor<fp32, [1, 1, 2]> y, tensor<fp32, [1, 2]> last = rnn(activation = string("relu"), direction = string("forward"), initial_h = h, output_sequence = bool(false), weight_hh = w, weight_ih = w, x = x)[name = string("y")];
        } -> (y, last);"#,
        );
        assert_eq!(rewritten.changes, ["`main`: 1 op written out"]);
        let printed = text::write(rewritten.program.program());
        assert!(!printed.contains(" rnn("), "{printed}");
        // One product for the inputs of all steps, and one for each of three steps.
        assert_eq!(printed.matches(" matmul(").count(), 4, "{printed}");
        assert!(printed.contains("-> (y, last)"), "{printed}");
    }

    #[test]
    fn an_op_of_open_dimensions_stays() {
        let rewritten = written(
            r#"func main<ios18>(tensor<fp32, [1, ?, 2]> q, tensor<fp32, [1, 3, 2]> k) {
            tensor<fp32, [1, ?, 2]> y = scaled_dot_product_attention(key = k, query = q, value = k)[name = string("y")];
        } -> (y);"#,
        );
        assert!(rewritten.changes.is_empty(), "{:?}", rewritten.changes);
    }
}
