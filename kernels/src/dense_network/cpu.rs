//! The reference twin: a batch through the layers and back, units side by side in vector registers.
//!
//! **Invariant:** starts no thread; sums in the order that the contract names.

use crate::device::{Loop, vectorised};

/// Rows that a thread takes at a time.
pub(super) const ROWS: usize = 64;

/// The inputs, then what every layer passes on.
pub(super) fn forward(widths: &[usize], parameters: &[f64], inputs: &[f64]) -> Vec<Vec<f64>> {
    let mut layers = vec![inputs.to_vec()];
    let mut rest = parameters;
    for (number, pair) in widths.windows(2).enumerate() {
        let (own, after) = rest.split_at((pair[0] + 1) * pair[1]);
        rest = after;
        let mut outputs = vec![0.0; inputs.len() / widths[0] * pair[1]];
        let hidden = number + 2 < widths.len();
        vectorised(Layer { inputs: &layers[number], parameters: own, units: pair[1], hidden, outputs: &mut outputs });
        layers.push(outputs);
    }
    layers
}

/// The gradient by all parameters.
pub(super) fn backward(widths: &[usize], parameters: &[f64], layers: &[Vec<f64>], by_outputs: &[f64]) -> Vec<f64> {
    let mut gradient = vec![0.0; parameters.len()];
    let mut by_units = by_outputs.to_vec();
    let mut end = parameters.len();
    for (number, pair) in widths.windows(2).enumerate().rev() {
        let start = end - (pair[0] + 1) * pair[1];
        let mut by_inputs = vec![0.0; layers[number].len()];
        vectorised(Back {
            inputs: &layers[number],
            parameters: &parameters[start..end],
            units: pair[1],
            by_units: &by_units,
            gradient: &mut gradient[start..end],
            by_inputs: &mut by_inputs,
        });
        if number > 0 {
            // The slope of softsign from its value: (1 − |y|)².
            for (by, y) in by_inputs.iter_mut().zip(&layers[number]) {
                let slope = 1.0 - y.abs();
                *by *= slope * slope;
            }
        }
        by_units = by_inputs;
        end = start;
    }
    gradient
}

/// One layer forward.
struct Layer<'a> {
    inputs: &'a [f64],
    parameters: &'a [f64],
    units: usize,
    hidden: bool,
    outputs: &'a mut [f64],
}

impl Loop for Layer<'_> {
    #[inline(always)]
    fn run(self) {
        let width = self.parameters.len() / self.units - 1;
        let (weights, biases) = self.parameters.split_at(width * self.units);
        for (row, outputs) in self.inputs.chunks_exact(width).zip(self.outputs.chunks_exact_mut(self.units)) {
            outputs.copy_from_slice(biases);
            for (x, weights) in row.iter().zip(weights.chunks_exact(self.units)) {
                for (z, w) in outputs.iter_mut().zip(weights) {
                    *z += x * w;
                }
            }
            if self.hidden {
                for z in outputs {
                    *z /= 1.0 + z.abs();
                }
            }
        }
    }
}

/// One layer back.
struct Back<'a> {
    inputs: &'a [f64],
    parameters: &'a [f64],
    units: usize,
    by_units: &'a [f64],
    gradient: &'a mut [f64],
    by_inputs: &'a mut [f64],
}

impl Loop for Back<'_> {
    #[inline(always)]
    fn run(self) {
        let width = self.parameters.len() / self.units - 1;
        let weights = &self.parameters[..width * self.units];
        let (by_weights, by_biases) = self.gradient.split_at_mut(width * self.units);
        let rows = self.inputs.chunks_exact(width).zip(self.by_units.chunks_exact(self.units));
        for ((row, by_units), by_inputs) in rows.zip(self.by_inputs.chunks_exact_mut(width)) {
            for (total, by) in by_biases.iter_mut().zip(by_units) {
                *total += by;
            }
            let each = by_weights.chunks_exact_mut(self.units).zip(weights.chunks_exact(self.units));
            for ((x, by_input), (by_weights, weights)) in row.iter().zip(by_inputs).zip(each) {
                for (total, by) in by_weights.iter_mut().zip(by_units) {
                    *total += x * by;
                }
                *by_input = weights.iter().zip(by_units).map(|(w, by)| w * by).sum();
            }
        }
    }
}
