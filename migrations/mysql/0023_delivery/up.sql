-- What is still to be told of watches that fired: a row for each receiver until it has taken it. `target` is
-- the receiver's place in the watch, whose address is a secret and is not here; `firing` is JSON; `due` is when
-- it is tried next. A row with `given_up` is not tried any more, and stays for a while as the answer to why.
CREATE TABLE IF NOT EXISTS delivery (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    uid VARCHAR(64) NOT NULL,
    target INTEGER NOT NULL,
    made BIGINT NOT NULL,
    firing MEDIUMTEXT NOT NULL,
    attempts INTEGER NOT NULL,
    due BIGINT NOT NULL,
    error VARCHAR(500) NULL,
    failed BIGINT NULL,
    given_up BIGINT NULL,
    KEY delivery_due (given_up, due),
    KEY delivery_uid (uid)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
