//! Locks that one process of a schema holds, by name.

use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Integer, Nullable, Text},
};
use diesel_async::RunQueryDsl;

use super::Connection;

/// Takes the named lock of this schema; false if somebody else held it for `wait_s` seconds. It ends
/// with the connection at the latest.
pub(in crate::store) async fn lock(
    connection: &mut Connection,
    name: &str,
    wait_s: i32,
) -> QueryResult<bool> {
    let query = format!("SELECT GET_LOCK({LOCK_NAME}, ?) AS value");
    let query = diesel::sql_query(query).bind::<Text, _>(name).bind::<Integer, _>(wait_s);
    let granted: Answer = query.get_result(connection).await?;
    Ok(granted.value == Some(1))
}

/// Gives the named lock back.
pub(in crate::store) async fn unlock(connection: &mut Connection, name: &str) -> QueryResult<()> {
    let query = format!("SELECT RELEASE_LOCK({LOCK_NAME}) AS value");
    let _: Answer = diesel::sql_query(query).bind::<Text, _>(name).get_result(connection).await?;
    Ok(())
}

/// Lock names are global to the server and have at most 64 characters. (`SHA1` is gone from MySQL 9.7.)
const LOCK_NAME: &str = "CONCAT('gill-hicks.', ?, '.', LEFT(SHA2(DATABASE(), 256), 16))";

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Nullable<BigInt>)]
    value: Option<i64>,
}
