SELECT min(seq), max(seq) FROM onefold_jobs
