DELETE FROM onefold_sealed_keys WHERE place = ?1 AND lid = ?2
