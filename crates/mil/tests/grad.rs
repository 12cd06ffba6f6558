//! What `grad` does with whole functions: what is held constant, what is read twice or not at all, names, and mistakes.

#![allow(clippy::unwrap_used, clippy::panic)] // A failure here is a failure of the test.

use std::sync::Arc;

use anemone_mil::builder::FunctionBuilder;
use anemone_mil::eval::Interpreter;
use anemone_mil::grad::{Group, GroupGradient, Pair, Request, differentiate};
use anemone_mil::ops::call;
use anemone_mil::program::{Function, Program, Version};
use anemone_mil::runtime::Runtime;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, TensorType};
use anemone_mil::verify::Verified;
use anemone_mil::weights::WeightMap;
use anemone_mil::{text, verify};

/// A function of fp32 vectors of two elements with these statements.
fn program(inputs: &[&str], body: &[&str], outputs: &str) -> Verified {
    let vector = "tensor<fp32, [2]>";
    let inputs: Vec<String> = inputs.iter().map(|input| format!("{vector} {input}")).collect();
    let statement = |line: &&str| {
        let (name, op) = line.split_once(" = ").unwrap();
        let (ty, name) = name.rsplit_once(' ').unwrap_or((vector, name));
        format!("{ty} {name} = {op}[name = string(\"{name}\")];\n")
    };
    let body: String = body.iter().map(statement).collect();
    parsed(&format!("func main<ios18>({}) {{ {body} }} -> ({outputs});", inputs.join(", ")))
}

fn parsed(function: &str) -> Verified {
    let source = format!("program(1.3)\n{{\n{function}\n}}\n");
    let program = text::parse(&source).unwrap_or_else(|errors| panic!("{errors}\n{source}")).program;
    verify::verify(program).unwrap_or_else(|errors| panic!("{errors}\n{source}"))
}

fn run(function: &Function, inputs: &[Tensor]) -> Vec<Tensor> {
    let mut program = Program::new(Version::V1_3);
    program.functions.push(function.clone());
    let program = Arc::new(verify::verify(program).unwrap());
    let types: Vec<TensorType> = inputs.iter().map(Tensor::ty).collect();
    let mut main = Interpreter::default().prepare(&program, "main", &types, &WeightMap::default()).unwrap();
    let mut outputs = vec![Tensor::scalar(0.0f32); main.outputs().len()];
    main.run(&inputs.iter().collect::<Vec<_>>(), &mut outputs).unwrap();
    outputs
}

/// The values that backward gives where every result has the gradient 1.
fn gradients(program: &Verified, pair: &Pair, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let main = &program.program().functions[0];
    let dtype = |function: &Function, i: usize| function.value(function.body.inputs[i]).ty.dtype().unwrap();
    let tensor =
        |(i, values): (usize, &Vec<f64>)| Tensor::from_f64(dtype(main, i), &[values.len()], values).unwrap();
    let inputs: Vec<Tensor> = inputs.iter().enumerate().map(tensor).collect();
    let results = run(&pair.forward, &inputs);
    let backward = &pair.backward;
    let given = backward.body.inputs.iter().map(|&id| {
        let value = backward.value(id);
        let of = |function: &Function, ids: &[_], tensors: &[Tensor]| {
            let position = ids.iter().position(|&id| function.value(id).name == value.name);
            position.map(|at| tensors[at].clone())
        };
        let saved = of(&pair.forward, &pair.forward.body.outputs, &results);
        saved.or_else(|| of(main, &main.body.inputs, &inputs)).unwrap_or_else(|| {
            let ty = value.ty.as_tensor().unwrap();
            let dims = ty.shape.to_known().unwrap();
            Tensor::from_f64(ty.dtype, &dims, &vec![1.0; dims.iter().product()]).unwrap()
        })
    });
    run(backward, &given.collect::<Vec<_>>()).iter().map(|tensor| tensor.to_f64().unwrap()).collect()
}

fn ops(function: &Function) -> Vec<&str> {
    function.walk().map(|(_, op)| op.name.as_str()).filter(|&name| name != "const").collect()
}

fn input_names(function: &Function) -> Vec<&str> {
    function.body.inputs.iter().map(|&id| function.value(id).name.as_str()).collect()
}

