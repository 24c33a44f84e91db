//! PostgreSQL's `numeric` and floating point spellings: decimal text and base-10000 digits, both ways.
//!
//! **Invariant:** no value passes through floating point here; what is written is exactly what was stored.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, UInt64Type};
use bytes::{Buf, BufMut};
use juno_sql::{Error, Result};

/// Marks of the sign field of a binary numeric.
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;
/// The longest decimal text that is taken as a parameter, in digits before and after the point: far beyond Decimal256.
const DIGITS_MAX: usize = 200;

/// A decimal number as its digits: `digits` / 10^`scale`, so that all widths of Arrow decimals are written alike.
pub(super) struct Decimal {
    negative: bool,
    digits: String,
    scale: usize,
}

impl Decimal {
    /// The value at `row` of an array of decimals, or of integers that only a numeric holds; None where it is another array.
    pub(super) fn of(array: &dyn Array, row: usize) -> Option<Decimal> {
        let (unscaled, scale) = match array.data_type() {
            DataType::Decimal32(_, scale) => (array.as_primitive::<Decimal32Type>().value(row).to_string(), *scale),
            DataType::Decimal64(_, scale) => (array.as_primitive::<Decimal64Type>().value(row).to_string(), *scale),
            DataType::Decimal128(_, scale) => (array.as_primitive::<Decimal128Type>().value(row).to_string(), *scale),
            DataType::Decimal256(_, scale) => (array.as_primitive::<Decimal256Type>().value(row).to_string(), *scale),
            DataType::UInt64 => (array.as_primitive::<UInt64Type>().value(row).to_string(), 0),
            _ => return None,
        };
        Some(Decimal::new(&unscaled, scale))
    }

    /// From an integer's text and a scale, which may be negative.
    fn new(unscaled: &str, scale: i8) -> Decimal {
        let (negative, magnitude) = match unscaled.strip_prefix('-') {
            Some(magnitude) => (true, magnitude),
            None => (false, unscaled),
        };
        let zeros = usize::from(scale.min(0).unsigned_abs());
        let scale = usize::from(scale.max(0).unsigned_abs());
        let mut digits = "0".repeat((scale + 1).saturating_sub(magnitude.len()));
        digits.push_str(magnitude);
        digits.push_str(&"0".repeat(zeros));
        Decimal { negative, digits, scale }
    }

    fn parts(&self) -> (&str, &str) {
        self.digits.split_at(self.digits.len() - self.scale)
    }

    /// Writes `-12.50`: all digits of the scale.
    pub(super) fn write_text(&self, out: &mut Vec<u8>) {
        let (whole, fraction) = self.parts();
        if self.negative {
            out.put_u8(b'-');
        }
        out.put_slice(whole.as_bytes());
        if !fraction.is_empty() {
            out.put_u8(b'.');
            out.put_slice(fraction.as_bytes());
        }
    }

