INSERT OR REPLACE INTO onefold_groups (queue, grp, ord, seq) VALUES (?1, ?2, ?3, ?4)
