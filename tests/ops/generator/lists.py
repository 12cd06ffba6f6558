"""Ops on lists. A list is neither an input nor a result of a function, so each case makes one and reads it."""

import numpy as np
from coremltools.converters.mil.mil import Builder as mb

from .blocks import BuiltCase
from .case import draw

DTYPES = {"fp16": np.float16, "fp32": np.float32, "int32": np.int32, "bool": np.bool_}
ELEMENTS = {"scalar": [], "vector": [4], "matrix": [2, 3]}


def _exact(value):
    return value.astype(np.float64) if value.dtype.kind == "f" else value


def _list(values, dtype="fp32", grows=True):
    """A list that holds the slices of `values`."""
    count, *element = values.shape
    ls = mb.make_list(init_length=int(count), dynamic_length=grows, elem_shape=tuple(int(d) for d in element),
                      dtype=dtype)
    return mb.list_scatter(ls=ls, indices=list(range(count)), value=values)


def _gathered(ls, count):
    return mb.list_gather(ls=ls, indices=list(range(count)))


def _forms():
    """Every element type with every element's shape, in a list that grows and one that does not."""
    for dtype_name, dtype in DTYPES.items():
        for shape_name, shape in ELEMENTS.items():
            for grows in (True, False):
                yield f"{dtype_name}_{shape_name}{'' if grows else '_fixed'}", dtype_name, dtype, shape, grows


def _make_cases(opset):
    cases = []
    for name, dtype_name, dtype, shape, grows in _forms():
        cases.append(BuiltCase(
            f"make_list_{name}", {},
            lambda d=dtype_name, s=shape, g=grows: _gathered(
                mb.make_list(init_length=3, dynamic_length=g, elem_shape=tuple(s), dtype=d), 3),
            np.zeros([3, *shape], np.float64 if np.dtype(dtype).kind == "f" else dtype), opset=opset))
    cases.append(BuiltCase("make_list_defaults", {},
                           lambda: _gathered(mb.make_list(elem_shape=(2,)), 1), np.zeros([1, 2]), opset=opset))
    for count in (0, 3):
        cases.append(BuiltCase(
            f"make_list_of_{count}_given_when_run", {"n": np.int32(count)},
            lambda n: mb.list_length(ls=mb.make_list(init_length=n, elem_shape=(2,))), np.int32(count),
            opset=opset))
    return cases


def _length_cases(opset):
    def built(name, build, want, inputs=None):
        return BuiltCase(f"list_length_{name}", inputs or {}, build, np.int32(want), opset=opset)

    def length(ls):
        return mb.list_length(ls=ls)

    two = np.array([1.0, 2.0], np.float32)
    return [
        built("fixed", lambda: length(mb.make_list(init_length=5, dynamic_length=False, elem_shape=(2,))), 5),
        built("empty", lambda: length(mb.make_list(init_length=0, elem_shape=(2,))), 0),
        built("of_empty_elements", lambda: length(mb.make_list(init_length=3, elem_shape=(0,))), 3),
        built("of_scalars", lambda: length(mb.make_list(init_length=4, elem_shape=(), dtype="bool")), 4),
        built("as_made", lambda n: length(mb.make_list(init_length=n, elem_shape=(1,))), 6, {"n": np.int32(6)}),
        built("after_a_write_within", lambda x: length(
            mb.list_write(ls=mb.make_list(init_length=4, elem_shape=(2,)), index=2, value=x)), 4, {"x": two}),
        built("after_a_write_at_the_end", lambda x: length(
            mb.list_write(ls=mb.make_list(init_length=4, elem_shape=(2,)), index=4, value=x)), 5, {"x": two}),
    ]


def _read_cases(opset):
    cases = []
    for name, dtype_name, dtype, shape, grows in _forms():
        x = draw(f"list_read_{name}", [3, *shape], dtype)
        cases.append(BuiltCase(f"list_read_{name}", {"x": x, "i": np.int32(1)},
                               lambda x, i, d=dtype_name, g=grows: mb.list_read(ls=_list(x, d, g), index=i),
                               _exact(x)[1], opset=opset))
    x = draw("list_read", [3, 2], np.float32)
    for index in (0, 2):
        cases.append(BuiltCase(f"list_read_at_{index}", {"x": x},
                               lambda x, i=index: mb.list_read(ls=_list(x), index=i), _exact(x)[index],
                               opset=opset))
    return cases


