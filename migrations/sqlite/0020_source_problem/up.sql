-- What keeps a source from seeing its pools as they are: a row for each source whose latest batch said so.
-- `since` is when a batch first had a problem with this code.
CREATE TABLE source_problem (
    source_id INTEGER NOT NULL PRIMARY KEY,
    code TEXT NOT NULL,
    detail TEXT NOT NULL,
    since BIGINT NOT NULL
);
