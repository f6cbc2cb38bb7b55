//! What ends a connection on its server from outside. The number of a connection alone would not do:
//! numbers begin anew when the server restarts, and another server, to which a balancer may pass on
//! whoever is to end it, has given the same ones to others.

use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};
use uuid::Uuid;

use super::{standstill::UNBOUNDED, statements::server_life};
use crate::{
    error::Result,
    sql::{
        arg::args,
        dialect::{Beginning, Kill},
        link::Link,
        missing_row,
        statement::Statement,
    },
};

/// Begins a transaction whose connection can be found by a lock that it alone ever has: it is gone
/// with the connection. That costs no round trip, but leaves something in the connection.
pub(super) fn by_lock() -> Beginning {
    let lock = format!("tidings.{}", Uuid::now_v7().simple());
    Beginning {
        // The one of the transaction before, and what its handler may have forgotten, are released.
        text: text(format!(
            "DO RELEASE_ALL_LOCKS(), GET_LOCK('{lock}', 0); {UNBOUNDED}; START TRANSACTION; SAVEPOINT tidings"
        )),
        kill: Some(Kill {
            statement: text(format!("KILL IS_USED_LOCK('{lock}')")),
            is_of_transaction: false,
        }),
    }
}

/// Finds the connection by its number, while its server is the same and has not restarted. That costs
/// a round trip and leaves nothing in the connection, which behind a proxy is somebody else's after
/// the transaction.
pub(super) async fn by_number(link: &mut Link<'_>, asks: &Statement) -> Result<Kill> {
    let row = link.row(asks, args![]).await?.ok_or_else(missing_row)?;
    let mut columns = row.reader("no table");
    let number: u64 = columns.int("number")?;
    let mut life = columns.text("life")?;
    // It becomes part of a text.
    life.retain(|digit| digit.is_ascii_hexdigit());
    // No connection has the number NULL.
    let same_life = concat!("KILL IF(", server_life!(), " = '");
    Ok(Kill {
        statement: text(format!("{same_life}{life}', {number}, NULL)")),
        is_of_transaction: true,
    })
}

fn text(text: String) -> SqlStr {
    AssertSqlSafe(text).into_sql_str()
}
