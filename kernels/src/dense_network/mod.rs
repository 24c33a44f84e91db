//! A small multilayer perceptron: batched forward pass, batched backward pass and Adam's step.
//!
//! **Formula.** A layer takes n numbers x to m numbers z, z_j = b_j + Σ_i x_i·w_ij; a hidden layer passes on z / (1 + |z|)
//! (softsign), the last layer z itself. `parameters` holds the layers one after the other, each as its weights, all of input
//! 0 first, then its m biases. Gradients are those of a loss whose derivative by the outputs the caller gives, summed over the
//! rows of the batch. Adam: m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², p ← p − rate·m̂ / (√v̂ + 1e-8), with β = 0.9, 0.999.
//!
//! **Missing values.** A row with a NaN or an infinity gives NaN in every output that it reaches and changes no other row. A
//! gradient with a number that is not finite is not applied: [`Adam::step`] answers false and nothing changes.
//!
//! **Order of reduction.** A unit starts from its bias and adds its inputs in their order, without fused multiply-add; a gradient
//! adds rows in their order. Softsign needs only IEEE operations, so that results are the same on every machine and for
//! every number of threads. The forward pass has both twins, and they agree bit by bit. The backward pass and Adam run on
//! the CPU only: a batch of some hundred rows through some thousand weights is not worth the way to a device.
//!
//! **Papers.** Rumelhart, Hinton and Williams 1986 (backpropagation); Glorot and Bengio 2010 (softsign, first weights);
//! Kingma and Ba 2015 (Adam).
//!
//! **Invariant:** a row's outputs depend on that row alone, not on the batch it came in.

mod adam;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(test)]
mod tests;

pub use adam::Adam;

use crate::splitmix::SplitMix;
use crate::{Device, Error, Result, lanes};

/// Units of a layer, inputs and outputs included.
pub const WIDTH_MAX: usize = 256;
/// Layers of a network, without its inputs.
pub const LAYERS_MAX: usize = 8;

/// A network: the width of its inputs and of every layer, and its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    widths: Vec<usize>,
    parameters: Vec<f64>,
}

/// Outputs of a batch.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    /// Row after row, as many numbers each as the last layer has units.
    pub values: Vec<f64>,
    /// How many times the device was launched; the CPU counts one for a call.
    pub launches: u64,
}

/// A forward pass that remembers what every layer passed on, for the backward pass.
#[derive(Clone, Debug)]
pub struct Trace {
    rows: usize,
    /// Inputs first, then the activations of every layer; row after row in each.
    layers: Vec<Vec<f64>>,
}

impl Trace {
    /// The outputs, row after row.
    #[must_use]
    pub fn outputs(&self) -> &[f64] {
        self.layers.last().map_or(&[], Vec::as_slice)
    }
}

impl Network {
    /// A network with first weights drawn by the seed, uniform in ±√(6 / (inputs + units)) of its layer, and biases of 0.
    ///
    /// # Errors
    /// [`Error::Parameter`] when there are no layers or too many, or a width is 0 or above [`WIDTH_MAX`].
    pub fn new(widths: &[usize], seed: u64) -> Result<Self> {
        check(widths)?;
        let mut random = SplitMix::new(seed, 0);
        let mut parameters = Vec::with_capacity(count(widths));
        for pair in widths.windows(2) {
            let bound = (6.0 / (pair[0] + pair[1]) as f64).sqrt();
            parameters.extend((0..pair[0] * pair[1]).map(|_| (random.unit() * 2.0 - 1.0) * bound));
            parameters.extend(std::iter::repeat_n(0.0, pair[1]));
        }
        Ok(Self { widths: widths.to_vec(), parameters })
    }

    /// The network of these weights.
    ///
    /// # Errors
    /// [`Error::Parameter`] as for [`Network::new`], [`Error::Shape`] when the widths need another number of parameters.
    pub fn from_parts(widths: &[usize], parameters: Vec<f64>) -> Result<Self> {
        check(widths)?;
        if parameters.len() != count(widths) {
            let text = format!("layers of {widths:?} need {} parameters, not {}", count(widths), parameters.len());
            return Err(Error::Shape(text));
        }
        Ok(Self { widths: widths.to_vec(), parameters })
    }

