"""Ops with nested blocks: cond and while_loop.

Values are such that nothing is rounded on the way, so that the exact results are also those of rounding every step.
"""

import numpy as np
from coremltools.converters.mil.mil import Builder as mb

from .blocks import BuiltCase
from .case import draw

DTYPES = {"fp16": np.float16, "fp32": np.float32, "int32": np.int32}


def _exact(value):
    return value.astype(np.float64) if value.dtype.kind == "f" else value


def _whole(name, shape, dtype=np.float32):
    return draw(name, shape, dtype, integers=True)


def _cond_cases(opset):
    cases = []

    def both(name, inputs, build, want):
        """The case with `pred` true, and with it false; `want` is a function of pred."""
        for pred in (True, False):
            cases.append(BuiltCase(f"cond_{name}_{'true' if pred else 'false'}", {"pred": np.bool_(pred), **inputs},
                                   build, want(pred), opset=opset))

    for dtype_name, dtype in DTYPES.items():
        x = _whole(f"cond_{dtype_name}", [2, 3], dtype)
        both(dtype_name, {"x": x},
             lambda pred, x, dtype=dtype: mb.cond(pred=pred, _true_fn=lambda: mb.add(x=x, y=dtype(3)),
                                                  _false_fn=lambda: mb.mul(x=x, y=dtype(-2))),
             lambda pred, x=_exact(x): x + 3 if pred else x * -2)
    flags = draw("cond_bool", [5], np.bool_)
    both("bool", {"x": flags},
         lambda pred, x: mb.cond(pred=pred, _true_fn=lambda: mb.logical_not(x=x),
                                 _false_fn=lambda: mb.identity(x=x)),
         lambda pred: ~flags if pred else flags)

    a, b = _whole("cond.a", [4]), _whole("cond.b", [4])
    wide_a, wide_b = _exact(a), _exact(b)
    both("yields_inputs", {"a": a, "b": b},
         lambda pred, a, b: mb.cond(pred=pred, _true_fn=lambda: (a, b), _false_fn=lambda: (b, a)),
         lambda pred: [wide_a, wide_b] if pred else [wide_b, wide_a])
    both("yields_one_value_twice", {"a": a, "b": b},
         lambda pred, a, b: mb.cond(pred=pred, _true_fn=lambda: (a, a), _false_fn=lambda: (b, a)),
         lambda pred: [wide_a, wide_a] if pred else [wide_b, wide_a])
    constant = _whole("cond.constant", [4])
    both("yields_constants", {},
         lambda pred: mb.cond(pred=pred, _true_fn=lambda: mb.const(val=constant),
                              _false_fn=lambda: mb.const(val=a)),
         lambda pred: _exact(constant) if pred else wide_a)

    def captured(pred, a, b):
        total = mb.add(x=a, y=b)
        outside = mb.const(val=constant)
        return mb.cond(pred=pred, _true_fn=lambda: mb.mul(x=total, y=outside),
                       _false_fn=lambda: mb.sub(x=outside, y=total))

    both("captured_value_and_constant", {"a": a, "b": b}, captured,
         lambda pred: (wide_a + wide_b) * constant if pred else constant - (wide_a + wide_b))

    def within(pred, a, b):
        def inner(first, second):
            return lambda: mb.cond(pred=mb.logical_not(x=pred), _true_fn=lambda: mb.add(x=first, y=second),
                                   _false_fn=lambda: mb.sub(x=first, y=second))

        return mb.cond(pred=pred, _true_fn=inner(a, b), _false_fn=inner(b, a))

    both("within_cond", {"a": a, "b": b}, within, lambda pred: wide_a - wide_b if pred else wide_a + wide_b)
    both("of_a_computed_bool", {"a": a},
         lambda pred, a: mb.cond(pred=mb.logical_xor(x=pred, y=True), _true_fn=lambda: mb.add(x=a, y=a),
                                 _false_fn=lambda: mb.identity(x=a)),
         lambda pred: wide_a if pred else wide_a + wide_a)

    def in_list(pred, a, b):
        ls = mb.make_list(init_length=2, dynamic_length=False, elem_shape=(4,))
        ls = mb.list_write(ls=ls, index=0, value=a)
        ls = mb.cond(pred=pred, _true_fn=lambda: mb.list_write(ls=ls, index=1, value=b), _false_fn=lambda: ls)
        return mb.list_gather(ls=ls, indices=[0, 1])

    both("yields_lists", {"a": a, "b": b}, in_list,
         lambda pred: np.stack([wide_a, wide_b if pred else np.zeros(4)]))

    def loops(pred, a):
        def doubled(times):
            _, y = mb.while_loop(_cond=lambda i, x: mb.less(x=i, y=times),
                                 _body=lambda i, x: (mb.add(x=i, y=1), mb.add(x=x, y=x)), loop_vars=(0, a))
            return y

        return mb.cond(pred=pred, _true_fn=lambda: doubled(3), _false_fn=lambda: doubled(0))

    both("of_loops", {"a": a}, loops, lambda pred: wide_a * 8 if pred else wide_a)
    grown = np.arange(6, dtype=np.float32).reshape(2, 3)
    for pred in (True, False):
        cases.append(BuiltCase(
            f"cond_yields_other_lengths_{'true' if pred else 'false'}", {"pred": np.bool_(pred), "x": grown},
            lambda pred, x: mb.cond(pred=pred, _true_fn=lambda: mb.concat(values=(x, x), axis=0),
                                    _false_fn=lambda: x),
            _exact(np.concatenate([grown, grown]) if pred else grown), opset=opset, open_dims={"x": (0,)}))
    return cases


