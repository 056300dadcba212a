UPDATE onefold_effects SET state = ?3, due = ?4, record = ?5, crc = ?6 WHERE ns = 0 AND scope = ?1 AND key = ?2
