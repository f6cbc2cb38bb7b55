//! Rows by a small number, in chunks, so that growing never copies what is there.

/// How many rows a chunk has: some hundred kilobytes of requests.
const CHUNK: usize = 1024;

/// Rows by keys. The key of a removed row is given to a new one, so memory grows with the most rows
/// that there ever were at a time.
pub(super) struct Slab<T> {
    chunks: Vec<Vec<Option<T>>>,
    /// Keys without a row.
    free: Vec<usize>,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
        }
    }

    /// The key that the next row gets.
    pub(super) fn next_key(&self) -> usize {
        self.free.last().copied().unwrap_or_else(|| self.end())
    }

    /// Adds a row and answers its key.
    pub(super) fn insert(&mut self, row: T) -> usize {
        if let Some(key) = self.free.pop() {
            if let Some(place) = self.place(key) {
                *place = Some(row);
            }
            return key;
        }
        let key = self.end();
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(Some(row)),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(Some(row));
                self.chunks.push(chunk);
            }
        }
        key
    }

    /// Takes a row away; its key must not be used any more.
    pub(super) fn remove(&mut self, key: usize) -> Option<T> {
        let row = self.place(key)?.take()?;
        self.free.push(key);
        Some(row)
    }

    pub(super) fn get(&self, key: usize) -> Option<&T> {
        self.chunks.get(key / CHUNK)?.get(key % CHUNK)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        self.place(key)?.as_mut()
    }

    fn place(&mut self, key: usize) -> Option<&mut Option<T>> {
        self.chunks.get_mut(key / CHUNK)?.get_mut(key % CHUNK)
    }

    /// The first key that there has never been a row for.
    fn end(&self) -> usize {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        self.chunks.last().map_or(0, |last| full + last.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_right_across_chunks() {
        let mut slab = Slab::new();
        for number in 0..3 * CHUNK + 1 {
            assert_eq!(slab.next_key(), number);
            assert_eq!(slab.insert(number), number);
        }
        for number in 0..3 * CHUNK + 1 {
            assert_eq!(slab.get(number), Some(&number));
        }
        assert_eq!(slab.get(3 * CHUNK + 1), None);
    }

    #[test]
    fn removed_rows_make_room_for_new_ones() {
        let mut slab = Slab::new();
        for number in 0..2 * CHUNK {
            slab.insert(number);
        }
        for key in [3, CHUNK, 2 * CHUNK - 1] {
            assert_eq!(slab.remove(key), Some(key));
            assert_eq!(slab.get(key), None);
            assert_eq!(slab.remove(key), None);
        }
        let mut again = Vec::new();
        for _ in 0..3 {
            let next = slab.next_key();
            again.push(slab.insert(7));
            assert_eq!(again.last(), Some(&next));
        }
        again.sort_unstable();
        assert_eq!(again, [3, CHUNK, 2 * CHUNK - 1]);
        assert_eq!(slab.insert(7), 2 * CHUNK, "no row is overwritten");
    }
}
