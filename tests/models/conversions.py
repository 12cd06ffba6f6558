"""From PyTorch modules to Core ML packages, with what PyTorch computes of the same inputs."""
import copy
import pathlib
import zlib
from dataclasses import dataclass

import coremltools as ct
import coremltools.optimize.coreml as optimize
import numpy as np
import torch

from networks import NETWORKS

# Its fused form of attention is none that coremltools converts.
torch.backends.mha.set_fastpath_enabled(False)

PRECISIONS = {"fp32": ct.precision.FLOAT32, "fp16": ct.precision.FLOAT16}
COMPRESSIONS = ("int8", "palette4", "sparse")
# Weights that are smaller stay as they are.
LEAST_WEIGHTS = 2048


@dataclass
class Case:
    """A package, and inputs with the results that PyTorch has for them."""

    name: str
    package: pathlib.Path
    inputs: dict
    expected: list
    precision: str
    function: str | None = None
    # What states hold before and after, by name.
    states: dict | None = None
    states_after: dict | None = None


def build(name, small=False):
    """The module, its inputs and its properties; the same ones each time, on any machine."""
    builder, properties = NETWORKS[name]
    seed = zlib.crc32(name.encode())
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    module, inputs = builder(generator, small=True) if small else builder(generator)
    return module, inputs, properties


def results(module, inputs):
    with torch.no_grad():
        found = module(*inputs.values())
    return [part.numpy().copy() for part in (found if isinstance(found, tuple) else (found,))]


def converted(module, inputs, precision, states=(), shapes=None, target=None):
    """The model that coremltools makes of a module; `shapes` are flexible ones by an input's name."""
    with torch.no_grad():
        traced = torch.jit.trace(copy.deepcopy(module), tuple(inputs.values()), check_trace=False)
    types = [ct.TensorType(name=name, shape=(shapes or {}).get(name, tuple(value.shape)), dtype=value.numpy().dtype.type)
             for name, value in inputs.items()]
    arguments = {}
    if states:
        arguments["states"] = [ct.StateType(ct.TensorType(shape=tuple(getattr(module, name).shape), dtype=np.float16), name=name)
                               for name in states]
        target = ct.target.iOS18
    return ct.convert(traced, inputs=types, convert_to="mlprogram", compute_precision=PRECISIONS[precision],
                      minimum_deployment_target=target or ct.target.iOS16, skip_model_load=True, **arguments)


def saved(model, directory, name):
    path = directory / f"{name}.mlpackage"
    model.save(str(path))
    return path


def arrays(inputs):
    return {name: value.numpy() for name, value in inputs.items()}


def plain(name, precision, directory, small=False):
    """The network as it is, at its own shapes."""
    module, inputs, properties = build(name, small)
    states = properties.get("states", ())
    model = converted(module, inputs, precision, states)
    before = {state: getattr(module, state).numpy().copy() for state in states}
    expected = results(module, inputs)
    after = {state: getattr(module, state).numpy().copy() for state in states}
    return Case(f"{name} {precision}", saved(model, directory, f"{name}-{precision}"), arrays(inputs), expected, precision,
                states=before, states_after=after)


def compressed(name, kind, precision, directory):
    """The network with weights that are stored in fewer bits; PyTorch computes with what they stand for."""
    module, inputs, _ = build(name)
    original = model = converted(module, inputs, precision, target=ct.target.iOS18 if kind == "palette4" else ct.target.iOS16)
    if kind == "int8":
        config = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=LEAST_WEIGHTS)
        model = optimize.linear_quantize_weights(model, optimize.OptimizationConfig(global_config=config))
    elif kind == "palette4":
        config = optimize.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=LEAST_WEIGHTS)
        model = optimize.palettize_weights(model, optimize.OptimizationConfig(global_config=config))
    else:
        config = optimize.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=LEAST_WEIGHTS)
        model = optimize.prune_weights(model, optimize.OptimizationConfig(global_config=config))
    take_weights(module, original, optimize.decompress_weights(model))
    return Case(f"{name} {precision} {kind}", saved(model, directory, f"{name}-{precision}-{kind}"), arrays(inputs),
                results(module, inputs), precision)


def constants(model):
    """A model's larger constants, by name."""
    found = {}
    for function in model._mil_program.functions.values():
        for operation in function.find_ops(op_type="const"):
            value = operation.outputs[0].val
            if isinstance(value, np.ndarray) and value.size >= LEAST_WEIGHTS:
                found[operation.outputs[0].name] = value.astype(np.float32).flatten()
    return found


def take_weights(module, original, changed):
    """Gives a module the weights that compressing made of those of the model that it is. A constant is a parameter, or the
    first part of one, as with embeddings of positions."""
    after = constants(changed)
    with torch.no_grad():
        parameters = [(parameter, parameter.numpy().flatten()) for parameter in module.parameters()]
        for name, value in constants(original).items():
            new = [other for known, other in after.items() if known == name or known.startswith(name + "_")]
            own = [parameter for parameter, numbers in parameters
                   if numbers.size >= value.size and np.linalg.norm(numbers[:value.size] - value) <= 1e-3 * np.linalg.norm(value)]
            assert len(new) == 1 and new[0].size == value.size, f"{name}: {len(new)} constants are made of it"
            assert own or np.array_equal(new[0], value), f"{name}: no parameter is near it"
            for parameter in own:
                parameter.flatten()[:value.size].copy_(torch.from_numpy(new[0]))


def flexible(name, precision, directory):
    """The network with ranges of sizes, at two of them."""
    module, inputs, _ = build(name)
    (key, value), = inputs.items()
    shape = (*value.shape[:2], *(ct.RangeDim(lower_bound=32, upper_bound=128, default=size) for size in value.shape[2:]))
    model = converted(module, inputs, precision, shapes={key: ct.Shape(shape=shape)})
    package = saved(model, directory, f"{name}-{precision}-flexible")
    for sizes in ((64, 64), (48, 96)):
        given = {key: torch.rand(*value.shape[:2], *sizes, generator=torch.Generator().manual_seed(1))}
        yield Case(f"{name} {precision} at {sizes[0]}x{sizes[1]}", package, arrays(given), results(module, given), precision)


def functions(name, precision, directory):
    """Two functions in a package: the network, and the same with other weights."""
    module, inputs, _ = build(name)
    other = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9)
    both = ct.utils.MultiFunctionDescriptor()
    for part, function in ((module, "main"), (other, "smaller")):
        model = converted(part, inputs, precision, target=ct.target.iOS18)
        both.add_function(str(saved(model, directory, f"{name}-{precision}-{function}")), "main", function)
    both.default_function_name = "main"
    package = directory / f"{name}-{precision}-functions.mlpackage"
    ct.utils.save_multifunction(both, str(package))
    for part, function in ((module, "main"), (other, "smaller")):
        yield Case(f"{name} {precision} {function}", package, arrays(inputs), results(part, inputs), precision, function)


def cases(name, directory):
    """Every package that is made of a network."""
    properties = NETWORKS[name][1]
    for precision in PRECISIONS:
        yield plain(name, precision, directory)
        if properties.get("compressed"):
            for kind in COMPRESSIONS:
                yield compressed(name, kind, precision, directory)
        if properties.get("flexible"):
            yield from flexible(name, precision, directory)
        if properties.get("functions"):
            yield from functions(name, precision, directory)
