-- A memory as version 1 of the tables had it: three patterns, written by hand.
CREATE TABLE sedma_schema (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
INSERT INTO sedma_schema VALUES ('0001');
CREATE TABLE sedma_store (
    id INTEGER NOT NULL PRIMARY KEY,
    name VARCHAR(32) NOT NULL,
    generation BIGINT NOT NULL,
    deleted BIGINT NOT NULL,
    size BIGINT NOT NULL
);
INSERT INTO sedma_store VALUES (1, '0123456789abcdef0123456789abcdef', 7, 2, 3);
CREATE TABLE sedma_patterns (
    digest VARCHAR(64) NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    workload TEXT NOT NULL,
    choice TEXT NOT NULL,
    features BLOB,
    count BIGINT NOT NULL,
    mean DOUBLE NOT NULL,
    m2 DOUBLE NOT NULL,
    updated BIGINT NOT NULL,
    generation BIGINT NOT NULL
);
CREATE INDEX sedma_patterns_lookup ON sedma_patterns (kind, workload);
CREATE INDEX sedma_patterns_generation ON sedma_patterns (generation);
-- sha256 of '["partition", "dense", "{\"rows\":64}"]', and so on.
INSERT INTO sedma_patterns VALUES (
    '3d86a0ce8f29e9b6d68e4fa5c5d5f1fb21b460b1e4183daad047c9e59d200727', 'partition', 'dense', '{"rows":64}', X'000000000000F03F0000000000000040',
    4, 2.5, 5.0, 1700000000000000, 5
);
INSERT INTO sedma_patterns VALUES (
    '0a87f07b1798c0013b87c7eb3ae18a2ee40b257bfe69211b9fea5e557d4cd0b5', 'partition', 'dense', '{"rows":128}', NULL, 1, 9.0, 0.0, 1700000001000000, 6
);
INSERT INTO sedma_patterns VALUES (
    '438e05c9044807201735900d0f346260fb2bebdeda9e747510bbbbf475696968', 'lambda', 'smooth', '{"lambda":0.5}', NULL, 64, -1.0, 0.0, 1600000000000000, 7
);
