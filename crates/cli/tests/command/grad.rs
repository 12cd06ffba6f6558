//! `anemone grad`.

use std::fs;

use npyz::NpyFile;

use super::support::{Place, Run, anemone, array};

/// y = x · w with a computed name that a gradient wants, and an integer beside it.
const PROGRAM: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp32, [2, 3]> x, int32 n) {
            tensor<fp32, [3, 2]> w = const()[name = string("w"), val = tensor<fp32, [3, 2]>([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])];
            tensor<fp32, [2, 2]> d_x = matmul(transpose_x = bool(false), transpose_y = bool(false), x = x, y = w)[name = string("d_x")];
            tensor<fp32, [2, 2]> y = tanh(x = d_x)[name = string("y")];
            int32 m = add(x = n, y = n)[name = string("m")];
        } -> (y, m);
}
"#;

fn grad(place: &Place, flags: &[&str]) -> Run {
    let file = place.file("program.mil", PROGRAM);
    anemone([&["grad", &file, "--out", &place.text("g")], flags].concat())
}

fn values(place: &Place, name: &str) -> Vec<f32> {
    let bytes = fs::read(place.path(name)).unwrap();
    NpyFile::new(&bytes[..]).unwrap().into_vec().unwrap()
}

#[test]
fn both_parts_run_as_they_stand() {
    let place = Place::new();
    let run = grad(&place, &["--wrt", "x,w"]).ended(0);
    assert!(run.stdout.contains("forward.mil: x, n -> y, m"), "{run:#?}");
    assert!(run.stdout.contains("backward.mil: d_y, x, y -> d_x, d_w"), "{run:#?}");
    let x = array(&place, "x.npy", &[2, 3], &[0.1f32, 0.2, -0.3, 0.0, 0.1, 0.05]);
    let n = array(&place, "n.npy", &[], &[3i32]);
    let d_y = array(&place, "d_y.npy", &[2, 2], &[1.0f32, -2.0, 0.5, 0.25]);
    let (forward, backward) = (place.text("g/forward.mil"), place.text("g/backward.mil"));
    anemone(["check", "--warnings-are-errors", &forward, &backward]).ended(0);
    let given = |name: &str, path: &str| format!("{name}={path}");
    let (x_given, out) = (given("x", &x), place.text("out"));
    anemone(["run", &forward, "--input", &x_given, "--input", &given("n", &n), "--output", &out]).ended(0);
    let y = given("y", &place.text("out/y.npy"));
    let d_y = given("d_y", &d_y);
    anemone(["run", &backward, "--input", &d_y, "--input", &x_given, "--input", &y, "--output", &out])
        .ended(0);
    // By hand: dz = dy · (1 − y²), dx = dz · wᵀ, dw = xᵀ · dz, from z = x · w = [[-0.8, -0.8], [0.55, 0.7]].
    let z = [-0.8f64, -0.8, 0.55, 0.7];
    let dz: Vec<f64> =
        z.iter().zip([1.0, -2.0, 0.5, 0.25]).map(|(z, dy)| dy * (1.0 - z.tanh() * z.tanh())).collect();
    let w = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]];
    let expected_x = (0..6).map(|i| dz[i / 3 * 2] * w[i % 3][0] + dz[i / 3 * 2 + 1] * w[i % 3][1]);
    let x = [0.1, 0.2, -0.3, 0.0, 0.1, 0.05];
    let expected_w = (0..6).map(|i| x[i / 2] * dz[i % 2] + x[3 + i / 2] * dz[2 + i % 2]);
    for (name, expected) in
        [("out/d_x.npy", expected_x.collect::<Vec<f64>>()), ("out/d_w.npy", expected_w.collect())]
    {
        for (found, expected) in values(&place, name).iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-5, "{name}: {found} {expected}");
        }
    }
}

#[test]
fn the_heads_gradients_are_those_of_the_programs_written_by_hand() {
    for dtype in ["fp16", "fp32"] {
        let place = Place::new();
        let (head, out) = (place.text("head"), place.text("out"));
        let sizes = ["--vocab", "40", "--dim", "8", "--seq", "6"];
        anemone([&["emit", "head", "--out", &head, "--dtype", dtype], &sizes[..]].concat()).ended(0);
        let d: Vec<f32> = (0..240).map(|i| ((i * 37 % 101) as f32 - 50.0) / 64.0).collect();
        let d_logits = array(&place, "d.npy", &[1, 40, 1, 6], &d);
        let forward = place.text("head/classifier_forward.mil");
        anemone(["grad", &forward, "--wrt", "xn", "--out", &place.text("g")]).ended(0);
        let run = |program: &str, input: &str| {
            let input = format!("{input}={d_logits}");
            anemone(["run", &place.text(program), "--input", &input, "--output", &out]).ended(0);
        };
        run("g/backward.mil", "d_logits");
        run("head/classifier_backward.mil", "dlogits");
        let read = |name: &str| {
            let bytes = fs::read(place.path(name)).unwrap();
            let file = NpyFile::new(&bytes[..]).unwrap();
            match dtype {
                "fp16" => file.into_vec::<half::f16>().unwrap().iter().map(|v| v.to_f32()).collect(),
                _ => file.into_vec::<f32>().unwrap(),
            }
        };
        let (derived, written): (Vec<f32>, Vec<f32>) = (read("out/d_xn.npy"), read("out/dxn.npy"));
        assert_eq!(derived.len(), 48);
        for (derived, written) in derived.iter().zip(&written) {
            assert!((derived - written).abs() <= 1e-3 * written.abs().max(0.1), "{derived} {written}");
        }
    }
}

#[test]
fn what_is_to_be_computed_again_is_not_passed_on() {
    let place = Place::new();
    let run = grad(&place, &["--wrt", "x,w", "--recompute", "d_x, y"]).ended(0);
    assert!(run.stdout.contains("forward.mil: x, n -> y, m"), "{run:#?}");
    assert!(run.stdout.contains("backward.mil: d_y, x -> d_x, d_w"), "{run:#?}");
    let backward = fs::read_to_string(place.path("g/backward.mil")).unwrap();
    assert_eq!(backward.matches("= matmul(").count(), 3, "{backward}");
    grad(&place, &["--wrt", "x", "--recompute", "n"]).failed(1, &["`n` is not computed"]);
}

#[test]
fn mistakes_are_named() {
    let place = Place::new();
    grad(&place, &["--wrt", "xs"]).failed(1, &["nothing is named `xs`", "`x`"]);
    grad(&place, &["--wrt", "n"]).failed(1, &["`n` is int32", "floating point"]);
    grad(&place, &["--wrt", "y"]).failed(1, &["`y` is computed", "inputs and constants"]);
    grad(&place, &["--wrt", "x,x"]).failed(1, &["named twice"]);
    grad(&place, &["--wrt", "x", "--of", "m"]).failed(1, &["`m` is int32"]);
    grad(&place, &["--wrt", "x", "--of", "w"]).failed(1, &["`w` is no result", "it gives y, m"]);
    grad(&place, &[]).failed(2, &["--wrt"]);
    assert!(!place.path("g").exists());
    let file = place.file("program.mil", PROGRAM);
    let file = fs::canonicalize(file).unwrap();
    fs::create_dir(place.path("o")).unwrap();
    fs::rename(&file, place.path("o/forward.mil")).unwrap();
    let program = place.text("o/forward.mil");
    anemone(["grad", &program, "--wrt", "x", "--out", &place.text("o")]).failed(1, &["forward.mil"]);
    assert_eq!(fs::read_to_string(&program).unwrap(), PROGRAM);
}
