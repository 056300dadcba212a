INSERT INTO onefold_sealed_keys (place, lid) VALUES (?1, ?2)
