//! The checks that need the weight files.

use crate::error::{Error, ErrorKind, Errors, FunctionPart, Place, Repeated};
use crate::program::{BlobReference, Literal, LiteralValue, Program};
use crate::weights::{ALIGNMENT, WeightSource};

/// Checks that every blob a program refers to is there and is what the program declares. Values are not read.
///
/// # Errors
///
/// One error per file that cannot be used, and one per blob that is not one of its declared type.
pub fn verify_blobs(program: &Program, weights: &dyn WeightSource) -> Result<(), Errors> {
    let mut check = BlobCheck { weights, files: Repeated::default(), errors: Errors::default() };
    for (index, function) in program.functions.iter().enumerate() {
        for (id, op) in function.walk() {
            for (place, literal) in op.literals() {
                check.literal(literal, Place::Function(index, FunctionPart::Op(id, place.into())));
            }
        }
    }
    check.files.finish(&mut check.errors);
    if check.errors.is_empty() { Ok(()) } else { Err(check.errors) }
}

struct BlobCheck<'a> {
    weights: &'a dyn WeightSource,
    /// Files that cannot be used, by path.
    files: Repeated<String>,
    errors: Errors,
}

impl BlobCheck<'_> {
    fn literal(&mut self, literal: &Literal, place: Place) {
        let (LiteralValue::Blob(reference), Some(ty)) = (&literal.value, literal.ty.as_tensor()) else {
            return;
        };
        let path = &reference.path;
        // A file that cannot be used is not tried again.
        if self.files.again(path) {
            return;
        }
        if let Err(error) = self.weights.file(path) {
            self.files.report(path.clone(), ErrorKind::Blob, &mut self.errors, |kind| {
                let message = format!("the weight file `{path}` cannot be used");
                Error::in_place(kind, place, message, error.to_string())
            });
        } else if let Err(error) = self.weights.check(reference, &ty) {
            let message = format!("`{path}` holds no {ty} at offset {}", reference.offset);
            let mut found = Error::in_place(ErrorKind::Blob, place, message, error.to_string());
            if let Some(record) = self.record_of_data(reference) {
                found = found.with_help(format!("the blob with its values there has its record at {record}"));
            }
            self.errors.push(found);
        }
    }

    /// The offset of the record that would be meant if a reference gave the position of the values.
    fn record_of_data(&self, reference: &BlobReference) -> Option<u64> {
        let record =
            self.weights.file(&reference.path).ok()?.record(reference.offset.checked_sub(ALIGNMENT)?);
        record.ok().filter(|record| record.data_offset == reference.offset).map(|record| record.offset)
    }
}
