//! Into messages.

use super::{
    ArrayFeature, DefaultElement, Feature, FeatureKind, ImageFeature, ImageSizes, Item, ModelDescription,
    Shapes, Signature, SizeRange,
};
use crate::proto::description::{
    self as proto, ArrayShapes, DefaultValue, Empty, FeatureKind as Kind, ImageSizes as Sizes, ItemKind,
    KeyKind, StateKind,
};

pub(super) fn model(model: &ModelDescription) -> proto::ModelDescription {
    proto::ModelDescription {
        input: features(&model.main.inputs),
        output: features(&model.main.outputs),
        state: features(&model.main.states),
        predicted_feature_name: model.main.predicted_feature.clone(),
        predicted_probabilities_name: model.main.predicted_probabilities.clone(),
        functions: model.functions.iter().map(|(name, signature)| function(name, signature)).collect(),
        default_function_name: model.default_function.clone(),
        training_input: features(&model.training_inputs),
        metadata: model.metadata.as_ref().map(|metadata| proto::Metadata {
            short_description: metadata.short_description.clone(),
            version_string: metadata.version.clone(),
            author: metadata.author.clone(),
            license: metadata.license.clone(),
            user_defined: metadata.user_defined.clone(),
        }),
    }
}

fn function(name: &str, signature: &Signature) -> proto::FunctionDescription {
    proto::FunctionDescription {
        name: name.to_string(),
        input: features(&signature.inputs),
        output: features(&signature.outputs),
        predicted_feature_name: signature.predicted_feature.clone(),
        predicted_probabilities_name: signature.predicted_probabilities.clone(),
        state: features(&signature.states),
    }
}

fn features(features: &[Feature]) -> Vec<proto::FeatureDescription> {
    let message = |feature: &Feature| proto::FeatureDescription {
        name: feature.name.clone(),
        short_description: feature.short_description.clone(),
        ty: Some(proto::FeatureType { kind: feature.kind.as_ref().map(kind), is_optional: feature.optional }),
    };
    features.iter().map(message).collect()
}

fn kind(kind: &FeatureKind) -> Kind {
    match kind {
        FeatureKind::Int64 => Kind::Int64(Empty {}),
        FeatureKind::Double => Kind::Double(Empty {}),
        FeatureKind::String => Kind::String(Empty {}),
        FeatureKind::Image(feature) => Kind::Image(image(feature)),
        FeatureKind::Array(feature) => Kind::MultiArray(array(feature)),
        FeatureKind::Dictionary(keys) => Kind::Dictionary(proto::DictionaryFeatureType {
            key: keys.map(|keys| match keys {
                Item::Int64 => KeyKind::Int64(Empty {}),
                Item::String => KeyKind::String(Empty {}),
            }),
        }),
        FeatureKind::Sequence(item, size_range) => Kind::Sequence(proto::SequenceFeatureType {
            item: item.map(|item| match item {
                Item::Int64 => ItemKind::Int64(Empty {}),
                Item::String => ItemKind::String(Empty {}),
            }),
            size_range: size_range.map(range),
        }),
        FeatureKind::State(kept) => Kind::State(proto::StateFeatureType {
            kind: kept.as_ref().map(|kept| StateKind::Array(array(kept))),
        }),
    }
}

fn image(image: &ImageFeature) -> proto::ImageFeatureType {
    let sizes = match &image.sizes {
        ImageSizes::Fixed => None,
        ImageSizes::Enumerated(sizes) => Some(Sizes::Enumerated(proto::EnumeratedImageSizes {
            sizes: sizes.iter().map(|&(width, height)| proto::ImageSize { width, height }).collect(),
        })),
        ImageSizes::Range { width, height } => Some(Sizes::Range(proto::ImageSizeRange {
            width: Some(range(*width)),
            height: Some(range(*height)),
        })),
    };
    let color_space = image.color_space.code();
    proto::ImageFeatureType { width: image.width, height: image.height, color_space, sizes }
}

fn array(array: &ArrayFeature) -> proto::ArrayFeatureType {
    let shapes = match &array.shapes {
        Shapes::Fixed => None,
        Shapes::Enumerated(shapes) => Some(ArrayShapes::Enumerated(proto::EnumeratedShapes {
            shapes: shapes.iter().map(|shape| proto::Shape { shape: shape.clone() }).collect(),
        })),
        Shapes::Range(ranges) => Some(ArrayShapes::Range(proto::ShapeRange {
            size_ranges: ranges.iter().map(|&bounds| range(bounds)).collect(),
        })),
    };
    let default = array.default.map(|default| match default {
        DefaultElement::Int(value) => DefaultValue::Int(value),
        DefaultElement::Float(value) => DefaultValue::Float(value),
        DefaultElement::Double(value) => DefaultValue::Double(value),
    });
    proto::ArrayFeatureType { shape: array.shape.clone(), data_type: array.elements.code(), shapes, default }
}

fn range(range: SizeRange) -> proto::SizeRange {
    proto::SizeRange { lower_bound: range.lower, upper_bound: range.upper }
}
