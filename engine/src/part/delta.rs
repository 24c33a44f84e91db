//! Integers as DELTA_BINARY_PACKED, with blocks and widths that compress well.
//!
//! The format (Parquet, encoding 5) lets the writer choose the length of blocks, the delta that counts as zero and the bits
//! per delta. Most series step by little: their deltas get 1, 2, 4 or 8 bits in long blocks above one common delta, so
//! that a byte holds whole deltas, and the entropy coder behind, which sees bytes, comes close to what the deltas are
//! worth. Wide deltas, which no entropy coder shortens, get the fewest bits in short blocks.
//!
//! Source: <https://parquet.apache.org/docs/file-format/data-pages/encodings/>.
//!
//! **Invariant:** pure: takes integers, gives bytes that any Parquet reader understands.

/// Miniblocks in a block.
const MINI_BLOCKS: usize = 4;
/// Deltas in a miniblock where few lie outside the common window.
const LONG: usize = 128;
/// Deltas in other miniblocks: each that lies outside widens so many.
const SHORT: usize = 32;
/// One delta outside the window among so many is few.
const FEW: usize = 6000;
/// The most bits of a delta that shares a byte with others.
const NARROW_BITS_MAX: u32 = 8;
/// Deltas that are looked at to choose; one of [`TAIL`] on either side may lie outside the window.
const SAMPLE: usize = 512;
const TAIL: usize = 50;

/// How the deltas of a page are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    mini_len: usize,
    /// What counts as zero where no delta is below; none where each block has its own.
    floor: Option<i64>,
    /// Bits that a delta has at least.
    bits_min: u32,
}

/// Encodes values of 64 bits, or of 32 where `narrow`, behind what `bytes` holds.
pub(super) fn encode(values: &[i64], narrow: bool, bytes: &mut Vec<u8>) {
    let wrap = |delta: i64| if narrow { i64::from(delta as i32) } else { delta };
    let deltas: Vec<i64> = values.windows(2).map(|pair| wrap(pair[1].wrapping_sub(pair[0]))).collect();
    let layout = Layout::choose(&deltas, narrow);
    let block_len = layout.mini_len * MINI_BLOCKS;
    varint(block_len as u64, bytes);
    varint(MINI_BLOCKS as u64, bytes);
    varint(values.len() as u64, bytes);
    zigzag(values.first().copied().unwrap_or(0), bytes);
    let mask = if narrow { u64::from(u32::MAX) } else { u64::MAX };
    let mut offsets = vec![0_u64; block_len];
    for block in deltas.chunks(block_len) {
        let least = block.iter().copied().min().unwrap_or(0);
        let zero = layout.floor.filter(|&floor| floor <= least).unwrap_or(least);
        zigzag(zero, bytes);
        offsets.fill(0);
        for (offset, &delta) in offsets.iter_mut().zip(block) {
            *offset = delta.wrapping_sub(zero).cast_unsigned() & mask;
        }
        let minis = block.len().div_ceil(layout.mini_len);
        let widths: [u32; MINI_BLOCKS] = std::array::from_fn(|mini| match mini < minis {
            true => layout.width(&offsets[mini * layout.mini_len..][..layout.mini_len]),
            false => 0,
        });
        bytes.extend(widths.map(|width| width as u8));
        for (mini, &width) in offsets.chunks(layout.mini_len).zip(&widths).take(minis) {
            pack(mini, width, bytes);
        }
    }
}

impl Layout {
    /// Long blocks above a common delta where nearly all of a sample of deltas fit into a byte.
    fn choose(deltas: &[i64], narrow: bool) -> Self {
        let wide = Self { mini_len: SHORT, floor: None, bits_min: 0 };
        // Scattered, so that no period of the values deceives.
        let place = |number: usize| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % deltas.len();
        let mut sample: Vec<i64> = (0..SAMPLE.min(deltas.len())).map(|number| deltas[place(number)]).collect();
        sample.sort_unstable();
        let tail = sample.len() / TAIL;
        let (Some(&low), Some(&high)) = (sample.get(tail), sample.get(sample.len().saturating_sub(1 + tail))) else {
            return wide;
        };
        let span = high.wrapping_sub(low).cast_unsigned();
        let bits = match u64::BITS - span.leading_zeros() {
            0 => 0,
            bits => bits.next_power_of_two(),
        };
        if bits > NARROW_BITS_MAX {
            return wide;
        }
        // The window's spare room lies half below what was seen and half above.
        let spare = ((1_u64 << bits) - 1 - span) / 2;
        let lowest = if narrow { i64::from(i32::MIN) } else { i64::MIN };
        let floor = low.saturating_sub(spare.cast_signed()).max(lowest);
        let outside = |&&delta: &&i64| delta.wrapping_sub(floor).cast_unsigned() >> bits > 0;
        let few = deltas.iter().filter(outside).count() <= deltas.len() / FEW;
        Self { mini_len: if few { LONG } else { SHORT }, floor: Some(floor), bits_min: bits }
    }

