//! `anemone check`.

use anemone_mil::tensor::Tensor;
use anemone_mil::weights::write_blob_file;

use super::support::{LINEAR, Place, anemone};

const WITH_BLOB: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp32, [2, 3]> x) {
            tensor<fp32, [2, 3]> w = const()[name = string("w"), val = tensor<fp32, [2, 3]>(BLOBFILE(path = string("@model_path/weights/w.bin"), offset = uint64(64)))];
            tensor<fp32, [2, 2]> y = linear(weight = w, x = x)[name = string("y")];
        } -> (y);
}
"#;

#[test]
fn sound_programs_get_a_line_each() {
    let place = Place::new();
    let (one, two) = (place.file("one.mil", LINEAR), place.file("two.mil", WITH_BLOB));
    let run = anemone(["check", &one, &two]).ended(0);
    assert_eq!(run.stdout, format!("{one}: ok, 1 function, 1 op\n{two}: ok, 1 function, 1 op\n"));
    assert_eq!(run.stderr, "2 files are ok\n");
    assert_eq!(anemone(["check", "-q", &one, &two]).ended(0).stderr, "");
    let json = anemone(["check", "--json", &one]).ended(0).json();
    assert_eq!(json[0], serde_json::json!({"file": one, "ok": true, "functions": 1, "ops": 1}));
}

#[test]
fn mistakes_are_shown_with_their_line_and_the_rest_is_checked_too() {
    let place = Place::new();
    let good = place.file("good.mil", LINEAR);
    let wrong = place.file("wrong.mil", LINEAR.replace("weight = w", "wieght = w"));
    let run =
        anemone(["check", &wrong, &good]).failed(1, &["wrong.mil:7:", "wieght", "^", "1 of 2 files failed"]);
    assert_eq!(run.stdout, format!("{good}: ok, 1 function, 1 op\n"));
    let json = anemone(["check", "--json", &wrong]).ended(1).json();
    assert_eq!(json.len(), 1);
    assert_eq!(json[0]["ok"], false);
    let error =
        json[0]["errors"].as_array().unwrap().iter().find(|e| e["kind"] == "UnknownParameter").unwrap();
    assert_eq!((error["line"].as_u64(), error["column"].as_u64()), (Some(7), Some(55)));
    let run = anemone(["check", "--json", &place.text("none.mil")]).failed(1, &["none.mil"]);
    assert!(run.json()[0]["reason"].as_str().unwrap().contains("No such file"));
}

#[test]
fn weights_are_checked_where_their_directory_is_given() {
    let place = Place::new();
    let file = place.file("program.mil", WITH_BLOB);
    let weights = place.text("");
    anemone(["check", &file]).ended(0);
    anemone(["check", &file, "--weights", &weights]).failed(1, &["program.mil:4:", "does not exist"]);
    anemone(["check", &file, "--weights", &place.text("none")]).failed(1, &["none"]);
    anemone(["check", &file, "--weights", &file]).failed(1, &["not a directory"]);

    std::fs::create_dir(place.path("weights")).unwrap();
    let write = |tensor: &Tensor| {
        write_blob_file(place.path("weights/w.bin"), |writer| writer.append(tensor)).unwrap();
    };
    write(&Tensor::from_values(&[2, 3], vec![0.5f32; 6]).unwrap());
    anemone(["check", &file, "--weights", &weights]).ended(0);
    write(&Tensor::from_values(&[2, 2], vec![0.5f32; 4]).unwrap());
    anemone(["check", &file, "--weights", &weights]).failed(1, &["holds 16 bytes, expected 24"]);
}
