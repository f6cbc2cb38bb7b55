//! Two ordered sequences as one.

use std::iter::Peekable;

/// Merges two sequences that are each in the order of `key` into one that is. Of two equal ones
/// both come, the left one first.
pub(super) fn merge<L, R, K, F>(left: L, right: R, key: F) -> Merge<L::IntoIter, R::IntoIter, F>
where
    L: IntoIterator,
    R: IntoIterator<Item = L::Item>,
    K: Ord,
    F: Fn(&L::Item) -> K,
{
    Merge {
        left: left.into_iter().peekable(),
        right: right.into_iter().peekable(),
        key,
    }
}

pub(super) struct Merge<L: Iterator, R: Iterator, F> {
    left: Peekable<L>,
    right: Peekable<R>,
    key: F,
}

impl<L, R, K, F> Iterator for Merge<L, R, F>
where
    L: Iterator,
    R: Iterator<Item = L::Item>,
    K: Ord,
    F: Fn(&L::Item) -> K,
{
    type Item = L::Item;

    fn next(&mut self) -> Option<L::Item> {
        match (self.left.peek(), self.right.peek()) {
            (Some(left), Some(right)) if (self.key)(left) <= (self.key)(right) => self.left.next(),
            (_, Some(_)) => self.right.next(),
            (_, None) => self.left.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_order() {
        let merged: Vec<_> = merge([1, 4, 6], [2, 3, 4, 9], |number| *number).collect();
        assert_eq!(merged, [1, 2, 3, 4, 4, 6, 9]);
        let merged: Vec<_> = merge([], [1, 2], |number| *number).collect();
        assert_eq!(merged, [1, 2]);
    }
}
