//! What stands between the in-memory interface and the rest: tensors on surfaces that bind by place and not by name, and
//! programs in the directories where the interface looks for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anemone_mil::runtime::Port;
use anemone_mil::weights::MODEL_PATH;

use super::packing::{buffer_bytes, size_bytes};
use super::{Bound, DeviceError};

/// Surfaces are said to have a least size, by sources that do not agree on it (R10); this is the largest of them.
const LEAST_BYTES: usize = 49152;

/// For each port its place among the surfaces: these bind in alphabetical order of the names (R13), byte by byte.
pub(super) fn places(ports: &[Port]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ports.len()).collect();
    order.sort_by(|&a, &b| ports[a].name.as_bytes().cmp(ports[b].name.as_bytes()));
    let mut places = vec![0; ports.len()];
    order.iter().enumerate().for_each(|(place, &position)| places[position] = place);
    places
}

/// The size that the surface of each of these ports has: all inputs have the same, and all outputs (R12).
///
/// # Errors
///
/// When no buffer holds one of the ports.
pub(super) fn surface_bytes(ports: &[Port]) -> Result<usize, DeviceError> {
    ports.iter().try_fold(LEAST_BYTES, |largest, port| {
        let bytes = buffer_bytes(size_bytes(&port.name, &port.ty)?);
        let too_large = || DeviceError::Unsupported(format!("`{}` is too large for a surface", port.name));
        Ok(largest.max(bytes.ok_or_else(too_large)?))
    })
}

/// A program with its surfaces, each found by its place.
pub(super) trait Evaluate: Send {
    /// Writes to the beginning of an input's surface.
    fn write(&mut self, place: usize, bytes: &[u8]) -> Result<(), DeviceError>;
    /// Runs the program once.
    fn evaluate(&mut self) -> Result<(), DeviceError>;
    /// Reads from the beginning of an output's surface.
    fn read(&mut self, place: usize, bytes: &mut [u8]) -> Result<(), DeviceError>;
}

/// Bytes of the host's for each port. A surface is locked only while it is copied, so nothing holds its address.
pub(super) struct Staged<E> {
    program: E,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
}

struct Input {
    place: usize,
    bytes: Vec<u8>,
    /// Whether the surface may hold something else.
    changed: bool,
}

struct Output {
    place: usize,
    bytes: Vec<u8>,
}

impl<E: Evaluate> Staged<E> {
    /// Buffers of zeros for a program whose surfaces are in the order of [`places`].
    ///
    /// # Errors
    ///
    /// When no buffer holds one of the ports.
    pub(super) fn new(program: E, inputs: &[Port], outputs: &[Port]) -> Result<Staged<E>, DeviceError> {
        let zeros = |port: &Port| Ok(vec![0; size_bytes(&port.name, &port.ty)?]);
        let input = |(port, place)| Ok(Input { place, bytes: zeros(port)?, changed: true });
        let output = |(port, place)| Ok(Output { place, bytes: zeros(port)? });
        Ok(Staged {
            program,
            inputs: inputs.iter().zip(places(inputs)).map(input).collect::<Result<_, DeviceError>>()?,
            outputs: outputs.iter().zip(places(outputs)).map(output).collect::<Result<_, DeviceError>>()?,
        })
    }
}

impl<E: Evaluate> Bound for Staged<E> {
    fn input(&mut self, position: usize) -> &mut [u8] {
        let input = &mut self.inputs[position];
        input.changed = true;
        &mut input.bytes
    }

    fn run(&mut self) -> Result<(), DeviceError> {
        // Weights among the inputs seldom change, and are most of the bytes.
        for input in self.inputs.iter_mut().filter(|input| input.changed) {
            self.program.write(input.place, &input.bytes)?;
            input.changed = false;
        }
        self.program.evaluate()?;
        self.outputs.iter_mut().try_for_each(|output| self.program.read(output.place, &mut output.bytes))
    }

    fn output(&self, position: usize) -> &[u8] {
        &self.outputs[position].bytes
    }
}

/// A file of a program: its path below the program's directory, and what it holds.
pub(super) type WeightFile = (PathBuf, Vec<u8>);

