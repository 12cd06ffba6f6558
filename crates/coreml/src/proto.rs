//! Core ML's protocol buffers: those messages that are read and written here, with the field numbers that Apple
//! publishes in coremltools.

pub(crate) mod description;
pub(crate) mod mil;
