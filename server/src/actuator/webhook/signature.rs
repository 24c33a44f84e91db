//! How a message is signed: HMAC-SHA256 (RFC 2104) over its time, a point and its body, in hexadecimal after `v1=`.
//!
//! **Invariant:** a signature is compared in constant time, and one whose time is not near the receiver's is none.

use juno_sql::hex;
use ring::hmac;

/// How far the times of sender and receiver may be apart, in seconds.
pub const APART_S_MAX: i64 = 300;
const VERSION: &str = "v1=";

/// The signature of a body that is sent at a time, in seconds since 1970.
pub fn sign(secret: &[u8], at_s: i64, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), &signed(at_s, body));
    format!("{VERSION}{}", hex(tag.as_ref()))
}

/// Whether a body was signed with the secret at a time near `now_s`.
pub fn is_signed(secret: &[u8], at_s: i64, body: &[u8], signature: &str, now_s: i64) -> bool {
    let is_near = at_s.abs_diff(now_s) <= APART_S_MAX.unsigned_abs();
    let tag = signature.strip_prefix(VERSION).and_then(bytes);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    is_near && tag.is_some_and(|tag| hmac::verify(&key, &signed(at_s, body), &tag).is_ok())
}

fn signed(at_s: i64, body: &[u8]) -> Vec<u8> {
    [at_s.to_string().as_bytes(), b".", body].concat()
}

/// The bytes of hexadecimal digits.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_any_hmac_gives_and_fails_on_any_change() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 'sixteen bytes ok'
        let signature = sign(b"sixteen bytes ok", 1_700_000_000, b"{\"a\":1}");
        assert_eq!(signature, "v1=78630ef9b11f6acdbd19f29a83f37af37e04ebd1256616baf168cca5d353b112");
        let check = |secret: &[u8], at, body: &[u8], signature: &str, now| is_signed(secret, at, body, signature, now);
        let (secret, at, body) = (b"sixteen bytes ok", 1_700_000_000, b"{\"a\":1}");
        assert!(check(secret, at, body, &signature, at + 299));
        assert!(!check(secret, at, body, &signature, at + 301), "replayed later");
        assert!(!check(secret, at + 1, body, &signature, at), "another time");
        assert!(!check(secret, at, b"{\"a\":2}", &signature, at));
        assert!(!check(b"another secret!!", at, body, &signature, at));
        assert!(["", "v1=", "v1=zz", "v1=abc"].iter().all(|wrong| !check(secret, at, body, wrong, at)));
    }
}
