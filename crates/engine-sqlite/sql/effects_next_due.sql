SELECT min(due) FROM onefold_effects WHERE due IS NOT NULL