fn error(program: &Verified, request: &Request<'_>) -> String {
    differentiate(program, "main", request).unwrap_err().to_string()
}

#[test]
fn gradients_of_what_is_read_twice_add() {
    let program = program(&["x"], &["s = mul(x = x, y = x)", "y = add(x = s, y = x)"], "y");
    let pair = differentiate(&program, "main", &Request::all(&["x"])).unwrap();
    assert_eq!(gradients(&program, &pair, &[vec![3.0, -1.0]]), [[7.0, -1.0]]);
}

#[test]
fn an_input_may_itself_be_read_only_by_its_gradient() {
    let program = program(&["x", "w"], &["y = mul(x = x, y = w)"], "y");
    let pair = differentiate(&program, "main", &Request::all(&["x"])).unwrap();
    assert_eq!(input_names(&pair.backward), ["d_y", "w"]);
    assert_eq!(gradients(&program, &pair, &[vec![3.0, -1.0], vec![5.0, 7.0]]), [[5.0, 7.0]]);
}

#[test]
fn a_constant_inside_lets_no_gradient_through() {
    let program = program(&["x"], &["e = square(x = x)", "y = mul(x = x, y = e)"], "y");
    let request = Request { constant: vec!["e"], ..Request::all(&["x"]) };
    let pair = differentiate(&program, "main", &request).unwrap();
    assert_eq!(gradients(&program, &pair, &[vec![3.0, -2.0]]), [[9.0, 4.0]]);
    let whole = differentiate(&program, "main", &Request::all(&["x"])).unwrap();
    assert_eq!(gradients(&program, &whole, &[vec![3.0, -2.0]]), [[27.0, 12.0]]);
}

#[test]
fn a_group_has_its_own_rule() {
    let body = ["a = square(x = x)", "b = floor(x = a)", "y = mul(x = b, y = b)", "z = add(x = y, y = x)"];
    let program = program(&["x"], &body, "z");
    let straight = |group: &GroupGradient, builder: &mut FunctionBuilder| {
        assert_eq!((group.inputs.len(), builder.function().value(group.output).name.as_str()), (1, "y"));
        Ok(vec![builder.bind("straight_through", call::mul(group.d_output, 5.0))?])
    };
    let group = Group { inputs: &["a"], output: "y", rule: &straight };
    let request = Request { groups: vec![group], ..Request::all(&["x"]) };
    let pair = differentiate(&program, "main", &request).unwrap();
    // 5 · da/dx + 1.
    assert_eq!(gradients(&program, &pair, &[vec![1.5, -2.0]]), [[16.0, -19.0]]);
    assert!(!ops(&pair.backward).contains(&"floor"));
}

#[test]
fn what_no_result_depends_on_has_zeros() {
    let program = program(&["x", "w"], &["s = sign(x = w)", "y = add(x = x, y = s)"], "y");
    let pair = differentiate(&program, "main", &Request::all(&["w", "x"])).unwrap();
    assert_eq!(gradients(&program, &pair, &[vec![3.0, -2.0], vec![1.0, 1.0]]), [[0.0, 0.0], [1.0, 1.0]]);
}

#[test]
fn a_constant_that_nothing_reads_has_zeros() {
    let mut program = program(&["x"], &["y = square(x = x)"], "y").into_program();
    let main = program.functions.remove(0);
    let mut builder = FunctionBuilder::resume(main, program.version);
    builder.constant("c", Tensor::vector(vec![1.0f32, 2.0]));
    let outputs = builder.function().body.outputs.clone();
    program.functions.push(builder.finish(outputs));
    let program = verify::verify(program).unwrap();
    let pair = differentiate(&program, "main", &Request::all(&["c", "x"])).unwrap();
    assert_eq!(gradients(&program, &pair, &[vec![3.0, -2.0]]), [[0.0, 0.0], [6.0, -4.0]]);
    assert!(pair.forward.value_named("c").is_none());
}

