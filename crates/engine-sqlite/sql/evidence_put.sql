INSERT OR REPLACE INTO onefold_evidence (seq, kind, slot, number, at, note) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