    /// The width of the inputs, then of every layer.
    #[must_use]
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }

    /// Numbers of a row.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.widths[0]
    }

    /// Numbers that a row gives.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.widths[self.widths.len() - 1]
    }

    /// All weights and biases, in the order of the contract above.
    #[must_use]
    pub fn parameters(&self) -> &[f64] {
        &self.parameters
    }

    /// The same to change.
    pub fn parameters_mut(&mut self) -> &mut [f64] {
        &mut self.parameters
    }

    /// The outputs of every row of a batch.
    ///
    /// # Errors
    /// [`Error::Shape`] when the inputs are not whole rows, [`Error::Stopped`] where the device's work was stopped.
    pub fn forward(&self, device: &Device, inputs: &[f64]) -> Result<Outputs> {
        let rows = self.rows(inputs, self.inputs())?;
        #[cfg(feature = "cuda")]
        if let Some((values, launches)) =
            device.offload("dense_network", |gpu| cuda::forward(device, gpu, self, inputs, rows))?
        {
            return Ok(Outputs { values, launches });
        }
        let block = |_: &mut (), block: usize| {
            let end = rows.min((block + 1) * cpu::ROWS);
            let part = &inputs[block * cpu::ROWS * self.inputs()..end * self.inputs()];
            self.trace(part).layers.pop().unwrap_or_default()
        };
        let parts = lanes::map(device, rows.div_ceil(cpu::ROWS), || (), block)?;
        Ok(Outputs { values: parts.concat(), launches: 1 })
    }

    /// The outputs of a batch with what the backward pass needs.
    ///
    /// # Errors
    /// [`Error::Shape`] when the inputs are not whole rows.
    pub fn forward_traced(&self, inputs: &[f64]) -> Result<Trace> {
        self.rows(inputs, self.inputs())?;
        Ok(self.trace(inputs))
    }

    /// The gradient of a loss by all parameters, from its derivative by every output of the traced batch.
    ///
    /// # Errors
    /// [`Error::Shape`] when the derivatives are not one for each output, or the trace is of another network's shape.
    pub fn backward(&self, trace: &Trace, by_outputs: &[f64]) -> Result<Vec<f64>> {
        let rows = self.rows(by_outputs, self.outputs())?;
        let fits = trace.layers.len() == self.widths.len()
            && trace.layers.iter().zip(&self.widths).all(|(layer, width)| layer.len() == rows * width);
        if !fits {
            let text = format!("derivatives of {rows} rows do not fit a trace of {} rows", trace.rows);
            return Err(Error::Shape(text));
        }
        Ok(cpu::backward(&self.widths, &self.parameters, &trace.layers, by_outputs))
    }

    fn trace(&self, inputs: &[f64]) -> Trace {
        let rows = inputs.len() / self.inputs();
        Trace { rows, layers: cpu::forward(&self.widths, &self.parameters, inputs) }
    }

    /// How many rows of this width the numbers are.
    fn rows(&self, numbers: &[f64], width: usize) -> Result<usize> {
        if numbers.len().is_multiple_of(width) {
            return Ok(numbers.len() / width);
        }
        Err(Error::Shape(format!("{} numbers are no whole rows of {width}", numbers.len())))
    }
}

/// How many parameters layers of these widths have.
fn count(widths: &[usize]) -> usize {
    widths.windows(2).map(|pair| (pair[0] + 1) * pair[1]).sum()
}

/// Whether the widths are in range.
fn check(widths: &[usize]) -> Result<()> {
    if !(2..=LAYERS_MAX + 1).contains(&widths.len()) {
        let text = format!(
            "{} widths are out of range: give that of the inputs and of 1 to {LAYERS_MAX} layers",
            widths.len()
        );
        return Err(Error::Parameter(text));
    }
    match widths.iter().find(|width| !(1..=WIDTH_MAX).contains(*width)) {
        Some(width) => Err(Error::Parameter(format!("a width of {width} is out of range: use 1 to {WIDTH_MAX}"))),
        None => Ok(()),
    }
}
