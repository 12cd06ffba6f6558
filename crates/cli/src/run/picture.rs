//! Images in files, PNG and JPEG, as those that models take and give.

use std::io::{BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use anemone_coreml::description::{ColorSpace, ImageFeature};
use anemone_model::image::{Image, Pixels};
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, ImageReader};
use thiserror::Error;

use crate::common::Failure;
use crate::common::files;

/// Why a file's image is not taken.
#[derive(Debug, Error)]
enum PictureError {
    /// It is in no format that is read.
    #[error("it is no PNG or JPEG file")]
    Format,
    /// It is damaged, or needs more memory than an image may.
    #[error(transparent)]
    Decoding(#[from] image::ImageError),
    /// It can be seen through, which no model's input can.
    #[error("it has transparent pixels, which no model takes; put it on a background first")]
    Transparent,
    /// Its size is another than the model's.
    #[error(
        "it is {width} × {height}, and the input is {feature}; `--resize` makes it {wanted_width} × {wanted_height}"
    )]
    Size {
        /// The file's width.
        width: u32,
        /// Its height.
        height: u32,
        /// What is described.
        feature: ImageFeature,
        /// The width described.
        wanted_width: i64,
        /// The height described.
        wanted_height: i64,
    },
    /// The model says a size that no image has.
    #[error("the input is {0}, which is no size of an image")]
    NoSize(ImageFeature),
}

/// A file whose image is not taken.
#[derive(Debug, Error)]
#[error("{} cannot be taken as the image for the input `{input}`: {error}", path.display())]
struct PictureFileError {
    path: PathBuf,
    input: String,
    error: PictureError,
}

/// Whether a file begins as PNG or JPEG files do.
///
/// # Errors
///
/// When it cannot be read.
pub(super) fn is_picture(path: &Path) -> Result<bool, Failure> {
    let mut start = Vec::new();
    files::open(path)?.take(16).read_to_end(&mut start)?;
    Ok(format(&start).is_some())
}

fn format(start: &[u8]) -> Option<ImageFormat> {
    let known = |format: &ImageFormat| matches!(format, ImageFormat::Png | ImageFormat::Jpeg);
    image::guess_format(start).ok().filter(known)
}

/// Reads the image for an input: grey becomes colours and colours grey as the model takes them, 16 bits become 8. It is
/// resized, which takes the weighted mean of what a pixel covers, only where `resize` asks for it. The orientation that a
/// camera wrote beside it is left alone.
///
/// # Errors
///
/// When the file is no image, or one that the input does not take.
pub(super) fn read(path: &Path, input: &str, feature: &ImageFeature, resize: bool) -> Result<Image, Failure> {
    let mut bytes = Vec::new();
    files::open(path)?.read_to_end(&mut bytes)?;
    decoded(&bytes, feature, resize)
        .map_err(|error| PictureFileError { path: path.to_owned(), input: input.to_string(), error }.into())
}

fn decoded(bytes: &[u8], feature: &ImageFeature, resize: bool) -> Result<Image, PictureError> {
    let format = format(bytes).ok_or(PictureError::Format)?;
    // The reader's own limits bound the memory that a file can ask for.
    let picture = ImageReader::with_format(BufReader::new(Cursor::new(bytes)), format).decode()?;
    if picture.color().has_alpha() && picture.to_rgba8().pixels().any(|pixel| pixel.0[3] != u8::MAX) {
        return Err(PictureError::Transparent);
    }
    let picture = fitted(picture, feature, resize)?;
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let pixels = match feature.color_space {
        ColorSpace::Grayscale => Pixels::Grey(picture.into_luma8().into_raw()),
        ColorSpace::GrayscaleFloat16 => {
            Pixels::GreyFloat(picture.into_luma8().into_raw().into_iter().map(f32::from).collect())
        }
        ColorSpace::Rgb | ColorSpace::Bgr | ColorSpace::Other(_) => {
            Pixels::Rgb(picture.into_rgb8().into_raw())
        }
    };
    Ok(Image { width, height, pixels })
}

/// The image in a size that the input takes.
fn fitted(picture: DynamicImage, feature: &ImageFeature, resize: bool) -> Result<DynamicImage, PictureError> {
    let (width, height) = (picture.width(), picture.height());
    if feature.takes(width.into(), height.into()) {
        return Ok(picture);
    }
    let (wanted_width, wanted_height) = (feature.width, feature.height);
    if !resize {
        let feature = feature.clone();
        return Err(PictureError::Size { width, height, feature, wanted_width, wanted_height });
    }
    let side = |length: i64| u32::try_from(length).ok().filter(|length| (1..=MOST_SIDE).contains(length));
    let (Some(width), Some(height)) = (side(wanted_width), side(wanted_height)) else {
        return Err(PictureError::NoSize(feature.clone()));
    };
    Ok(picture.resize_exact(width, height, FilterType::Triangle))
}

