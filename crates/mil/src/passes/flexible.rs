//! The attribute in which compilers say which shapes a function takes.

use std::collections::HashSet;

use crate::program::{Function, Literal, LiteralValue};

/// Its name.
const FLEXIBLE_SHAPES: &str = "FlexibleShapeInformation";

/// Takes inputs out of what a function says of flexible shapes; where nothing is left, all of it.
pub fn forget_inputs(function: &mut Function, names: &HashSet<String>) {
    let Some(Literal { value, .. }) = function.attributes.get_mut(FLEXIBLE_SHAPES) else { return };
    if !forget(value, names) {
        function.attributes.remove(FLEXIBLE_SHAPES);
    }
}

/// Takes out the pairs of dictionaries with these keys, and those of which nothing is left; whether any pair stays.
fn forget(value: &mut LiteralValue, names: &HashSet<String>) -> bool {
    match value {
        LiteralValue::Tuple(items) | LiteralValue::List(items) => {
            items.iter_mut().map(|item| forget(item, names)).fold(false, |any, stays| any | stays)
        }
        LiteralValue::Dict(pairs) => {
            pairs.retain_mut(|(key, value)| {
                let is_named = matches!(key, LiteralValue::Tensor(key)
                    if matches!(key.as_slice::<String>(), Some([name]) if names.contains(name)));
                !is_named && (!matches!(value, LiteralValue::Dict(_)) || forget(value, names))
            });
            !pairs.is_empty()
        }
        LiteralValue::Tensor(_) | LiteralValue::Blob(_) => false,
    }
}
