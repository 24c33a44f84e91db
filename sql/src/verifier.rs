//! What is kept of a password: enough to check who knows it, too little to log in with.
//!
//! `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, as PostgreSQL keeps it (RFC 5802 and RFC 7677, numbers in base64):
//! ```text
//! SaltedPassword = PBKDF2-HMAC-SHA-256(SASLprep(password), salt, iterations)
//! StoredKey = SHA-256(HMAC(SaltedPassword, "Client Key"))
//! ServerKey = HMAC(SaltedPassword, "Server Key")
//! ```
//!
//! **Invariant:** holds no password and gives none; comparisons take the same time whatever they find.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use juno_engine::system::Random;
use ring::{digest, hmac, pbkdf2};

/// Rounds of a new verifier, as PostgreSQL's.
const ITERATIONS: u32 = 4_096;
/// The most rounds that a verifier may ask for.
const ITERATIONS_MAX: u32 = 1_000_000;
/// Bytes of a new salt.
const SALT_BYTES: usize = 16;
/// Bytes of a SHA-256 key.
const KEY_BYTES: usize = digest::SHA256_OUTPUT_LEN;
const PREFIX: &str = "SCRAM-SHA-256";

/// A stored verifier.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    /// Rounds of the key derivation.
    pub iterations: u32,
    /// Salt of the key derivation.
    pub salt: Vec<u8>,
    stored_key: [u8; KEY_BYTES],
    server_key: [u8; KEY_BYTES],
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl Verifier {
    /// The verifier of a new password.
    pub fn new(password: &str, random: &dyn Random) -> Verifier {
        let salt: Vec<u8> = [random.next_u64(), random.next_u64()].map(u64::to_be_bytes).concat();
        debug_assert_eq!(salt.len(), SALT_BYTES);
        Verifier::with(password, salt, ITERATIONS)
    }

    fn with(password: &str, salt: Vec<u8>, iterations: u32) -> Verifier {
        // A password that cannot be prepared is taken as it is, as clients do.
        let prepared = stringprep::saslprep(password).unwrap_or(password.into());
        let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        let mut salted = [0; KEY_BYTES];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, prepared.as_bytes(), &mut salted);
        let stored_key = sha256(&keyed(&salted, b"Client Key"));
        Verifier { iterations, salt, stored_key, server_key: keyed(&salted, b"Server Key") }
    }

    /// One that no password fits, for users that do not exist: always the same for one name.
    pub fn fake(name: &str, secret: &[u8]) -> Verifier {
        let salt = keyed(secret, name.as_bytes())[..SALT_BYTES].to_vec();
        let nowhere = keyed(secret, b"no client has this key");
        Verifier { iterations: ITERATIONS, salt, stored_key: nowhere, server_key: nowhere }
    }

    /// Reads a stored verifier; None where the text is none.
    pub fn parse(text: &str) -> Option<Verifier> {
        let mut parts = text.strip_prefix(PREFIX)?.strip_prefix('$')?.split('$');
        let (iterations, salt) = parts.next()?.split_once(':')?;
        let (stored, server) = parts.next()?.split_once(':')?;
        let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
        let iterations = iterations.parse().ok().filter(|rounds| (1..=ITERATIONS_MAX).contains(rounds))?;
        let salt = STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?;
        let verifier = Verifier { iterations, salt, stored_key: key(stored)?, server_key: key(server)? };
        parts.next().is_none().then_some(verifier)
    }

    /// Whether this is the password.
    pub fn fits(&self, password: &str) -> bool {
        let given = Verifier::with(password, self.salt.clone(), self.iterations);
        equal(&given.stored_key, &self.stored_key)
    }

    /// Whether a client's proof over an exchange shows that it knows the password.
    pub fn proves(&self, exchange: &[u8], proof: &[u8]) -> bool {
        let Ok(proof) = <[u8; KEY_BYTES]>::try_from(proof) else { return false };
        let signature = keyed(&self.stored_key, exchange);
        let mut client_key = [0; KEY_BYTES];
        for (byte, (proof, signature)) in client_key.iter_mut().zip(proof.iter().zip(&signature)) {
            *byte = proof ^ signature;
        }
        equal(&sha256(&client_key), &self.stored_key)
    }

    /// What shows the client that the server knows the verifier.
    pub fn signature(&self, exchange: &[u8]) -> [u8; KEY_BYTES] {
        keyed(&self.server_key, exchange)
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [self.salt.as_slice(), &self.stored_key, &self.server_key].map(|bytes| STANDARD.encode(bytes));
        write!(f, "{PREFIX}${}:{salt}${stored}:{server}", self.iterations)
    }
}

fn keyed(key: &[u8], data: &[u8]) -> [u8; KEY_BYTES] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
}

fn sha256(data: &[u8]) -> [u8; KEY_BYTES] {
    digest::digest(&digest::SHA256, data).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn equal(one: &[u8; KEY_BYTES], other: &[u8; KEY_BYTES]) -> bool {
    one.iter().zip(other).fold(0, |differences, (one, other)| differences | (one ^ other)) == 0
}

#[cfg(test)]
mod tests {
    use juno_engine::system::System;

    use super::*;

    #[test]
    fn a_verifier_survives_its_text_and_fits_its_password_alone() {
        let verifier = Verifier::new("geheim", System::real().random());
        let text = verifier.to_string();
        assert!(text.starts_with("SCRAM-SHA-256$4096:") && !text.contains("geheim"));
        let read = Verifier::parse(&text).expect("its own text");
        assert!(read == verifier && read.fits("geheim") && !read.fits("Geheim") && !read.fits(""));
        for odd in ["", "geheim", "SCRAM-SHA-256$0:AA==$AA==:AA==", &text[..text.len() - 3], &format!("{text}$x")] {
            assert!(Verifier::parse(odd).is_none(), "{odd}");
        }
    }

    /// The exchange of RFC 7677, section 3.
    #[test]
    fn the_exchange_of_the_rfc_is_proved() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let verifier = Verifier::with("pencil", salt, 4096);
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let exchange =
            format!("n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}");
        let proof = STANDARD.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").expect("base64");
        assert!(verifier.proves(exchange.as_bytes(), &proof));
        assert!(!verifier.proves(b"another", &proof) && !verifier.proves(exchange.as_bytes(), &proof[1..]));
        let signature = STANDARD.encode(verifier.signature(exchange.as_bytes()));
        assert_eq!(signature, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }
}
