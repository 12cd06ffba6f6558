//! `anemone show`.

use std::fs;

use serde_json::json;

use super::support::{ACCUMULATE, LINEAR, Place, anemone};

#[test]
fn says_what_a_program_takes_gives_holds_and_costs() {
    let place = Place::new();
    let file = place.file("linear.mil", LINEAR);
    let run = anemone(["show", &file]).ended(0);
    for words in
        ["x: tensor<fp32, [2, 3]>", "y: tensor<fp32, [2, 4]>", "operations: 1, constants: 2", "1 linear"]
    {
        assert!(run.stdout.contains(words), "{words:?} is not in {}", run.stdout);
    }
    let json = anemone(["show", "--json", &file]).ended(0).json();
    assert_eq!(json.len(), 1);
    assert_eq!(json[0]["operations_by_kind"], json!({"linear": 1}));
    assert_eq!(json[0]["parameters"], json!({"tensors": 2, "count": 16, "bytes": 64}));
    // 2·2·3·4 for the product, 2·4 for the bias.
    assert_eq!(json[0]["flops"]["counted"], 56);
    assert_eq!(json[0]["flops"]["complete"], true);
    assert_eq!(json[0]["bytes"], json!({"inputs": 24, "outputs": 32, "intermediates": 0}));
}

#[test]
fn states_are_told_from_inputs() {
    let place = Place::new();
    let file = place.file("accumulate.mil", ACCUMULATE);
    let run = anemone(["show", &file]).ended(0);
    assert!(run.stdout.contains("  states\n    s: state<tensor<fp16, [2]>>\n"), "{}", run.stdout);
    let json = anemone(["show", "--json", &file]).ended(0).json();
    assert_eq!(json[0]["inputs"], json!([{"name": "x", "type": "tensor<fp16, [2]>"}]));
    assert_eq!(json[0]["states"], json!([{"name": "s", "type": "state<tensor<fp16, [2]>>"}]));
}

#[test]
fn convolutions_and_matrix_products_count_multiply_adds_twice() {
    let place = Place::new();
    let program = r#"program(1.3)
{
    func main<ios18>(tensor<fp16, [1, 6, 5, 7]> x, tensor<fp16, [4, 3, 3, 3]> w, tensor<fp16, [2, 1, 5, 3]> a, tensor<fp16, [4, 3, 8]> b) {
            int32 groups = const()[name = string("groups"), val = int32(2)];
            tensor<fp16, [1, 4, 3, 5]> y = conv(groups = groups, weight = w, x = x)[name = string("y")];
            tensor<fp16, [2, 4, 5, 8]> z = matmul(x = a, y = b)[name = string("z")];
        } -> (y, z);
}
"#;
    let json = anemone(["show", "--json", &place.file("a.mil", program)]).ended(0).json();
    // conv: 4·3·5 results of 3·3·3 terms; matmul: 2·4 products of 5 × 3 by 3 × 8.
    assert_eq!(json[0]["flops"]["counted"], 2 * 60 * 27 + 2 * 8 * 5 * 3 * 8);
    assert_eq!(json[0]["bytes"]["inputs"], 2 * (210 + 108 + 30 + 96));
}

#[test]
fn unknown_dimensions_and_unknown_ops_are_said_and_not_guessed() {
    let place = Place::new();
    let flexible = LINEAR.replace("[2, 3]> x", "[?, 3]> x").replace("[2, 4]> y", "[?, 4]> y");
    let file = place.file("flexible.mil", &flexible);
    let run = anemone(["show", &file]).ended(0);
    assert!(run.stdout.contains("FLOPs per run: unknown, at least 0"), "{}", run.stdout);
    assert!(run.stdout.contains("inputs unknown"), "{}", run.stdout);

    let foreign = LINEAR.replace(
        "} -> (y)",
        "    tensor<fp32, [2, 4]> q = frobnicate(x = y)[name = string(\"q\")];\n        } -> (q)",
    );
    let file = place.file("foreign.mil", &foreign);
    let run = anemone(["show", &file]).ended(0);
    assert!(run.stdout.contains("1 frobnicate"), "{}", run.stdout);
    assert!(run.stdout.contains("unknown, at least 56 (not known: frobnicate)"), "{}", run.stdout);
    assert!(run.stderr.contains("frobnicate"), "{}", run.stderr);
    let json = anemone(["show", "--json", &file]).ended(0).json();
    assert_eq!(json[0]["flops"]["unknown_ops"], json!(["frobnicate"]));
}

#[test]
fn a_program_with_mistakes_is_shown_and_refused() {
    let place = Place::new();
    let file = place.file("wrong.mil", LINEAR.replace("[2, 4]> y", "[2, 5]> y"));
    let run = anemone(["show", &file]).failed(1, &["does not verify"]);
    assert!(run.stdout.contains("1 linear"));
    let file = place.file("text.mil", "program(1.3) {");
    assert_eq!(anemone(["show", &file]).failed(1, &["text.mil:1:"]).stdout, "");
}

#[test]
fn the_graph_goes_into_a_file() {
    let place = Place::new();
    let (file, dot) = (place.file("linear.mil", LINEAR), place.text("linear.dot"));
    anemone(["show", &file, "--dot", &dot]).ended(0);
    let graph = fs::read_to_string(&dot).unwrap();
    assert!(graph.starts_with("digraph"), "{graph}");
    assert!(graph.contains(r#"[label="linear\ny", shape=box]"#), "{graph}");
    assert!(graph.contains(r#"f0_in0 -> f0_op2 [label="fp32 [2, 3]"]"#), "{graph}");
    assert!(graph.contains(r#"f0_op2 -> f0_out0 [label="fp32 [2, 4]"]"#), "{graph}");
    anemone(["show", &file, "--dot", &format!("{file}/graph.dot")]).failed(1, &["cannot write", "graph.dot"]);
    let missing = place.text("none");
    let run = anemone(["show", &file, "--dot", &format!("{missing}/graph.dot")]);
    let run = run.failed(1, &["cannot write", &format!("the directory {missing} does not exist")]);
    assert!(!run.stderr.contains(".graph.dot"), "{}", run.stderr);
}

#[test]
fn nested_blocks_are_drawn_within_their_op_and_not_counted_as_run_once() {
    let source = r#"program(1.3)
{
    func main<ios18>(bool p, tensor<fp32, [4]> x) {
            tensor<fp32, [4]> y = cond(pred = p)
                () { tensor<fp32, [4]> a = add(x = x, y = x); } -> (a)
                () { } -> (x);
            tensor<fp32, [4]> z = add(x = y, y = x);
        } -> (z);
}
"#;
    let place = Place::new();
    let (file, dot) = (place.file("cond.mil", source), place.text("cond.dot"));
    let run = anemone(["show", &file, "--dot", &dot]).ended(0);
    assert!(
        run.stdout.contains("unknown, at least 4 (ops in nested blocks, run as the data decides: 1)"),
        "{}",
        run.stdout
    );
    let graph = fs::read_to_string(&dot).unwrap();
    let within = graph.split_once("subgraph cluster_f0_op0_0 {").expect("the first block's box").1;
    let within = within.split_once('}').expect("the end of the box").0;
    assert!(within.contains(r#"label="cond: true";"#), "{graph}");
    assert!(within.contains(r#"f0_op1 [label="add\na", shape=box];"#), "{graph}");
    assert!(graph.contains(r#"f0_op1 -> f0_op0_0_out0 [label="fp32 [4]"];"#), "{graph}");
    assert!(graph.contains(r#"f0_in1 -> f0_op0_1_out0 [label="fp32 [4]"];"#), "{graph}");
}
