CREATE TABLE IF NOT EXISTS onefold_inbox (
    job text NOT NULL,
    step text NOT NULL,
    -- Of the latest attempt that claimed it.
    token bigint NOT NULL,
    result text,
    -- How often it was claimed again.
    replays bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (job, step)
)