    /// Writes the binary form: number of digits, weight, sign, display scale, then digits of base 10000.
    pub(super) fn write_binary(&self, out: &mut Vec<u8>) {
        let (whole, fraction) = self.parts();
        let lead = "0".repeat((4 - whole.len() % 4) % 4);
        let trail = "0".repeat((4 - fraction.len() % 4) % 4);
        let decimal = [lead.as_str(), whole, fraction, trail.as_str()].concat();
        let groups: Vec<u16> = decimal
            .as_bytes()
            .chunks(4)
            .map(|group| group.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')))
            .collect();
        let zeros = groups.iter().take_while(|group| **group == 0).count();
        let end = groups.iter().rposition(|group| *group != 0).map_or(zeros, |last| last + 1);
        let significant = &groups[zeros.min(end)..end];
        let weight = ((whole.len() + lead.len()) / 4) as i16 - 1 - zeros as i16;
        let zero = significant.is_empty();
        out.put_i16(significant.len() as i16);
        out.put_i16(if zero { 0 } else { weight });
        out.put_u16(if self.negative && !zero { NEGATIVE } else { 0 });
        out.put_u16(self.scale as u16);
        for group in significant {
            out.put_u16(*group);
        }
    }
}

/// The decimal text of a binary numeric: `-12.50`, `NaN`, `Infinity`.
pub(super) fn text_of_binary(mut bytes: &[u8]) -> Result<String> {
    let damaged = || Error::InvalidText("invalid binary value for type numeric".to_owned());
    if bytes.len() < 8 {
        return Err(damaged());
    }
    let (count, weight, sign, scale) = (bytes.get_u16(), bytes.get_i16(), bytes.get_u16(), bytes.get_u16());
    match sign {
        NAN => return Ok("NaN".to_owned()),
        INFINITY => return Ok("Infinity".to_owned()),
        NEGATIVE_INFINITY => return Ok("-Infinity".to_owned()),
        0 | NEGATIVE => {}
        _ => return Err(damaged()),
    }
    let long = usize::from(scale) > DIGITS_MAX || i32::from(weight.abs()) * 4 > DIGITS_MAX as i32;
    if long || bytes.len() != usize::from(count) * 2 {
        return Err(if long { out_of_range() } else { damaged() });
    }
    let groups: Vec<u16> = (0..count).map(|_| bytes.get_u16()).collect();
    if groups.iter().any(|group| *group > 9999) {
        return Err(damaged());
    }
    let group = |index: i32| usize::try_from(index).ok().and_then(|at| groups.get(at)).copied().unwrap_or(0);
    let weight = i32::from(weight);
    let whole: String = (0..=weight).map(|index| format!("{:04}", group(index))).collect();
    let wanted = usize::from(scale).div_ceil(4) as i32;
    let mut fraction: String = (1..=wanted).map(|index| format!("{:04}", group(weight + index))).collect();
    fraction.truncate(usize::from(scale));
    let whole = whole.trim_start_matches('0');
    let sign = if sign == NEGATIVE { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole };
    Ok(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

/// The unscaled value of a decimal text in `numeric(precision, scale)`, rounded half away from zero as PostgreSQL does.
pub(super) fn parse(text: &str, precision: u8, scale: i8) -> Result<i128> {
    let invalid = || Error::InvalidText(format!("invalid input syntax for type numeric: \"{text}\""));
    let trimmed = text.trim();
    let (negative, magnitude) = match trimmed.as_bytes().first() {
        Some(b'-') => (true, &trimmed[1..]),
        Some(b'+') => (false, &trimmed[1..]),
        _ => (false, trimmed),
    };
    let (mantissa, exponent) = match magnitude.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| invalid())?),
        None => (magnitude, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = [whole, fraction].concat();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid());
    }
    let shift = i64::from(scale) - fraction.len() as i64 + i64::from(exponent);
    if shift > DIGITS_MAX as i64 || digits.len() > DIGITS_MAX {
        return Err(out_of_range());
    }
    let mut round_up = false;
    if shift >= 0 {
        digits.push_str(&"0".repeat(shift as usize));
    } else {
        let keep = digits.len() as i64 + shift;
        round_up = keep >= 0 && digits.as_bytes().get(keep as usize).is_some_and(|digit| *digit >= b'5');
        digits.truncate(keep.max(0) as usize);
    }
    let digits = digits.trim_start_matches('0');
    let value = if digits.is_empty() { 0 } else { digits.parse::<i128>().map_err(|_| out_of_range())? };
    let value = value + i128::from(round_up);
    match 10i128.checked_pow(u32::from(precision)) {
        Some(limit) if value < limit => Ok(if negative { -value } else { value }),
        _ => Err(out_of_range()),
    }
}

fn out_of_range() -> Error {
    Error::NumericOutOfRange("numeric field overflow".to_owned())
}

/// Writes a double as PostgreSQL does: the shortest digits that read back the same, an exponent from 1e+15 and below 1e-04.
pub(super) fn write_double(value: f64, out: &mut Vec<u8>) {
    if !write_short(value, out) {
        write_float(value, &format!("{value:e}"), 15, out);
    }
}

/// Writes an integer.
pub(super) fn write_integer(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    write_whole(value.unsigned_abs(), out);
}

