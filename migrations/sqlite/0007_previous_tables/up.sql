-- Puts the tables of the first schema aside. What they hold is carried over into the tables that follow, and
-- then they are dropped.
ALTER TABLE source RENAME TO previous_source;
ALTER TABLE hardware_key RENAME TO previous_hardware_key;
ALTER TABLE pool RENAME TO previous_pool;
ALTER TABLE pool_current RENAME TO previous_pool_current;
ALTER TABLE segment RENAME TO previous_segment;
