//! Attention with a mask, which the engine's own op ignores.

use anemone_mil::builder::FunctionBuilder;
use anemone_mil::ops::{Row, ScaledDotProductAttention, Writer};
use anemone_mil::passes::{PassError, Rewritten, Site, replace_ops};
use anemone_mil::verify::Verified;

use super::build::Replacement;
use crate::chips::Chips;

/// Writes attention with a mask out (R17): products of queries and keys by 1/√E, the mask added, where it is true or
/// false as 0 or −∞, `softmax`, and the product with the values.
pub(super) fn attention(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    replace_ops(program, written_out, |number| {
        format!("{number} `scaled_dot_product_attention` with a mask written out (R17)")
    })
}

fn written_out(site: Site<'_>, build: &mut FunctionBuilder) -> Replacement {
    let Some(row) = site.bound::<ScaledDotProductAttention>() else { return Ok(None) };
    let features = row.query.shape().0.last().and_then(|dim| dim.known());
    if row.attn_mask.is_none() || features.is_none_or(|features| features == 0) {
        return Ok(None);
    }
    let mut writer = Writer::new(build, ScaledDotProductAttention::BASE.name, site.name());
    Ok(Some(vec![row.write_out(&mut writer, row.query.dtype())?]))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use anemone_mil::eval::Interpreter;
    use anemone_mil::runtime::{Runtime, allocate_outputs};
    use anemone_mil::tensor::Tensor;
    use anemone_mil::text;
    use anemone_mil::types::DType;
    use anemone_mil::verify::verify;
    use anemone_mil::weights::WeightMap;

    use crate::chips::Chips;
    use crate::legalize::pass;

    /// Attention of two positions to three, with this mask.
    fn attended(dtype: &str, mask: Tensor) -> Vec<f64> {
        let source = format!(
            r#"program(1.3)
{{
    func main<ios18>(tensor<fp32, [1, 2, 2]> q, tensor<fp32, [1, 3, 2]> k, tensor<fp32, [1, 3, 1]> v, tensor<{dtype}, [1, 2, 3]> m) {{
            tensor<fp32, [1, 2, 1]> y = scaled_dot_product_attention(attn_mask = m, key = k, query = q, value = v)[name = string("y")];
        }} -> (y);
}}
"#
        );
        let program = verify(text::parse(&source).unwrap().program).unwrap();
        let rewritten = pass("attention").unwrap().apply(&program, Chips::ALL).unwrap();
        assert_eq!(
            rewritten.changes,
            ["`main`: 1 `scaled_dot_product_attention` with a mask written out (R17)"]
        );
        let program = Arc::new(rewritten.program);
        let tensor = |dims: &[usize], values: &[f64]| Tensor::from_f64(DType::Fp32, dims, values).unwrap();
        let inputs = [
            tensor(&[1, 2, 2], &[1.0, -0.5, 0.25, 2.0]),
            tensor(&[1, 3, 2], &[0.5, 1.0, -1.0, 0.75, 2.0, 0.0]),
            tensor(&[1, 3, 1], &[1.0, 2.0, -3.0]),
            mask,
        ];
        let types: Vec<_> = inputs.iter().map(Tensor::ty).collect();
        let main = Interpreter::default().prepare(&program, "main", &types, &WeightMap::default());
        let mut main = main.unwrap();
        let mut outputs = allocate_outputs(main.as_ref()).unwrap();
        main.run(&inputs.each_ref(), &mut outputs).unwrap();
        outputs[0].to_f64().unwrap()
    }

    /// The expected values are those of the definition, computed in Python's floats.
    #[test]
    fn a_mask_is_added_or_shuts_out() {
        let close = |found: Vec<f64>, expected: [f64; 2]| {
            assert!(found.iter().zip(expected).all(|(x, y)| (x - y).abs() < 1e-5), "{found:?}");
        };
        let added = Tensor::from_f64(DType::Fp32, &[1, 2, 3], &[0.0, -1.0, 0.5, 1.0, 0.0, -2.0]).unwrap();
        close(attended("fp32", added), [-2.407_164_011_5, 1.111_237_532_2]);
        let chosen = Tensor::from_values(&[1, 2, 3], vec![true, false, true, true, true, false]).unwrap();
        close(attended("bool", chosen), [-2.217_718_730_0, 1.350_072_979_8]);
    }
}
