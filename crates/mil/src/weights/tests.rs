//! Round trips, refusals, and files that lie.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::program::{BlobReference, Dialect};
use crate::tensor::{Data, Tensor};
use crate::types::{DType, Dim, Shape, TensorType};

const BLOB_DTYPES: [DType; 17] = [
    DType::Fp16,
    DType::Fp32,
    DType::UInt8,
    DType::Int8,
    DType::Bf16,
    DType::Int16,
    DType::UInt16,
    DType::Int4,
    DType::UInt1,
    DType::UInt2,
    DType::UInt4,
    DType::UInt3,
    DType::UInt6,
    DType::Int32,
    DType::UInt32,
    DType::Fp8E4M3FN,
    DType::Fp8E5M2,
];

/// A tensor whose values take every bit pattern of their type sooner or later, NaN payloads included.
fn pattern(dtype: DType, count: usize) -> Tensor {
    let raw = |i: usize| {
        let mixed = (i as u32 + 1).wrapping_mul(0x9E37_79B1).wrapping_add(dtype.bits());
        mixed ^ mixed >> 15
    };
    let mut data = Data::zeros(dtype, count).unwrap();
    let bits = dtype.bits();
    match &mut data {
        Data::F16(v) => v.iter_mut().enumerate().for_each(|(i, v)| *v = half::f16::from_bits(raw(i) as u16)),
        Data::Bf16(v) => {
            v.iter_mut().enumerate().for_each(|(i, v)| *v = half::bf16::from_bits(raw(i) as u16))
        }
        Data::F32(v) => v.iter_mut().enumerate().for_each(|(i, v)| *v = f32::from_bits(raw(i))),
        Data::I8(v) => {
            v.iter_mut().enumerate().for_each(|(i, v)| *v = (raw(i) as i8) << (8 - bits) >> (8 - bits));
        }
        Data::I16(v) => v.iter_mut().enumerate().for_each(|(i, v)| *v = raw(i) as i16),
        Data::I32(v) => v.iter_mut().enumerate().for_each(|(i, v)| *v = raw(i) as i32),
        Data::U8(v) => v.iter_mut().enumerate().for_each(|(i, v)| *v = (raw(i) as u8) >> (8 - bits)),
        Data::U16(v) => v.iter_mut().enumerate().for_each(|(i, v)| *v = raw(i) as u16),
        Data::U32(v) => v.iter_mut().enumerate().for_each(|(i, v)| *v = raw(i)),
        other => panic!("{other:?} has no blob form"),
    }
    Tensor::new(dtype, &[count], data).unwrap()
}

fn write(tensors: &[Tensor]) -> (Vec<u8>, Vec<u64>) {
    let mut writer = BlobWriter::new(Cursor::new(Vec::new())).unwrap();
    let offsets = tensors.iter().map(|tensor| writer.append(tensor).unwrap()).collect();
    (writer.finish().unwrap().into_inner(), offsets)
}

/// A file with one blob, with 8 bytes replaced by a number.
fn patched(tensor: &Tensor, at: usize, number: u64) -> BlobFile {
    let (mut bytes, _) = write(std::slice::from_ref(tensor));
    bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
    BlobFile::from_bytes(bytes).unwrap()
}

fn message<T: std::fmt::Debug>(result: Result<T, BlobError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn every_dtype_with_a_code_is_tested() {
    let with_code: Vec<DType> = DType::all().filter(|dtype| dtype.blob_code().is_some()).collect();
    assert_eq!(with_code.len(), BLOB_DTYPES.len());
    assert!(with_code.iter().all(|dtype| BLOB_DTYPES.contains(dtype)));
}

#[test]
fn every_dtype_and_odd_length_round_trips() {
    let lengths = [0, 1, 2, 3, 5, 7, 8, 9, 31, 63, 64, 65, 127, 4095, 4096, 4097, 10_000];
    let tensors: Vec<Tensor> =
        lengths.iter().flat_map(|&count| BLOB_DTYPES.map(|dtype| pattern(dtype, count))).collect();
    let (bytes, offsets) = write(&tensors);
    let file = BlobFile::from_bytes(bytes).unwrap();
    let records: Vec<Record> = file.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), tensors.len());
    assert_eq!(file.claimed_count() as usize, tensors.len());
    for ((tensor, &offset), record) in tensors.iter().zip(&offsets).zip(records) {
        assert_eq!(file.read(offset, &tensor.ty()).unwrap(), *tensor, "{}", tensor.ty());
        assert_eq!(file.record(offset).unwrap(), record);
        assert_eq!((record.offset, record.dtype), (offset, tensor.dtype()));
        let bits = tensor.len() as u64 * u64::from(tensor.dtype().bits());
        assert_eq!(record.size_bytes * 8 - record.padding_bits, bits);
        assert!(record.padding_bits < 8 && offset % 64 == 0 && record.data_offset % 64 == 0);
    }
}

