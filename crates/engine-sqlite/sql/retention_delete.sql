DELETE FROM onefold_retention WHERE bucket = ?1
