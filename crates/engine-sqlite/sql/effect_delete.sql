DELETE FROM onefold_effects WHERE ns = 0 AND scope = ?1 AND key = ?2
