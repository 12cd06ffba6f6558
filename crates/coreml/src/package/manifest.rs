//! A package's `Manifest.json`.

use std::collections::HashSet;
use std::fmt;
use std::path::{Component, Path};

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// What a package holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The items, in the order written.
    pub items: Vec<Item>,
    /// The identifier of the item that is the model.
    pub root: String,
}

/// One file or directory of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is known by: a UUID.
    pub identifier: String,
    /// Whose it is: `com.apple.CoreML` for what Core ML reads.
    pub author: String,
    /// What it is.
    pub description: String,
    /// What it is called.
    pub name: String,
    /// Where it is, below `Data`.
    pub path: String,
}

/// What is wrong with a manifest.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// It is no JSON of a manifest.
    #[error("it is no manifest of a package: {0}")]
    Json(#[from] serde_json::Error),
    /// It is of a form that is not known.
    #[error("its `fileFormatVersion` is `{0}`; 1.0.0 is read")]
    Version(String),
    /// A path that does not go down only.
    #[error("the path `{0}` of an item leaves the package, or is not one of plain names")]
    Path(String),
    /// Two items with one path.
    #[error("two items have the path `{0}`")]
    Twice(String),
    /// An item that is not there.
    #[error("it lists `{0}`, which is not in the package")]
    Missing(String),
    /// No item is the model.
    #[error("its `rootModelIdentifier` is that of no item")]
    NoRoot,
}

/// The version of the form that is read and written.
const VERSION: &str = "1.0.0";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    file_format_version: String,
    item_info_entries: Entries,
    root_model_identifier: String,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(default)]
    author: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    name: String,
    path: String,
}

/// The entries in the order written, of which no two have the same identifier.
struct Entries(Vec<(String, Entry)>);

impl Serialize for Entries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(identifier, entry)| (identifier, entry)))
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("items by identifier")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let (mut entries, mut known) = (Vec::new(), HashSet::new());
                while let Some((identifier, entry)) = map.next_entry::<String, Entry>()? {
                    if !known.insert(identifier.clone()) {
                        return Err(A::Error::custom(format!(
                            "two items have the identifier `{identifier}`"
                        )));
                    }
                    entries.push((identifier, entry));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    ///
    /// When it is none, or a path in it leaves the package or is there twice.
    pub fn from_bytes(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let json: Json = serde_json::from_slice(bytes)?;
        if json.file_format_version != VERSION {
            return Err(ManifestError::Version(json.file_format_version));
        }
        let mut items = Vec::with_capacity(json.item_info_entries.0.len());
        let mut paths = HashSet::new();
        for (identifier, entry) in json.item_info_entries.0 {
            if !goes_down_only(&entry.path) {
                return Err(ManifestError::Path(entry.path));
            }
            // On some systems names that differ in case are the same.
            if !paths.insert(entry.path.to_lowercase()) {
                return Err(ManifestError::Twice(entry.path));
            }
            let Entry { author, description, name, path } = entry;
            items.push(Item { identifier, author, description, name, path });
        }
        if !items.iter().any(|item| item.identifier == json.root_model_identifier) {
            return Err(ManifestError::NoRoot);
        }
        Ok(Manifest { items, root: json.root_model_identifier })
    }

    /// The manifest as JSON.
    pub fn to_json(&self) -> String {
        let entry = |item: &Item| {
            let Item { identifier, author, description, name, path } = item.clone();
            (identifier, Entry { author, description, name, path })
        };
        let json = Json {
            file_format_version: VERSION.to_string(),
            item_info_entries: Entries(self.items.iter().map(entry).collect()),
            root_model_identifier: self.root.clone(),
        };
        let mut bytes = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        // Strings and maps of strings: there is nothing that could fail.
        let _ = json.serialize(&mut serializer);
        let mut text = String::from_utf8(bytes).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// Whether a path is one of plain names, on any system.
fn goes_down_only(path: &str) -> bool {
    let plain = |component: Component<'_>| matches!(component, Component::Normal(_));
    !path.is_empty()
        && !path.contains(['\\', ':', '\0'])
        && !path.split('/').any(|name| name.is_empty() || name == ".")
        && Path::new(path).components().all(plain)
}
