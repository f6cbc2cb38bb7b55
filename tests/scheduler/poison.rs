//! Events that the store refuses to fan out: they stop no other.
