SELECT progress FROM onefold_sealing WHERE id = 1
