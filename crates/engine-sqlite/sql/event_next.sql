SELECT next_event FROM onefold_meta WHERE id = 1
