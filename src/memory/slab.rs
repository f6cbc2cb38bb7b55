//! Rows by a small number, in chunks, so that growing never copies what is there.

/// How many rows a chunk has: some hundred kilobytes of requests.
const CHUNK: usize = 1024;

/// An append-only list; keys are given in order, from 0.
pub(super) struct Slab<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new() }
    }

    /// How many rows there are: the key of the next one.
    pub(super) fn len(&self) -> usize {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        self.chunks.last().map_or(0, |last| full + last.len())
    }

    /// Appends a row and answers its key.
    pub(super) fn push(&mut self, row: T) -> usize {
        let key = self.len();
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(row),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(row);
                self.chunks.push(chunk);
            }
        }
        key
    }

    pub(super) fn get(&self, key: usize) -> Option<&T> {
        self.chunks.get(key / CHUNK)?.get(key % CHUNK)
    }

    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        self.chunks.get_mut(key / CHUNK)?.get_mut(key % CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_right_across_chunks() {
        let mut slab = Slab::new();
        for number in 0..3 * CHUNK + 1 {
            assert_eq!(slab.push(number), number);
        }
        for number in 0..3 * CHUNK + 1 {
            assert_eq!(slab.get(number), Some(&number));
        }
        assert_eq!(slab.get(3 * CHUNK + 1), None);
    }
}
