//! Lines of any input, in memory that does not grow with them.

use std::io::{self, BufRead};

/// The mark that some editors put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads lines one by one, with their numbers.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: R,
    max_len: usize,
    number: u64,
    line: Vec<u8>,
}

/// One line, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// What it says.
    Whole(&'a [u8]),
    /// It is longer than it may be; it was passed over.
    TooLong,
}

impl<R: BufRead> Lines<R> {
    /// Reads from `reader`, and keeps no line with more than `max_len` bytes.
    pub(super) fn new(reader: R, max_len: usize) -> Self {
        Self {
            reader,
            max_len,
            number: 0,
            line: Vec::new(),
        }
    }

    /// The next line that is not blank, and its number from 1; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Line<'_>)>> {
        loop {
            self.line.clear();
            let Some(is_too_long) = self.read_line()? else {
                return Ok(None);
            };
            self.number += 1;
            if is_too_long {
                return Ok(Some((self.number, Line::TooLong)));
            }
            if self.number == 1 && self.line.starts_with(BYTE_ORDER_MARK) {
                self.line.drain(..BYTE_ORDER_MARK.len());
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(Some((self.number, Line::Whole(self.line.trim_ascii_end()))));
            }
        }
    }

    /// Whatever is read from.
    pub(super) fn reader(&self) -> &R {
        &self.reader
    }

    /// Reads up to the end of the line; answers whether it was too long, or nothing at the end of
    /// the input.
    fn read_line(&mut self) -> io::Result<Option<bool>> {
        let mut is_too_long = false;
        let mut is_empty = true;
        loop {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                return Ok((!is_empty).then_some(is_too_long));
            }
            is_empty = false;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
            is_too_long = is_too_long || self.line.len() + part.len() > self.max_len;
            if !is_too_long {
                self.line.extend_from_slice(part);
            }
            let used = end.map_or(chunk.len(), |end| end + 1);
            self.reader.consume(used);
            if end.is_some() {
                return Ok(Some(is_too_long));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    /// All lines with their numbers; those that are too long as `None`.
    fn lines(text: &[u8], max_len: usize, buffer: usize) -> Vec<(u64, Option<Vec<u8>>)> {
        let mut lines = Lines::new(BufReader::with_capacity(buffer, text), max_len);
        let mut all = Vec::new();
        while let Some((number, line)) = lines.next().unwrap() {
            all.push((
                number,
                match line {
                    Line::Whole(line) => Some(line.to_vec()),
                    Line::TooLong => None,
                },
            ));
        }
        all
    }

    fn whole(number: u64, line: &str) -> (u64, Option<Vec<u8>>) {
        (number, Some(line.into()))
    }

    #[test]
    fn ends_of_lines_of_all_systems_and_a_missing_last_one() {
        assert_eq!(
            lines(b"a\r\nb\nc", 9, 64),
            [whole(1, "a"), whole(2, "b"), whole(3, "c")]
        );
    }

    #[test]
    fn blank_lines_are_passed_over_and_counted() {
        assert_eq!(lines(b"\n \t\r\na\n\n", 9, 64), [whole(3, "a")]);
        assert_eq!(lines(b"", 9, 64), []);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        assert_eq!(
            lines(b"\xef\xbb\xbfa\nb", 9, 64),
            [whole(1, "a"), whole(2, "b")]
        );
        assert_eq!(lines(b"\xef\xbb\xbf\na", 9, 64), [whole(2, "a")]);
    }

    #[test]
    fn a_line_that_is_too_long_does_not_hide_the_next_one() {
        assert_eq!(
            lines(b"123456\n12345\n1234567", 5, 64),
            [(1, None), whole(2, "12345"), (3, None)]
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_not_kept_in_memory() {
        let text = vec![b'x'; 1_000_000];
        let mut lines = Lines::new(BufReader::with_capacity(512, text.as_slice()), 1000);
        assert_eq!(lines.next().unwrap(), Some((1, Line::TooLong)));
        assert!(lines.line.capacity() <= 4096, "{}", lines.line.capacity());
    }

    proptest! {
        #[test]
        fn the_size_of_the_buffer_changes_nothing(
            text in proptest::collection::vec(proptest::sample::select(b"ab \r\n\xef\xbb\xbf".to_vec()), 0..60),
            buffer in 1_usize..20,
            max_len in 0_usize..10,
        ) {
            prop_assert_eq!(lines(&text, max_len, buffer), lines(&text, max_len, 1000));
        }
    }
}
