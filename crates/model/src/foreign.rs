//! Files and directories that people give where another kind is read: what they are, and what to do.

use std::path::{Path, PathBuf};

use anemone_mil::files::{LFS_POINTER, is_lfs_pointer};

/// What a file is that should be another, where its first bytes tell.
pub fn format(start: &[u8]) -> Option<&'static str> {
    if is_lfs_pointer(start) {
        return Some(LFS_POINTER);
    }
    let formats: [(&[u8], &str); 8] = [
        (b"\x93NUMPY", "it is an array of NumPy (.npy)"),
        (b"PK\x03\x04", "it is a zip archive (as .npz, .pt and zipped packages are); unpack it first"),
        (b"\x1f\x8b", "it is compressed by gzip; unpack it first"),
        (b"\x89HDF", "it is an HDF5 file"),
        (b"bplist", "it is a property list of Apple's"),
        (b"\xff\xfe", "it is UTF-16; save it as UTF-8"),
        (b"\xfe\xff", "it is UTF-16; save it as UTF-8"),
        (b"\x7fELF", "it is an executable"),
    ];
    let known = formats.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, what)| *what);
    known.or_else(|| match start {
        // The number of blobs, the version 2, and zeros up to the first record.
        [_, _, _, _, 2, 0, 0, 0, rest @ ..] if rest.len() >= 56 && rest[..56].iter().all(|&b| b == 0) => {
            Some("it is a weight file, which programs refer to")
        }
        // The length of a JSON header, and the header.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Some("it is a safetensors file"),
        // Protocol buffers: field 1 is a small number, the specification's version; field 2, the description.
        [0x08, 1..=0x7f, 0x12, ..] => {
            Some("it is a Core ML model, whose name must end in .mlmodel to be read as one")
        }
        _ => None,
    })
}

/// What a directory is that is given as a program and holds none that is known, and which file to give instead.
pub fn directory(path: &Path) -> String {
    let has_extension =
        |wanted: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted));
    let what =
        if has_extension("mlmodelc") { "a compiled Core ML model, a directory" } else { "a directory" };
    let programs = programs(path);
    match programs.as_slice() {
        [] if has_extension("mlmodelc") => format!(
            "it is {what} without a .mil file: not every model is compiled to a program, neural networks of \
             the older kind are not"
        ),
        [] => format!("it is {what}; a .mil file is expected here"),
        [only] => format!("it is {what}; its program is {}: give that", only.display()),
        [first, ..] => format!(
            "it is {what}; it holds {} programs: give one of them, such as {}",
            programs.len(),
            first.display()
        ),
    }
}

/// The most entries of a directory that are looked at: this is only to help.
const MAX_ENTRIES: usize = 1000;

/// The `.mil` files in a directory, else those in its subdirectories, in the order of their names.
fn programs(directory: &Path) -> Vec<PathBuf> {
    let entries = |directory: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().take(MAX_ENTRIES);
        entries.map(|entry| entry.path()).collect()
    };
    let is_program =
        |path: &PathBuf| path.extension().is_some_and(|extension| extension == "mil") && path.is_file();
    let here = entries(directory);
    let mut programs: Vec<PathBuf> = here.iter().filter(|path| is_program(path)).cloned().collect();
    if programs.is_empty() {
        programs = here.iter().flat_map(|path| entries(path)).filter(is_program).take(MAX_ENTRIES).collect();
    }
    programs.sort();
    programs
}
