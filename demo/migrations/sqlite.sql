-- The demo's own table, beside those of the library; demo/src/store/tables.rs says why it has this
-- shape.
CREATE TABLE IF NOT EXISTS demo_tallies (
    tally TEXT NOT NULL,
    shard INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (tally, shard)
) STRICT, WITHOUT ROWID;