#[test]
fn the_layout_is_the_documented_one() {
    let tensors = [
        Tensor::new(DType::UInt3, &[5], Data::U8(vec![0, 1, 2, 3, 4])).unwrap(),
        Tensor::new(DType::Int4, &[3], Data::I8(vec![-8, 7, -1])).unwrap(),
        Tensor::vector(vec![1.5f32, -0.0]),
    ];
    let (bytes, offsets) = write(&tensors);
    // As coremltools 9.0 writes the same three.
    let mut expected = vec![0; 392];
    let mut put = |at: usize, bytes: &[u8]| expected[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[3, 0, 0, 0, 2]);
    put(64, &[0xef, 0xbe, 0xad, 0xde, 12, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 1]);
    put(128, &[0x88, 0x46]);
    put(192, &[0xef, 0xbe, 0xad, 0xde, 8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4]);
    put(256, &[0x78, 0x0f]);
    put(320, &[0xef, 0xbe, 0xad, 0xde, 2, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0x80, 1]);
    put(384, &[0, 0, 0xc0, 0x3f, 0, 0, 0, 0x80]);
    assert_eq!(offsets, [64, 192, 320]);
    assert_eq!(bytes, expected);
}

#[test]
fn errors_name_what_was_found_and_expected() {
    let tensor = Tensor::vector(vec![1u16, 2, 3]);
    let (bytes, _) = write(std::slice::from_ref(&tensor));
    let file = BlobFile::from_bytes(bytes.clone()).unwrap();
    let ty = |dtype, dims: &[usize]| TensorType::new(dtype, dims);
    let read = |offset, ty: TensorType| message(file.read(offset, &ty));
    let good = tensor.ty();

    assert_eq!(read(64, ty(DType::Fp16, &[3])), "the blob at offset 64 holds uint16, expected fp16");
    assert_eq!(
        read(64, ty(DType::UInt16, &[2, 2])),
        "the blob at offset 64 holds 6 bytes, expected 8 for tensor<uint16, [2, 2]>"
    );
    assert_eq!(read(65, good.clone()), "a blob record at offset 65 is not on a boundary of 64 bytes");
    assert_eq!(
        read(0, good.clone()),
        "no blob record at offset 0: found 0x00000001, expected the sentinel 0xDEADBEEF"
    );
    assert_eq!(
        read(128, good.clone()),
        "a blob record at offset 128, 64 bytes, does not lie in the file of 134 bytes"
    );
    assert_eq!(
        read(u64::MAX - 63, good.clone()),
        "a blob record at offset 18446744073709551552, 64 bytes, does not lie in the file of 134 bytes"
    );
    assert_eq!(read(64, ty(DType::Bool, &[3])), "the blob at offset 64 holds uint16, expected bool");
    let unknown = TensorType { dtype: DType::UInt16, shape: Shape(vec![Dim::Unknown]) };
    assert_eq!(read(64, unknown), "tensor<uint16, [?]> has no known size, so no blob can hold it");
    assert_eq!(
        message(BlobFile::from_bytes(vec![0; 63])),
        "the header at offset 0, 64 bytes, does not lie in the file of 63 bytes"
    );
    assert_eq!(
        message(BlobFile::from_bytes(vec![0; 64])),
        "not a weight file: its header has version 0, expected 2"
    );

    // The record of the only blob: code at 68, size at 72, position of the data at 80.
    let code = patched(&tensor, 64, u64::from(SENTINEL) | 99 << 32);
    assert_eq!(message(code.record(64)), "the blob at offset 64 has the unknown dtype code 99");
    let size = patched(&tensor, 72, u64::MAX);
    assert_eq!(
        message(size.read(64, &good)),
        "blob data at offset 128, 18446744073709551615 bytes, does not lie in the file of 134 bytes"
    );
    let position = patched(&tensor, 80, 129);
    assert_eq!(message(position.read(64, &good)), "blob data at offset 129 is not on a boundary of 64 bytes");
    let position = patched(&tensor, 80, 1 << 40);
    assert!(
        matches!(position.read(64, &good), Err(BlobError::OutOfRange { offset, .. }) if offset == 1 << 40)
    );
    let position = patched(&tensor, 80, 0);
    let walk: Vec<_> = position.records().collect();
    assert!(matches!(walk[..], [Err(BlobError::Disordered { offset: 64, data_offset: 0 })]));
}