def _count(times, step, *values):
    """The values after `step` was taken as many times."""
    for _ in range(times):
        values = step(*values)
        values = values if isinstance(values, tuple) else (values,)
    return list(values)


def _loop(times, body, *values, **kwargs):
    """Counts from 0 to `times`, and takes `body` of the other values each time."""
    return mb.while_loop(_cond=lambda i, *v: mb.less(x=i, y=times),
                         _body=lambda i, *v: (mb.add(x=i, y=1), *body(i, *v)), loop_vars=(0, *values), **kwargs)


def _loop_cases(opset):
    cases = []

    def add(name, inputs, build, want, **kwargs):
        cases.append(BuiltCase(f"while_loop_{name}", inputs, build, want, opset=opset, **kwargs))

    for dtype_name, dtype in DTYPES.items():
        x = _whole(f"while_loop_{dtype_name}", [2, 3], dtype)
        for times in (0, 1, 5):
            add(f"{dtype_name}_{times}_rounds", {"n": np.int32(times), "x": x},
                lambda n, x: _loop(n, lambda i, x: (mb.add(x=x, y=x),), x),
                [np.int32(times), _exact(x) * 2**times])
    flags = draw("while_loop_bool", [5], np.bool_)
    add("bool", {"n": np.int32(3), "x": flags},
        lambda n, x: _loop(n, lambda i, x: (mb.logical_not(x=x),), x), [np.int32(3), ~flags])
    add("known_before_running", {}, lambda: _loop(4, lambda i, s: (mb.add(x=s, y=3),), np.int32(10)),
        [np.int32(4), np.int32(22)])

    a, b, c = (_whole(f"while_loop.{name}", [3], np.float16) for name in "abc")
    wide = [_exact(value) for value in (a, b, c)]
    for times in (1, 2, 3):
        add(f"turns_its_values_{times}_times", {"n": np.int32(times), "a": a, "b": b, "c": c},
            lambda n, a, b, c: _loop(n, lambda i, a, b, c: (b, c, a), a, b, c),
            [np.int32(times), *_count(times, lambda a, b, c: (b, c, a), *wide)])
    add("one_value_twice", {"n": np.int32(2), "a": a},
        lambda n, a: _loop(n, lambda i, u, v: (mb.add(x=u, y=v), v), a, a),
        [np.int32(2), wide[0] * 3, wide[0]])
    add("yields_one_value_twice", {"n": np.int32(2), "a": a, "b": b},
        lambda n, a, b: _loop(n, lambda i, u, v: (mb.add(x=u, y=v),) * 2, a, b),
        [np.int32(2), *_count(2, lambda u, v: (u + v, u + v), *wide[:2])])
    add("yields_captured_values", {"n": np.int32(2), "a": a, "b": b},
        lambda n, a, b: _loop(n, lambda i, u, v: (v, b), a, a), [np.int32(2), wide[1], wide[1]])
    add("leaves_a_value_unchanged", {"n": np.int32(3), "a": a, "b": b},
        lambda n, a, b: _loop(n, lambda i, u, v: (mb.add(x=u, y=v), v), a, b),
        [np.int32(3), wide[0] + 3 * wide[1], wide[1]])

    def captured(n, a, b):
        total, constant = mb.add(x=a, y=b), mb.const(val=c)
        return _loop(n, lambda i, u: (mb.add(x=mb.sub(x=u, y=constant), y=total),), a)

    add("captured_value_and_constant", {"n": np.int32(4), "a": a, "b": b}, captured,
        [np.int32(4), wide[0] + 4 * (wide[0] + wide[1] - wide[2])])

    def powers(x):
        go = True
        while go:
            go, x = x < 100, x * 3
        return x

    add("while_a_carried_bool_holds", {"go": np.bool_(True), "x": np.int32(1)},
        lambda go, x: mb.while_loop(_cond=lambda go, x: go,
                                    _body=lambda go, x: (mb.less(x=x, y=100), mb.mul(x=x, y=3)),
                                    loop_vars=(go, x)),
        [np.bool_(False), np.int32(powers(np.int32(1)))])
    add("while_a_carried_bool_never_holds", {"go": np.bool_(False), "x": a},
        lambda go, x: mb.while_loop(_cond=lambda go, x: go,
                                    _body=lambda go, x: (go, mb.add(x=x, y=x)), loop_vars=(go, x)),
        [np.bool_(False), wide[0]])
    add("fibonacci", {"n": np.int32(20), "a": np.int32(0), "b": np.int32(1)},
        lambda n, a, b: _loop(n, lambda i, u, v: (v, mb.add(x=u, y=v)), a, b),
        [np.int32(20), *(np.int32(v) for v in _count(20, lambda u, v: (v, u + v), 0, 1))])

    def times_table(n, m, start):
        def outer(i, total):
            _, row = _loop(m, lambda j, s: (mb.add(x=s, y=mb.mul(x=i, y=j)),), total)
            return (row,)

        return _loop(n, outer, start)

    add("nested", {"n": np.int32(4), "m": np.int32(5), "start": np.int32(7)}, times_table,
        [np.int32(4), np.int32(7 + sum(i * j for i in range(4) for j in range(5)))])

    def collatz(n):
        def step(count, x):
            half = mb.floor_div(x=x, y=2)
            even = mb.equal(x=mb.mul(x=half, y=2), y=x)
            x = mb.cond(pred=even, _true_fn=lambda: half, _false_fn=lambda: mb.add(x=mb.mul(x=x, y=3), y=1))
            return mb.add(x=count, y=1), x

        return mb.while_loop(_cond=lambda count, x: mb.greater(x=x, y=1), _body=step, loop_vars=(0, n))

    def collatz_length(n):
        count = 0
        while n > 1:
            n, count = 3 * n + 1 if n % 2 else n // 2, count + 1
        return count

    for n in (1, 6, 27):
        add(f"with_cond_from_{n}", {"n": np.int32(n)}, collatz, [np.int32(collatz_length(n)), np.int32(1)])

    grown = _whole("while_loop.grown", [2, 3])
    wide_grown = _exact(grown)
    for times in (0, 1, 3):
        add(f"grows_along_rows_{times}_rounds", {"n": np.int32(times), "x": grown},
            lambda n, x: _loop(n, lambda i, u: (mb.concat(values=(u, x), axis=0),), x),
            [np.int32(times), np.concatenate([wide_grown] * (times + 1))])
    add("grows_of_unknown_length", {"n": np.int32(3), "x": grown},
        lambda n, x: _loop(n, lambda i, u: (mb.concat(values=(u, u), axis=1),), x),
        [np.int32(3), np.concatenate([wide_grown] * 8, axis=1)], open_dims={"x": (0, 1)})
    add("keeps_an_unknown_length", {"n": np.int32(3), "x": grown},
        lambda n, x: _loop(n, lambda i, u: (mb.add(x=u, y=x),), x),
        [np.int32(3), wide_grown * 4], open_dims={"x": (0,)})

    def collected(n, x):
        ls = mb.make_list(init_length=1, elem_shape=(3,), dtype="fp16")
        _, _, ls = _loop(n, lambda i, u, ls: (mb.add(x=u, y=u), mb.list_write(ls=ls, index=i, value=u)), x, ls)
        return mb.list_gather(ls=ls, indices=[3, 0, 2]), mb.list_length(ls=ls)

    add("collects_a_list", {"n": np.int32(4), "x": a}, collected,
        [np.stack([wide[0] * 8, wide[0], wide[0] * 4]), np.int32(4)])

    def read_from_a_captured_list(x):
        ls = mb.make_list(init_length=3, dynamic_length=False, elem_shape=(3,), dtype="fp16")
        ls = mb.list_scatter(ls=ls, indices=[0, 1, 2], value=x)
        length = mb.list_length(ls=ls)
        return _loop(length, lambda i, u: (mb.add(x=u, y=mb.list_read(ls=ls, index=i)),), c)

    stacked = np.stack([a, b, a])
    add("reads_a_captured_list", {"x": stacked}, read_from_a_captured_list,
        [np.int32(3), wide[2] + _exact(stacked).sum(axis=0)])
    return cases


def files():
    yield "cond", "1.3", _cond_cases("ios18")
    yield "cond_1_0", "1.0", _cond_cases("ios15")
    yield "while_loop", "1.3", _loop_cases("ios18")
    yield "while_loop_1_0", "1.0", _loop_cases("ios16")