    /// Bits per offset of a miniblock.
    fn width(self, offsets: &[u64]) -> u32 {
        let needed = u64::BITS - offsets.iter().fold(0, |all, &offset| all | offset).leading_zeros();
        match needed.max(self.bits_min) {
            0 => 0,
            bits if self.floor.is_some() && bits <= NARROW_BITS_MAX => bits.next_power_of_two(),
            bits => bits,
        }
    }
}

/// Packs numbers of `width` bits, the lowest bit first.
fn pack(numbers: &[u64], width: u32, bytes: &mut Vec<u8>) {
    match width {
        0 => {}
        4 => bytes.extend(numbers.chunks_exact(2).map(|pair| (pair[0] | pair[1] << 4) as u8)),
        8 => bytes.extend(numbers.iter().map(|&number| number as u8)),
        _ => pack_any(numbers, width, bytes),
    }
}

fn pack_any(numbers: &[u64], width: u32, bytes: &mut Vec<u8>) {
    let (mut word, mut filled) = (0_u64, 0);
    for &number in numbers {
        word |= number << filled;
        filled += width;
        if filled >= u64::BITS {
            bytes.extend(word.to_le_bytes());
            filled -= u64::BITS;
            // What did not fit; a shift by all bits means that all did.
            word = number.checked_shr(width - filled).unwrap_or(0);
        }
    }
    bytes.extend(&word.to_le_bytes()[..filled.div_ceil(8) as usize]);
}

pub(super) fn varint(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn zigzag(number: i64, bytes: &mut Vec<u8>) {
    varint(((number << 1) ^ (number >> 63)).cast_unsigned(), bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_varint(bytes: &mut &[u8]) -> u64 {
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return number;
            }
        }
        unreachable!("the loop ends with the number")
    }

    fn read_zigzag(bytes: &mut &[u8]) -> i64 {
        let number = read_varint(bytes);
        (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
    }

    /// A decoder as the specification words it.
    fn decode(mut bytes: &[u8], narrow: bool) -> Vec<i64> {
        let bytes = &mut bytes;
        let (block, minis) = (read_varint(bytes) as usize, read_varint(bytes) as usize);
        let (count, mut value) = (read_varint(bytes) as usize, read_zigzag(bytes));
        assert!(block % 128 == 0 && (block / minis) % 32 == 0);
        let mut values = vec![value; count.min(1)];
        while values.len() < count {
            let zero = read_zigzag(bytes);
            let widths = bytes[..minis].to_vec();
            *bytes = &bytes[minis..];
            for width in widths.into_iter().map(usize::from) {
                if values.len() == count {
                    break;
                }
                let (mini, rest) = bytes.split_at(width * (block / minis) / 8);
                *bytes = rest;
                for at in 0..(block / minis).min(count - values.len()) {
                    let bit = |bit: usize| u64::from(mini[bit / 8] >> (bit % 8) & 1);
                    let offset = (0..width).fold(0, |all, i| all | bit(at * width + i) << i);
                    value = value.wrapping_add(zero).wrapping_add(offset.cast_signed());
                    value = if narrow { i64::from(value as i32) } else { value };
                    values.push(value);
                }
            }
        }
        assert!(bytes.is_empty());
        values
    }

    fn check(values: &[i64], narrow: bool) -> usize {
        let mut bytes = Vec::new();
        encode(values, narrow, &mut bytes);
        assert_eq!(decode(&bytes, narrow), values);
        bytes.len()
    }

    #[test]
    fn what_was_encoded_decodes_whatever_the_steps_are() {
        let mut noise = 1_u64;
        let mut random = move || {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            noise
        };
        for len in [0, 1, 2, 3, 32, 33, 129, 512, 513, 1000, 5000] {
            for bits in 0..=64 {
                let step = |random: u64| random.checked_shr(64 - bits).unwrap_or(0).cast_signed();
                let mut value = 0_i64;
                let mut walk = || {
                    value = value.wrapping_add(step(random()));
                    value
                };
                let mut values: Vec<i64> = (0..len).map(|_| walk()).collect();
                check(&values, false);
                // A jump now and then, as between two series.
                values.iter_mut().step_by(300).for_each(|value| *value = value.wrapping_neg());
                check(&values, false);
                values.iter_mut().for_each(|value| *value = i64::from(*value as i32));
                check(&values, true);
            }
        }
        check(&[i64::MIN, i64::MAX, 0, i64::MAX, i64::MIN], false);
        check(&[i32::MIN.into(), i32::MAX.into(), 0, i32::MIN.into()], true);
    }

    #[test]
    fn equal_steps_cost_next_to_nothing_and_small_steps_half_a_byte() {
        assert!(check(&(0..10_000).map(|i| i * 1000).collect::<Vec<_>>(), false) < 300);
        let zigzag: Vec<i64> = (0..10_000).map(|i| 50 + (i * 7 % 5)).collect();
        assert!(check(&zigzag, true) < 5_300);
    }
}
