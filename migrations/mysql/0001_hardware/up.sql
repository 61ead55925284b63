-- The table of the original application, which may be there already. It stays as it is:
-- other tools insert into it.
CREATE TABLE IF NOT EXISTS hardware (
    id INTEGER NOT NULL AUTO_INCREMENT PRIMARY KEY,
    provider TEXT NOT NULL,
    name TEXT NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
