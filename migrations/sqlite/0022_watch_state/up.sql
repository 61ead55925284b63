-- Where each watch stands: `armed` is 0 from when it fired until its level has gone, `holds_since` is when the
-- level came, NULL while it is not there. `generation` is that of the resource that was last evaluated, `seen`
-- when that was: what nobody evaluates any more is deleted.
CREATE TABLE watch_state (
    uid TEXT NOT NULL PRIMARY KEY,
    generation BIGINT NOT NULL,
    armed INTEGER NOT NULL,
    holds_since BIGINT NULL,
    fired BIGINT NULL,
    delivered BIGINT NULL,
    seen BIGINT NOT NULL
) WITHOUT ROWID;
