//! How MySQL binds and runs a statement.

use diesel::{
    QueryResult,
    mysql::Mysql,
    sql_types::{BigInt, Binary, Double, Nullable, Text},
};
use diesel_async::RunQueryDsl;

use super::Connection;
use crate::store::connection::{Row, Statement, Value};

type Query = diesel::query_builder::BoxedSqlQuery<'static, Mysql, diesel::query_builder::SqlQuery>;

fn bind(Statement { sql, values }: Statement) -> Query {
    let query = diesel::sql_query(sql).into_boxed::<Mysql>();
    values.into_iter().fold(query, |query, value| match value {
        Value::Integer(number) => query.bind::<Nullable<BigInt>, _>(number),
        Value::Real(number) => query.bind::<Double, _>(number),
        Value::Text(text) => query.bind::<Text, _>(text),
        Value::Binary(bytes) => query.bind::<Binary, _>(bytes),
    })
}

pub(in crate::store) async fn execute(
    connection: &mut Connection,
    statement: Statement,
) -> QueryResult<usize> {
    bind(statement).execute(connection).await
}

pub(in crate::store) async fn load<T: Row>(
    connection: &mut Connection,
    query: Statement,
) -> QueryResult<Vec<T>> {
    bind(query).load(connection).await
}
