-- What is still to be told of watches that fired: a row for each receiver until it has taken it. `target` is
-- the receiver's place in the watch, whose address is a secret and is not here; `firing` is JSON; `due` is when
-- it is tried next. A row with `given_up` is not tried any more, and stays for a while as the answer to why.
CREATE TABLE delivery (
    id TEXT NOT NULL PRIMARY KEY,
    uid TEXT NOT NULL,
    target INTEGER NOT NULL,
    made BIGINT NOT NULL,
    firing TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    due BIGINT NOT NULL,
    error TEXT NULL,
    failed BIGINT NULL,
    given_up BIGINT NULL
) WITHOUT ROWID;
CREATE INDEX delivery_due ON delivery (given_up, due);
CREATE INDEX delivery_uid ON delivery (uid);
