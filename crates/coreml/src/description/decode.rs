//! From messages.

use super::{
    ArrayFeature, ArrayType, ColorSpace, DefaultElement, Feature, FeatureKind, ImageFeature, ImageSizes,
    Item, Metadata, ModelDescription, Shapes, Signature, SizeRange,
};
use crate::proto::description::{
    self as proto, ArrayShapes, DefaultValue, FeatureKind as Kind, ImageSizes as Sizes, ItemKind, KeyKind,
    StateKind,
};

pub(super) fn model(message: proto::ModelDescription) -> ModelDescription {
    ModelDescription {
        main: Signature {
            inputs: features(message.input),
            outputs: features(message.output),
            states: features(message.state),
            predicted_feature: message.predicted_feature_name,
            predicted_probabilities: message.predicted_probabilities_name,
        },
        functions: message.functions.into_iter().map(function).collect(),
        default_function: message.default_function_name,
        training_inputs: features(message.training_input),
        metadata: message.metadata.map(|metadata| Metadata {
            short_description: metadata.short_description,
            version: metadata.version_string,
            author: metadata.author,
            license: metadata.license,
            user_defined: metadata.user_defined,
        }),
    }
}

fn function(message: proto::FunctionDescription) -> (String, Signature) {
    let signature = Signature {
        inputs: features(message.input),
        outputs: features(message.output),
        states: features(message.state),
        predicted_feature: message.predicted_feature_name,
        predicted_probabilities: message.predicted_probabilities_name,
    };
    (message.name, signature)
}

fn features(messages: Vec<proto::FeatureDescription>) -> Vec<Feature> {
    let feature = |message: proto::FeatureDescription| {
        let ty = message.ty.unwrap_or_default();
        Feature {
            name: message.name,
            short_description: message.short_description,
            optional: ty.is_optional,
            kind: ty.kind.map(kind),
        }
    };
    messages.into_iter().map(feature).collect()
}

fn kind(message: Kind) -> FeatureKind {
    match message {
        Kind::Int64(_) => FeatureKind::Int64,
        Kind::Double(_) => FeatureKind::Double,
        Kind::String(_) => FeatureKind::String,
        Kind::Image(message) => FeatureKind::Image(image(message)),
        Kind::MultiArray(message) => FeatureKind::Array(array(message)),
        Kind::Dictionary(message) => FeatureKind::Dictionary(message.key.map(|key| match key {
            KeyKind::Int64(_) => Item::Int64,
            KeyKind::String(_) => Item::String,
        })),
        Kind::Sequence(message) => {
            let item = message.item.map(|item| match item {
                ItemKind::Int64(_) => Item::Int64,
                ItemKind::String(_) => Item::String,
            });
            FeatureKind::Sequence(item, message.size_range.map(range))
        }
        Kind::State(message) => {
            FeatureKind::State(message.kind.map(|StateKind::Array(message)| array(message)))
        }
    }
}

fn image(message: proto::ImageFeatureType) -> ImageFeature {
    let sizes = match message.sizes {
        None => ImageSizes::Fixed,
        Some(Sizes::Enumerated(sizes)) => {
            ImageSizes::Enumerated(sizes.sizes.iter().map(|size| (size.width, size.height)).collect())
        }
        Some(Sizes::Range(ranges)) => ImageSizes::Range {
            width: range(ranges.width.unwrap_or_default()),
            height: range(ranges.height.unwrap_or_default()),
        },
    };
    let color_space = ColorSpace::from_code(message.color_space);
    ImageFeature { width: message.width, height: message.height, color_space, sizes }
}

fn array(message: proto::ArrayFeatureType) -> ArrayFeature {
    let shapes = match message.shapes {
        None => Shapes::Fixed,
        Some(ArrayShapes::Enumerated(shapes)) => {
            Shapes::Enumerated(shapes.shapes.into_iter().map(|shape| shape.shape).collect())
        }
        Some(ArrayShapes::Range(ranges)) => {
            Shapes::Range(ranges.size_ranges.into_iter().map(range).collect())
        }
    };
    let default = message.default.map(|default| match default {
        DefaultValue::Int(value) => DefaultElement::Int(value),
        DefaultValue::Float(value) => DefaultElement::Float(value),
        DefaultValue::Double(value) => DefaultElement::Double(value),
    });
    ArrayFeature { shape: message.shape, elements: ArrayType::from_code(message.data_type), shapes, default }
}

fn range(message: proto::SizeRange) -> SizeRange {
    SizeRange { lower: message.lower_bound, upper: message.upper_bound }
}
