"""scaled_dot_product_attention, computed in 50 digits."""

import mpmath
import numpy as np
import torch

from .case import Case, draw
from .reference import f64


def _reference(query, key, value, mask):
    """(result, magnitude). The magnitude is Σ p|v|, as many times as the largest of the terms of a score says that the
    probabilities may be off, relative to their own size."""
    query, key, value = f64(query), f64(key), f64(value)
    scores = (*query.shape[:-1], key.shape[-2])
    if mask is None:
        mask = np.zeros(scores)
    elif mask.dtype == np.bool_:
        mask = np.where(mask, 0.0, -np.inf)
    mask = np.broadcast_to(f64(mask), scores)
    out = np.empty((*query.shape[:-1], value.shape[-1]))
    magnitude = np.empty(out.shape)
    root = mpmath.sqrt(query.shape[-1])
    for index in np.ndindex(*query.shape[:-1]):
        batch, row = index[:-1], [mpmath.mpf(x) for x in query[index].tolist()]
        powers, largest, values = [], mpmath.mpf(0), value[batch]
        products = [[x * mpmath.mpf(y) for x, y in zip(row, other)] for other in key[batch].tolist()]
        for terms, added in zip(products, mask[index].tolist()):
            seen = np.isfinite(added)
            powers.append(mpmath.exp(mpmath.fsum(terms) / root + mpmath.mpf(added)) if seen else mpmath.mpf(0))
            if seen:
                largest = max(largest, mpmath.fsum(abs(t) for t in terms) / root + abs(mpmath.mpf(added)))
        total = mpmath.fsum(powers)
        for column in range(value.shape[-1]):
            terms = [p / total * mpmath.mpf(v) for p, v in zip(powers, values[:, column].tolist())]
            out[(*index, column)] = float(mpmath.fsum(terms))
            magnitude[(*index, column)] = float(mpmath.fsum(abs(t) for t in terms) * (1 + 2 * largest))
    return out, magnitude


def _case(label, batch, lengths, *, dtype=np.float16, mask=None, mask_dtype=None):
    """`lengths` are L, S, E and EV; `mask` the shape of one."""
    name = f"scaled_dot_product_attention_{label}"
    queries, keys, features, columns = lengths
    inputs = {
        "query": draw(name + ".query", [*batch, queries, features], dtype, -2, 2),
        "key": draw(name + ".key", [*batch, keys, features], dtype, -2, 2),
        "value": draw(name + ".value", [*batch, keys, columns], dtype),
    }
    if mask is not None:
        inputs["attn_mask"] = draw(name + ".attn_mask", mask, mask_dtype or dtype, -3, 3)
        if mask_dtype == np.bool_:
            # Every query sees a key.
            inputs["attn_mask"][..., 0] = True
    want, magnitude = _reference(*(inputs[key] for key in ("query", "key", "value")), inputs.get("attn_mask"))
    # PyTorch wants a mask of two dimensions at least.
    wide = {key: np.atleast_2d(x) for key, x in inputs.items()}
    tensors = {key: torch.from_numpy(x if x.dtype == np.bool_ else f64(x)) for key, x in wide.items()}
    attended = torch.nn.functional.scaled_dot_product_attention(**tensors).numpy()
    return Case("scaled_dot_product_attention", name, inputs, {}, want, magnitude=magnitude, source="mpmath",
                torch_value=attended, slack=16.0)


def _hidden():
    """A causal mask of −∞, as models write it out."""
    name, dtype = "scaled_dot_product_attention_causal", np.float32
    query, key, value = (draw(f"{name}.{part}", [1, 2, 4, 3], dtype, -2, 2) for part in ("query", "key", "value"))
    mask = np.triu(np.full([4, 4], -np.inf, dtype), 1)
    want, magnitude = _reference(query, key, value, mask)
    attended = torch.nn.functional.scaled_dot_product_attention(
        *(torch.from_numpy(f64(x)) for x in (query, key, value)), is_causal=True).numpy()
    inputs = {"query": query, "key": key, "value": value, "attn_mask": mask}
    return Case("scaled_dot_product_attention", name, inputs, {}, want, magnitude=magnitude, source="mpmath",
                torch_value=attended, slack=16.0)


def _cases():
    return [
        _case("fp16", [2], [3, 4, 5, 2]),
        _case("fp32", [2], [3, 4, 5, 2], dtype=np.float32),
        _case("heads", [1, 2], [9, 10, 4, 6]),
        _case("heads_fp32", [2, 3], [17, 12, 8, 8], dtype=np.float32),
        _case("rank_5", [1, 2, 2], [2, 3, 2, 1]),
        _case("one_query", [1, 2], [1, 5, 4, 3]),
        _case("one_key", [1], [3, 1, 2, 4]),
        _case("mask", [1, 2], [3, 4, 2, 3], mask=[1, 2, 3, 4]),
        _case("mask_fp32", [1, 2], [9, 10, 2, 3], dtype=np.float32, mask=[1, 2, 9, 10]),
        _case("mask_of_positions", [1, 2], [3, 4, 2, 3], mask=[3, 4]),
        _case("mask_of_keys", [2, 2], [3, 4, 2, 3], mask=[4]),
        _case("mask_of_each_batch", [2, 2], [8, 4, 2, 3], mask=[2, 1, 1, 4], dtype=np.float32),
        _case("mask_of_queries", [1, 2], [3, 1, 2, 3], mask=[1, 1, 3, 1]),
        _case("mask_bool", [1, 2], [3, 4, 2, 3], mask=[3, 4], mask_dtype=np.bool_),
        _case("mask_bool_fp32", [2, 2], [9, 10, 2, 3], dtype=np.float32, mask=[2, 1, 9, 10], mask_dtype=np.bool_),
        _hidden(),
    ]


def files():
    yield "scaled_dot_product_attention", "1.3", _cases()
