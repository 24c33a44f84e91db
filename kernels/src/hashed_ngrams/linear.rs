//! The linear model of two classes.
//!
//! **Invariant:** weights of fixed number, whatever the texts.

#[cfg(feature = "cuda")]
use super::cuda::{Model, score};
use super::head;
use crate::splitmix::{SplitMix, mixed};
use crate::{Device, Error, Result, lanes};

/// Buckets of n-grams.
pub(super) const BUCKETS: usize = 1 << 16;
/// The longest n-gram in bytes.
const LONGEST: usize = 5;
/// Passes over the texts.
const PASSES: u64 = 8;
/// The step of AdaGrad.
const RATE: f64 = 0.5;

/// A trained model.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// Added to every margin.
    pub bias: f32,
    /// One weight a bucket, 65,536 of them.
    pub weights: Vec<f32>,
}

impl Linear {
    /// Trains on texts of two classes.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are not as many labels as texts.
    pub fn train(texts: &[&str], labels: &[bool], seed: u64) -> Result<Self> {
        if texts.len() != labels.len() {
            return Err(Error::Shape(format!("{} texts need as many labels, not {}", texts.len(), labels.len())));
        }
        let mut model = Self { bias: 0.0, weights: vec![0.0; BUCKETS] };
        let mut squares = vec![1e-6f32; BUCKETS];
        let mut bias_square = 1e-6f64;
        let mut order: Vec<usize> = (0..texts.len()).collect();
        let mut grams = Vec::new();
        for pass in 0..PASSES {
            let mut random = SplitMix::new(seed, pass);
            for at in (1..order.len()).rev() {
                order.swap(at, random.below(at + 1));
            }
            for row in &order {
                fill(head(texts[*row]), &mut grams);
                let x = scale(grams.len());
                let margin = model.sum(&grams) * x + f64::from(model.bias);
                let slope = 1.0 / (1.0 + (-margin).exp()) - f64::from(u8::from(labels[*row]));
                bias_square += slope * slope;
                model.bias -= (RATE * slope / bias_square.sqrt()) as f32;
                let step = slope * x;
                for gram in &grams {
                    let (weight, square) = (&mut model.weights[*gram as usize], &mut squares[*gram as usize]);
                    *square += (step * step) as f32;
                    *weight -= (RATE * step / f64::from(*square).sqrt()) as f32;
                }
            }
        }
        Ok(model)
    }

    /// A model from its parts; `None` where there are not as many weights as buckets.
    #[must_use]
    pub fn from_weights(bias: f32, weights: Vec<f32>) -> Option<Self> {
        let fits = weights.len() == BUCKETS && weights.iter().chain([&bias]).all(|weight| weight.is_finite());
        fits.then_some(Self { bias, weights })
    }

    /// The margin of every text: the log odds of class 1.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn margins(&self, device: &Device, texts: &[&str]) -> Result<Vec<f64>> {
        #[cfg(feature = "cuda")]
        if let Some(margins) = device.offload("linear_margins", |gpu| score(device, gpu, &self.on_device(), texts))? {
            return Ok(margins);
        }
        lanes::map(device, texts.len(), Vec::new, |grams, row| {
            fill(head(texts[row]), grams);
            self.sum(grams) * scale(grams.len()) + f64::from(self.bias)
        })
    }

    /// The model as the device takes it.
    #[cfg(feature = "cuda")]
    pub(super) fn on_device(&self) -> Model<'_> {
        Model::Linear { bias: [f64::from(self.bias)], weights: &self.weights }
    }

    fn sum(&self, grams: &[u32]) -> f64 {
        grams.iter().map(|gram| f64::from(self.weights[*gram as usize])).sum()
    }
}

/// What one n-gram of so many counts.
fn scale(grams: usize) -> f64 {
    1.0 / (grams.max(1) as f64).sqrt()
}

/// The buckets of all n-grams of a text, with its start and its end.
fn fill(text: &[u8], buckets: &mut Vec<u32>) {
    buckets.clear();
    let mut last = 0u64;
    for (at, byte) in [2].iter().chain(text).chain(&[3]).enumerate() {
        last = last << 8 | u64::from(*byte);
        for length in 1..=LONGEST.min(at + 1) {
            let gram = last & ((1 << (8 * length)) - 1);
            buckets.push((mixed(gram | (length as u64) << 56) >> 48) as u32);
        }
    }
}