#[test]
fn unused_bits_count_only_where_there_can_be_any() {
    let narrow = pattern(DType::UInt3, 5);
    assert_eq!(
        message(patched(&narrow, 88, 4).read(64, &narrow.ty())),
        "the blob at offset 64 has 4 unused bits at its end, expected 1 for tensor<uint3, [5]>"
    );
    // Writers older than ios18 left these bytes as they were.
    let wide = pattern(DType::Fp16, 5);
    assert_eq!(patched(&wide, 88, 4).read(64, &wide.ty()).unwrap(), wide);
}

#[test]
fn the_header_may_claim_any_number_of_blobs() {
    let (mut bytes, _) = write(&[pattern(DType::Fp16, 5), pattern(DType::Int8, 1)]);
    bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let file = BlobFile::from_bytes(bytes).unwrap();
    let walk: Vec<_> = file.records().collect();
    assert_eq!(walk.len(), 3);
    assert!(matches!(walk[2], Err(BlobError::OutOfRange { offset: 320, .. })));
}

#[test]
fn what_has_no_blob_form_is_refused() {
    let mut writer = BlobWriter::new(Cursor::new(Vec::new())).unwrap();
    for tensor in [Tensor::scalar(true), Tensor::scalar(1i64), Tensor::scalar(1.0f64)] {
        assert!(
            matches!(writer.append(&tensor), Err(BlobError::NoBlobForm(dtype)) if dtype == tensor.dtype())
        );
    }
    let file = BlobFile::from_bytes(writer.finish().unwrap().into_inner()).unwrap();
    assert_eq!(file.records().count(), 0);
}

fn reference(path: &str, offset: u64) -> BlobReference {
    BlobReference { path: path.to_owned(), offset, dialect: Dialect::Scalar }
}

#[test]
fn a_directory_gives_what_lies_below_it_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let inside = directory.path().join("model");
    std::fs::create_dir_all(inside.join("weights")).unwrap();
    let tensor = pattern(DType::Fp16, 77);
    for path in [directory.path().join("secret.bin"), inside.join("weights/w.bin")] {
        write_blob_file(path, |writer| writer.append(&tensor)).unwrap();
    }
    let source = WeightDirectory::new(&inside);
    let load = |path: &str| source.load(&reference(path, 64), &tensor.ty());

    for path in ["@model_path/weights/w.bin", "@model_path/./weights//w.bin"] {
        assert_eq!(load(path).unwrap(), tensor);
        source.check(&reference(path, 64), &tensor.ty()).unwrap();
    }
    assert!(std::sync::Arc::ptr_eq(
        &source.file("@model_path/weights/w.bin").unwrap(),
        &source.file("@model_path/./weights/w.bin").unwrap()
    ));
    let absolute = inside.join("weights/w.bin");
    for path in [
        absolute.to_str().unwrap(),
        &format!("@model_path/{}", absolute.display()),
        "@model_path/../secret.bin",
        "@model_path/weights/../../secret.bin",
        "@model_path/weights/../weights/w.bin",
        "@model_path",
        "@model_path/",
        "@model_path/.",
        "@model_pathx/weights/w.bin",
        "weights/w.bin",
        "",
        "@model_path/..\\secret.bin",
        "@model_path/C:/secret.bin",
        "@model_path/weights/w.bin\0",
    ] {
        assert!(matches!(load(path), Err(BlobError::PathRefused { .. })), "{path:?}");
    }
    assert!(matches!(load("@model_path/weights/none.bin"), Err(BlobError::Missing { .. })));
    assert!(matches!(load("@model_path/weights"), Err(BlobError::NotAFile { .. })));
}

#[test]
fn a_map_gives_what_was_put_in() {
    let tensor = pattern(DType::Int4, 9);
    let (bytes, _) = write(std::slice::from_ref(&tensor));
    let mut source = WeightMap::default();
    source.insert("@model_path/w.bin", BlobFile::from_bytes(bytes).unwrap());
    assert_eq!(source.load(&reference("@model_path/w.bin", 64), &tensor.ty()).unwrap(), tensor);
    assert_eq!(
        message(source.load(&reference("@model_path/v.bin", 64), &tensor.ty())),
        "weight file @model_path/v.bin does not exist"
    );
}