fn write_whole(mut value: u64, out: &mut Vec<u8>) {
    let (mut digits, mut at) = ([0; 20], 20);
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes a double that is a decimal of at most four places and fifteen digits; false where it is none.
///
/// No two decimals of so few digits are the same double, so that this one is the shortest that reads back.
fn write_short(value: f64, out: &mut Vec<u8>) -> bool {
    let scaled = (value.abs() * 1e4).round();
    if scaled.is_nan() || scaled >= 1e15 || scaled / 1e4 != value.abs() {
        return false;
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let (whole, mut fraction) = (scaled as u64 / 10_000, scaled as u64 % 10_000);
    write_whole(whole, out);
    if fraction > 0 {
        out.push(b'.');
    }
    while fraction > 0 {
        out.push(b'0' + (fraction / 1_000) as u8);
        fraction = fraction % 1_000 * 10;
    }
    true
}

/// Writes a real as PostgreSQL does: like a double, but an exponent from 1e+06.
pub(super) fn write_real(value: f32, out: &mut Vec<u8>) {
    write_float(f64::from(value), &format!("{value:e}"), 6, out);
}

/// `scientific` is Rust's shortest form `d.ddde-x`; a fixed form is written for exponents in -4..`fixed_below`.
fn write_float(value: f64, scientific: &str, fixed_below: i32, out: &mut Vec<u8>) {
    if value.is_nan() {
        return out.put_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.put_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
    }
    let (mantissa, exponent) = scientific.split_once('e').expect("{:e} writes an exponent");
    let exponent: i32 = exponent.parse().expect("{:e} writes a number as its exponent");
    if !(-4..fixed_below).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        out.put_slice(format!("{mantissa}e{sign}{:02}", exponent.abs()).as_bytes());
        return;
    }
    let magnitude = mantissa.trim_start_matches('-');
    if magnitude.len() < mantissa.len() {
        out.put_u8(b'-');
    }
    let digits = magnitude.replace('.', "");
    let point = exponent + 1;
    if point <= 0 {
        out.put_slice(b"0.");
        out.put_bytes(b'0', point.unsigned_abs() as usize);
        out.put_slice(digits.as_bytes());
    } else if digits.len() <= point as usize {
        out.put_slice(digits.as_bytes());
        out.put_bytes(b'0', point as usize - digits.len());
    } else {
        out.put_slice(&digits.as_bytes()[..point as usize]);
        out.put_u8(b'.');
        out.put_slice(&digits.as_bytes()[point as usize..]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(decimal: &Decimal) -> String {
        let mut out = Vec::new();
        decimal.write_text(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn through_binary(decimal: &Decimal) -> String {
        let mut out = Vec::new();
        decimal.write_binary(&mut out);
        text_of_binary(&out).unwrap()
    }

    fn double(value: f64) -> String {
        let mut out = Vec::new();
        write_double(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn decimals_keep_every_digit_in_text_and_in_binary() {
        let cases = [("0", 2, "0.00"), ("-5", 2, "-0.05"), ("12345678", 4, "1234.5678"), ("7", -3, "7000")];
        for (unscaled, scale, wanted) in cases {
            let decimal = Decimal::new(unscaled, scale);
            assert_eq!(text(&decimal), wanted);
            assert_eq!(through_binary(&decimal), wanted);
        }
    }

    #[test]
    fn parameters_round_half_away_from_zero_and_overflow_is_refused() {
        assert_eq!(parse("1.005", 5, 2).unwrap(), 101);
        assert_eq!(parse("-1.005", 5, 2).unwrap(), -101);
        assert_eq!(parse(" 1.5e2 ", 5, 2).unwrap(), 15000);
        assert_eq!(parse("0.0000004", 5, 2).unwrap(), 0);
        assert!(matches!(parse("1000", 5, 2), Err(Error::NumericOutOfRange(_))));
        assert!(matches!(parse("999.995", 5, 2), Err(Error::NumericOutOfRange(_))));
        assert!(matches!(parse("1e1000000000", 5, 2), Err(Error::NumericOutOfRange(_))));
        for bad in ["", "-", ".", "1.2.3", "0x1", "NaN", "1e", "１"] {
            assert!(matches!(parse(bad, 5, 2), Err(Error::InvalidText(_))), "{bad}");
        }
    }

    #[test]
    fn doubles_are_spelled_as_postgresql_spells_them() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123456789012345.0, "123456789012345"),
            (1e15, "1e+15"),
            (1.2345678901234568e17, "1.2345678901234568e+17"),
            (1e-300, "1e-300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ];
        for (value, wanted) in cases {
            assert_eq!(double(value), wanted);
        }
        let mut out = Vec::new();
        write_real(1e6, &mut out);
        assert_eq!(&out[..], b"1e+06");
    }

    proptest! {
        #[test]
        fn every_decimal_survives_the_binary_form(unscaled in any::<i128>(), scale in 0i8..=38) {
            let decimal = Decimal::new(&unscaled.to_string(), scale);
            prop_assert_eq!(through_binary(&decimal), text(&decimal));
        }

        #[test]
        fn every_double_reads_back_the_same(value in any::<f64>()) {
            let read: f64 = double(value).parse().unwrap();
            prop_assert!(read == value || (read.is_nan() && value.is_nan()));
        }

        #[test]
        fn a_short_decimal_is_spelled_as_a_long_one_would_be(unscaled in -99_999_999_999_999i64..100_000_000_000_000, places in 0u32..8) {
            let value = unscaled as f64 / 10f64.powi(places as i32);
            let mut long = Vec::new();
            write_float(value, &format!("{value:e}"), 15, &mut long);
            prop_assert_eq!(double(value).into_bytes(), long);
        }

        #[test]
        fn every_integer_is_spelled_as_rust_spells_it(value in any::<i64>()) {
            let mut out = Vec::new();
            write_integer(value, &mut out);
            prop_assert_eq!(out, value.to_string().into_bytes());
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*", precision in 1u8..=38, scale in 0i8..=10) {
            let _ = parse(&text, precision, scale);
        }

        #[test]
        fn no_bytes_make_the_binary_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = text_of_binary(&bytes);
        }
    }
}
