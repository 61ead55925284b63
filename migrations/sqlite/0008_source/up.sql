-- Who reports. `revision` grows by one with each batch, under the database's write lock, so that
-- readers can ask for what changed since the revision they know. Times are milliseconds since the Unix
-- epoch, UTC, here and in the tables that follow.
CREATE TABLE source (
    id INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    expected_interval_s INTEGER NOT NULL,
    revision BIGINT NOT NULL,
    last_seen BIGINT NOT NULL
);