// Elsewhere files have no holes unless asked for.
#[cfg(all(unix, target_pointer_width = "64"))]
#[test]
fn a_large_file_is_mapped_and_positions_above_4_gib_are_read() {
    use std::io::{Seek, SeekFrom, Write};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large.bin");
    let tensor = pattern(DType::UInt6, 5001);
    let (bytes, _) = write(std::slice::from_ref(&tensor));
    let far = (1u64 << 32) + 640;
    let record = Record {
        offset: far,
        data_offset: far + 64,
        ..BlobFile::from_bytes(bytes.clone()).unwrap().record(64).unwrap()
    };
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&bytes[..64]).unwrap();
    // The bytes between are a hole, which takes no room on the disk.
    file.seek(SeekFrom::Start(far)).unwrap();
    file.write_all(&record.encode(DType::UInt6.blob_code().unwrap())).unwrap();
    file.write_all(&bytes[128..]).unwrap();
    drop(file);
    let file = BlobFile::open(&path).unwrap();
    assert_eq!(file.size_bytes(), far + 64 + record.size_bytes);
    assert_eq!(file.read(far, &tensor.ty()).unwrap(), tensor);
    assert!(matches!(file.read(64, &tensor.ty()), Err(BlobError::BadSentinel { found: 0, .. })));
}

/// What a hostile file may do to a valid one: any bytes replaced, any numbers, any length.
fn mutated(seed_bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let extremes = prop_oneof![
        Just(0u64),
        Just(1),
        Just(63),
        Just(64),
        Just(u64::MAX),
        Just(u64::MAX - 63),
        Just(1 << 32),
        Just(1 << 63),
        any::<u64>(),
        (0u64..2000),
    ];
    let numbers = prop::collection::vec((0usize..100, extremes), 0..3);
    let flips = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (numbers, flips, prop::option::of(any::<prop::sample::Index>())).prop_map(move |(numbers, flips, cut)| {
        let mut bytes = seed_bytes.clone();
        for (slot, number) in numbers {
            if let Some(place) = bytes.get_mut(slot * 8..slot * 8 + 8) {
                place.copy_from_slice(&number.to_le_bytes());
            }
        }
        for (index, byte) in flips {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        bytes
    })
}

fn any_type() -> impl Strategy<Value = TensorType> {
    let length = prop_oneof![0u64..100, Just(u64::MAX), Just(1 << 32), Just(1 << 61), any::<u64>()];
    let dim = prop_oneof![8 => length.prop_map(Dim::Known), 1 => Just(Dim::Unknown)];
    let dtype = prop::sample::select(DType::all().collect::<Vec<_>>());
    (dtype, prop::collection::vec(dim, 0..4))
        .prop_map(|(dtype, dims)| TensorType { dtype, shape: Shape(dims) })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_is_an_error_or_a_tensor_of_the_declared_type(
        bytes in mutated(write(&[pattern(DType::Fp16, 5), pattern(DType::UInt1, 13), pattern(DType::Fp32, 20)]).0),
        ty in any_type(),
        offset in prop_oneof![Just(64u64), Just(192), Just(320), (0u64..10).prop_map(|i| i * 64), any::<u64>()],
    ) {
        let file_bytes = bytes.len();
        let Ok(file) = BlobFile::from_bytes(bytes) else { return Ok(()) };
        prop_assert!(file.records().count() <= file_bytes / 64);
        for record in file.records().flatten() {
            // Declared as what the record says, which the last bits may not allow.
            let bits = (record.size_bytes * 8).saturating_sub(record.padding_bits.min(7));
            let count = (bits / u64::from(record.dtype.bits())) as usize;
            if let Ok(tensor) = file.read(record.offset, &TensorType::new(record.dtype, &[count])) {
                prop_assert!(tensor.len() <= file_bytes * 8);
            }
        }
        if let Ok(tensor) = file.read(offset, &ty) {
            prop_assert!(tensor.fits(&ty.into()));
            prop_assert!(tensor.len() <= file_bytes * 8);
        }
    }

    #[test]
    fn any_bytes_are_no_more_than_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), offset: u64) {
        let mut bytes = bytes;
        if bytes.len() >= 8 {
            bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        }
        if let Ok(file) = BlobFile::from_bytes(bytes) {
            prop_assert!(file.records().count() <= 5);
            prop_assert!(file.record(offset).is_err() || offset.is_multiple_of(64));
        }
    }
}
