//! What must hold of every program and of every text.

#![allow(clippy::unwrap_used, clippy::panic)]

mod text_generator;

use anemone_mil::error::{Location, Spans};
use anemone_mil::text;
use proptest::prelude::*;
use text_generator::Choices;

/// Pieces that texts are made of, right and wrong.
const PIECES: &[&str] = &[
    "program",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "<",
    ">",
    ",",
    ";",
    "=",
    "->",
    "?",
    " ",
    "\n",
    "\r\n",
    "//",
    "1.3",
    "func",
    "main",
    "ios18",
    "tensor",
    "fp16",
    "int32",
    "string",
    "list",
    "tuple",
    "dict",
    "state",
    "bool",
    "x",
    "y",
    "const",
    "name",
    "val",
    "BLOBFILE",
    "path",
    "offset",
    "uint64",
    "true",
    "inf",
    "-inf",
    "nan",
    "\"",
    "\\",
    "\"a\"",
    "0x1p-24",
    "-1",
    "1e999",
    "99999999999999999999",
    "0x",
    "-",
    "é",
    "\u{feff}",
    "\0",
    "tensor_buffer<fp16, shape=[1], strides=[1], interleave_factors=[1]>",
    "tensor<fp16, [1, 4]> y = ",
    "tensor<int32, [2]>([1, 2])",
    "} -> (y);",
    "program(1.3)\n{\n    func main<ios18>(tensor<fp16, [1, 4]> x) {\n",
    "tensor<fp16, [1, 4]> y = relu(x = x)[name = string(\"y\")];\n",
    "} -> (x);\n}\n",
    "cond(pred = x)",
    "() {",
    "(int32 x) {\n",
    "} -> (x)",
    "int4(8)",
    "fp8E4M3FN(1000)",
];

/// Reads any text: an error lies within it, and what is read prints and reads again.
fn check_any_text(source: &str) -> Result<(), TestCaseError> {
    match text::parse(source) {
        Ok(parsed) => {
            let printed = text::write_with_comments(&parsed.program, &parsed.comments);
            let again = text::parse(&printed);
            prop_assert!(again.is_ok(), "{printed}\n{again:?}");
            if let Ok(again) = again {
                prop_assert_eq!(&again.program, &parsed.program);
                prop_assert_eq!(text::write_with_comments(&again.program, &again.comments), printed);
            }
        }
        Err(errors) => {
            prop_assert!((1..=20).contains(&errors.listed().len()), "{errors}");
            for error in errors.listed() {
                let Location::Span(span) = error.location else {
                    return Err(TestCaseError::fail("an error of the reader without a span"));
                };
                prop_assert!(span.start <= span.end && span.end as usize <= source.len(), "{error:?}");
            }
            prop_assert!(!errors.render("a.mil", source, &Spans::default()).is_empty());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_the_same(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut choices = Choices(&bytes);
        let program = choices.program();
        let comments = choices.comments(&program);
        let written = text::write_with_comments(&program, &comments);
        let parsed = text::parse(&written);
        prop_assert!(parsed.is_ok(), "{written}\n{parsed:?}");
        if let Ok(parsed) = parsed {
            prop_assert_eq!(&parsed.program, &program, "{}", written);
            prop_assert_eq!(&parsed.comments, &comments, "{}", written);
            prop_assert_eq!(text::write_with_comments(&parsed.program, &parsed.comments), written);
        }
    }

    #[test]
    fn spans_hold_what_they_point_at(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let program = Choices(&bytes).program();
        let written = text::write(&program);
        let parsed = text::parse(&written).map_err(|errors| TestCaseError::fail(errors.to_string()))?;
        let at = |span: anemone_mil::error::Span| &written[span.start as usize..span.end as usize];
        prop_assert_eq!(parsed.spans.functions.len(), program.functions.len());
        for (function, spans) in program.functions.iter().zip(&parsed.spans.functions) {
            prop_assert_eq!(at(spans.name), &function.name);
            prop_assert_eq!(at(spans.opset), function.opset.to_string());
            prop_assert_eq!(spans.ops.len(), function.ops.len());
            for (id, span) in function.body.inputs.iter().zip(&spans.inputs) {
                let value = function.value(*id);
                prop_assert_eq!(at(span.whole), format!("{} {}", value.ty, value.name));
                prop_assert_eq!(at(span.name), &value.name);
            }
            for (id, span) in function.body.outputs.iter().zip(&spans.outputs) {
                prop_assert_eq!(at(*span), &function.value(*id).name);
            }
            for (op, spans) in function.ops.iter().zip(&spans.ops) {
                prop_assert_eq!(at(spans.name), &op.name);
                prop_assert_eq!(spans.arguments.len(), op.arguments.len());
                prop_assert_eq!(spans.attributes.len(), op.attributes.len());
                prop_assert_eq!(spans.results.len(), op.results.len());
                for ((name, _), span) in op.arguments.iter().zip(&spans.arguments) {
                    let expected = format!("{name} = ");
                    prop_assert!(at(*span).starts_with(&expected));
                }
                for ((name, _), span) in op.attributes.iter().zip(&spans.attributes) {
                    let expected = format!("{name} = ");
                    prop_assert!(at(*span).starts_with(&expected) && at(*span).ends_with(')'));
                }
                for (id, span) in op.results.iter().zip(&spans.results) {
                    let value = function.value(*id);
                    prop_assert_eq!(at(span.whole), format!("{} {}", value.ty, value.name));
                    prop_assert_eq!(at(span.name), &value.name);
                }
                prop_assert_eq!(spans.blocks.len(), op.blocks.len());
                for (block, spans) in op.blocks.iter().zip(&spans.blocks) {
                    prop_assert!(at(spans.parameters).starts_with('(') && at(spans.parameters).ends_with(')'));
                    prop_assert_eq!(spans.inputs.len(), block.inputs.len());
                    for (id, span) in block.inputs.iter().zip(&spans.inputs) {
                        prop_assert_eq!(at(span.name), &function.value(*id).name);
                    }
                    prop_assert_eq!(spans.outputs.len(), block.outputs.len());
                    for (id, span) in block.outputs.iter().zip(&spans.outputs) {
                        prop_assert_eq!(at(*span), &function.value(*id).name);
                    }
                }
            }
        }
    }

    #[test]
    fn any_pieces_are_read_or_refused(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60)) {
        check_any_text(&pieces.concat())?;
    }

    #[test]
    fn any_characters_are_read_or_refused(source in ".*") {
        check_any_text(&source)?;
    }

    #[test]
    fn mutilated_programs_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, prop::sample::select(PIECES)), 1..5),
    ) {
        let mut source = text::write(&Choices(&bytes).program());
        for (place, length, piece) in cuts {
            let boundary = |mut at: usize| {
                at = at.min(source.len());
                while !source.is_char_boundary(at) {
                    at -= 1;
                }
                at
            };
            let start = boundary(place.index(source.len() + 1));
            let end = boundary(start + length).max(start);
            source.replace_range(start..end, piece);
        }
        check_any_text(&source)?;
    }
}