def _write_cases(opset):
    cases = []
    # coremltools refuses to write a scalar to a list of tensors of rank 0.
    for name, dtype_name, dtype, shape, grows in (form for form in _forms() if form[3]):
        x, value = draw(f"list_write_{name}.x", [3, *shape], dtype), draw(f"list_write_{name}.v", shape, dtype)
        want = _exact(x).copy()
        want[1] = value
        cases.append(BuiltCase(
            f"list_write_{name}", {"x": x, "v": value, "i": np.int32(1)},
            lambda x, v, i, d=dtype_name, g=grows: _gathered(
                mb.list_write(ls=_list(x, d, g), index=i, value=v), 3), want, opset=opset))
    x, value = draw("list_write.x", [2, 3], np.float32), draw("list_write.v", [3], np.float32)

    def append(x, v):
        ls = _list(x)
        return _gathered(mb.list_write(ls=ls, index=mb.list_length(ls=ls), value=v), 3)

    cases.append(BuiltCase("list_write_appends", {"x": x, "v": value}, append,
                           np.concatenate([_exact(x), [_exact(value)]]), opset=opset))

    def keep(x, v):
        ls = _list(x)
        mb.list_write(ls=ls, index=0, value=v)
        written = mb.list_write(ls=ls, index=1, value=v)
        return _gathered(ls, 2), _gathered(written, 2)

    after = _exact(x).copy()
    after[1] = value
    cases.append(BuiltCase("list_write_leaves_its_operand", {"x": x, "v": value}, keep, [_exact(x), after],
                           opset=opset))
    cases.append(BuiltCase(
        "list_write_to_an_empty_list", {"v": value},
        lambda v: _gathered(mb.list_write(ls=mb.make_list(init_length=0, elem_shape=(3,)), index=0, value=v), 1),
        _exact(value)[None], opset=opset))
    return cases


def _gather_cases(opset):
    cases = []
    order = [2, 0, 2, 1]
    for name, dtype_name, dtype, shape, grows in _forms():
        x = draw(f"list_gather_{name}", [3, *shape], dtype)
        cases.append(BuiltCase(
            f"list_gather_{name}", {"x": x, "i": np.array(order, np.int32)},
            lambda x, i, d=dtype_name, g=grows: mb.list_gather(ls=_list(x, d, g), indices=i),
            _exact(x)[order], opset=opset))
    x = draw("list_gather", [3, 2], np.float32)
    cases.append(BuiltCase("list_gather_constant_indices", {"x": x},
                           lambda x: mb.list_gather(ls=_list(x), indices=order), _exact(x)[order],
                           opset=opset))
    cases.append(BuiltCase("list_gather_one", {"x": x},
                           lambda x: mb.list_gather(ls=_list(x), indices=[1]), _exact(x)[[1]],
                           opset=opset))
    cases.append(BuiltCase("list_gather_as_many_as_are_given", {"x": x, "i": np.array(order, np.int32)},
                           lambda x, i: mb.list_gather(ls=_list(x), indices=i), _exact(x)[order],
                           opset=opset, open_dims={"i": (0,)}))
    return cases


def _scatter_cases(opset):
    cases = []
    places = [2, 0]
    for name, dtype_name, dtype, shape, grows in _forms():
        x, value = draw(f"list_scatter_{name}.x", [3, *shape], dtype), draw(f"list_scatter_{name}.v", [2, *shape], dtype)
        want = _exact(x).copy()
        want[places] = value
        cases.append(BuiltCase(
            f"list_scatter_{name}", {"x": x, "v": value, "i": np.array(places, np.int32)},
            lambda x, v, i, d=dtype_name, g=grows: _gathered(
                mb.list_scatter(ls=_list(x, d, g), indices=i, value=v), 3), want, opset=opset))
    x, value = draw("list_scatter.x", [2, 3], np.float32), draw("list_scatter.v", [2, 3], np.float32)
    cases.append(BuiltCase(
        "list_scatter_grows", {"x": x, "v": value},
        lambda x, v: _gathered(mb.list_scatter(ls=_list(x), indices=[3, 2], value=v), 4),
        _exact(np.concatenate([x, value[::-1]])), opset=opset))
    cases.append(BuiltCase(
        "list_scatter_constant_indices", {"x": x, "v": value},
        lambda x, v: _gathered(mb.list_scatter(ls=_list(x), indices=[1, 0], value=v), 2), _exact(value[::-1]),
        opset=opset))
    return cases


def files():
    families = {"make_list": _make_cases, "list_length": _length_cases, "list_read": _read_cases,
                "list_write": _write_cases, "list_gather": _gather_cases, "list_scatter": _scatter_cases}
    for name, cases in families.items():
        yield name, "1.3", cases("ios18")
        yield f"{name}_1_0", "1.0", cases("ios15")
