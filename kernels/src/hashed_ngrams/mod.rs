//! Scores of texts by their byte n-grams, hashed into tables of fixed size: a linear model of two classes, and the surprise
//! of a text to who has read ordinary ones only.
//!
//! **Formulas.** [`Linear`]: x_b = (n-grams of 1 to 5 bytes of the text that hash to bucket b) / √(all of them), the margin
//! is bias + Σ w_b·x_b over 2¹⁶ buckets. Weights minimise the logistic loss by AdaGrad (rate 0.5, eight passes, rows in an
//! order drawn by the seed).
//!
//! [`Reader`]: a byte's probability after its predecessors is P₋₁ = 1/257, P_k = (n(last k bytes and this) + 4·P_{k−1}) /
//! (n(last k bytes) + 4) up to k = 3, counts of ordinary texts in 2¹⁷ buckets. A text's surprise is Σ max(0, −ln P − 4) over
//! its bytes as they are, plus Σ max(0, −ln P − 2) over its bytes by class: lower case, upper case, digit and non-ASCII
//! are one symbol each, all else stays. The classes make a new name ordinary and a new punctuation not.
//!
//! **Limits.** The first 4,096 bytes of a text count. An empty text is read as one that ends at once; missing texts
//! are empty ones. Two n-grams that share a bucket are taken for one.
//!
//! **Order of reduction.** Bytes in order, in 64 bits. Learning has a CPU twin only; tolerance between the twins of scoring:
//! none for margins, 1e-12 of a surprise, whose logarithms may round differently.
//!
//! **Papers.** Weinberger et al., *Feature Hashing for Large Scale Multitask Learning*, 2009; Duchi et al. 2011 (AdaGrad);
//! Wang et al., *Anagram*, RAID 2006 (n-grams of payloads).
//!
//! **Invariant:** a text's score depends on that text alone, and a model on its texts and its seed, not on threads.

#[cfg(feature = "cuda")]
mod cuda;
mod linear;
mod reader;
#[cfg(test)]
mod tests;

pub use self::linear::Linear;
pub use self::reader::Reader;

/// Bytes of a text that are looked at.
pub const TEXT_BYTES_MAX: usize = 4_096;

/// The part of a text that counts.
fn head(text: &str) -> &[u8] {
    &text.as_bytes()[..text.len().min(TEXT_BYTES_MAX)]
}
