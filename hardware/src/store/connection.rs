//! Statements that are written once and run on either database.
//!
//! Diesel's `MultiConnection` exists for synchronous connections only, and functions that are generic
//! over the backend need half a page of bounds each. So a statement is text with values here, which is a
//! query to diesel on either database; the store's tests run every one of them on both.

use std::borrow::Cow;

use diesel::{
    QueryResult, QueryableByName,
    backend::Backend,
    mysql::Mysql,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    result::Error,
    serialize::ToSql,
    sql_types::{BigInt, Binary, Double, HasSqlType, Nullable, Text, Untyped},
    sqlite::Sqlite,
};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};

use super::{mysql, sqlite};

/// A connection to either database.
pub(super) enum Connection<'a> {
    /// To the embedded one.
    Sqlite(&'a mut sqlite::Connection),
    /// To a server.
    Mysql(&'a mut mysql::Connection),
}

/// SQL with the values of its question marks. Fixed text is prepared once in a connection; text that is put
/// together, of which there are as many as lengths of lists, is prepared for one use.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Statement {
    sql: Cow<'static, str>,
    values: Vec<Value>,
}

/// What a question mark stands for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A number, or NULL.
    Integer(Option<i64>),
    /// A number that need not be whole, or NULL.
    Real(Option<f64>),
    /// Text, or NULL.
    Text(Option<String>),
    /// Bytes.
    Binary(Vec<u8>),
}

/// Rows that can be read from both databases.
pub(super) trait Row:
    QueryableByName<Sqlite> + QueryableByName<Mysql> + Send + 'static
{
}

impl<T: QueryableByName<Sqlite> + QueryableByName<Mysql> + Send + 'static> Row for T {}

/// A number that stands alone in an answer.
#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::BigInt>)]
    value: Option<i64>,
}

impl Connection<'_> {
    /// Runs a statement and returns how many rows it met.
    pub(super) async fn execute(&mut self, statement: Statement) -> QueryResult<usize> {
        match self {
            Self::Sqlite(connection) => statement.execute(connection).await,
            Self::Mysql(connection) => statement.execute(connection).await,
        }
    }

    /// Begins a transaction. On SQLite it waits for the write lock now: one that begins as a reader cannot
    /// wait to become a writer.
    pub(super) async fn begin(&mut self) -> QueryResult<()> {
        let begin = match self {
            Self::Sqlite(_) => "BEGIN IMMEDIATE",
            Self::Mysql(_) => "START TRANSACTION",
        };
        self.run(begin).await
    }

    /// Commits the transaction.
    pub(super) async fn commit(&mut self) -> QueryResult<()> {
        self.run("COMMIT").await
    }

    /// Rolls the transaction back.
    pub(super) async fn roll_back(&mut self) -> QueryResult<()> {
        self.run("ROLLBACK").await
    }

    async fn run(&mut self, sql: &str) -> QueryResult<()> {
        match self {
            Self::Sqlite(connection) => connection.batch_execute(sql).await,
            Self::Mysql(connection) => connection.batch_execute(sql).await,
        }
    }

    /// The rows that a query finds.
    pub(super) async fn load<T: Row>(&mut self, query: Statement) -> QueryResult<Vec<T>> {
        match self {
            Self::Sqlite(connection) => RunQueryDsl::load(query, connection).await,
            Self::Mysql(connection) => RunQueryDsl::load(query, connection).await,
        }
    }

    /// The first row that a query finds.
    pub(super) async fn first<T: Row>(&mut self, query: Statement) -> QueryResult<Option<T>> {
        Ok(self.load(query).await?.into_iter().next())
    }

    /// The column `value` of the only row of an answer.
    pub(super) async fn number(&mut self, query: Statement) -> QueryResult<Option<i64>> {
        let row: Number = self.first(query).await?.ok_or(Error::NotFound)?;
        Ok(row.value)
    }

    /// Inserts rows, in as many statements as they need; those whose key is there already change as
    /// `on_conflict` says.
    pub(super) async fn insert(
        &mut self,
        into: &Insert<'_>,
        rows: impl IntoIterator<Item = Vec<Value>>,
    ) -> QueryResult<()> {
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let mut values = Vec::with_capacity(ROWS_PER_STATEMENT * into.columns.len());
            let mut count = 0;
            for row in rows.by_ref().take(ROWS_PER_STATEMENT) {
                values.extend(row);
                count += 1;
            }
            let sql = into.sql(self, count);
            self.execute(Statement { sql: sql.into(), values }).await?;
        }
        Ok(())
    }

    /// "Insert, and ignore what is there", in the words of this database.
    fn insert_or_ignore(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "INSERT OR IGNORE",
            Self::Mysql(_) => "INSERT IGNORE",
        }
    }

    /// The value of a column in the row that was to be inserted.
    fn inserted(&self, column: &str) -> String {
        match self {
            Self::Sqlite(_) => format!("excluded.{column}"),
            Self::Mysql(_) => format!("VALUES({column})"),
        }
    }

    /// The clause that changes the row which has the key of an inserted one.
    fn on_conflict(&self, key: &[&str], changes: &[String]) -> String {
        let changes = changes.join(", ");
        match self {
            Self::Sqlite(_) => format!(" ON CONFLICT ({}) DO UPDATE SET {changes}", key.join(", ")),
            Self::Mysql(_) => format!(" ON DUPLICATE KEY UPDATE {changes}"),
        }
    }

    /// The database's own time in milliseconds: two processes need not agree on theirs.
    pub(super) fn now_ms(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
            Self::Mysql(_) => "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
        }
    }
}

