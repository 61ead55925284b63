-- One row. `seed` is what ids in the feed of changes are made from, so that no other database has the same
-- ones; `created` is when an empty feed was last updated; `revision` grows with each look that wrote.
CREATE TABLE level_feed (
    id INTEGER NOT NULL PRIMARY KEY,
    seed TEXT NOT NULL,
    created BIGINT NOT NULL,
    revision BIGINT NOT NULL
);
INSERT INTO level_feed (id, seed, created, revision)
VALUES (1, lower(hex(randomblob(16))), CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), 0);
