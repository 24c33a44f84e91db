//! What a kernel is launched with: arrays that go to the device, and arrays that it fills.
//!
//! **Invariant:** borrows, never copies; the host shim of the tests gets the same arrays as a device.

/// An argument of a kernel, in the order of its parameters.
#[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "a build without CUDA tests with some kinds only"))]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Argument<'a> {
    F64(&'a [f64]),
    F32(&'a [f32]),
    I64(&'a [i64]),
    U32(&'a [u32]),
    I16(&'a [i16]),
    U8(&'a [u8]),
    /// So many doubles, all zero before the launch.
    Zeros(usize),
    /// So many 32-bit integers, all zero before the launch.
    ZeroInts(usize),
    /// Room for so many doubles, of any value before the launch.
    Scratch(usize),
}

impl Argument<'_> {
    /// How many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::F64(values) => size_of_val(*values),
            Self::F32(values) => size_of_val(*values),
            Self::I64(values) => size_of_val(*values),
            Self::U32(values) => size_of_val(*values),
            Self::I16(values) => size_of_val(*values),
            Self::U8(values) => values.len(),
            Self::Zeros(length) | Self::Scratch(length) => length * size_of::<f64>(),
            Self::ZeroInts(length) => length * size_of::<i32>(),
        }
    }

    /// Its bytes as they are before the launch; scratch space holds NaN, so that what reads before it writes shows.
    #[cfg(test)]
    pub(crate) fn content(&self) -> Vec<u8> {
        match self {
            Self::F64(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::F32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::I64(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::U32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::I16(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::U8(values) => values.to_vec(),
            Self::Zeros(_) | Self::ZeroInts(_) => vec![0; self.bytes()],
            Self::Scratch(_) => vec![0xff; self.bytes()],
        }
    }

    /// Bytes after a launch as numbers.
    #[cfg(test)]
    pub(crate) fn numbers(&self, bytes: &[u8]) -> Vec<f64> {
        match self {
            Self::F64(_) | Self::Zeros(_) | Self::Scratch(_) => {
                bytes.as_chunks().0.iter().map(|word| f64::from_le_bytes(*word)).collect()
            }
            Self::I64(_) => bytes.as_chunks().0.iter().map(|word| i64::from_le_bytes(*word) as f64).collect(),
            Self::F32(_) => bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word).into()).collect(),
            Self::U32(_) => bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word).into()).collect(),
            Self::ZeroInts(_) => bytes.as_chunks().0.iter().map(|word| i32::from_le_bytes(*word).into()).collect(),
            Self::I16(_) => bytes.as_chunks().0.iter().map(|word| i16::from_le_bytes(*word).into()).collect(),
            Self::U8(_) => bytes.iter().map(|byte| f64::from(*byte)).collect(),
        }
    }
}
