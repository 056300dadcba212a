SELECT onefold.number_events($1::integer)
