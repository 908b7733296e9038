-- Which store holds an object, and for which object its content is sealed: a copy in another store is the same bytes
-- under a name of its own.

ALTER TABLE objects ADD COLUMN store TEXT NOT NULL DEFAULT 'main';      -- main | archive
ALTER TABLE objects ADD COLUMN sealed_as TEXT;                          -- NULL: for itself
CREATE INDEX objects_elsewhere ON objects (id) WHERE store <> 'main';