/// How a program's text refers to a file.
///
/// # Errors
///
/// When the path is not UTF-8.
pub(super) fn model_path(path: &Path) -> Result<String, DeviceError> {
    let error = || DeviceError::Files(format!("{} is not UTF-8", path.display()));
    Ok(format!("{MODEL_PATH}/{}", path.to_str().ok_or_else(error)?))
}

/// The files in a program's directory but for its text, in order.
///
/// # Errors
///
/// When one cannot be read.
pub(super) fn weight_files(directory: &Path, model: &Path) -> Result<Vec<WeightFile>, DeviceError> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(below) = pending.pop() {
        for entry in fs::read_dir(directory.join(&below)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = below.join(entry.file_name());
            match entry.file_type().map_err(failed)?.is_dir() {
                true => pending.push(path),
                false if entry.path() == model => {}
                false => found.push((path, fs::read(entry.path()).map_err(failed)?)),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Ends a text with blanks that tell this compilation from every other, in this process and in those beside it: a space
/// for each bit that is 0, a tab for each that is 1. The interface names the directory of a program after what the
/// program is, and one that two of them shared would be removed under the other. Blanks are all that no reader of the
/// text takes notice of.
pub(super) fn make_unique(text: &mut Vec<u8>) {
    static COMPILATIONS: AtomicU32 = AtomicU32::new(0);
    append_bits(text, std::process::id(), COMPILATIONS.fetch_add(1, Ordering::Relaxed));
}

fn append_bits(text: &mut Vec<u8>, process: u32, compilation: u32) {
    let bits = u64::from(process) << 32 | u64::from(compilation);
    text.extend((0..u64::BITS).map(|bit| if bits >> bit & 1 == 0 { b' ' } else { b'\t' }));
    text.push(b'\n');
}

/// A directory where the interface looks for a program; removed when dropped.
#[derive(Debug)]
pub(super) struct LaidOut(PathBuf);

impl LaidOut {
    /// Writes a program into the directory below `temporary` that the interface names.
    ///
    /// # Errors
    ///
    /// When the name is none of a single directory, or the system refuses.
    pub(super) fn new(
        temporary: &Path,
        identifier: &str,
        text: &[u8],
        weights: &[WeightFile],
    ) -> Result<LaidOut, DeviceError> {
        // What has this name is removed later: it must not lie elsewhere.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if identifier.is_empty() || !identifier.bytes().all(plain) {
            return Err(DeviceError::Files(format!("{identifier:?} names no directory")));
        }
        let directory = LaidOut(temporary.join(identifier));
        fs::create_dir_all(directory.0.join("weights")).map_err(failed)?;
        for (path, content) in weights {
            let path = directory.0.join(path);
            path.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
            fs::write(path, content).map_err(failed)?;
        }
        fs::write(directory.0.join("model.mil"), text).map_err(failed)?;
        Ok(directory)
    }
}

impl Drop for LaidOut {
    fn drop(&mut self) {
        // What is left of it is in a temporary directory, which the system clears.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn failed(error: std::io::Error) -> DeviceError {
    DeviceError::Files(error.to_string())
}

#[cfg(test)]
mod tests {
    use anemone_mil::types::{DType, TensorType};

    use super::*;

    /// Surfaces in memory; the one output is the first input, byte by byte, plus the second.
    struct Sum {
        inputs: Vec<Vec<u8>>,
        outputs: Vec<Vec<u8>>,
        writes: Vec<usize>,
    }

    impl Evaluate for &mut Sum {
        fn write(&mut self, place: usize, bytes: &[u8]) -> Result<(), DeviceError> {
            self.writes.push(place);
            self.inputs[place][..bytes.len()].copy_from_slice(bytes);
            Ok(())
        }

        fn evaluate(&mut self) -> Result<(), DeviceError> {
            let (a, b) = (&self.inputs[0], &self.inputs[1]);
            self.outputs[0] = a.iter().zip(b).map(|(a, b)| a + b).collect();
            self.outputs[1] = a.clone();
            Ok(())
        }

        fn read(&mut self, place: usize, bytes: &mut [u8]) -> Result<(), DeviceError> {
            bytes.copy_from_slice(&self.outputs[place][..bytes.len()]);
            Ok(())
        }
    }

    fn port(name: &str, elements: usize) -> Port {
        Port { name: name.to_string(), ty: TensorType::new(DType::UInt8, &[elements]) }
    }

    #[test]
    fn ports_bind_in_the_order_of_their_names() {
        let ports = ["x", "B", "a10", "a2"].map(|name| port(name, 1));
        assert_eq!(places(&ports), [3, 0, 1, 2]);
        assert!(places(&[]).is_empty());
    }

    #[test]
    fn surfaces_are_as_large_as_the_largest_port_and_no_smaller_than_the_least() {
        assert_eq!(surface_bytes(&[port("a", 3), port("b", 70)]).unwrap(), LEAST_BYTES);
        assert_eq!(surface_bytes(&[port("a", 3), port("b", 100_001)]).unwrap(), 100_032);
        assert!(surface_bytes(&[port("a", usize::MAX)]).is_err());
        let unsized_port = Port { name: "c".to_string(), ty: TensorType::new(DType::Bool, &[1]) };
        assert!(matches!(surface_bytes(&[unsized_port]), Err(DeviceError::Unsupported(_))));
    }

    #[test]
    fn tensors_reach_the_surface_of_their_name_and_only_changed_ones_are_copied() {
        let mut sum = Sum { inputs: vec![vec![0; 8]; 2], outputs: vec![Vec::new(); 2], writes: Vec::new() };
        let (inputs, outputs) = ([port("y", 2), port("x", 3)], [port("t", 3), port("s", 2)]);
        let mut staged = Staged::new(&mut sum, &inputs, &outputs).unwrap();
        staged.input(0).copy_from_slice(&[1, 2]);
        staged.input(1).copy_from_slice(&[10, 20, 30]);
        staged.run().unwrap();
        // `s` is the sum, at place 0; `t` is what lies at place 0 of the inputs, `x`.
        assert_eq!((staged.output(0), staged.output(1)), (&[10, 20, 30][..], &[11, 22][..]));
        staged.input(0)[1] = 5;
        staged.run().unwrap();
        assert_eq!(staged.output(1), [11, 25]);
        assert_eq!(sum.writes, [1, 0, 1]);
    }

    #[test]
    fn texts_of_every_process_and_compilation_differ_in_blanks_alone() {
        let made = |process, compilation| {
            let mut text = b"program(1.3)\n{\n}\n".to_vec();
            append_bits(&mut text, process, compilation);
            assert_eq!(text.trim_ascii_end(), b"program(1.3)\n{\n}");
            text
        };
        let (first, last) = (made(1, 0), made(u32::MAX, u32::MAX));
        assert_eq!((first.len(), &first), (last.len(), &made(1, 0)));
        assert!([made(2, 0), made(1, 1), made(0, 1), last].iter().all(|other| *other != first));
        let (mut one, mut other) = (Vec::new(), Vec::new());
        make_unique(&mut one);
        make_unique(&mut other);
        assert_ne!(one, other);
    }

    #[test]
    fn a_program_is_laid_out_with_its_weights_and_removed() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let model = from.path().join("model.mil");
        fs::create_dir(from.path().join("weights")).unwrap();
        fs::write(&model, "text").unwrap();
        fs::write(from.path().join("weights/1.bin"), [1]).unwrap();
        fs::write(from.path().join("weights/0.bin"), [0]).unwrap();
        let weights = weight_files(from.path(), &model).unwrap();
        let names: Vec<String> = weights.iter().map(|(path, _)| model_path(path).unwrap()).collect();
        assert_eq!(names, ["@model_path/weights/0.bin", "@model_path/weights/1.bin"]);
        let laid_out = LaidOut::new(to.path(), "0A1b_2", b"text", &weights).unwrap();
        assert_eq!(fs::read(to.path().join("0A1b_2/model.mil")).unwrap(), b"text");
        assert_eq!(fs::read(to.path().join("0A1b_2/weights/1.bin")).unwrap(), [1]);
        drop(laid_out);
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
        for identifier in ["", "..", "a/b", "."] {
            assert!(LaidOut::new(to.path(), identifier, b"text", &[]).is_err(), "{identifier}");
        }
    }
}
