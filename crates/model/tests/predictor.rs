//! Models of `tests/coreml` answer as their descriptions and their few ops say.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::path::{Path, PathBuf};

use anemone_coreml::description::{ArrayType, DefaultElement, Feature, FeatureKind, Shapes};
use anemone_mil::eval::Interpreter;
use anemone_mil::tensor::Tensor;
use anemone_model::classifier::Label;
use anemone_model::image::{Image, Pixels};
use anemone_model::pipeline::{Opened, PipelineSource};
use anemone_model::predictor::{Given, OpenError, Output, PredictError, Predictor};
use anemone_model::source::Source;
use half::f16;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/coreml").join(name)
}

fn pipeline(name: &str) -> PipelineSource {
    match Opened::read(&path(name)).unwrap() {
        Opened::Pipeline(pipeline) => *pipeline,
        Opened::Program(_) => panic!("{name} is no pipeline"),
    }
}

fn predicting(source: PipelineSource) -> Result<Predictor, OpenError> {
    Predictor::new(source, None, None, Box::<Interpreter>::default())
}

fn opened(name: &str, function: Option<&str>) -> Result<Predictor, OpenError> {
    Predictor::new(Source::read(&path(name)).unwrap(), function, None, Box::<Interpreter>::default())
}

fn model(name: &str) -> Predictor {
    opened(&format!("{name}.mlpackage"), None).unwrap()
}

fn array(name: &str, shape: &[usize], values: &[f32]) -> (String, Given) {
    (name.to_string(), Given::Array(Tensor::from_values(shape, values.to_vec()).unwrap()))
}

fn array_of(name: &str, shape: &[usize]) -> (String, Given) {
    array(name, shape, &vec![1.0; shape.iter().product()])
}

fn outputs(model: &mut Predictor, given: Vec<(String, Given)>) -> Vec<(String, Output)> {
    model.predict(given, None).unwrap()
}

fn refused(model: &mut Predictor, given: Vec<(String, Given)>) -> PredictError {
    model.predict(given, None).unwrap_err()
}

#[test]
fn a_default_stands_for_what_is_left_out() {
    let x = || array("x", &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let mut model = model("optional");
    let plus = |bias: f32| {
        let values = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0].map(|value: f32| value + bias);
        Output::Array(Tensor::from_values(&[2, 3], values.to_vec()).unwrap())
    };
    assert_eq!(outputs(&mut model, vec![x()]), [("y".to_string(), plus(0.5))]);
    assert_eq!(outputs(&mut model, vec![array("bias", &[1], &[2.0]), x()]), [("y".to_string(), plus(2.0))]);
    assert!(matches!(refused(&mut model, vec![]), PredictError::Missing(name) if name == "`x`"));
    let unknown = refused(&mut model, vec![x(), array("z", &[1], &[0.0])]);
    assert!(
        matches!(unknown, PredictError::Unknown { unknown, present } if unknown == "`z`" && present == "`x`, `bias`")
    );
}

#[test]
fn shapes_are_those_described() {
    let mut ranged = model("ranged");
    for rows in [1, 2, 16] {
        let answer = outputs(&mut ranged, vec![array("x", &[rows, 6], &vec![0.0; rows * 6])]);
        // The product of zeros is zero, and the softmax of 4 of them a quarter each.
        let quarter = Tensor::from_values(&[rows, 4], vec![0.25f32; rows * 4]).unwrap();
        assert_eq!(answer, [("y".to_string(), Output::Array(quarter))]);
    }
    for shape in [&[17, 6][..], &[2, 5], &[12]] {
        let given = array("x", shape, &vec![0.0; shape.iter().product()]);
        let error = refused(&mut ranged, vec![given]);
        assert!(matches!(&error, PredictError::Shape { given, .. } if given == shape), "{error}");
    }
    let mut listed = model("enumerated");
    let given = |rows: usize| vec![array("x", &[rows, 6], &vec![0.0; rows * 6])];
    assert_eq!(outputs(&mut listed, given(9)).len(), 1);
    assert!(matches!(refused(&mut listed, given(2)), PredictError::Shape { .. }));
}

