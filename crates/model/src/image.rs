//! Images, to the tensors that programs take and back.

use anemone_coreml::description::{ColorSpace, ImageFeature};
use anemone_mil::tensor::{Tensor, TensorError};
use anemone_mil::types::TensorType;

/// An image, row by row from the top.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Its width in pixels.
    pub width: usize,
    /// Its height in pixels.
    pub height: usize,
    /// Its pixels.
    pub pixels: Pixels,
}

/// The pixels of an image.
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// Red, green and blue, one after the other.
    Rgb(Vec<u8>),
    /// Grey, 0 to 255.
    Grey(Vec<u8>),
    /// Grey, as numbers.
    GreyFloat(Vec<f32>),
}

impl Pixels {
    /// What they are, in a word.
    pub fn name(&self) -> &'static str {
        match self {
            Pixels::Rgb(_) => "RGB",
            Pixels::Grey(_) => "grey",
            Pixels::GreyFloat(_) => "grey floats",
        }
    }

    /// Whether an image of these colours has such pixels.
    fn are(&self, color_space: ColorSpace) -> bool {
        matches!(
            (self, color_space),
            (Pixels::Rgb(_), ColorSpace::Rgb | ColorSpace::Bgr)
                | (Pixels::Grey(_), ColorSpace::Grayscale)
                | (Pixels::GreyFloat(_), ColorSpace::GrayscaleFloat16)
        )
    }

    fn len(&self) -> usize {
        match self {
            Pixels::Rgb(values) => values.len() / 3,
            Pixels::Grey(values) => values.len(),
            Pixels::GreyFloat(values) => values.len(),
        }
    }
}

/// The tensor that a program takes for an image: `[1, C, H, W]`, each channel from 0 to 255 (floats as they are), with
/// the channels in the order of the description's colours.
///
/// # Errors
///
/// In words, when the image is not of the size and colours described, or its tensor is not of type `ty`.
pub fn to_tensor(image: &Image, feature: &ImageFeature, ty: &TensorType) -> Result<Tensor, String> {
    let (width, height) = (image.width, image.height);
    if !image.pixels.are(feature.color_space) {
        return Err(format!("is {feature}, and {} pixels are given", image.pixels.name()));
    }
    if !feature.takes(width as u64, height as u64) {
        return Err(format!("is {feature}, and {width} × {height} is given"));
    }
    let count = width.checked_mul(height).filter(|&count| count == image.pixels.len());
    let count =
        count.ok_or_else(|| format!("is {width} × {height}, and has {} pixels", image.pixels.len()))?;
    let channel = |values: &[u8], first: usize, step: usize| {
        values.iter().skip(first).step_by(step).map(|&value| f64::from(value)).collect::<Vec<_>>()
    };
    let values = match &image.pixels {
        Pixels::Rgb(values) => {
            let order = if feature.color_space == ColorSpace::Bgr { [2, 1, 0] } else { [0, 1, 2] };
            order.iter().flat_map(|&first| channel(values, first, 3)).collect()
        }
        Pixels::Grey(values) => channel(values, 0, 1),
        Pixels::GreyFloat(values) => values.iter().map(|&value| f64::from(value)).collect(),
    };
    debug_assert_eq!(values.len(), count * feature.channels());
    Tensor::from_f64(ty.dtype, &[1, feature.channels(), height, width], &values)
        .map_err(|error: TensorError| format!("is {ty} in the program: {error}"))
}

/// The image that a tensor `[1, C, H, W]` is. Values are rounded to the nearest whole number, ties to even, and those
/// beyond 0 to 255 become the nearest of these; NaN becomes 0. Floats stay what they are, in fp16.
///
/// # Errors
///
/// In words, when the tensor is none that the description fits.
pub fn from_tensor(tensor: &Tensor, feature: &ImageFeature) -> Result<Image, String> {
    let channels = feature.channels();
    let failed = || format!("is {feature}, and its tensor is {}", tensor.ty());
    let &[1, there, height, width] = tensor.shape() else { return Err(failed()) };
    let values = tensor.to_f64().filter(|_| there == channels).ok_or_else(failed)?;
    // A cast to u8 saturates, and takes NaN for 0.
    let byte = |&value: &f64| value.round_ties_even() as u8;
    let pixels = match feature.color_space {
        ColorSpace::Rgb | ColorSpace::Bgr => {
            let count = height * width;
            let order = if feature.color_space == ColorSpace::Bgr { [2, 1, 0] } else { [0, 1, 2] };
            let pixel = |at: usize| order.map(|channel| byte(&values[channel * count + at]));
            Pixels::Rgb((0..count).flat_map(pixel).collect())
        }
        ColorSpace::Grayscale => Pixels::Grey(values.iter().map(byte).collect()),
        ColorSpace::GrayscaleFloat16 => {
            let rounded = values.iter().map(|&value| anemone_mil::tensor::round_to_f16(value).to_f32());
            Pixels::GreyFloat(rounded.collect())
        }
        ColorSpace::Other(_) => return Err(failed()),
    };
    Ok(Image { width, height, pixels })
}

