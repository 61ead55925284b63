-- Puts the tables of the first schema aside, all at once. What they hold is carried over into the tables
-- that follow, and then they are dropped. A pod of the version before finds no table any longer and refuses
-- observations, which are sent again, instead of writing where nobody reads.
SET @gill_hicks_rename = (
    SELECT IF(
        COUNT(*) = 5,
        'RENAME TABLE source TO previous_source, hardware_key TO previous_hardware_key, pool TO previous_pool, pool_current TO previous_pool_current, segment TO previous_segment',
        'DO 0'
    )
    FROM information_schema.columns
    WHERE table_schema = DATABASE()
    AND (
        (table_name = 'source' AND column_name = 'last_seen_at')
        OR (table_name = 'hardware_key' AND column_name = 'key_hash')
        OR (table_name = 'pool' AND column_name = 'hardware_key_id')
        OR (table_name = 'pool_current' AND column_name = 'started_at')
        OR (table_name = 'segment' AND column_name = 'started_at')
    )
);
PREPARE gill_hicks_rename FROM @gill_hicks_rename;
EXECUTE gill_hicks_rename;
DEALLOCATE PREPARE gill_hicks_rename;
