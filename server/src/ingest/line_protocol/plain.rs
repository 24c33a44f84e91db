//! The quick way for plain lines: neither escapes nor quotes, finite numbers, the fields of the line before.
//!
//! Nearly every line of a body is so. A series that came before is found by the bytes in front of its first space, so that its tags
//! are not looked at again.
//!
//! **Invariant:** takes a line exactly as the full parser would take it, or says nothing and changes nothing that is seen.

use super::Precision;

/// The most digits whose number is a double, exactly.
const DOUBLE_DIGITS_MAX: usize = 15;
/// The most digits that fit into 64 bits, whatever they are.
const INTEGER_DIGITS_MAX: usize = 18;
/// Powers of ten that are doubles, exactly.
const POWERS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// A line cut at its spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plain<'t> {
    /// Measurement and tags as they stand in the line.
    pub(super) series: &'t [u8],
    /// `name=number,name=number`
    pub(super) fields: &'t [u8],
    timestamp: Option<&'t [u8]>,
}

/// The number in a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Float(f64),
    Integer(i64),
}

impl<'t> Plain<'t> {
    /// Cuts a line, which must have no newline in it; None where it is not plain.
    pub(super) fn cut(line: &'t [u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if memchr::memchr2(b'\\', b'"', line).is_some() {
            return None;
        }
        let (series, rest) = cut_at(line, b' ')?;
        let (fields, timestamp) = match cut_at(rest, b' ') {
            Some((fields, timestamp)) => (fields, Some(timestamp)),
            None => (rest, None),
        };
        let named = series.first().is_some_and(|first| !matches!(first, b'#' | b','));
        (named && !fields.is_empty()).then_some(Self { series, fields, timestamp })
    }

    /// The time in microseconds; None where it is none that is plain and in range.
    pub(super) fn time_us(&self, precision: Precision, now_us: i64) -> Option<i64> {
        let Some(text) = self.timestamp else { return Some(now_us) };
        let (negative, digits) = sign(text);
        let count = match digits.len() {
            1..=INTEGER_DIGITS_MAX => digits_of(digits)?,
            // Nanoseconds of this century have one more.
            19 if digits[0] < b'9' => digits_of(digits)?,
            _ => return None,
        };
        precision.to_us(if negative { -count } else { count })
    }

    /// Measurement and tags; None where a name or a value is empty or out of the ordinary.
    pub(super) fn tags(&self) -> Option<(&'t str, Vec<(&'t str, &'t str)>)> {
        let series = std::str::from_utf8(self.series).ok()?;
        if series.bytes().any(|byte| byte < b' ') {
            return None;
        }
        let mut parts = series.split(',');
        let measurement = parts.next()?;
        let tags = parts.map(|tag| tag.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty()));
        let tags = tags.collect::<Option<Vec<_>>>()?;
        Some((measurement, tags))
    }
}

fn cut_at(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(byte, text)?;
    Some((&text[..at], &text[at + 1..]))
}

/// The number that a text begins with, and what is behind it; None where it is not plain.
pub(super) fn number(text: &[u8]) -> Option<(Number, &[u8])> {
    let (negative, digits) = sign(text);
    let whole = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = &digits[whole..];
    if whole == 0 || whole > INTEGER_DIGITS_MAX {
        return None;
    }
    let count = digits_of(&digits[..whole])?;
    if rest.first() == Some(&b'i') {
        return Some((Number::Integer(if negative { -count } else { count }), &rest[1..]));
    }
    let (mut mantissa, mut decimals, mut rest) = (count, 0, rest);
    if rest.first() == Some(&b'.') {
        decimals = rest[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if decimals == 0 || whole + decimals > DOUBLE_DIGITS_MAX {
            return None;
        }
        mantissa = count * 10_i64.pow(decimals as u32) + digits_of(&rest[1..=decimals])?;
        rest = &rest[1 + decimals..];
    } else if whole > DOUBLE_DIGITS_MAX {
        return None;
    }
    // Both are exact, so that the quotient is the double nearest to the decimal.
    let double = mantissa as f64 / POWERS[decimals];
    Some((Number::Float(if negative { -double } else { double }), rest))
}

fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, text),
    }
}

/// The number of at most 19 digits that is in range; None where a byte is no digit.
fn digits_of(digits: &[u8]) -> Option<i64> {
    let mut number = 0_i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + i64::from(digit);
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_is_cut_and_others_are_left() {
        let plain = Plain::cut(b"cpu,host=a,os=x v=1,w=2i 1500\r").unwrap();
        assert_eq!((plain.series, plain.fields), (&b"cpu,host=a,os=x"[..], &b"v=1,w=2i"[..]));
        assert_eq!(plain.time_us(Precision::Nanoseconds, 7), Some(1));
        assert_eq!(plain.tags().unwrap(), ("cpu", vec![("host", "a"), ("os", "x")]));
        assert_eq!(Plain::cut(b"m v=1").unwrap().time_us(Precision::Nanoseconds, 7), Some(7));
        for odd in ["m v=1 ", "m v=1 1 ", "m v=1  1", "m v=1 1x", "m v=1 9999999999999999999"] {
            assert_eq!(Plain::cut(odd.as_bytes()).unwrap().time_us(Precision::Nanoseconds, 7), None, "{odd}");
        }
        for odd in ["", "m", " m v=1", "#m v=1", ",m v=1", "m  v=1", "m,h=a\\ b v=1", "m v=\"x\""] {
            assert_eq!(Plain::cut(odd.as_bytes()), None, "{odd}");
        }
        for odd in ["m, v=1", "m,h= v=1", "m,=a v=1", "m,h v=1", "m,h=a,,i=b v=1", "m,h=a\tb v=1"] {
            assert_eq!(Plain::cut(odd.as_bytes()).unwrap().tags(), None, "{odd}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_standard_library() {
        for text in ["0", "-0", "-0.0", "1", "12.5", "-0.001", "99999999999999.9", "123456789012345", "0.3", "2.675"] {
            let (found, rest) = number(text.as_bytes()).unwrap();
            let Number::Float(found) = found else { panic!("{text} is a float") };
            assert_eq!((found.to_bits(), rest.len()), (text.parse::<f64>().unwrap().to_bits(), 0), "{text}");
        }
        assert_eq!(number(b"-999999999999999999i,x"), Some((Number::Integer(-999_999_999_999_999_999), &b",x"[..])));
        for odd in ["", "-", "x", "1.", ".5", "1234567890123456", "1.234567890123456", "1234567890123456789i"] {
            assert_eq!(number(odd.as_bytes()), None, "{odd}");
        }
        assert_eq!(number(b"1e5").unwrap().1, b"e5", "which no caller takes for the end of a field");
    }
}
