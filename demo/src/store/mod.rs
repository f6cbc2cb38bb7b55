//! The store that the demo works on: in memory, or a database that outlives it and that several
//! demos share.

mod database;
mod open;
mod patience;
mod tables;
mod url;

pub(crate) use self::{
    database::Database,
    open::open,
    patience::{Impatience, Patience, Pauses},
    tables::{TallyConnection, tallies_of},
    url::{BadUrl, StoreUrl, Target, redact},
};
