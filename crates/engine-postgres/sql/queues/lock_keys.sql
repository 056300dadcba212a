-- So that who holds each is as new as the lock when they are looked at.
SELECT count(*) FROM (SELECT 1 FROM onefold.keys WHERE ns = 0 AND queue = $1::integer FOR UPDATE) k