#[test]
fn dead_code_is_gone() {
    let body = ["dead = exp(x = x)", "s = square(x = x)", "t = sin(x = dead)", "y = mul(x = s, y = w)"];
    let program = program(&["x", "w"], &body, "y");
    let pair = differentiate(&program, "main", &Request::all(&["w"])).unwrap();
    assert_eq!(ops(&pair.forward), ["square", "mul"]);
    assert_eq!(ops(&pair.backward), ["square", "mul"]);
    assert_eq!(input_names(&pair.backward), ["d_y", "x"]);
}

#[test]
fn products_and_reductions_are_not_computed_twice() {
    let pair = {
        let program = parsed(
            "func main<ios18>(tensor<fp32, [8, 4]> x, tensor<fp32, [4, 8]> w) {
                 bool no = const()[name = string(\"no\"), val = bool(false)];
                 tensor<fp32, [8, 8]> z = matmul(x = x, y = w, transpose_x = no, transpose_y = no)[name = string(\"z\")];
                 tensor<fp32, [8, 8]> e = tanh(x = z)[name = string(\"e\")];
                 tensor<fp32, [8, 8]> y = square(x = e)[name = string(\"y\")];
             } -> (y);",
        );
        differentiate(&program, "main", &Request::all(&["x", "w"])).unwrap()
    };
    let name = |&id: &_| pair.forward.value(id).name.clone();
    let saved: Vec<String> = pair.forward.body.outputs.iter().map(name).collect();
    assert!(saved == ["y", "z"] || saved == ["y", "e"], "{saved:?}");
    let products = ops(&pair.backward).into_iter().filter(|op| *op == "matmul").count();
    assert_eq!(products, 2, "{:?}", ops(&pair.backward));
}

/// Causal attention of two groups of queries to one key/value head, a length of three, as a layer has it.
const ATTENTION: &str = "func main<ios18>(tensor<fp32, [1, 2, 2, 3]> q, tensor<fp32, [1, 1, 2, 3]> k, tensor<fp32, [1, 1, 2, 3]> v) {
    tensor<bool, [1, 1, 3, 3]> later = greater(x = tensor<int32, [1, 1, 1, 3]>([[[[0, 1, 2]]]]), y = tensor<int32, [1, 1, 3, 1]>([[[[0], [1], [2]]]]))[name = string(\"later\")];
    tensor<fp32, [1, 2, 3, 3]> scores = matmul(x = q, y = k, transpose_x = bool(true), transpose_y = bool(false))[name = string(\"scores\")];
    tensor<fp32, [1, 2, 3, 3]> masked = select(cond = later, a = fp32(-10000.0), b = scores)[name = string(\"masked\")];
    tensor<fp32, [1, 2, 3, 3]> p = softmax(x = masked, axis = int32(-1))[name = string(\"p\")];
    tensor<fp32, [1, 2, 2, 3]> y = matmul(x = v, y = p, transpose_x = bool(false), transpose_y = bool(true))[name = string(\"y\")];
} -> (y);";

#[test]
fn what_is_to_be_computed_again_is_not_saved() {
    let program = parsed(ATTENTION);
    let request = |recompute| Request { recompute, ..Request::all(&["q", "k", "v"]) };
    let pair = differentiate(&program, "main", &request(vec!["scores", "masked", "p"])).unwrap();
    let outputs = |function: &Function| {
        function.body.outputs.iter().map(|&id| function.value(id).name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(outputs(&pair.forward), ["y"]);
    assert_eq!(input_names(&pair.backward), ["d_y", "q", "k", "v"]);
    let repeated = ops(&pair.backward).into_iter().take(4).collect::<Vec<_>>();
    assert_eq!(repeated, ["greater", "matmul", "select", "softmax"]);
    // What is computed again is the same, to the bit.
    let saving = differentiate(&program, "main", &request(vec![])).unwrap();
    assert_eq!(outputs(&saving.forward), ["y", "p"]);
    let value = |i: usize, scale: f32| ((i * 7 % 11) as f32 - 5.0) * scale;
    let tensor = |dims: &[usize], scale| {
        Tensor::from_values(dims, (0..dims.iter().product()).map(|i| value(i, scale)).collect()).unwrap()
    };
    let [q, k, v] = [tensor(&[1, 2, 2, 3], 0.25), tensor(&[1, 1, 2, 3], 0.5), tensor(&[1, 1, 2, 3], 0.125)];
    let d_y = tensor(&[1, 2, 2, 3], 1.0);
    let forward = run(&saving.forward, &[q.clone(), k.clone(), v.clone()]);
    let given = |name: &str| match name {
        "d_y" => d_y.clone(),
        "q" => q.clone(),
        "k" => k.clone(),
        "v" => v.clone(),
        _ => forward[1].clone(),
    };
    let gradients = |pair: &Pair| {
        let inputs: Vec<Tensor> = input_names(&pair.backward).into_iter().map(given).collect();
        run(&pair.backward, &inputs)
    };
    assert_eq!(gradients(&pair), gradients(&saving));
}

#[test]
fn what_an_equal_value_stands_for_is_computed_again_too() {
    let body = [
        "a = softmax(x = x, axis = int32(0))",
        "b = softmax(x = x, axis = int32(0))",
        "y = mul(x = a, y = b)",
    ];
    let program = program(&["x"], &body, "y");
    let request = Request { recompute: vec!["b"], ..Request::all(&["x"]) };
    let pair = differentiate(&program, "main", &request).unwrap();
    assert_eq!(input_names(&pair.backward), ["d_y", "x"]);
    assert_eq!(pair.forward.body.outputs.len(), 1);
}

#[test]
fn a_result_that_is_to_be_computed_again_is_no_input_of_backward() {
    let program = program(&["x"], &["y = exp(x = x)"], "y");
    let request = Request { recompute: vec!["y"], ..Request::all(&["x"]) };
    let pair = differentiate(&program, "main", &request).unwrap();
    assert_eq!(input_names(&pair.backward), ["d_y", "x"]);
    let saving = differentiate(&program, "main", &Request::all(&["x"])).unwrap();
    assert_eq!(input_names(&saving.backward), ["d_y", "y"]);
}

#[test]
fn only_what_is_computed_can_be_computed_again() {
    let program = program(&["x"], &["y = mul(x = x, y = x)"], "y");
    let refused = |name| error(&program, &Request { recompute: vec![name], ..Request::all(&["x"]) });
    assert_eq!(refused("x"), "`x` is not computed by the function: it cannot be computed again");
    assert_eq!(refused("z"), "nothing is named `z`; the inputs are `x`");
}

#[test]
fn products_transpose_by_flags() {
    let products = [
        "matmul(x = x, y = w, transpose_x = bool(false), transpose_y = bool(false))",
        "matmul(x = x, y = w, transpose_x = bool(true), transpose_y = bool(false))",
        "matmul(x = x, y = w, transpose_x = bool(false), transpose_y = bool(true))",
        "matmul(x = x, y = w, transpose_x = bool(true), transpose_y = bool(true))",
        "linear(x = x, weight = c)",
        "conv(x = r, weight = p)",
    ];
    for product in products {
        let conv = product.starts_with("conv");
        let result = if conv { "[1, 4, 4]" } else { "[4, 4]" };
        let program = parsed(&format!(
            "func main<ios18>(tensor<fp32, [4, 4]> x, tensor<fp32, [4, 4]> w, tensor<fp32, [1, 4, 4]> r, tensor<fp32, [4, 4, 1]> p) {{
                 tensor<fp32, [4, 4]> c = const()[name = string(\"c\"), val = tensor<fp32, [4, 4]>([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]])];
                 tensor<fp32, {result}> y = {product}[name = string(\"y\")];
             }} -> (y);"
        ));
        let pair = differentiate(&program, "main", &Request::all(&["x", "w", "r", "p", "c"])).unwrap();
        let others: Vec<&str> = ops(&pair.backward)
            .into_iter()
            .filter(|op| !["matmul", "reshape", "identity"].contains(op))
            .collect();
        assert!(others.is_empty(), "{product}: {others:?}");
    }
}

#[test]
fn names_of_gradients_are_made_free() {
    let program =
        program(&["x"], &["d_x = exp(x = x)", "d_x_ = square(x = d_x)", "y = add(x = d_x_, y = x)"], "y");
    let pair = differentiate(&program, "main", &Request::all(&["x"])).unwrap();
    let outputs = &pair.backward.body.outputs;
    assert_eq!(pair.backward.value(outputs[0]).name, "d_x");
    let expected = 2.0 * 1.0f64.exp().powi(2) + 1.0;
    assert!((gradients(&program, &pair, &[vec![1.0, 0.0]])[0][0] - expected).abs() < 1e-5);
}

#[test]
fn two_gradients_that_are_one_value_have_two_names() {
    let program = program(&["x", "w"], &["y = add(x = x, y = w)"], "y");
    let pair = differentiate(&program, "main", &Request::all(&["x", "w"])).unwrap();
    assert_eq!(pair.backward.body.outputs.len(), 2);
    assert_eq!(gradients(&program, &pair, &[vec![1.0, 2.0], vec![3.0, 4.0]]), [[1.0, 1.0], [1.0, 1.0]]);
}

#[test]
fn mistakes_are_named() {
    let body = ["s = square(x = x)", "tensor<int32, [2]> n = cast(x = s, dtype = string(\"int32\"))"];
    let two = program(&["x", "d_s", "weights"], &body, "s, n");
    let all = Request::all;
    assert_eq!(error(&two, &all(&["weight"])), "nothing is named `weight`; the nearest name is `weights`");
    assert_eq!(error(&two, &all(&["x", "x"])), "`x` is named twice");
    assert_eq!(
        error(&two, &all(&["s"])),
        "`s` is computed: a gradient is taken with respect to inputs and constants"
    );
    assert_eq!(error(&two, &all(&["x"])), "`d_s` is the name of a gradient, and the function has it already");
    let of = |of| Request { of: vec![of], ..Request::all(&["x"]) };
    assert_eq!(error(&two, &of("n")), "`n` is tensor<int32, [2]>: only floating point has gradients");
    assert_eq!(error(&two, &of("x")), "`x` is no result of `main`: it gives s, n");
    assert_eq!(
        differentiate(&two, "other", &all(&["x"])).unwrap_err().to_string(),
        "no function is named `other`"
    );
    let integers = program(&["x"], &body, "n");
    assert_eq!(error(&integers, &all(&["x"])), "no result of `main` is of floating point");
    let same = program(&["x"], &["y = identity(x = x)"], "x");
    assert_eq!(
        error(&same, &all(&["x"])),
        "`x` is a result and what it is differentiated by: its gradients would have one name"
    );
    let open = parsed(
        "func main<ios18>(tensor<fp32, [?, 2]> x) {
             tensor<fp32, []> y = reduce_mean(x = x, keep_dims = bool(false))[name = string(\"y\")];
         } -> (y);",
    );
    assert_eq!(
        error(&open, &all(&["x"])),
        "the gradient of `y`, reduce_mean: the dimensions of `x`, tensor<fp32, [?, 2]>, must be known"
    );
}

/// The fp16 gradient of an op on one vector, where every element of the result has the gradient 1.
fn fp16_gradient(op: &str, x: &[f64]) -> Vec<f64> {
    let vector = format!("tensor<fp16, [{}]>", x.len());
    let source =
        format!("func main<ios18>({vector} x) {{ {vector} y = {op}[name = string(\"y\")]; }} -> (y);");
    let program = parsed(&source);
    let pair = differentiate(&program, "main", &Request::all(&["x"])).unwrap();
    assert_eq!(pair.backward.value(pair.backward.body.outputs[0]).ty.dtype(), Some(DType::Fp16));
    gradients(&program, &pair, &[x.to_vec()]).remove(0)
}

#[test]
fn gradients_do_not_overflow_where_the_op_does_not() {
    let far = [-65504.0, -300.0, 300.0, 65504.0];
    let steps = [0.0, 0.0, 1.0, 1.0];
    for mode in ["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"] {
        assert_eq!(fp16_gradient(&format!("gelu(x = x, mode = string(\"{mode}\"))"), &far), steps, "{mode}");
    }
    for op in ["silu", "softplus", "relu"] {
        assert_eq!(fp16_gradient(&format!("{op}(x = x)"), &far), steps, "{op}");
    }
    for op in ["tanh", "sigmoid", "erf"] {
        assert_eq!(fp16_gradient(&format!("{op}(x = x)"), &far), [0.0; 4], "{op}");
    }
    assert_eq!(fp16_gradient("softmax(x = x, axis = int32(-1))", &far), [0.0; 4]);
    let layer_norm = "layer_norm(x = x, axes = tensor<int32, [1]>([0]), epsilon = fp16(0.0009765625))";
    assert!(fp16_gradient(layer_norm, &far).iter().all(|value| value.abs() < 1e-6));
}

/// Why a function cannot be differentiated.
fn refusal(function: &str, wrt: &[&str]) -> String {
    differentiate(&parsed(function), "main", &Request::all(wrt)).unwrap_err().to_string()
}

#[test]
fn dimensions_that_declarations_leave_open_and_rules_know_are_known() {
    let function = "func main<ios18>(tensor<fp32, [3]> x) {
        tensor<fp32, [?]> z = tile(reps = tensor<int32, [1]>([2]), x = x)[name = string(\"z\")];
    } -> (z);";
    let pair = differentiate(&parsed(function), "main", &Request::all(&["x"])).unwrap();
    let d_z = Tensor::vector(vec![1.0f32, 2.0, 3.0, 10.0, 20.0, 30.0]);
    assert_eq!(run(&pair.backward, &[d_z])[0].to_f64().unwrap(), [11.0, 22.0, 33.0]);
    let padded = "func main<ios18>(tensor<fp32, [3]> x) {
        tensor<fp32, [?]> z = pad(mode = string(\"reflect\"), pad = tensor<int32, [2]>([1, 1]), x = x)[name = string(\"z\")];
    } -> (z);";
    assert!(differentiate(&parsed(padded), "main", &Request::all(&["x"])).is_ok());
}

#[test]
fn what_may_be_broadcast_over_unknown_dimensions_is_refused() {
    let function = "func main<ios18>(tensor<fp32, [?]> x, tensor<fp32, [?]> y) {
        tensor<fp32, [?]> z = add(x = x, y = y)[name = string(\"z\")];
    } -> (z);";
    assert!(refusal(function, &["x"]).contains("must be known"));
}

#[test]
fn gradients_do_not_vanish_in_states_and_plain_numbers() {
    let state = "func main<ios18>(tensor<fp32, [2]> x, state<tensor<fp32, [2]>> s) {
        tensor<fp32, [2]> v = mul(x = x, y = x)[name = string(\"v\")];
        write_state(data = v, input = s)[name = string(\"w\")];
        tensor<fp32, [2]> r = read_state(input = s)[name = string(\"r\")];
        tensor<fp32, [2]> z = exp(x = r)[name = string(\"z\")];
    } -> (z);";
    assert!(refusal(state, &["x"]).contains("no gradient goes through this op"));
    let epsilon = "func main<ios18>(tensor<fp32, [2]> x) {
        fp32 e = const()[name = string(\"e\"), val = fp32(0.5)];
        tensor<fp32, [2]> l = log(epsilon = e, x = x)[name = string(\"l\")];
    } -> (l);";
    assert!(refusal(epsilon, &["x", "e"]).contains("`epsilon` is a plain number"));
    assert!(differentiate(&parsed(epsilon), "main", &Request::all(&["x"])).is_ok());
}

#[test]
fn gradients_are_named_after_what_was_asked_for() {
    let function = "func main<ios18>(tensor<fp32, [2]> x) {
        tensor<fp32, [2]> d_x = const()[name = string(\"d_x\"), val = tensor<fp32, [2]>([1.0, 2.0])];
        tensor<fp32, [2]> d_d_x_ = exp(x = x)[name = string(\"d_d_x_\")];
        tensor<fp32, [2]> z = mul(x = d_d_x_, y = d_x)[name = string(\"z\")];
    } -> (z, d_d_x_);";
    let request = Request { of: vec!["z"], ..Request::all(&["x", "d_x"]) };
    let backward = differentiate(&parsed(function), "main", &request).unwrap().backward;
    let names = backward.body.outputs.iter().map(|&id| backward.value(id).name.clone());
    assert_eq!(names.collect::<Vec<_>>(), ["d_x", "d_d_x"]);
    let mut program = Program::new(Version::V1_3);
    program.functions.push(backward);
    assert!(verify::verify(program).is_ok());
}
