CREATE TABLE IF NOT EXISTS onefold_inbox (
    job TEXT NOT NULL,
    step TEXT NOT NULL,
    -- Of the latest attempt that claimed it.
    token INTEGER NOT NULL,
    result TEXT,
    -- How often it was claimed again.
    replays INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job, step)
)
