//! What a model can be.

/// What a model is: a program, or one of the kinds that are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelKind(u32);

/// Every kind: the field that it has in the message, the field's name, and what it is.
const KINDS: [(u32, &str, &str); 37] = [
    (502, "mlProgram", "a program"),
    (200, "pipelineClassifier", "a pipeline of models that ends in a classifier"),
    (201, "pipelineRegressor", "a pipeline of models that ends in a regressor"),
    (202, "pipeline", "a pipeline of models"),
    (300, "glmRegressor", "a generalised linear model"),
    (301, "supportVectorRegressor", "a support vector machine"),
    (302, "treeEnsembleRegressor", "an ensemble of trees"),
    (303, "neuralNetworkRegressor", "a neural network of the older kind"),
    (304, "bayesianProbitRegressor", "a Bayesian regressor"),
    (400, "glmClassifier", "a generalised linear model"),
    (401, "supportVectorClassifier", "a support vector machine"),
    (402, "treeEnsembleClassifier", "an ensemble of trees"),
    (403, "neuralNetworkClassifier", "a neural network of the older kind"),
    (404, "kNearestNeighborsClassifier", "a classifier by nearest neighbours"),
    (500, "neuralNetwork", "a neural network of the older kind"),
    (501, "itemSimilarityRecommender", "a recommender"),
    (555, "customModel", "a model whose code is an app's own"),
    (556, "linkedModel", "a reference to another model"),
    (560, "classConfidenceThresholding", "thresholds of a classifier"),
    (600, "oneHotEncoder", "a one-hot encoder"),
    (601, "imputer", "an imputer of missing values"),
    (602, "featureVectorizer", "a vectorizer of features"),
    (603, "dictVectorizer", "a vectorizer of dictionaries"),
    (604, "scaler", "a scaler of features"),
    (606, "categoricalMapping", "a mapping of categories"),
    (607, "normalizer", "a normalizer of features"),
    (609, "arrayFeatureExtractor", "an extractor of features"),
    (610, "nonMaximumSuppression", "non-maximum suppression"),
    (900, "identity", "the identity"),
    (2000, "textClassifier", "a classifier of text"),
    (2001, "wordTagger", "a tagger of words"),
    (2002, "visionFeaturePrint", "Apple's feature print of images"),
    (2003, "soundAnalysisPreprocessing", "Apple's preprocessing of sound"),
    (2004, "gazetteer", "a gazetteer"),
    (2005, "wordEmbedding", "an embedding of words"),
    (2006, "audioFeaturePrint", "Apple's feature print of sound"),
    (3000, "serializedModel", "a model in a form of its own"),
];

impl ModelKind {
    /// A program.
    pub const PROGRAM: ModelKind = ModelKind(502);
    /// A pipeline of models, whatever the last one gives.
    pub const PIPELINE: ModelKind = ModelKind(202);

    /// The kind that a field of a model's message stands for.
    pub(crate) fn from_tag(tag: u32) -> Option<ModelKind> {
        KINDS.iter().find(|(known, _, _)| *known == tag).map(|_| ModelKind(tag))
    }

    /// The field of a model's message that stands for it.
    pub(crate) fn tag(self) -> u32 {
        self.0
    }

    /// The field's name, such as `neuralNetwork`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// What it is, in words.
    pub fn description(self) -> &'static str {
        self.row().2
    }

    /// Whether it is a pipeline of models.
    pub fn is_pipeline(self) -> bool {
        (200..=202).contains(&self.0)
    }

    /// Whether its message may refer to files beside it.
    pub(crate) fn refers_to_files(self) -> bool {
        self == ModelKind::PROGRAM || self.is_pipeline() || self.name() == "linkedModel"
    }

    fn row(self) -> &'static (u32, &'static str, &'static str) {
        KINDS.iter().find(|(known, _, _)| *known == self.0).unwrap_or(&KINDS[0])
    }
}