/// Rows in one statement. A dozen values each stay far below the 32 766 that SQLite allows.
const ROWS_PER_STATEMENT: usize = 500;

/// Keys in one `IN (…)`.
pub(super) const KEYS_PER_STATEMENT: usize = 1000;

/// Where rows go.
pub(super) struct Insert<'a> {
    /// The table.
    pub(super) table: &'a str,
    /// The columns, in the order of the values.
    pub(super) columns: &'a [&'a str],
    /// What happens to a row whose key is there already.
    pub(super) on_conflict: OnConflict<'a>,
}

/// See [`Insert::on_conflict`].
pub(super) enum OnConflict<'a> {
    /// It stays as it is.
    Ignore,
    /// All columns but the key get the new values.
    Overwrite {
        /// The columns of the key.
        key: &'a [&'a str],
    },
    /// The new values are added to all columns but the key.
    Add {
        /// The columns of the key.
        key: &'a [&'a str],
    },
}

impl Insert<'_> {
    fn sql(&self, connection: &Connection<'_>, rows: usize) -> String {
        let Self { table, columns, on_conflict } = self;
        let (verb, clause) = match on_conflict {
            OnConflict::Ignore => (connection.insert_or_ignore(), String::new()),
            OnConflict::Overwrite { key } => {
                let others = columns.iter().filter(|column| !key.contains(column));
                let set = |column: &&str| format!("{column} = {}", connection.inserted(column));
                ("INSERT", connection.on_conflict(key, &others.map(set).collect::<Vec<_>>()))
            }
            OnConflict::Add { key } => {
                let others = columns.iter().filter(|column| !key.contains(column));
                let add = |column: &&str| {
                    format!("{column} = {column} + {}", connection.inserted(column))
                };
                ("INSERT", connection.on_conflict(key, &others.map(add).collect::<Vec<_>>()))
            }
        };
        let row = format!("({})", question_marks(columns.len()));
        let rows = vec![row; rows].join(", ");
        format!("{verb} INTO {table} ({}) VALUES {rows}{clause}", columns.join(", "))
    }
}

impl Statement {
    /// SQL whose values follow.
    pub(super) fn new(sql: impl Into<Cow<'static, str>>) -> Self {
        Self { sql: sql.into(), values: Vec::new() }
    }

    /// Binds the next value.
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Binds a value for each question mark of [`question_marks`].
    pub(super) fn bind_all<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        self.values.extend(values.into_iter().map(Into::into));
        self
    }
}

impl Query for Statement {
    type SqlType = Untyped;
}

impl QueryId for Statement {
    type QueryId = ();
    // Its text tells it from others.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<DB> QueryFragment<DB> for Statement
where
    DB: Backend + HasSqlType<BigInt> + HasSqlType<Double> + HasSqlType<Text> + HasSqlType<Binary>,
    Option<i64>: ToSql<Nullable<BigInt>, DB>,
    Option<f64>: ToSql<Nullable<Double>, DB>,
    Option<String>: ToSql<Nullable<Text>, DB>,
    Vec<u8>: ToSql<Binary, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        if let Cow::Owned(_) = self.sql {
            out.unsafe_to_cache_prepared();
        }
        // No statement has a question mark within quotes.
        let mut parts = self.sql.split('?');
        out.push_sql(parts.next().unwrap_or_default());
        for (value, part) in self.values.iter().zip(parts) {
            match value {
                Value::Integer(number) => out.push_bind_param::<Nullable<BigInt>, _>(number)?,
                Value::Real(number) => out.push_bind_param::<Nullable<Double>, _>(number)?,
                Value::Text(text) => out.push_bind_param::<Nullable<Text>, _>(text)?,
                Value::Binary(bytes) => out.push_bind_param::<Binary, _>(bytes)?,
            }
            out.push_sql(part);
        }
        Ok(())
    }
}

/// `?, ?, ?`
pub(super) fn question_marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(Some(value))
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Integer(Some(value.into()))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Integer(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(Some(value))
    }
}

impl From<Option<f64>> for Value {
    fn from(value: Option<f64>) -> Self {
        Self::Real(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(Some(value.clone()))
    }
}

impl From<Option<&String>> for Value {
    fn from(value: Option<&String>) -> Self {
        Self::Text(value.cloned())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Binary(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Binary(value.to_vec())
    }
}
