//! The bytes of a safetensors file: what is written of it, and what is checked before the library reads it.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

use safetensors::SafeTensorError;
use serde::de::IgnoredAny;
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use super::{Checkpoint, CheckpointError, MAX_HEADER_BYTES, METADATA};

/// Writes a tensor's values.
pub(super) fn write_values(writer: &mut dyn Write, values: &[f32]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(4 * 4096);
    for values in values.chunks(4096) {
        bytes.clear();
        values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        writer.write_all(&bytes)?;
    }
    Ok(())
}

/// The JSON header of a checkpoint: metadata first, then the tensors in the order of their bytes.
pub(super) struct Header<'a>(pub(super) &'a Checkpoint);

#[derive(Serialize)]
struct Entry<'a> {
    dtype: &'static str,
    shape: &'a [usize],
    data_offsets: [usize; 2],
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(METADATA, &self.0.metadata)?;
        let mut begin = 0;
        for (name, tensor) in &self.0.tensors {
            let end = begin + 4 * tensor.values.len();
            let entry = Entry { dtype: "F32", shape: &tensor.shape, data_offsets: [begin, end] };
            map.serialize_entry(name, &entry)?;
            begin = end;
        }
        map.end()
    }
}

/// Checks that no tensor of the header ends beyond the file, before the safetensors library (0.8) adds offsets
/// up without a check for overflow. Whatever else is wrong is left for the library to find.
pub(super) fn check_extent(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    #[derive(Deserialize)]
    struct Header {
        #[serde(rename = "__metadata__")]
        _metadata: Option<IgnoredAny>,
        #[serde(flatten)]
        tensors: HashMap<String, Extent>,
    }
    #[derive(Deserialize)]
    struct Extent {
        data_offsets: (u64, u64),
    }
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return Ok(()) };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let Some((header, data)) = rest.split_at_checked(length) else { return Ok(()) };
    if length > MAX_HEADER_BYTES {
        return Ok(());
    }
    let header: Header = serde_json::from_slice(header).map_err(|error| CheckpointError::Format {
        path: path.to_owned(),
        source: SafeTensorError::InvalidHeaderDeserialization(error),
    })?;
    let claimed_bytes = header.tensors.values().map(|extent| extent.data_offsets.1).max().unwrap_or(0);
    let found_bytes = data.len() as u64;
    if claimed_bytes > found_bytes {
        return Err(CheckpointError::Truncated { path: path.to_owned(), claimed_bytes, found_bytes });
    }
    Ok(())
}
