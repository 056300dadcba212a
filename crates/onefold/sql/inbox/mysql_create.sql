CREATE TABLE IF NOT EXISTS onefold_inbox (
    job varchar(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    step varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    -- Of the latest attempt that claimed it.
    token bigint NOT NULL,
    result longtext,
    -- How often it was claimed again.
    replays bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (job, step)
) ENGINE = InnoDB
