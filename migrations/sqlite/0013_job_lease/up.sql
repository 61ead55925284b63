-- Which process does what only one should do at a time. `until` is in the database's own time; `fence` grows
-- whenever the holder changes.
CREATE TABLE job_lease (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    until BIGINT NOT NULL,
    fence BIGINT NOT NULL
);
