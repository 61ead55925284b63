-- One row. `seed` is what ids in the feed of changes are made from, so that no other database has the same
-- ones; `created` is when an empty feed was last updated; `revision` grows with each look that wrote.
CREATE TABLE IF NOT EXISTS level_feed (
    id INTEGER NOT NULL PRIMARY KEY,
    seed VARCHAR(64) NOT NULL,
    created BIGINT NOT NULL,
    revision BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
INSERT IGNORE INTO level_feed (id, seed, created, revision)
VALUES (1, UUID(), CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED), 0);
