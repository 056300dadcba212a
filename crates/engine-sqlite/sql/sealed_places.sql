SELECT place FROM onefold_sealed_keys WHERE place BETWEEN ?1 AND ?2
