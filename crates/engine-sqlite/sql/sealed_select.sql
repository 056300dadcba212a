SELECT lid FROM onefold_sealed_keys WHERE place = ?1
