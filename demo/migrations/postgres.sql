-- The demo's own table, beside those of the library; demo/src/store/tables.rs says why it has this
-- shape. Its rows are changed in place often, so pages have room for their next versions.
CREATE TABLE IF NOT EXISTS demo_tallies (
    tally text NOT NULL,
    shard smallint NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (tally, shard)
) WITH (fillfactor = 50);