#[cfg(test)]
mod tests {
    use anemone_coreml::description::ImageSizes;
    use anemone_mil::types::DType;

    use super::*;

    fn feature(color_space: ColorSpace) -> ImageFeature {
        ImageFeature { width: 2, height: 1, color_space, sizes: ImageSizes::Fixed }
    }

    fn ty(channels: usize) -> TensorType {
        TensorType::new(DType::Fp32, &[1, channels, 1, 2])
    }

    #[test]
    fn channels_come_in_the_order_of_the_description() {
        let image = Image { width: 2, height: 1, pixels: Pixels::Rgb(vec![1, 2, 3, 4, 5, 6]) };
        for (colors, expected) in [
            (ColorSpace::Rgb, [1f32, 4.0, 2.0, 5.0, 3.0, 6.0]),
            (ColorSpace::Bgr, [3f32, 6.0, 2.0, 5.0, 1.0, 4.0]),
        ] {
            let tensor = to_tensor(&image, &feature(colors), &ty(3)).unwrap();
            assert_eq!(tensor, Tensor::from_values(&[1, 3, 1, 2], expected.to_vec()).unwrap());
            assert_eq!(from_tensor(&tensor, &feature(colors)).unwrap(), image);
        }
    }

    #[test]
    fn grey_is_one_channel() {
        let grey = Image { width: 2, height: 1, pixels: Pixels::Grey(vec![0, 255]) };
        let tensor = to_tensor(&grey, &feature(ColorSpace::Grayscale), &ty(1)).unwrap();
        assert_eq!(from_tensor(&tensor, &feature(ColorSpace::Grayscale)).unwrap(), grey);
        let floats = Image { width: 2, height: 1, pixels: Pixels::GreyFloat(vec![-0.5, 1000.0]) };
        let tensor = to_tensor(&floats, &feature(ColorSpace::GrayscaleFloat16), &ty(1)).unwrap();
        assert_eq!(from_tensor(&tensor, &feature(ColorSpace::GrayscaleFloat16)).unwrap(), floats);
    }

    #[test]
    fn values_are_rounded_and_kept_within_bytes() {
        let tensor = Tensor::from_values(&[1, 1, 1, 2], vec![-3f32, 299.0]).unwrap();
        let image = from_tensor(&tensor, &feature(ColorSpace::Grayscale)).unwrap();
        assert_eq!(image.pixels, Pixels::Grey(vec![0, 255]));
        let tensor = Tensor::from_values(&[1, 1, 1, 2], vec![2.5f32, f32::NAN]).unwrap();
        let image = from_tensor(&tensor, &feature(ColorSpace::Grayscale)).unwrap();
        assert_eq!(image.pixels, Pixels::Grey(vec![2, 0]));
    }

    #[test]
    fn other_sizes_and_colors_are_refused() {
        let image = |width, pixels| Image { width, height: 1, pixels };
        let rgb = feature(ColorSpace::Rgb);
        let grey = to_tensor(&image(2, Pixels::Grey(vec![0, 1])), &rgb, &ty(3)).unwrap_err();
        assert!(grey.contains("grey pixels"), "{grey}");
        let narrow = to_tensor(&image(1, Pixels::Rgb(vec![0, 1, 2])), &rgb, &ty(3)).unwrap_err();
        assert!(narrow.contains("2 × 1, and 1 × 1"), "{narrow}");
        let short = to_tensor(&image(2, Pixels::Rgb(vec![0, 1, 2])), &rgb, &ty(3)).unwrap_err();
        assert!(short.contains("has 1 pixels"), "{short}");
        assert!(from_tensor(&Tensor::vector(vec![1f32]), &rgb).is_err());
    }
}