#[test]
fn more_shapes_than_are_kept_prepared_answer_alike() {
    let mut model = model("ranged");
    let ask = |model: &mut Predictor, rows: usize| {
        let values: Vec<f32> = (0..rows * 6).map(|i| i as f32 / 8.0).collect();
        outputs(model, vec![array("x", &[rows, 6], &values)])
    };
    let first: Vec<_> = (1..=16).map(|rows| ask(&mut model, rows)).collect();
    // The last ones first, of which some are kept.
    for rows in (1..=16).rev() {
        assert_eq!(ask(&mut model, rows), first[rows - 1]);
    }
}

#[test]
fn a_state_is_what_the_runs_before_left() {
    let mut model = model("state");
    let halves = |values: [f32; 4]| Tensor::from_values(&[1, 4], values.map(f16::from_f32).to_vec()).unwrap();
    let x = || vec![array("x", &[1, 4], &[1.0, 2.0, 3.0, 4.0])];
    let mut states = model.states().unwrap();
    let mut other = model.states().unwrap();
    for round in [1.0, 2.0, 3.0] {
        let expected = halves([1.0, 2.0, 3.0, 4.0].map(|value| value * round));
        let answer = model.predict(x(), Some(&mut states)).unwrap();
        assert_eq!(answer, [("y".to_string(), Output::Array(expected.clone()))]);
        assert_eq!(states.get("kept"), Some(&expected));
    }
    model.predict(x(), Some(&mut other)).unwrap();
    assert_eq!(other.get("kept"), Some(&halves([1.0, 2.0, 3.0, 4.0])));
    other.set("kept", Tensor::from_values(&[1, 4], vec![10i64; 4]).unwrap()).unwrap();
    assert_eq!(other.get("kept"), Some(&halves([10.0; 4])));
    assert!(other.set("kept", Tensor::vector(vec![1f32; 4])).is_err());
    assert!(other.set("lost", halves([0.0; 4])).unwrap_err().to_string().contains("`kept`"));

    assert!(matches!(refused(&mut model, x()), PredictError::States(_)));
    let mut foreign = self::model("optional").states().unwrap();
    assert!(matches!(model.predict(x(), Some(&mut foreign)), Err(PredictError::States(_))));
    let wrong = model.predict(vec![array("x", &[4], &[0.0; 4])], Some(&mut states));
    assert!(wrong.is_err());
    assert_eq!(states.get("kept"), Some(&halves([3.0, 6.0, 9.0, 12.0])));
}

#[test]
fn a_classifier_gives_its_labels() {
    let mut model = model("classifier");
    let words = ["ant", "b\"ee", "cat \\ dog"].map(|word| Label::String(word.to_string()));
    let even = outputs(&mut model, vec![array("x", &[1, 5], &[0.0; 5])]);
    let mut answers = even.iter().map(|(_, output)| output);
    let (Some(Output::Label(label)), Some(Output::Probabilities(all))) = (answers.next(), answers.next())
    else {
        panic!("{even:?}");
    };
    assert_eq!(label, &words[0], "the first of three that are alike");
    assert!(all.iter().map(|(label, _)| label).eq(&words));
    assert!(all.iter().all(|(_, probability)| (probability - 1.0 / 3.0).abs() < 1e-3), "{all:?}");

    let uneven = outputs(&mut model, vec![array("x", &[1, 5], &[3.0, -1.0, 2.0, 0.5, -4.0])]);
    let (Output::Label(label), Output::Probabilities(all)) = (&uneven[0].1, &uneven[1].1) else {
        panic!("{uneven:?}");
    };
    let likeliest = all.iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert_eq!(label, &likeliest.0);
    assert!((all.iter().map(|(_, probability)| probability).sum::<f64>() - 1.0).abs() < 1e-3);
}

#[test]
fn an_image_becomes_its_channels() {
    let mut model = model("image");
    let bytes: Vec<u8> = (0..12 * 10 * 3).map(|i| (i % 256) as u8).collect();
    let image = |width, height, bytes: &[u8]| {
        let pixels = Pixels::Rgb(bytes.to_vec());
        vec![("picture".to_string(), Given::Image(Image { width, height, pixels }))]
    };
    let answer = outputs(&mut model, image(12, 10, &bytes));
    // Scaled to 0..1 and halved, in fp16.
    let Output::Array(dark) = &answer[0].1 else { panic!("{answer:?}") };
    assert_eq!(dark.shape(), [1, 3, 10, 12]);
    for (index, value) in dark.to_f64().unwrap().into_iter().enumerate() {
        let (channel, pixel) = (index / 120, index % 120);
        let expected = f64::from(bytes[3 * pixel + channel]) / 255.0 * 0.5;
        assert!((value - expected).abs() <= 1e-3, "{index}: {value} instead of {expected}");
    }
    assert!(matches!(refused(&mut model, image(10, 12, &bytes)), PredictError::Image { .. }));
    let array = vec![array("picture", &[1, 3, 10, 12], &vec![0.0; 360])];
    assert!(matches!(refused(&mut model, array), PredictError::Kind { given: "an array", .. }));
}

