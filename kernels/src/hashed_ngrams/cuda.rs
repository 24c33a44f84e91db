//! The CUDA twins of both models' scoring: texts go to the device, one number a text comes back.
//!
//! **Invariant:** texts are cut into launches that fit the device's memory, each with the whole model; a text's score does
//! not depend on the cut.

use std::ops::Range;

use super::head;
use crate::Device;
use crate::device::argument::Argument;
use crate::device::fault::Fault;
use crate::device::gpu::{Gpu, Kernel};

/// The source of both kernels.
const SOURCE: &str = include_str!("hashed_ngrams.cu");
/// The kernel of the linear model.
pub(super) const MARGINS: Kernel = Kernel { source: SOURCE, name: "linear_margins", threads: 128, blocks_each: 16 };
/// The kernel of the reader.
pub(super) const SURPRISES: Kernel = Kernel { source: SOURCE, name: "reader_surprises", threads: 128, blocks_each: 16 };

/// A model as its kernel takes it, between the texts and the sizes.
pub(super) enum Model<'a> {
    Linear { bias: [f64; 1], weights: &'a [f32] },
    Reader { counts: &'a [u32] },
}

impl Model<'_> {
    fn kernel(&self) -> &'static Kernel {
        match self {
            Self::Linear { .. } => &MARGINS,
            Self::Reader { .. } => &SURPRISES,
        }
    }
}

/// The scores of all texts.
pub(super) fn score(device: &Device, gpu: &Gpu, model: &Model, texts: &[&str]) -> Result<Vec<f64>, Fault> {
    let sizes: Vec<usize> = texts.iter().map(|text| head(text).len() + 16).collect();
    let kernel = model.kernel();
    let parts = gpu.run(
        || device.is_stopped(),
        &sizes,
        |lane, items| {
            let batch = Batch::new(texts, items.clone());
            let blocks = gpu.blocks(kernel, items.len().div_ceil(kernel.threads), 0)?;
            #[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
            // SAFETY: the arguments of `Batch` are the kernel's; a hash is below the number of buckets.
            unsafe {
                gpu.submit(lane, kernel, blocks, &batch.arguments(model))
            }
        },
        |landing, items| {
            let parameter = if matches!(model, Model::Linear { .. }) { 5 } else { 4 };
            landing.read::<f64>(parameter, items.len())
        },
    )?;
    Ok(parts.concat())
}

/// The kernels' arguments, for some texts.
pub(super) struct Batch {
    bytes: Vec<u8>,
    offsets: Vec<i64>,
    sizes: [i64; 1],
}

impl Batch {
    pub(super) fn new(texts: &[&str], items: Range<usize>) -> Self {
        let mut batch = Self { bytes: Vec::new(), offsets: vec![0], sizes: [items.len() as i64] };
        for text in &texts[items] {
            batch.bytes.extend(head(text));
            batch.offsets.push(batch.bytes.len() as i64);
        }
        batch
    }

    pub(super) fn arguments<'a>(&'a self, model: &'a Model) -> Vec<Argument<'a>> {
        let mut arguments = vec![Argument::U8(&self.bytes), Argument::I64(&self.offsets)];
        match model {
            Model::Linear { bias, weights } => arguments.extend([Argument::F32(weights), Argument::F64(bias)]),
            Model::Reader { counts } => arguments.push(Argument::U32(counts)),
        }
        arguments.extend([Argument::I64(&self.sizes), Argument::Zeros(self.offsets.len() - 1)]);
        arguments
    }
}
