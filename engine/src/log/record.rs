//! Headers and records of the log as bytes.
//!
//! **Invariant:** pure: takes and gives bytes, does no I/O. The format is in the documentation of `log`.

use std::ops::Range;

pub(crate) const HEADER_LEN: usize = 32;
pub(crate) const RECORD_LEN: usize = 24;
pub(crate) const ENTRY_LEN: usize = 24;

const MAGIC: &[u8; 8] = b"junolog\0";
const VERSION: u32 = 1;
const RECORD_MAGIC: &[u8; 4] = b"JREC";

/// The header of a segment.
pub(crate) fn header(first_sequence: u64) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&first_sequence.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The first sequence number of a segment, or what is wrong with its header.
pub(crate) fn parse_header(bytes: &[u8]) -> Result<u64, String> {
    let Some(header) = bytes.get(..HEADER_LEN) else { return Err("the header is cut short".into()) };
    if &header[..8] != MAGIC {
        return Err("this is not a juno log".into());
    }
    if u32_at(header, 28) != crc32fast::hash(&header[..28]) {
        return Err("the header's checksum does not match".into());
    }
    match u32_at(header, 8) {
        VERSION => Ok(u64_at(header, 16)),
        version => Err(format!("the log has version {version}, and this juno reads version {VERSION}")),
    }
}

/// Whether a segment begins with a whole header, of whatever version.
pub(crate) fn has_header(bytes: &[u8]) -> bool {
    bytes
        .get(..HEADER_LEN)
        .is_some_and(|header| &header[..8] == MAGIC && u32_at(header, 28) == crc32fast::hash(&header[..28]))
}

/// The header of a record whose payload is these pieces.
pub(crate) fn record_header(first_sequence: u64, payload: &[&[u8]]) -> [u8; RECORD_LEN] {
    let len: usize = payload.iter().map(|piece| piece.len()).sum();
    let mut crc = crc32fast::Hasher::new();
    payload.iter().for_each(|piece| crc.update(piece));
    let mut bytes = [0; RECORD_LEN];
    bytes[..4].copy_from_slice(RECORD_MAGIC);
    bytes[4..8].copy_from_slice(&u32::try_from(len).expect("a group is smaller than 4 GiB").to_le_bytes());
    bytes[8..16].copy_from_slice(&first_sequence.to_le_bytes());
    bytes[16..20].copy_from_slice(&crc.finalize().to_le_bytes());
    let crc = crc32fast::hash(&bytes[..20]);
    bytes[20..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// A whole record found in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) first_sequence: u64,
    /// Where its payload lies.
    pub(crate) payload: Range<usize>,
}

/// The record at `offset`, or what is wrong there.
pub(crate) fn parse_record(bytes: &[u8], offset: usize) -> Result<Record, &'static str> {
    let Some(header) = bytes.get(offset..offset + RECORD_LEN) else { return Err("the record's header is cut short") };
    if &header[..4] != RECORD_MAGIC || u32_at(header, 20) != crc32fast::hash(&header[..20]) {
        return Err("the record's header does not match its checksum");
    }
    let start = offset + RECORD_LEN;
    let end = start + u32_at(header, 4) as usize;
    match bytes.get(start..end) {
        None => Err("the record's payload is cut short"),
        Some(payload) if crc32fast::hash(payload) != u32_at(header, 16) => {
            Err("the record's payload does not match its checksum")
        }
        Some(_) => Ok(Record { first_sequence: u64_at(header, 8), payload: start..end }),
    }
}

/// Whether any whole record begins after `offset`.
pub(crate) fn whole_record_after(bytes: &[u8], offset: usize) -> bool {
    let starts = offset.saturating_add(1)..bytes.len().saturating_sub(RECORD_LEN - 1);
    let magic = |&at: &usize| &bytes[at..at + 4] == RECORD_MAGIC;
    starts.filter(magic).any(|at| parse_record(bytes, at).is_ok())
}

/// What an entry changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Rows = 1,
    Create = 2,
    Drop = 3,
    /// Not written any more.
    Widen = 4,
    Alter = 5,
    Truncate = 6,
    /// As [`Kind::Alter`], for a table with rollups.
    Define = 7,
}

/// One entry of a payload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) kind: Kind,
    pub(crate) sequence: u64,
    pub(crate) table: u64,
    pub(crate) body: &'a [u8],
}

/// The header of an entry.
pub(crate) fn entry_header(kind: Kind, sequence: u64, table: u64, body: &[u8]) -> [u8; ENTRY_LEN] {
    let mut bytes = [0; ENTRY_LEN];
    bytes[..4].copy_from_slice(&(kind as u32).to_le_bytes());
    bytes[4..8].copy_from_slice(&u32::try_from(body.len()).expect("a commit is smaller than 4 GiB").to_le_bytes());
    bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
    bytes[16..].copy_from_slice(&table.to_le_bytes());
    bytes
}

/// The entries of a payload; `None` where it is not made of entries.
pub(crate) fn parse_entries(mut payload: &[u8]) -> Option<Vec<Entry<'_>>> {
    let mut entries = Vec::new();
    while !payload.is_empty() {
        let header = payload.get(..ENTRY_LEN)?;
        let kind = match u32_at(header, 0) {
            1 => Kind::Rows,
            2 => Kind::Create,
            3 => Kind::Drop,
            4 => Kind::Widen,
            5 => Kind::Alter,
            6 => Kind::Truncate,
            7 => Kind::Define,
            _ => return None,
        };
        let end = ENTRY_LEN.checked_add(u32_at(header, 4) as usize)?;
        let body = payload.get(ENTRY_LEN..end)?;
        entries.push(Entry { kind, sequence: u64_at(header, 8), table: u64_at(header, 16), body });
        payload = &payload[end..];
    }
    Some(entries)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: u64, body: &[u8]) -> Vec<u8> {
        let entry = entry_header(Kind::Rows, sequence, 7, body);
        [&record_header(sequence, &[&entry, body])[..], &entry, body].concat()
    }

    #[test]
    fn a_record_reads_back_and_any_changed_bit_is_noticed() {
        let bytes = record(3, b"rows");
        let parsed = parse_record(&bytes, 0).unwrap();
        let entries = parse_entries(&bytes[parsed.payload]).unwrap();
        assert_eq!(entries, [Entry { kind: Kind::Rows, sequence: 3, table: 7, body: b"rows" }]);
        for bit in 0..bytes.len() * 8 {
            let mut spoilt = bytes.clone();
            spoilt[bit / 8] ^= 1 << (bit % 8);
            assert!(parse_record(&spoilt, 0).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_whole_record_behind_damage_is_found() {
        let mut bytes = record(1, b"first");
        let second = bytes.len();
        bytes.extend(record(2, b"second"));
        bytes[RECORD_LEN] ^= 1;
        assert!(parse_record(&bytes, 0).is_err());
        assert!(whole_record_after(&bytes, 0));
        assert!(!whole_record_after(&bytes[..bytes.len() - 1], 0));
        assert!(!whole_record_after(&bytes, second));
    }

    #[test]
    fn the_bytes_of_version_1_stay_as_they_are() {
        let header =
            [0x6a, 0x75, 0x6e, 0x6f, 0x6c, 0x6f, 0x67, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(super::header(9)[..28], header);
        assert_eq!(parse_header(&super::header(9)), Ok(9));
        let record = record(2, b"r");
        assert_eq!(record[..16], [0x4a, 0x52, 0x45, 0x43, 25, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(record[24..], [1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, b'r']);
    }
}