#[test]
fn functions_are_chosen_by_name() {
    let x = || vec![array("x", &[1, 16], &[0.25; 16])];
    let mut default = model("two_functions");
    assert_eq!(default.function(), Some("squashed"));
    let mut rectified = opened("two_functions.mlpackage", Some("rectified")).unwrap();
    let values = |answer: Vec<(String, Output)>| match &answer[0].1 {
        Output::Array(tensor) => tensor.to_f64().unwrap(),
        other => panic!("{other:?}"),
    };
    let (tanh, relu) = (values(outputs(&mut default, x())), values(outputs(&mut rectified, x())));
    assert!(tanh.iter().zip(&relu).all(|(t, r)| (t.max(0.0) - r.tanh()).abs() < 2e-3), "{tanh:?} {relu:?}");
    let error = opened("two_functions.mlpackage", Some("third")).err().unwrap().to_string();
    assert!(
        error.contains("`rectified`, `squashed`") || error.contains("`squashed`, `rectified`"),
        "{error}"
    );
    assert!(matches!(opened("state.mlpackage", Some("other")), Err(OpenError::NoFunction { .. })));
}

#[test]
fn values_that_an_input_does_not_have_are_refused() {
    let mut model = model("optional");
    let words = Tensor::from_values(&[2, 3], vec!["word".to_string(); 6]).unwrap();
    let error = refused(&mut model, vec![("x".to_string(), Given::Array(words))]);
    assert!(matches!(error, PredictError::Values { .. }), "{error}");
}

/// A model takes what is given to the pipeline, and what models before it gave.
#[test]
fn pipelines_pass_values_on_by_name() {
    let mut model = predicting(pipeline("pipeline.mlpackage")).unwrap();
    assert_eq!(model.function(), None);
    let expected = Output::Array(Tensor::from_values(&[1, 4], vec![0.0f32, 2.0, 0.0, 4.0]).unwrap());
    let a = || array("a", &[1, 4], &[-1.0, 2.0, -3.0, 4.0]);
    assert_eq!(outputs(&mut model, vec![a()]), [("c".to_string(), expected)]);
    assert!(matches!(refused(&mut model, vec![]), PredictError::Missing(name) if name == "`a`"));
    let unknown = refused(&mut model, vec![a(), array("b", &[1, 4], &[0.0; 4])]);
    assert!(matches!(unknown, PredictError::Unknown { unknown, .. } if unknown == "`b`"));
    let shape = refused(&mut model, vec![array("a", &[1, 5], &[0.0; 5])]).to_string();
    assert!(shape.starts_with("the input `a` is fp32 [1, 4]"), "{shape}");
}

#[test]
fn pipelines_whose_models_do_not_fit_are_refused() {
    let refused = |source: PipelineSource| match predicting(source) {
        Ok(_) => panic!("the pipeline was opened"),
        Err(error) => error.to_string(),
    };
    let mut turned = pipeline("pipeline.mlpackage");
    turned.pipeline.models.reverse();
    let said = refused(turned);
    assert!(
        said.contains("the model `model1`, whose input `b` is neither the pipeline's nor given"),
        "{said}"
    );
    let mut other = pipeline("pipeline.mlpackage");
    let mut description = other.pipeline.description.model().clone();
    description.main.outputs[0].kind = Some(FeatureKind::Int64);
    other.pipeline.description = description.into();
    let said = refused(other);
    assert!(said.contains("the output `c`, described as"), "{said}");
    let mut other = pipeline("pipeline.mlpackage");
    let model = other.pipeline.models[1].model.as_mut().unwrap();
    let mut description = model.description.model().clone();
    let Some(FeatureKind::Array(array)) = &mut description.main.inputs[0].kind else { panic!("no array") };
    array.shape = vec![1, 5];
    model.description = description.into();
    let said = refused(other);
    assert!(said.contains("as the input `b` what is fp32 [1, 4], where fp32 [1, 5] is expected"), "{said}");
    let mut short = pipeline("pipeline.mlpackage");
    short.pipeline.models.pop();
    assert!(refused(short).contains("has the output `c`, which no model gives"));
    let mut kept = pipeline("pipeline.mlpackage");
    let state = match Opened::read(&path("state.mlpackage")).unwrap() {
        Opened::Program(source) => source.into_model().unwrap(),
        Opened::Pipeline(_) => panic!("a pipeline"),
    };
    for stage in &mut kept.pipeline.models {
        stage.model = Ok(state.clone());
    }
    kept.pipeline.description = state.description.clone();
    let said = refused(kept);
    assert!(said.contains("two models that keep a state"), "{said}");
    let named =
        Predictor::new(pipeline("pipeline.mlpackage"), Some("main"), None, Box::<Interpreter>::default());
    assert!(named.is_err_and(|error| error.to_string().contains("has no functions to choose from")));
}

