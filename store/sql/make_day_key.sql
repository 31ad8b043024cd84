-- Makes the key of a day of a person ($3), unless the person was erased. The share lock on the
-- person's own key makes whoever erases it wait until this one is visible, and the other way round:
-- no key is made that an erasure does not see.
WITH own AS (
    SELECT wrapped FROM data_keys WHERE shard = $1 AND subject = $3 FOR SHARE
)
INSERT INTO data_keys (shard, subject, wrapped, kind, owner, period)
SELECT $1, $2, $4, $5, $6, $7 FROM own WHERE wrapped IS NOT NULL
ON CONFLICT DO NOTHING
