//! Rows as JSON texts, which statements read with JSON_TABLE.

use serde::Serialize;
use uuid::Uuid;

use crate::error::{Result, StoreError};

/// The most bytes of a text: with what the protocol adds it stays well below the
/// `max_allowed_packet` of both servers (16 MiB by default on MariaDB, 64 MiB on MySQL), and below
/// the 16 MiB of a temporary table in memory.
const MAX_TEXT_LEN: usize = 4 * 1024 * 1024;

/// A UUID as `UNHEX` takes it.
pub(super) fn hex(id: Uuid) -> uuid::fmt::Simple {
    id.simple()
}

/// An array with an element for each thing, in as many texts as it takes; none for no things.
pub(super) fn texts<T, R: Serialize>(
    things: impl IntoIterator<Item = T>,
    row: impl Fn(T) -> R,
) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    let mut text = Vec::new();
    for thing in things {
        let start = text.len();
        text.push(if start == 0 { b'[' } else { b',' });
        serde_json::to_writer(&mut text, &row(thing)).map_err(unwritable)?;
        if text.len() > MAX_TEXT_LEN && start > 0 {
            // What was written last begins the next text.
            let mut next = text.split_off(start);
            if let Some(comma) = next.first_mut() {
                *comma = b'[';
            }
            texts.push(closed(std::mem::replace(&mut text, next))?);
        }
    }
    if !text.is_empty() {
        texts.push(closed(text)?);
    }
    Ok(texts)
}

/// An array with an element for as many of these things as one text takes, and how many they are.
/// There is at least one thing, and at least one is taken.
pub(super) fn first_text<T: Copy, R: Serialize>(
    things: &[T],
    row: impl Fn(T) -> R,
) -> Result<(String, usize)> {
    let mut text = Vec::new();
    let mut count = 0;
    for thing in things {
        let start = text.len();
        text.push(if start == 0 { b'[' } else { b',' });
        serde_json::to_writer(&mut text, &row(*thing)).map_err(unwritable)?;
        if text.len() > MAX_TEXT_LEN && start > 0 {
            text.truncate(start);
            break;
        }
        count += 1;
    }
    Ok((closed(text)?, count))
}

/// Ids as an array, in as many texts as it takes.
pub(super) fn ids(ids: impl IntoIterator<Item = Uuid>) -> Result<Vec<String>> {
    texts(ids, hex)
}

fn closed(mut text: Vec<u8>) -> Result<String> {
    text.push(b']');
    String::from_utf8(text).map_err(unwritable)
}

fn unwritable(source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Backend {
        operation: "write rows as JSON",
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_text_takes_what_fits_and_at_least_one() {
        for (len, expected) in [(10, 1000), (900_000, 3), (5_000_000, 1)] {
            let value = "x\"".repeat(len / 2);
            let (text, count) = first_text(&vec![&value; 1000], |value| (value, 1)).unwrap();
            let rows: Vec<(String, u32)> = serde_json::from_str(&text).unwrap();
            assert_eq!((count, rows.len()), (expected, expected), "{len}");
            assert!(text.len() <= MAX_TEXT_LEN + 1 || count == 1);
            assert!(rows.iter().all(|(data, _)| *data == value));
        }
        assert_eq!(
            first_text(&[], |value: u8| value).unwrap(),
            ("]".to_owned(), 0)
        );
    }

    #[test]
    fn texts_are_arrays_of_bounded_length_that_lose_nothing() {
        for (len, count) in [(10, 0), (10, 3), (900_000, 20), (5_000_000, 3)] {
            let value = "x\"".repeat(len / 2);
            let texts = texts(0..count, |number| (number, &value)).unwrap();
            let mut numbers = Vec::new();
            for text in &texts {
                let rows: Vec<(u32, String)> = serde_json::from_str(text).unwrap();
                assert!(text.len() <= MAX_TEXT_LEN || rows.len() == 1);
                assert!(rows.iter().all(|(_, data)| *data == value));
                numbers.extend(rows.iter().map(|(number, _)| *number));
            }
            assert_eq!(numbers, (0..count).collect::<Vec<_>>());
            assert_eq!(texts.is_empty(), count == 0);
        }
    }
}
