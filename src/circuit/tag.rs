//! Input numbers and readings on a template's base range table entries.
//!
//! They are kept in `enrname`, which the server uses for neither relations nor subqueries, and which survives copies and
//! pull-up, as `pgt:<input>:<n|d|o>`.

use super::BlockId;
use crate::delta::Reading;
use crate::pg::query::{self, Entry};

const PREFIX: &str = "pgt:";

/// Of entries that are blocks, until they are numbered as inputs: `pgb:<block>`.
const BLOCK_PREFIX: &str = "pgb:";

/// Marks an entry as the output of a block.
pub fn write_block(entry: Entry, block: BlockId) {
    query::set_mark(entry, &format!("{BLOCK_PREFIX}{}", block.0));
}

/// The block an entry is, before it is numbered.
pub fn read_block(entry: Entry) -> Option<BlockId> {
    Some(BlockId(query::mark(entry)?.strip_prefix(BLOCK_PREFIX)?.parse().ok()?))
}

/// Marks an entry as this input, read in this way.
pub fn write(entry: Entry, input: usize, reading: Reading) {
    let letter = match reading {
        Reading::New => 'n',
        Reading::Delta => 'd',
        Reading::Old => 'o',
    };
    query::set_mark(entry, &format!("{PREFIX}{input}:{letter}"));
}

/// The input an entry is and how it is to be read; None for entries that are no inputs of ours.
pub fn read(entry: Entry) -> Option<(usize, Reading)> {
    parse(&query::mark(entry)?)
}

fn parse(mark: &str) -> Option<(usize, Reading)> {
    let (input, letter) = mark.strip_prefix(PREFIX)?.split_once(':')?;
    let reading = match letter {
        "n" => Reading::New,
        "d" => Reading::Delta,
        "o" => Reading::Old,
        _ => return None,
    };
    Some((input.parse().ok()?, reading))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_marks_are_read() {
        assert_eq!(parse("pgt:12:d"), Some((12, Reading::Delta)));
        assert_eq!(parse("pgt:0:n"), Some((0, Reading::New)));
        assert_eq!(parse("pgt:0:x"), None);
        assert_eq!(parse("pgt::d"), None);
        assert_eq!(parse("inserted_rows"), None);
    }
}