/// Pixels of a side that an image is resized to, at most.
const MOST_SIDE: u32 = 1 << 14;

/// An image as a PNG file; `None` where it is of floats, which such files do not have.
///
/// # Errors
///
/// When it is too large for one.
pub(super) fn png(image: &Image) -> Result<Option<Vec<u8>>, Failure> {
    let no_image = || Failure::new("the image is too large for a PNG file");
    let (width, height) = (u32::try_from(image.width)?, u32::try_from(image.height)?);
    let picture: DynamicImage = match &image.pixels {
        Pixels::Rgb(values) => {
            image::RgbImage::from_raw(width, height, values.clone()).ok_or_else(no_image)?.into()
        }
        Pixels::Grey(values) => {
            image::GrayImage::from_raw(width, height, values.clone()).ok_or_else(no_image)?.into()
        }
        Pixels::GreyFloat(_) => return Ok(None),
    };
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(Some(bytes.into_inner()))
}

#[cfg(test)]
mod tests {
    use anemone_coreml::description::ImageSizes;

    use super::*;

    fn feature(color_space: ColorSpace) -> ImageFeature {
        ImageFeature { width: 2, height: 1, color_space, sizes: ImageSizes::Fixed }
    }

    fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn pixels_are_those_of_the_file() {
        let values = vec![255, 0, 0, 1, 2, 3];
        let picture = image::RgbImage::from_raw(2, 1, values.clone()).unwrap();
        let png_file = encoded(picture, ImageFormat::Png);
        for colors in [ColorSpace::Rgb, ColorSpace::Bgr] {
            let image = decoded(&png_file, &feature(colors), false).unwrap();
            assert_eq!(image, Image { width: 2, height: 1, pixels: Pixels::Rgb(values.clone()) });
            assert_eq!(decoded(&png(&image).unwrap().unwrap(), &feature(colors), false).unwrap(), image);
        }
        let grey = image::GrayImage::from_raw(2, 1, vec![7, 250]).unwrap();
        let bytes = encoded(grey.clone(), ImageFormat::Png);
        let image = decoded(&bytes, &feature(ColorSpace::Rgb), false).unwrap();
        assert_eq!(image.pixels, Pixels::Rgb(vec![7, 7, 7, 250, 250, 250]));
        let image = decoded(&bytes, &feature(ColorSpace::Grayscale), false).unwrap();
        assert_eq!(image.pixels, Pixels::Grey(vec![7, 250]));
        // JPEG keeps an even grey as it is.
        let even = encoded(image::GrayImage::from_raw(2, 1, vec![128; 2]).unwrap(), ImageFormat::Jpeg);
        let image = decoded(&even, &feature(ColorSpace::GrayscaleFloat16), false).unwrap();
        assert_eq!(image.pixels, Pixels::GreyFloat(vec![128.0; 2]));
    }

    #[test]
    fn other_sizes_are_resized_only_when_asked() {
        let picture = image::GrayImage::from_raw(4, 2, vec![10, 10, 20, 20, 10, 10, 20, 20]).unwrap();
        let bytes = encoded(picture, ImageFormat::Png);
        let error = decoded(&bytes, &feature(ColorSpace::Grayscale), false).unwrap_err().to_string();
        assert!(error.starts_with("it is 4 × 2, and the input is image"), "{error}");
        let image = decoded(&bytes, &feature(ColorSpace::Grayscale), true).unwrap();
        assert_eq!((image.width, image.height), (2, 1));
        let Pixels::Grey(values) = image.pixels else { panic!() };
        // The filter is twice as wide as a pixel.
        assert!(values[0] < 14 && values[1] > 16, "{values:?}");
        let huge = ImageFeature { width: i64::MAX, ..feature(ColorSpace::Grayscale) };
        assert!(matches!(decoded(&bytes, &huge, true), Err(PictureError::NoSize(_))));
    }

    #[test]
    fn what_is_no_opaque_image_is_refused() {
        let clear = image::RgbaImage::from_raw(2, 1, vec![1, 2, 3, 255, 1, 2, 3, 254]).unwrap();
        let bytes = encoded(clear, ImageFormat::Png);
        assert!(matches!(decoded(&bytes, &feature(ColorSpace::Rgb), false), Err(PictureError::Transparent)));
        let cut = decoded(&bytes[..bytes.len() / 2], &feature(ColorSpace::Rgb), false);
        assert!(matches!(cut, Err(PictureError::Decoding(_))));
        assert!(matches!(decoded(b"GIF89a", &feature(ColorSpace::Rgb), false), Err(PictureError::Format)));
    }
}
