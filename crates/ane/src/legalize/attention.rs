//! Attention with a mask, which the engine's own op ignores.

use anemone_mil::builder::FunctionBuilder;
use anemone_mil::ops::call;
use anemone_mil::passes::{PassError, Rewritten, Site, replace_ops};
use anemone_mil::types::DType;
use anemone_mil::verify::Verified;

use super::build::Replacement;
use crate::chips::Chips;

/// The op that is written out. It has no row, so its parameters are found by their names.
const ATTENTION: &str = "scaled_dot_product_attention";

/// Writes attention with a mask out (R17): products of queries and keys by 1/√E, the mask added, where it is true or
/// false as 0 or −∞, `softmax`, and the product with the values.
pub(super) fn attention(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    replace_ops(program, written_out, |number| {
        format!("{number} `{ATTENTION}` with a mask written out (R17)")
    })
}

fn written_out(site: Site<'_>, build: &mut FunctionBuilder) -> Replacement {
    if site.op().name != ATTENTION {
        return Ok(None);
    }
    let given = ["query", "key", "value", "attn_mask"].map(|name| site.values(name).next());
    let [Some(query), Some(key), Some(value), Some(mask)] = given else { return Ok(None) };
    let features = site.ty_of(query).and_then(|ty| ty.shape.0.last()?.known());
    let (Some(features), Some(mask_ty), Some(ty)) =
        (features.filter(|&f| f > 0), site.ty_of(mask), site.ty())
    else {
        return Ok(None);
    };
    let name = site.name();
    let scores = call::matmul(query, key).transpose_x(false).transpose_y(true);
    let scores = call::mul(scores, 1.0 / (features as f64).sqrt());
    let scores = build.bind(&format!("{name}_scores"), scores)?;
    let mask = match mask_ty.dtype {
        DType::Bool => {
            let [zero, nothing] = [0.0, f64::NEG_INFINITY]
                .map(|number| anemone_mil::tensor::Tensor::from_f64(ty.dtype, &[], &[number]));
            let (Ok(zero), Ok(nothing)) = (zero, nothing) else { return Ok(None) };
            build.bind(&format!("{name}_mask"), call::select(mask, zero, nothing))?
        }
        _ => mask,
    };
    let masked = build.bind(&format!("{name}_masked"), call::add(scores, mask))?;
    let weights = build.bind(&format!("{name}_weights"), call::softmax(masked).axis(-1))?;
    let product = call::matmul(weights, value).transpose_x(false).transpose_y(false);
    Ok(Some(vec![build.bind(name, product)?]))
}