/// What a pipeline says of an input counts, whatever its models say.
#[test]
fn pipelines_have_defaults_shapes_and_states_of_their_own() {
    let mut source = pipeline("pipeline.mlpackage");
    let mut description = source.pipeline.description.model().clone();
    let input = &mut description.main.inputs[0];
    input.optional = true;
    let Some(FeatureKind::Array(taken)) = &mut input.kind else { panic!("no array") };
    taken.default = Some(DefaultElement::Float(1.5));
    source.pipeline.description = description.into();
    let mut model = predicting(source).unwrap();
    let expected = Output::Array(Tensor::from_values(&[1, 4], vec![1.5f32; 4]).unwrap());
    assert_eq!(outputs(&mut model, vec![]), [("c".to_string(), expected)]);

    let mut source = pipeline("pipeline.mlpackage");
    let mut description = source.pipeline.description.model().clone();
    let Some(FeatureKind::Array(taken)) = &mut description.main.inputs[0].kind else { panic!("no array") };
    // Of several shapes, none of which is the model's, it is seen when one is given.
    taken.shapes = Shapes::Enumerated(vec![vec![2, 4], vec![3, 4]]);
    source.pipeline.description = description.into();
    let mut model = predicting(source).unwrap();
    let shape = refused(&mut model, vec![array_of("a", &[1, 4])]);
    assert!(matches!(shape, PredictError::Shape { .. }), "{shape}");

    // An input that no model takes, and an output of other numbers than the model gives.
    let mut source = pipeline("pipeline.mlpackage");
    let mut description = source.pipeline.description.model().clone();
    let more = Feature { name: "more".to_string(), ..description.main.inputs[0].clone() };
    description.main.inputs.push(more);
    let Some(FeatureKind::Array(taken)) = &mut description.main.outputs[0].kind else { panic!("no array") };
    taken.elements = ArrayType::Double;
    source.pipeline.description = description.into();
    let mut model = predicting(source).unwrap();
    assert_eq!(model.input("more").unwrap().0.to_string(), "tensor<fp32, [1, 4]>");
    let answer = outputs(&mut model, vec![array_of("a", &[1, 4]), array_of("more", &[1, 4])]);
    assert_eq!(answer[0].1, Output::Array(Tensor::from_values(&[1, 4], vec![1.0f64; 4]).unwrap()));

    let Opened::Program(state) = Opened::read(&path("state.mlpackage")).unwrap() else {
        panic!("a pipeline")
    };
    let state = state.into_model().unwrap();
    let mut source = pipeline("pipeline.mlpackage");
    source.pipeline.models.pop();
    source.pipeline.description = state.description.clone();
    source.pipeline.models[0].model = Ok(state);
    let mut model = predicting(source).unwrap();
    let mut states = model.states().unwrap();
    for round in [1.0, 2.0] {
        let x = vec![array("x", &[1, 4], &[1.0, 2.0, 3.0, 4.0])];
        model.predict(x, Some(&mut states)).unwrap();
        let kept = states.get("kept").unwrap().to_f64().unwrap();
        assert_eq!(kept, [1.0, 2.0, 3.0, 4.0].map(|value| value * round));
    }
    assert!(matches!(refused(&mut model, vec![array_of("x", &[1, 4])]), PredictError::Stage { .. }));
    assert!(model.predict(vec![array_of("x", &[4])], Some(&mut states)).is_err());
    assert_eq!(states.get("kept").unwrap().to_f64().unwrap()[0], 2.0);
}
