-- The demo's own table, beside those of the library; demo/src/store/tables.rs says why it has this
-- shape.
CREATE TABLE IF NOT EXISTS demo_tallies (
    tally varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    shard smallint NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (tally, shard)
) ENGINE = InnoDB;
