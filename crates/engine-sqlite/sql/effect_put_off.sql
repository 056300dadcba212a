UPDATE onefold_effects SET due = ?3 WHERE ns = 0 AND scope = ?1 AND key = ?2
